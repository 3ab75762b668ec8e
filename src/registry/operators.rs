//! The operators: they sign the calls that manage the machines. They stand in a file of the format
//! of machines.yaml, so that no call can make one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::change::Change;
use super::checked_entry::CheckedEntry;
use super::snapshot::Registry;
use crate::yaml::Mistakes;
use countersign_core::identity::Machine;

/// The operators in force.
pub struct Operators {
    file: PathBuf,
    current: ArcSwap<Registry>,
}

impl Operators {
    /// Loads the file for the first time. `machines` are those in force.
    ///
    /// # Errors
    ///
    /// All the mistakes, also that an id or a key is a machine's too.
    pub fn open(file: &Path, machines: &Registry) -> Result<(Operators, Change), Mistakes> {
        let operators = load(file, None, machines)?;
        let change = Change::between(&Registry::default(), &operators);
        let operators = Operators {
            file: file.to_owned(),
            current: ArcSwap::from_pointee(operators),
        };
        Ok((operators, change))
    }

    /// The file that they are loaded from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The operators in force at this moment.
    pub fn current(&self) -> Arc<Registry> {
        self.current.load_full()
    }

    /// The operator with this id. Nobody but an operator is found here.
    pub fn find(&self, id: &str) -> Option<Arc<Machine>> {
        self.current.load().find(id).cloned()
    }

    /// Loads the file again, and puts it in force. It blocks, so a thread that serves requests must
    /// not call it. Calls must not overlap.
    ///
    /// # Errors
    ///
    /// All the mistakes; then the last good operators stay in force.
    pub fn reload(&self, machines: &Registry) -> Result<Change, Mistakes> {
        let old = self.current();
        let new = Arc::new(load(&self.file, Some(&old), machines)?);
        let change = Change::between(&old, &new);
        self.current.store(new);
        Ok(change)
    }

    /// Why an entry cannot become a machine: its id, or one of its keys, is an operator's. A machine
    /// that shared an operator's key would be an operator, because the id is not signed.
    pub fn objection(&self, entry: &CheckedEntry) -> Option<String> {
        let operators = self.current.load();
        if operators.find(entry.id().as_str()).is_some() {
            return Some(format!(
                "\"{}\": id: is an operator's; choose another",
                entry.id()
            ));
        }
        (entry.keys().iter().any(|key| self.has_key(key)))
            .then(|| format!("\"{}\": public_keys: one is an operator's", entry.id()))
    }

    /// Whether an operator has this key.
    pub fn has_key(&self, key: &[u8; 32]) -> bool {
        let operators = self.current.load();
        let mut its = (operators.machines()).flat_map(|operator| operator.keys.iter());
        its.any(|its| its.public.as_bytes() == key)
    }

    /// The operators whose id or key a machine has, with the machine: a change of the machines may
    /// bring one about.
    pub fn shared_with(&self, machines: &Registry) -> Vec<String> {
        shared(&self.current.load(), machines)
    }
}

/// Loads the file; that an operator is a machine, too, is a mistake of the file.
fn load(
    file: &Path,
    previous: Option<&Registry>,
    machines: &Registry,
) -> Result<Registry, Mistakes> {
    let operators = Registry::load(file, previous)?;
    match &shared(&operators, machines)[..] {
        [] => Ok(operators),
        found => Err(Mistakes::only(file, None, found.join("\n"))),
    }
}

