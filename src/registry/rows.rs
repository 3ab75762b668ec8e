//! Rows of a database as machines. The reader of machines.yaml checks each: a database is not
//! trusted blindly.

use std::ops::Range;
use std::path::Path;

use super::checked_entry::texts;
use super::entry::{Lists, Section};
use super::fields::{self, SharedTerms};
use super::keys;
use super::policies::Group;
use crate::yaml::{Node, Notes, quoted};
use countersign_core::identity::{Machine, MachineKey, PublicKey};

/// A machine's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MachineRow {
    /// The id under which the database has it.
    pub(super) id: String,
    /// Its entry, in JSON.
    pub(super) entry: String,
}

/// Reads rows, by the groups of the database.
pub(super) struct RowReader {
    terms: SharedTerms,
}

impl RowReader {
    /// A reader of machines that may be in these groups, in JSON.
    ///
    /// # Errors
    ///
    /// Every mistake in a group.
    pub(super) fn new(groups: &[String]) -> Result<RowReader, Vec<String>> {
        let nodes = nodes(groups.iter().map(|group| ("a group", &**group)))?;
        let notes = notes();
        let terms = SharedTerms::read(&Lists::entries(&nodes, Section::Groups), &notes);
        let terms = notes.conclude(Some(terms));
        let (terms, _) = terms.map_err(|mistakes| texts(&mistakes))?;
        Ok(RowReader { terms })
    }

    /// The groups.
    pub(super) fn groups(&self) -> Box<[Group]> {
        self.terms.groups()
    }

    /// Reads machines. No two of the rows have the same id: the caller's query sees to it.
    ///
    /// # Errors
    ///
    /// Every mistake. One refuses all of them.
    pub(super) fn read(&mut self, rows: &[MachineRow]) -> Result<Vec<Machine>, Vec<String>> {
        let nodes = nodes(rows.iter().map(|row| (&*row.id, &*row.entry)))?;
        let notes = notes();
        let read = {
            let entries = Lists::entries(&nodes, Section::Machines);
            let (machines, claims) = fields::read_machines(&mut self.terms, &entries, &notes);
            keys::refuse_shared_keys(&claims, &notes);
            let keys: Vec<Option<PublicKey>> = (claims.iter())
                .map(|claim| match PublicKey::from_bytes(&claim.key) {
                    Ok(key) => Some(key),
                    Err(error) => {
                        claim.mistake(&notes, error.to_string());
                        None
                    }
                })
                .collect();
            let with_dates = |range: Range<usize>| -> Box<[MachineKey]> {
                let dated = range.filter_map(|at| {
                    let validity = claims[at].validity;
                    keys[at].map(|public| MachineKey { public, validity })
                });
                dated.collect()
            };
            let machines = machines.into_iter().map(|(machine, range)| Machine {
                keys: with_dates(range),
                ..machine
            });
            machines.collect::<Vec<_>>()
        };
        self.terms.forget();
        let (machines, _) = (notes.conclude(Some(read))).map_err(|mistakes| texts(&mistakes))?;
        let other = (machines.iter().zip(rows)).find(|(it, row)| it.id.as_str() != row.id);
        if let Some((machine, row)) = other {
            let id = quoted(&row.id);
            return Err(vec![format!(
                "the row of {id} has the entry of {}",
                machine.id
            )]);
        }
        Ok(machines)
    }
}

fn notes() -> Notes {
    Notes::new(Path::new(""))
}

fn nodes<'r>(rows: impl Iterator<Item = (&'r str, &'r str)>) -> Result<Vec<Node<'r>>, Vec<String>> {
    let node = |(id, text)| {
        serde_json::from_str(text)
            .map_err(|error| vec![format!("the row of {}: is no JSON: {error}", quoted(id))])
    };
    rows.map(node).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::fixtures::{key, registry};
    use super::*;
    use serde_json::json;

    fn row(id: &str, number: u64, more: &str) -> MachineRow {
        let entry = format!(
            "{{\"id\":\"{id}\",\"public_keys\":[\"{}\"]{more}}}",
            key(number)
        );
        MachineRow {
            id: id.to_owned(),
            entry,
        }
    }

    fn reader() -> RowReader {
        RowReader::new(&[json!({"name": "web", "allow": ["GET /v1/a"]}).to_string()]).unwrap()
    }

    #[test]
    fn a_row_is_the_machine_that_its_line_in_a_file_would_be() {
        let text = format!(
            "  - id: a\n    public_keys: [\"{}\"]\n    groups: [web]\n    enabled: false\n\
             groups: [{{ name: web, allow: [GET /v1/a] }}]\n",
            key(1)
        );
        let row = row("a", 1, ",\"groups\":[\"web\"],\"enabled\":false");
        let machines = reader().read(&[row]).unwrap();
        assert_eq!(machines[0], **registry(&text).find("a").unwrap());
    }

    #[test]
    fn a_row_with_a_mistake_refuses_all_and_is_named() {
        let weak = json!({"id": "b", "public_keys":
            ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]})
        .to_string();
        for (bad, told) in [
            (
                row("b", 2, ",\"groups\":[\"db\"]"),
                "\"b\": groups[0]: there is no group",
            ),
            (row("b", 1, ""), "belongs to \"a\" already"),
            (
                MachineRow {
                    id: "b".into(),
                    entry: weak,
                },
                "\"b\": public_keys[0]: it is a weak",
            ),
            (
                MachineRow {
                    id: "b".into(),
                    entry: "{".into(),
                },
                "the row of \"b\": is no JSON",
            ),
            (
                MachineRow {
                    id: "c".into(),
                    ..row("b", 2, "")
                },
                "the row of \"c\" has the entry",
            ),
        ] {
            let refused = reader().read(&[row("a", 1, ""), bad]).unwrap_err();
            assert!(refused[0].contains(told), "{refused:?}");
        }
    }

    #[test]
    fn machines_of_the_same_groups_share_a_policy_from_read_to_read() {
        let mut reader = reader();
        let mut read = |id, number| {
            let rows = [row(id, number, ",\"groups\":[\"web\"]")];
            reader.read(&rows).unwrap().remove(0).policy.unwrap()
        };
        assert!(std::sync::Arc::ptr_eq(&read("a", 1), &read("b", 2)));
    }
}
