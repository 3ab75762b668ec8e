//! Reads of entries.

use serde_json::Value;

use super::change_log::{Revision, position};
use super::connect::Database;
use super::connection::Argument::{Int, MaybeText, Text};
use super::session::{Purpose, Session};
use super::write_error::WriteError;
use crate::registry::checked_entry::{CheckedEntry, CheckedGroup};
use countersign_core::identity::MachineId;

/// Entries in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPage {
    /// The entries.
    pub entries: Vec<CheckedEntry>,
    /// The id after which the next page begins; `None` for the last.
    pub next: Option<MachineId>,
    /// The revision that the page shows.
    pub revision: Revision,
}

impl Database {
    /// The machine's entry.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`]; [`WriteError::Invalid`] if the row fails the reader's checks.
    pub async fn entry(&self, id: &MachineId) -> Result<Option<CheckedEntry>, WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let entry = entry_text(&mut session, id).await?;
        session.roll_back().await;
        entry.map(|text| checked(&text)).transpose()
    }

    /// A page of entries after an id, `limit` at most. With `text`, only machines that have it in
    /// their id, name, vault, owner or a group, in any case of letters.
    ///
    /// # Errors
    ///
    /// As [`Database::entry`].
    pub async fn page(
        &self,
        after: Option<&MachineId>,
        limit: u32,
        text: Option<&str>,
    ) -> Result<EntryPage, WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let revision = Revision(position(&mut session).await?.revision);
        let pattern = text.map(like);
        let sql = "SELECT entry FROM machine WHERE entry IS NOT NULL AND id > $1 \
                   AND (CAST($2 AS TEXT) IS NULL OR search LIKE $2 ESCAPE '!') \
                   ORDER BY id LIMIT $3";
        let values = [
            Text(after.map_or("", MachineId::as_str)),
            MaybeText(pattern.as_deref()),
            Int(u64::from(limit) + 1),
        ];
        let rows = session.rows(sql, &values).await?;
        let texts: Result<Vec<String>, WriteError> =
            rows.iter().map(|row| session.value(row.text(0))).collect();
        let mut texts = texts?;
        session.roll_back().await;
        let is_last = texts.len() <= limit as usize;
        texts.truncate(limit as usize);
        let entries: Result<Vec<CheckedEntry>, WriteError> =
            texts.iter().map(|text| checked(text)).collect();
        let entries = entries?;
        let last = entries.last().map(|entry| entry.id().clone());
        Ok(EntryPage {
            next: last.filter(|_| !is_last),
            entries,
            revision,
        })
    }

    /// The groups, in the order of their names.
    ///
    /// # Errors
    ///
    /// As [`Database::entry`].
    pub async fn groups(&self) -> Result<Vec<CheckedGroup>, WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let texts = group_texts(&mut session).await?;
        session.roll_back().await;
        texts.iter().map(|text| checked_group(text)).collect()
    }
}

/// The text of a machine's entry.
pub(super) async fn entry_text(
    session: &mut Session,
    id: &MachineId,
) -> Result<Option<String>, WriteError> {
    let sql = "SELECT entry FROM machine WHERE id = $1";
    match session.row(sql, &[Text(id.as_str())]).await? {
        Some(row) => session.value(row.maybe_text(0)),
        None => Ok(None),
    }
}

/// The texts of the groups, in the order of their names.
pub(super) async fn group_texts(session: &mut Session) -> Result<Vec<String>, WriteError> {
    let sql = "SELECT entry FROM machine_group ORDER BY name";
    let rows = session.rows(sql, &[]).await?;
    rows.iter().map(|row| session.value(row.text(0))).collect()
}

/// An entry of the database, which is not trusted blindly.
pub(super) fn checked(text: &str) -> Result<CheckedEntry, WriteError> {
    CheckedEntry::parse(&value(text)?).map_err(WriteError::Invalid)
}

pub(super) fn checked_group(text: &str) -> Result<CheckedGroup, WriteError> {
    CheckedGroup::parse(&value(text)?).map_err(WriteError::Invalid)
}

fn value(text: &str) -> Result<Value, WriteError> {
    serde_json::from_str(text).map_err(|error| {
        WriteError::Invalid(vec![format!(
            "an entry of the database is no JSON: {error}"
        )])
    })
}

/// A pattern of LIKE that has the text anywhere. Its own wildcards count as themselves.
fn like(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in text.to_ascii_lowercase().chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// The text of an entry that searches look in.
pub(super) fn search_text(entry: &CheckedEntry) -> String {
    let fields = ["id", "name", "vault", "owner"];
    let values = fields
        .iter()
        .filter_map(|key| entry.fields().get(*key)?.as_str());
    let all: Vec<&str> = values.chain(entry.groups()).collect();
    all.join("\n").to_ascii_lowercase()
}
