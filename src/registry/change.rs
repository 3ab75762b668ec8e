//! The changes of a reload, for the log and the audit record.

use super::snapshot::Registry;
use countersign_core::identity::MachineId;

/// The difference between two registries. The lists are sorted by id, and each machine is in one of
/// them at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The SHA-256 of the file now in force.
    pub digest: [u8; 32],
    /// How many machines it has.
    pub machines: usize,
    /// Machines that were not there before.
    pub added: Vec<MachineId>,
    /// Machines that are gone.
    pub removed: Vec<MachineId>,
    /// Machines with other keys than before, or other dates of them; other fields may have changed
    /// too.
    pub keys_changed: Vec<MachineId>,
    /// Machines with the same keys, in which something else changed: disabled, enabled, another
    /// name, date or policy.
    pub otherwise_changed: Vec<MachineId>,
}

impl Change {
    /// The differences of `new` from `old`.
    pub fn between(old: &Registry, new: &Registry) -> Change {
        let mut change = Change {
            digest: new.digest(),
            machines: new.len(),
            added: Vec::new(),
            removed: Vec::new(),
            keys_changed: Vec::new(),
            otherwise_changed: Vec::new(),
        };
        for machine in new.machines() {
            let list = match old.find(machine.id.as_str()) {
                None => &mut change.added,
                Some(before) if before == machine => continue,
                Some(before) if before.keys != machine.keys => &mut change.keys_changed,
                Some(_) => &mut change.otherwise_changed,
            };
            list.push(machine.id.clone());
        }
        let gone = |id: &MachineId| new.find(id.as_str()).is_none();
        change.removed = old
            .machines()
            .map(|machine| machine.id.clone())
            .filter(gone)
            .collect();
        for list in [
            &mut change.added,
            &mut change.removed,
            &mut change.keys_changed,
            &mut change.otherwise_changed,
        ] {
            list.sort_unstable();
        }
        change
    }

    /// Whether no machine is different. The digest may be: comments count there.
    pub fn is_nothing(&self) -> bool {
        self.touched() == 0
    }

    /// How many machines are different.
    pub fn touched(&self) -> usize {
        self.added.len()
            + self.removed.len()
            + self.keys_changed.len()
            + self.otherwise_changed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{entry, registry};
    use super::*;

    fn ids(list: &[MachineId]) -> Vec<&str> {
        list.iter().map(MachineId::as_str).collect()
    }

    #[test]
    fn the_same_file_is_no_change() {
        let text = [entry("a", 1)].concat();
        let change = Change::between(&registry(&text), &registry(&text));
        assert!(change.is_nothing());
        assert_eq!(change.machines, 1);
    }

    #[test]
    fn machines_that_come_and_go_are_listed_in_order() {
        let old = registry(&[entry("a", 1), entry("b", 2), entry("c", 3)].concat());
        let new = registry(&[entry("z", 26), entry("b", 2), entry("y", 25)].concat());
        let change = Change::between(&old, &new);
        assert_eq!(ids(&change.added), ["y", "z"]);
        assert_eq!(ids(&change.removed), ["a", "c"]);
        assert_eq!(change.touched(), 4);
    }

    #[test]
    fn a_new_key_is_a_changed_key_whatever_else_changed() {
        let old = registry(&entry("a", 1));
        let new = registry(&(entry("a", 2) + "    enabled: false\n"));
        let change = Change::between(&old, &new);
        assert_eq!(ids(&change.keys_changed), ["a"]);
        assert!(change.otherwise_changed.is_empty());
    }

    #[test]
    fn a_machine_switched_off_is_changed_otherwise() {
        let old = registry(&entry("a", 1));
        let new = registry(&(entry("a", 1) + "    enabled: false\n"));
        assert_eq!(ids(&Change::between(&old, &new).otherwise_changed), ["a"]);
    }

    #[test]
    fn the_digest_is_that_of_the_new_file() {
        let old = registry(&entry("a", 1));
        let new = registry(&(entry("a", 1) + "# a comment\n"));
        let change = Change::between(&old, &new);
        assert!(change.is_nothing());
        assert_eq!(change.digest, new.digest());
        assert_ne!(change.digest, old.digest());
    }
}
