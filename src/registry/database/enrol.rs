//! Enrolment: the use of a token or a JWT, and the machine, in one transaction.

use super::change_log::{Author, ChangeScope, Revision};
use super::connect::Database;
use super::connection::Argument::{Bytes, Int, Text};
use super::session::Purpose;
use super::tokens::token_by_id;
use super::transaction::Transaction;
use super::write_error::{EnrolError, WriteError};
use crate::registry::checked_entry::CheckedEntry;

/// The right to add one machine. The transaction uses it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A stored token, by its id.
    Token {
        /// [`StoredToken::id`](super::tokens::StoredToken::id).
        id: String,
    },
    /// A JWT that its joiner has verified. It counts once.
    Jwt {
        /// The SHA-256 of its header and payload.
        digest: [u8; 32],
        /// Its `exp`, in Unix seconds; it is remembered until then.
        expires: u64,
    },
}

/// How long a JWT is remembered beyond its `exp`, in seconds: clocks differ.
const MARGIN: u64 = 3600;

impl Database {
    /// Whether a JWT with this digest has enrolled a machine, as far as it is remembered.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn is_jwt_used(&self, digest: &[u8; 32]) -> Result<bool, WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let sql = "SELECT expires FROM used_jwt WHERE digest = $1";
        let row = session.row(sql, &[Bytes(digest)]).await?;
        session.roll_back().await;
        Ok(row.is_some())
    }

    /// Adds one machine, and counts the use of its admission. At most `max_uses` machines ever enrol
    /// with one token, at however many gateways.
    ///
    /// # Errors
    ///
    /// [`EnrolError::Refused`] if the token is not stored, expired by [`Author::at`], revoked or
    /// used up, or the JWT was used before. [`EnrolError::Write`] as [`Database::add`]. No use is
    /// counted then.
    pub async fn enrol(
        &self,
        admission: &Admission,
        entry: &CheckedEntry,
        author: &Author,
    ) -> Result<Revision, EnrolError> {
        let mut change = self.begin_change().await?;
        let added = match change.use_up(admission, author).await {
            Ok(()) => (change
                .add(std::slice::from_ref(entry), self.folds_case())
                .await)
                .map_err(EnrolError::Write),
            Err(error) => Err(error),
        };
        match added {
            Ok(touched) => Ok(change
                .commit(touched, ChangeScope::Machines, author)
                .await?),
            Err(error) => {
                change.roll_back().await;
                Err(error)
            }
        }
    }
}

impl Transaction {
    /// Fails closed: whatever does not count as one valid use refuses.
    async fn use_up(&mut self, admission: &Admission, author: &Author) -> Result<(), EnrolError> {
        match admission {
            Admission::Token { id } => {
                let token = token_by_id(&mut self.session, id).await?;
                let is_good = token.is_some_and(|token| {
                    token.revoked.is_none()
                        && author.at < token.expires
                        && token.uses < token.max_uses
                });
                if !is_good {
                    return Err(EnrolError::Refused);
                }
                let sql = "UPDATE enrolment_token SET uses = uses + 1 WHERE id = $1";
                self.session.execute(sql, &[Text(id)]).await?;
            }
            Admission::Jwt { digest, expires } => {
                let sql = "DELETE FROM used_jwt WHERE expires < $1";
                let over = author.at.saturating_sub(MARGIN);
                self.session.execute(sql, &[Int(over)]).await?;
                let sql = "INSERT INTO used_jwt (digest, expires) VALUES ($1, $2) \
                           ON CONFLICT DO NOTHING";
                let values = [Bytes(digest), Int(*expires)];
                if self.session.execute(sql, &values).await? == 0 {
                    return Err(EnrolError::Refused);
                }
            }
        }
        Ok(())
    }
}
