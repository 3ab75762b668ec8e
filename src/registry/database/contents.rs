//! A whole registry: export and import.

use std::path::Path;

use super::change_log::{Author, Revision};
use super::connect::{Database, not_yet};
use super::write_error::WriteError;
use crate::registry::checked_entry::{CheckedEntry, CheckedGroup};
use crate::registry::removed::Tombstone;
use crate::yaml::Mistakes;

/// Everything that a registry holds. [`RegistryContents::parse`] checked it as a whole, or a
/// database that holds the same rules gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryContents {
    /// The groups.
    pub groups: Vec<CheckedGroup>,
    /// The machines.
    pub machines: Vec<CheckedEntry>,
    /// The tombstones.
    pub removed: Vec<Tombstone>,
}

/// How an import treats what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMode {
    /// The content takes the place of everything. Machines that it lacks leave no tombstone.
    Replace,
    /// The content is added; an id, a key or a group that differs from what is there is a mistake.
    Merge,
}

impl RegistryContents {
    /// Reads a document as machines.yaml has it. `file` is for the messages.
    ///
    /// # Errors
    ///
    /// Every mistake.
    pub fn parse(_file: &Path, _text: &str) -> Result<RegistryContents, Mistakes> {
        Ok(RegistryContents::default())
    }

    /// The document, in YAML, which [`RegistryContents::parse`] reads as the same content.
    pub fn to_yaml(&self) -> String {
        String::new()
    }
}

impl Database {
    /// Everything, at one revision.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`]; [`WriteError::Invalid`] if a row fails the reader's checks.
    pub async fn export(&self) -> Result<(RegistryContents, Revision), WriteError> {
        not_yet()
    }

    /// Takes a whole registry in, as one change.
    ///
    /// # Errors
    ///
    /// [`WriteError::Exists`] and [`WriteError::Invalid`] from a merge;
    /// [`WriteError::Unavailable`].
    pub async fn import(
        &self,
        _contents: &RegistryContents,
        _mode: ImportMode,
        _author: &Author,
    ) -> Result<Revision, WriteError> {
        not_yet()
    }
}
