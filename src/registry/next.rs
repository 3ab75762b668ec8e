//! The next registry: rows of a database put in force as a whole, or not at all.

use std::collections::HashSet;
use std::sync::Arc;

use super::change::Change;
use super::cores::on_all_cores;
use super::ids::IdCase;
use super::key_index::KeyIndex;
use super::machine_table::MachineTable;
use super::rows::{MachineRow, RowReader};
use super::snapshot::Registry;
use countersign_core::identity::{Machine, MachineId};

/// Rows that are not worth a thread.
const SHARE: usize = 64;

/// A registry, and what the next change to it needs.
pub(super) struct RegistryState {
    pub(super) registry: Arc<Registry>,
    reader: RowReader,
    keys: KeyIndex,
}

/// All rows of a database, read page by page.
pub(super) struct RegistryBuilder {
    groups: Vec<String>,
    machines: Vec<Arc<Machine>>,
    previous: Arc<Registry>,
}

impl RegistryBuilder {
    /// Machines that are as in `previous` are shared with it.
    pub(super) fn new(groups: Vec<String>, previous: Arc<Registry>) -> RegistryBuilder {
        RegistryBuilder {
            groups,
            machines: Vec::new(),
            previous,
        }
    }

    /// Reads a page, on all cores.
    ///
    /// # Errors
    ///
    /// Every mistake of at least one row.
    pub(super) fn add(&mut self, rows: &[MachineRow]) -> Result<(), Vec<String>> {
        let parts: Vec<&[MachineRow]> = rows.chunks(SHARE.max(rows.len() / 64)).collect();
        let read = |part: &&[MachineRow]| RowReader::new(&self.groups)?.read(part);
        for machines in on_all_cores(&parts, 1, read) {
            let previous = &self.previous;
            let shared = |machine: Machine| match previous.find(machine.id.as_str()) {
                Some(same) if **same == machine => Arc::clone(same),
                _ => machine.into(),
            };
            self.machines.extend(machines?.into_iter().map(shared));
        }
        Ok(())
    }

    /// The registry of all pages.
    ///
    /// # Errors
    ///
    /// Two rows have the same id or key, or ids that differ in case only where `case` refuses that.
    pub(super) fn finish(
        self,
        digest: [u8; 32],
        case: IdCase,
    ) -> Result<RegistryState, Vec<String>> {
        let reader = RowReader::new(&self.groups)?;
        let count = self.machines.len();
        let registry = Registry {
            machines: self.machines.into_iter().collect(),
            groups: reader.groups(),
            removed: Box::default(),
            digest,
        };
        if registry.len() != count {
            return Err(vec!["two rows have the same id".to_owned()]);
        }
        refuse_case(&registry, case)?;
        let keys = match KeyIndex::of(&registry) {
            Some(keys) => keys,
            None => return Err(vec![shared_key(&registry)]),
        };
        Ok(RegistryState {
            registry: Arc::new(registry),
            reader,
            keys,
        })
    }
}

impl RegistryState {
    /// The state after a change, and the change. `rows` are the machines that were added or
    /// changed, `gone` those that may be there no more, and `groups` all groups if those changed.
    ///
    /// # Errors
    ///
    /// Every mistake; the state is as before.
    pub(super) fn changed(
        &mut self,
        groups: Option<&[String]>,
        rows: &[MachineRow],
        gone: &[MachineId],
        digest: [u8; 32],
        case: IdCase,
    ) -> Result<Change, Vec<String>> {
        let mut other = groups.map(RowReader::new).transpose()?;
        let machines = other.as_mut().unwrap_or(&mut self.reader).read(rows)?;
        let touched: HashSet<&MachineId> = machines.iter().map(|it| &it.id).chain(gone).collect();
        for machine in &machines {
            self.refuse_taken_keys(machine, &touched)?;
        }
        let old = &self.registry;
        let mut change = Change {
            digest,
            machines: 0,
            added: Vec::new(),
            removed: Vec::new(),
            keys_changed: Vec::new(),
            otherwise_changed: Vec::new(),
        };
        let mut table: MachineTable = old.machines.clone();
        let (mut old_keys, mut new_keys) = (Vec::new(), Vec::new());
        for id in gone {
            if let Some(before) = table.remove(id) {
                old_keys.extend(before.keys.iter().map(|key| *key.public.as_bytes()));
                change.removed.push(id.clone());
            }
        }
        for machine in machines {
            let before = old.find(machine.id.as_str());
            let list = match before {
                None => &mut change.added,
                Some(before) if **before == machine => continue,
                Some(before) if before.keys != machine.keys => &mut change.keys_changed,
                Some(_) => &mut change.otherwise_changed,
            };
            list.push(machine.id.clone());
            let keys_before = before.into_iter().flat_map(|before| &before.keys);
            old_keys.extend(keys_before.map(|key| *key.public.as_bytes()));
            new_keys.extend(machine.keys.iter().map(|key| *key.public.as_bytes()));
            table.put(machine.into());
        }
        for list in [&mut change.added, &mut change.removed] {
            list.sort_unstable();
        }
        for list in [&mut change.keys_changed, &mut change.otherwise_changed] {
            list.sort_unstable();
        }
        change.machines = table.len();
        let registry = Registry {
            machines: table.grown(),
            groups: match &other {
                Some(reader) => reader.groups(),
                None => old.groups.clone(),
            },
            removed: Box::default(),
            digest,
        };
        refuse_case(&registry, case)?;
        // Nothing fails from here on.
        for key in &old_keys {
            self.keys.remove(key);
        }
        for key in &new_keys {
            self.keys.insert(key);
        }
        if let Some(reader) = other {
            self.reader = reader;
        }
        self.registry = Arc::new(registry);
        Ok(change)
    }

