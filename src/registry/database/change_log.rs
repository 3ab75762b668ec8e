//! The log of changes: one row a revision.

use std::fmt;

use countersign_core::identity::MachineId;

/// The number of the last change. A new database has revision 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The author of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The id of an operator or of a machine, or `token:ID`, `joiner:NAME`, `command line`.
    pub by: String,
    /// The id of the request that made the change.
    pub request_id: String,
    /// When, in Unix seconds.
    pub at: u64,
}

/// A change as the log has it. The ids of each list are sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedChange {
    /// Its number.
    pub revision: Revision,
    /// When, in Unix seconds.
    pub at: u64,
    /// [`Author::by`].
    pub by: String,
    /// [`Author::request_id`].
    pub request_id: String,
    /// Machines that were added.
    pub added: Vec<MachineId>,
    /// Machines that were removed.
    pub removed: Vec<MachineId>,
    /// Machines whose entry was changed.
    pub changed: Vec<MachineId>,
    /// Everything was replaced, by an import; the lists are then empty.
    pub is_replacement: bool,
}
