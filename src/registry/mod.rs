//! The machines that may act: `machines.yaml` -> checked machines; a reload that fails keeps the
//! last good ones.
//!
//! In the order of a load: `files` reads the file, or the files of a directory; [`yaml`](crate::yaml)
//! parses them, and collects their mistakes; `load` builds the registry. `entry` takes the lists
//! apart; `removed` reads the tombstones, and `fields` each machine, with `ids`, with `claims` for
//! the public keys in their four [spellings](key_format), and with `policies`; `keys` checks the
//! keys on all `cores`. The result is a [`Registry`], which never changes. A [`RegistryStore`] holds
//! the current one, and [`watch`](countersign_client::watch) reports a change of the files.
//! [`new_machines`] reads many at once; [`edit`] edits the text of a file of a [`LockedRegistry`],
//! and [`replace`] puts it in place. [`Operators`] are those who may manage the machines of a
//! database.

mod change;
mod checked_entry;
mod claims;
mod cores;
pub mod database;
pub mod edit;
mod entry;
mod fields;
mod files;
mod follower;
mod ids;
mod instants;
pub mod key_format;
mod key_index;
mod keys;
mod load;
mod locked_registry;
mod machine_table;
pub mod new_machines;
mod next;
mod operators;
mod policies;
mod registry_build;
mod removed;
mod renewal;
pub mod replace;
mod rows;
mod snapshot;
mod store;
mod whole;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use change::Change;
pub use checked_entry::{CheckedEntry, CheckedGroup};
pub use files::{MAX_FILE, watched as watched_paths};
pub use follower::{Copier, FollowedChange, Follower, read_database};
pub use ids::IdCase;
pub use locked_registry::{EditedFile, LockFailure, LockedRegistry};
pub use operators::Operators;
pub use policies::{Group, PolicyTerms, combine};
pub use registry_build::FollowError;
pub use removed::Tombstone;
pub use renewal::RenewalEnds;
pub use snapshot::Registry;
pub use store::{Losses, RegistryStore};
