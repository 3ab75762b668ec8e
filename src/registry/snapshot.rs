//! A registry as it was loaded: its machines, groups and tombstones.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::machine_table::MachineTable;
use super::policies::Group;
use super::removed::Tombstone;
use countersign_core::identity::{Machine, MachineId};

/// All machines of one registry file, every one of them checked. It never changes; a reload makes
/// another one.
#[derive(Default)]
pub struct Registry {
    pub(super) machines: MachineTable,
    pub(super) groups: Box<[Group]>,
    pub(super) removed: Box<[Tombstone]>,
    pub(super) digest: [u8; 32],
}

impl Registry {
    /// The machine with this id, compared byte for byte.
    pub fn find(&self, id: &str) -> Option<&Arc<Machine>> {
        self.machines.find(id.as_bytes())
    }

    /// All machines, in no order.
    pub fn machines(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.machines.iter()
    }

    /// The groups that machines may be in, in the order of the file.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Two ids that differ in case only, removed ones among them, if there are any.
    pub fn differing_in_case(&self) -> Option<[&MachineId; 2]> {
        let removed = self.removed.iter().map(|tombstone| &tombstone.id);
        let ids = self.machines().map(|machine| &machine.id).chain(removed);
        let mut known = HashMap::with_capacity(self.len() + self.removed.len());
        ids.into_iter().find_map(|id| {
            let other = known.insert(id.as_str().to_ascii_lowercase(), id)?;
            Some([other, id])
        })
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

    /// The SHA-256 of the file; of the revision, where the machines stand in a database.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({} machines)", self.len())
    }
}
