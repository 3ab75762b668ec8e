//! Changes of machines. Each is one transaction, and one revision.

use serde_json::{Map, Value};

use super::change_log::{Author, Revision};
use super::connect::{Database, not_yet};
use super::write_error::WriteError;
use crate::registry::checked_entry::CheckedEntry;
use countersign_core::identity::MachineId;

impl Database {
    /// Adds machines, all or none.
    ///
    /// # Errors
    ///
    /// [`WriteError::Exists`] if an id or a key is taken; [`WriteError::Invalid`] if a group does
    /// not exist, or two of the entries share an id or a key; [`WriteError::Unavailable`].
    pub async fn add(
        &self,
        _entries: &[CheckedEntry],
        _author: &Author,
    ) -> Result<Revision, WriteError> {
        not_yet()
    }

    /// Changes fields of a machine; `null` removes one.
    ///
    /// # Errors
    ///
    /// [`WriteError::NoMachine`]; as [`Database::add`] otherwise.
    pub async fn patch(
        &self,
        _id: &MachineId,
        _patch: &Map<String, Value>,
        _author: &Author,
    ) -> Result<Revision, WriteError> {
        not_yet()
    }

    /// Removes a machine, and leaves a tombstone: its id and keys stay taken.
    ///
    /// # Errors
    ///
    /// [`WriteError::NoMachine`], [`WriteError::Unavailable`].
    pub async fn remove(&self, _id: &MachineId, _author: &Author) -> Result<Revision, WriteError> {
        not_yet()
    }

    /// Adds a key. The machine's other keys end at `others_end` (Unix seconds) if not before; keys
    /// that have ended by [`Author::at`] are taken out where the new one needs their place.
    /// `expires` sets the machine's own end.
    ///
    /// # Errors
    ///
    /// [`WriteError::Invalid`] for a weak key, or one too many; otherwise as [`Database::patch`].
    pub async fn add_key(
        &self,
        _id: &MachineId,
        _key: [u8; 32],
        _others_end: u64,
        _expires: Option<u64>,
        _author: &Author,
    ) -> Result<Revision, WriteError> {
        not_yet()
    }
}
