//! Enrolment tokens. Only their hash is stored.

use serde_json::Value;

use super::change_log::Author;
use super::connect::Database;
use super::connection::AnswerRow;
use super::connection::Argument::{Bytes, Int, Text};
use super::session::{Purpose, Session};
use super::write_error::WriteError;

/// A token to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewToken {
    /// Its id, which is no secret.
    pub id: String,
    /// The SHA-256 of the token.
    pub sha256: [u8; 32],
    /// How many machines it may enrol.
    pub max_uses: u32,
    /// First Unix second after its validity.
    pub expires: u64,
    /// The terms of the enrolment; nothing here reads them.
    pub terms: Value,
}

/// A token as it is stored, without its hash.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredToken {
    /// Its id.
    pub id: String,
    /// How many machines it may enrol.
    pub max_uses: u32,
    /// How many it has enrolled.
    pub uses: u32,
    /// First Unix second after its validity.
    pub expires: u64,
    /// The terms of the enrolment.
    pub terms: Value,
    /// Its author: [`Author::by`].
    pub by: String,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// When it was revoked, in Unix seconds.
    pub revoked: Option<u64>,
}

/// Most tokens of a list. Older ones stay in the database.
const MOST_LISTED: u64 = 10_000;

const COLUMNS: &str = "SELECT id, max_uses, uses, expires, terms, author, created, revoked \
                       FROM enrolment_token";

impl Database {
    /// Stores a token.
    ///
    /// # Errors
    ///
    /// [`WriteError::Exists`] if the id or the hash is taken; [`WriteError::Unavailable`].
    pub async fn create_token(&self, token: &NewToken, author: &Author) -> Result<(), WriteError> {
        let mut change = self.begin_change().await?;
        let sql = "SELECT id FROM enrolment_token WHERE id = $1 OR sha256 = $2";
        let values = [Text(&token.id), Bytes(&token.sha256)];
        if change.session.row(sql, &values).await?.is_some() {
            change.roll_back().await;
            let id = &token.id;
            return Err(WriteError::Exists(format!("there is a token {id} already")));
        }
        let terms = token.terms.to_string();
        let sql = "INSERT INTO enrolment_token \
                   (id, sha256, max_uses, uses, expires, terms, author, created) \
                   VALUES ($1, $2, $3, 0, $4, $5, $6, $7)";
        let values = [
            Text(&token.id),
            Bytes(&token.sha256),
            Int(token.max_uses.into()),
            Int(token.expires),
            Text(&terms),
            Text(&author.by),
            Int(author.at),
        ];
        change.session.execute(sql, &values).await?;
        // The registry is the same as before: no revision.
        change.session.commit().await
    }

    /// All tokens, the newest first.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let sql = format!("{COLUMNS} ORDER BY created DESC, id LIMIT $1");
        let rows = session.rows(&sql, &[Int(MOST_LISTED)]).await?;
        let tokens = rows.iter().map(|row| session.value(stored(row))).collect();
        session.roll_back().await;
        tokens
    }

    /// The token with this hash.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn token(&self, sha256: &[u8; 32]) -> Result<Option<StoredToken>, WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let sql = format!("{COLUMNS} WHERE sha256 = $1");
        let row = session.row(&sql, &[Bytes(sha256)]).await?;
        let token = row.map(|row| session.value(stored(&row))).transpose();
        session.roll_back().await;
        token
    }

    /// Revokes a token. `false` if there is none with this id; a second time changes nothing.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn revoke_token(&self, id: &str, author: &Author) -> Result<bool, WriteError> {
        let mut change = self.begin_change().await?;
        let sql = "UPDATE enrolment_token SET revoked = COALESCE(revoked, $2) WHERE id = $1";
        let found = change
            .session
            .execute(sql, &[Text(id), Int(author.at)])
            .await?;
        change.session.commit().await?;
        Ok(found > 0)
    }
}

/// The token with this id, for an enrolment.
pub(super) async fn token_by_id(
    session: &mut Session,
    id: &str,
) -> Result<Option<StoredToken>, WriteError> {
    let row = session
        .row(&format!("{COLUMNS} WHERE id = $1"), &[Text(id)])
        .await?;
    row.map(|row| session.value(stored(&row))).transpose()
}

fn stored(row: &AnswerRow) -> Result<StoredToken, sqlx::Error> {
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let terms = serde_json::from_str(&row.text(4)?);
    Ok(StoredToken {
        id: row.text(0)?,
        max_uses: count(row.int(1)?),
        uses: count(row.int(2)?),
        expires: row.int(3)?,
        terms: terms.map_err(|error| sqlx::Error::Decode(error.into()))?,
        by: row.text(5)?,
        created: row.int(6)?,
        revoked: row.maybe_int(7)?,
    })
}
