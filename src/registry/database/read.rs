//! Reads of entries and of the log of changes.

use super::change_log::{LoggedChange, Revision};
use super::connect::{Database, not_yet};
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
    /// [`WriteError::Unavailable`].
    pub async fn entry(&self, _id: &MachineId) -> Result<Option<CheckedEntry>, WriteError> {
        not_yet()
    }

    /// A page of entries after an id, `limit` at most. With `text`, only machines whose entry has
    /// it, in any case of letters.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn page(
        &self,
        _after: Option<&MachineId>,
        _limit: u32,
        _text: Option<&str>,
    ) -> Result<EntryPage, WriteError> {
        not_yet()
    }

    /// The groups, in the order of their names.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn groups(&self) -> Result<Vec<CheckedGroup>, WriteError> {
        not_yet()
    }

    /// The changes after a revision, `limit` at most, and the revision in force.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn changes(
        &self,
        _after: Revision,
        _limit: u32,
    ) -> Result<(Vec<LoggedChange>, Revision), WriteError> {
        not_yet()
    }
}