/// One text for each operator that is a machine, too.
fn shared(operators: &Registry, machines: &Registry) -> Vec<String> {
    let mut found: Vec<String> = (operators.machines())
        .filter(|operator| machines.find(operator.id.as_str()).is_some())
        .map(|operator| {
            format!(
                "the operator {} has the id of a machine, so that records could not tell the two \
                 apart; choose another id",
                operator.id
            )
        })
        .collect();
    let owners: HashMap<&[u8; 32], &Machine> = (operators.machines())
        .flat_map(|operator| operator.keys.iter().map(move |key| (key, operator)))
        .map(|(key, operator)| (key.public.as_bytes(), &**operator))
        .collect();
    for machine in machines.machines() {
        for key in &machine.keys {
            if let Some(operator) = owners.get(key.public.as_bytes()) {
                found.push(format!(
                    "the operator {} has a key of the machine {}, which could then manage the \
                     registry; give the operator a key of its own",
                    operator.id, machine.id
                ));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::fixtures::{entry, file, key, registry};
    use super::*;
    use serde_json::json;
    use std::fs;

    struct Fixture {
        _directory: tempfile::TempDir,
        path: PathBuf,
    }

    impl Fixture {
        fn with(items: &str) -> Fixture {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("operators.yaml");
            fs::write(&path, file(items)).unwrap();
            Fixture {
                _directory: directory,
                path,
            }
        }

        fn open(&self, machines: &Registry) -> Result<Operators, Mistakes> {
            Operators::open(&self.path, machines).map(|(operators, _)| operators)
        }
    }

    fn checked(id: &str, seed: u8) -> CheckedEntry {
        CheckedEntry::parse(&json!({"id": id, "public_keys": [key(seed.into())]})).unwrap()
    }

    #[test]
    fn only_operators_are_found() {
        let machines = registry(&entry("web-1", 2));
        let operators = Fixture::with(&entry("alice", 1)).open(&machines).unwrap();
        assert!(operators.find("alice").is_some());
        assert!(operators.find("web-1").is_none());
    }

    #[test]
    fn an_operator_with_the_id_of_a_machine_is_a_mistake() {
        let told = Fixture::with(&entry("alice", 1)).open(&registry(&entry("alice", 2)));
        let told = told.err().unwrap().to_string();
        assert!(told.contains("alice has the id of a machine"), "{told}");
    }

    #[test]
    fn an_operator_with_the_key_of_a_machine_is_a_mistake() {
        let told = Fixture::with(&entry("alice", 1)).open(&registry(&entry("web-1", 1)));
        let told = told.err().unwrap().to_string();
        assert!(told.contains("a key of the machine web-1"), "{told}");
    }

    #[test]
    fn a_bad_file_leaves_the_operators_in_force() {
        let machines = registry(&entry("web-1", 2));
        let fixture = Fixture::with(&entry("alice", 1));
        let operators = fixture.open(&machines).unwrap();
        for bad in [
            "",
            "bad",
            &file(&entry("web-1", 3)),
            &file(&entry("bob", 2)),
        ] {
            fs::write(&fixture.path, bad).unwrap();
            assert!(operators.reload(&machines).is_err(), "{bad}");
            assert!(operators.find("alice").is_some());
        }
    }

    #[test]
    fn a_reload_takes_operators_in_and_out() {
        let machines = registry(&entry("web-1", 2));
        let fixture = Fixture::with(&entry("alice", 1));
        let operators = fixture.open(&machines).unwrap();
        fs::write(&fixture.path, file(&entry("bob", 3))).unwrap();
        let change = operators.reload(&machines).unwrap();
        assert_eq!((change.added.len(), change.removed.len()), (1, 1));
        assert!(operators.find("alice").is_none());
        assert!(operators.find("bob").is_some());
    }

    #[test]
    fn no_machine_may_take_an_operators_id_or_key() {
        let operators = (Fixture::with(&entry("alice", 1)).open(&Registry::default())).unwrap();
        assert!(operators.objection(&checked("alice", 2)).is_some());
        assert!(operators.objection(&checked("web-1", 1)).is_some());
        assert_eq!(operators.objection(&checked("web-1", 2)), None);
    }

    #[test]
    fn a_machine_that_became_an_operators_twin_is_told() {
        let operators = (Fixture::with(&entry("alice", 1)).open(&Registry::default())).unwrap();
        assert_eq!(
            operators.shared_with(&registry(&entry("web-1", 2))).len(),
            0
        );
        assert_eq!(
            operators.shared_with(&registry(&entry("alice", 2))).len(),
            1
        );
        assert_eq!(
            operators.shared_with(&registry(&entry("web-1", 1))).len(),
            1
        );
    }
}
