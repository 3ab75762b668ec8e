//! The machines by id, in parts: the next registry shares the parts that a change leaves alone.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use countersign_core::identity::{Machine, MachineId};

/// Machines of one part, about: a change copies a part for each machine that it touches.
const PART: usize = 512;

/// Most parts. A million machines have 2,048.
const MOST_PARTS: usize = 1 << 14;

/// The machines of a registry.
#[derive(Clone)]
pub(super) struct MachineTable {
    /// A power of two of them.
    parts: Box<[Arc<HashTable<Arc<Machine>>>]>,
    hasher: RandomState,
    len: usize,
}

impl Default for MachineTable {
    fn default() -> MachineTable {
        MachineTable::for_number(0)
    }
}

impl MachineTable {
    /// An empty table that is good for this many machines.
    pub(super) fn for_number(count: usize) -> MachineTable {
        let parts = (count / PART).next_power_of_two().min(MOST_PARTS);
        MachineTable {
            parts: (0..parts).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    /// The machine with these bytes as its id.
    pub(super) fn find(&self, id: &[u8]) -> Option<&Arc<Machine>> {
        let hash = self.hasher.hash_one(id);
        self.parts[part_of(hash, self.parts.len())].find(hash, |it| it.id.as_bytes() == id)
    }

    /// Puts a machine in, in the place of one with its id, which it returns.
    pub(super) fn put(&mut self, machine: Arc<Machine>) -> Option<Arc<Machine>> {
        let hash = self.hasher.hash_one(machine.id.as_bytes());
        let part = Arc::make_mut(&mut self.parts[part_of(hash, self.parts.len())]);
        if let Some(before) = part.find_mut(hash, |it| it.id == machine.id) {
            return Some(std::mem::replace(before, machine));
        }
        let hasher = &self.hasher;
        part.insert_unique(hash, machine, |it| hasher.hash_one(it.id.as_bytes()));
        self.len += 1;
        None
    }

    /// Takes a machine out.
    pub(super) fn remove(&mut self, id: &MachineId) -> Option<Arc<Machine>> {
        let hash = self.hasher.hash_one(id.as_bytes());
        let part = &mut self.parts[part_of(hash, self.parts.len())];
        part.find(hash, |it| it.id == *id)?;
        let found = Arc::make_mut(part)
            .find_entry(hash, |it| it.id == *id)
            .ok()?;
        self.len -= 1;
        Some(found.remove().0)
    }

    /// The same machines in more parts, if those here have become large.
    pub(super) fn grown(self) -> MachineTable {
        match self.len > 4 * PART * self.parts.len() && self.parts.len() < MOST_PARTS {
            true => self.iter().cloned().collect(),
            false => self,
        }
    }
}

/// The part of a hash. `HashTable` uses the bits at both ends.
fn part_of(hash: u64, parts: usize) -> usize {
    usize::from((hash >> 32) as u16) & (parts - 1)
}

impl FromIterator<Arc<Machine>> for MachineTable {
    fn from_iter<I: IntoIterator<Item = Arc<Machine>>>(machines: I) -> MachineTable {
        let machines: Vec<_> = machines.into_iter().collect();
        let mut table = MachineTable::for_number(machines.len());
        for machine in machines {
            table.put(machine);
        }
        table
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::fixtures::{entry, registry};
    use super::*;

    fn machines(count: u64) -> Vec<Arc<Machine>> {
        // The same key would be refused in a file; the table does not look at keys.
        let template = registry(&entry("a", 1)).find("a").unwrap().clone();
        let machine = |n| {
            let id = MachineId::parse(&format!("m{n}")).unwrap();
            Arc::new(Machine {
                id,
                ..(*template).clone()
            })
        };
        (0..count).map(machine).collect()
    }

    #[test]
    fn every_machine_is_found_and_nothing_else() {
        for count in [0, 1, 511, 5000] {
            let table: MachineTable = machines(count).into_iter().collect();
            assert_eq!(table.len(), count as usize);
            assert_eq!(table.iter().count(), count as usize);
            for n in 0..count {
                let id = format!("m{n}");
                assert_eq!(table.find(id.as_bytes()).unwrap().id.as_str(), id);
            }
            assert!(table.find(b"m-").is_none());
        }
    }

    #[test]
    fn a_changed_copy_leaves_the_table_before_as_it_was_and_shares_most_of_it() {
        let before: MachineTable = machines(5000).into_iter().collect();
        let mut after = before.clone();
        after.remove(&MachineId::parse("m7").unwrap()).unwrap();
        let parts = before.parts.iter().zip(&after.parts);
        let shared = parts.filter(|(one, other)| Arc::ptr_eq(one, other)).count();
        assert_eq!(shared, before.parts.len() - 1);
        assert!(before.find(b"m7").is_some() && after.find(b"m7").is_none());
        assert_eq!((before.len(), after.len()), (5000, 4999));
    }

    #[test]
    fn a_machine_takes_the_place_of_one_with_its_id() {
        let mut table: MachineTable = machines(3).into_iter().collect();
        let new = machines(1).remove(0);
        let before = table.put(Arc::clone(&new)).unwrap();
        assert!(!Arc::ptr_eq(&before, &new));
        assert!(Arc::ptr_eq(table.find(b"m0").unwrap(), &new));
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_table_that_grew_gets_more_parts() {
        let mut table = MachineTable::default();
        for machine in machines(5000) {
            table.put(machine);
        }
        assert_eq!(table.parts.len(), 1);
        let table = table.grown();
        assert!(table.parts.len() > 4);
        assert!(table.find(b"m4999").is_some());
    }
}
