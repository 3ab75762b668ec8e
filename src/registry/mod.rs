//! The machines that may act: `machines.yaml` -> checked machines; a reload that fails keeps the last good
//! ones.
//!
//! In the order of a load: `load` reads the file; [`yaml`](crate::yaml) parses it, and collects its
//! mistakes; `entry` takes the lists apart; `removed` reads the tombstones, and `fields` each machine,
//! with `ids`, with `claims` for the public keys in their four [spellings](key_format), and with
//! `policies`; `keys` checks the keys on all `cores`. The result is a [`Registry`], which never
//! changes. A [`RegistryStore`] holds the current one, and [`watch`](crate::watch) tells when the file
//! has changed. [`edit`] edits the text of a file, and [`replace`] puts it in place.

mod change;
mod claims;
mod cores;
pub mod edit;
mod entry;
mod fields;
mod ids;
mod instants;
pub mod key_format;
mod keys;
mod load;
mod policies;
mod removed;
pub mod replace;
mod store;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use crate::auth::identity::{Machine, PublicKey};
use crate::yaml;

pub use crate::yaml::Mistakes;
pub use change::Change;
pub use load::MAX_FILE;
pub use policies::{Group, PolicyTerms, combine};
pub use removed::Tombstone;
pub use store::{Losses, RegistryStore};

/// All machines of one registry file, every one of them checked. It never changes; a reload makes another one.
#[derive(Default)]
pub struct Registry {
    machines: HashSet<ById>,
    groups: Box<[Group]>,
    removed: Box<[Tombstone]>,
    digest: [u8; 32],
}

impl Registry {
    /// Loads a file. The keys of `previous` are not checked again, and unchanged machines are shared
    /// with it.
    ///
    /// # Errors
    ///
    /// All the mistakes of the file together; one refuses the whole of it.
    pub fn load(file: &Path, previous: Option<&Registry>) -> Result<Registry, Mistakes> {
        load::build(file, &load::read(file)?, previous, &PublicKey::from_bytes)
    }

    /// Makes a registry of the contents of a file; `file` is only for the messages.
    ///
    /// # Errors
    ///
    /// As [`Registry::load`].
    pub fn from_bytes(
        file: &Path,
        bytes: &[u8],
        previous: Option<&Registry>,
    ) -> Result<Registry, Mistakes> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| yaml::not_text(file, &bytes[..error.valid_up_to()]))?;
        load::build(file, text, previous, &PublicKey::from_bytes)
    }

    /// The machine with this id, compared byte for byte.
    pub fn find(&self, id: &str) -> Option<&Arc<Machine>> {
        self.machines.get(id.as_bytes()).map(|entry| &entry.0)
    }

    /// All machines, in no order.
    pub fn machines(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.machines.iter().map(|entry| &entry.0)
    }

    /// The groups that machines may be in, in the order of the file.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The machines that were removed, in the order of the file.
    pub fn removed(&self) -> &[Tombstone] {
        &self.removed
    }

    /// How many machines there are.
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Whether there is no machine, so that every signed request will be refused.
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// The names of the credentials that its machines carry.
    pub fn credentials(&self) -> BTreeSet<&str> {
        self.machines()
            .filter_map(|machine| machine.credential.as_deref())
            .collect()
    }

    /// The SHA-256 of the file.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({} machines)", self.len())
    }
}

/// A machine that is looked up by the id inside it, so that the id is stored once.
struct ById(Arc<Machine>);

impl Borrow<[u8]> for ById {
    fn borrow(&self) -> &[u8] {
        self.0.id.as_bytes()
    }
}

/// As of the id, which [`Borrow`] demands.
impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.as_bytes().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &ById) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}