    /// Refuses a machine with a key of another machine that the change leaves alone. The database
    /// has the same rule; this is the check of its check.
    fn refuse_taken_keys(
        &self,
        machine: &Machine,
        touched: &HashSet<&MachineId>,
    ) -> Result<(), Vec<String>> {
        let before = self.registry.find(machine.id.as_str());
        for key in &machine.keys {
            let had = before.is_some_and(|it| it.keys.iter().any(|old| old.public == key.public));
            if had || !self.keys.may_have(key.public.as_bytes()) {
                continue;
            }
            let has = |other: &&Arc<Machine>| {
                !touched.contains(&other.id)
                    && other.keys.iter().any(|old| old.public == key.public)
            };
            if let Some(owner) = self.registry.machines().find(has) {
                return Err(vec![format!(
                    "\"{}\": a key of it is one of {} too",
                    machine.id, owner.id
                )]);
            }
        }
        Ok(())
    }
}

fn refuse_case(registry: &Registry, case: IdCase) -> Result<(), Vec<String>> {
    if case == IdCase::Exact {
        return Ok(());
    }
    match registry.differing_in_case() {
        None => Ok(()),
        Some([one, other]) => Err(vec![format!(
            "the ids {one} and {other} differ in case only, and the backend at which machines log \
             in would take the two for one machine; rename one of them"
        )]),
    }
}

/// The mistake of two machines with one key.
fn shared_key(registry: &Registry) -> String {
    let mut owners = std::collections::HashMap::with_capacity(registry.len());
    for machine in registry.machines() {
        for key in &machine.keys {
            if let Some(other) = owners.insert(key.public.as_bytes(), &machine.id) {
                return format!("\"{}\": a key of it is one of {other} too", machine.id);
            }
        }
    }
    "two keys have the same hash; read the registry again".to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::fixtures::key;
    use super::*;

    fn row(id: &str, number: u64, more: &str) -> MachineRow {
        MachineRow {
            id: id.to_owned(),
            entry: format!(
                "{{\"id\":\"{id}\",\"public_keys\":[\"{}\"]{more}}}",
                key(number)
            ),
        }
    }

    fn state(rows: &[MachineRow]) -> RegistryState {
        let mut builder = RegistryBuilder::new(Vec::new(), Arc::default());
        builder.add(rows).unwrap();
        builder.finish([1; 32], IdCase::Exact).unwrap()
    }

    fn id(text: &str) -> MachineId {
        MachineId::parse(text).unwrap()
    }

    #[test]
    fn a_change_touches_its_machines_and_shares_the_others() {
        let mut state = state(&[row("a", 1, ""), row("b", 2, ""), row("c", 3, "")]);
        let before = Arc::clone(&state.registry);
        let rows = [
            row("b", 4, ""),
            row("c", 3, ",\"owner\":\"x\""),
            row("d", 5, ""),
        ];
        let change = state
            .changed(None, &rows, &[id("a"), id("never")], [2; 32], IdCase::Exact)
            .unwrap();
        assert_eq!(change.added, [id("d")]);
        assert_eq!(change.removed, [id("a")]);
        assert_eq!(change.keys_changed, [id("b")]);
        assert_eq!(change.otherwise_changed, [id("c")]);
        assert_eq!((change.machines, change.digest), (3, [2; 32]));
        assert_eq!(Change::between(&before, &state.registry), change);
        assert!(before.find("a").is_some() && state.registry.find("a").is_none());
    }

    #[test]
    fn a_key_of_another_machine_refuses_the_change_and_nothing_is_changed() {
        let mut state = state(&[row("a", 1, ""), row("b", 2, "")]);
        let rows = [row("c", 3, ""), row("d", 2, "")];
        let refused = state.changed(None, &rows, &[], [2; 32], IdCase::Exact);
        assert_eq!(
            refused,
            Err(vec!["\"d\": a key of it is one of b too".into()])
        );
        assert_eq!(
            (state.registry.len(), state.registry.digest()),
            (2, [1; 32])
        );
        // A key that moves on within one change is free, and so is one whose owner is gone.
        let rows = [row("b", 3, ""), row("c", 2, ""), row("d", 1, "")];
        let moved = state.changed(None, &rows, &[id("a")], [3; 32], IdCase::Exact);
        assert_eq!(moved.unwrap().touched(), 4);
        let again = state.changed(None, &[row("e", 2, "")], &[], [4; 32], IdCase::Exact);
        assert!(again.is_err());
    }

    #[test]
    fn all_rows_together_have_keys_of_their_own() {
        let rows: Vec<_> = (1..200).map(|n| row(&format!("m{n}"), n, "")).collect();
        assert_eq!(state(&rows).registry.len(), 199);
        let mut builder = RegistryBuilder::new(Vec::new(), Arc::default());
        builder.add(&rows).unwrap();
        builder.add(&[row("twin", 7, "")]).unwrap();
        let refused = builder
            .finish([1; 32], IdCase::Exact)
            .map(|_| ())
            .unwrap_err();
        assert!(
            refused[0].contains("twin") && refused[0].contains("m7"),
            "{refused:?}"
        );
    }

    #[test]
    fn ids_that_differ_in_case_are_refused_where_the_backend_folds_it() {
        let mut state = state(&[row("a", 1, "")]);
        let rows = [row("A", 2, "")];
        assert!(
            state
                .changed(None, &rows, &[], [2; 32], IdCase::Folded)
                .is_err()
        );
        assert!(
            state
                .changed(None, &rows, &[], [2; 32], IdCase::Exact)
                .is_ok()
        );
    }
}
