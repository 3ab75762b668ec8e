//! The lists of a file, entry by entry, whichever way they were read.

use std::path::Path;
use std::sync::Arc;

use super::mistakes::{Mistake, Mistakes};
use super::node::Node;
use super::parse::{self, Entry, Key, Section};
use super::report::At;
use super::values::describe;
use crate::auth::identity::Machine;

/// What stands in a file, list by list.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) machines: Vec<Listed>,
    pub(super) groups: Vec<Entry>,
    pub(super) removed: Vec<Entry>,
}

/// An entry of the list of machines.
pub(super) enum Listed {
    /// As the parser found it, not checked yet.
    Written(Box<Entry>),
    /// The machine that the registry in force has of the very same text.
    Known(Arc<Machine>),
}

impl Listed {
    pub(super) fn written(entry: Entry) -> Listed {
        Listed::Written(Box::new(entry))
    }
}

/// The keys of the document, for people.
pub(super) const KNOWN: [&str; 3] = ["machines", "groups", "removed"];

impl Lists {
    /// The lists of a document, and the keys beside them that do not belong there.
    ///
    /// # Errors
    ///
    /// It has no lists where there must be some.
    pub(super) fn of(
        file: &Path,
        document: parse::File,
    ) -> Result<(Lists, Vec<parse::Strange>), Mistakes> {
        const NONE: &str = "for a registry without machines write `machines: []`";
        let refuse = |text: String| Err(Mistakes::only(file, None, text));
        let top = match document {
            Node::Mapping(top) => top,
            Node::Nothing => return refuse(format!("the file is empty; {NONE}")),
            _ => return refuse("the file must be a mapping with the key `machines`".into()),
        };
        let mut problems = Vec::new();
        let mut lists = [const { Vec::new() }; Section::ALL.len()];
        for (section, found) in Section::ALL.into_iter().zip(top.sections) {
            let (name, is_required) = (section.as_str(), section == Section::Machines);
            problems.push(match found {
                Some(Node::List(list)) => {
                    lists[section as usize] = list.0;
                    continue;
                }
                None if !is_required => continue,
                None => format!("the key `{name}` is missing; {NONE}"),
                Some(Node::Nothing) if is_required => {
                    format!("there is nothing under `{name}`; {NONE}")
                }
                Some(Node::Nothing) => format!("there is nothing under `{name}`; remove the key"),
                Some(_) if is_required => {
                    format!("`{name}` must be a list, one `- id: ..` after the other")
                }
                Some(_) => format!("`{name}` must be a list"),
            });
        }
        if problems.is_empty() {
            let [machines, groups, removed] = lists;
            let machines = machines.into_iter().map(Listed::written).collect();
            let lists = Lists {
                machines,
                groups,
                removed,
            };
            return Ok((lists, top.strange));
        }
        problems.extend(top.strange.iter().map(|strange| describe(strange, &KNOWN)));
        let mut mistakes = Mistakes::none_yet(file);
        for text in problems {
            mistakes.push(Mistake {
                line: None,
                entry: None,
                key: None,
                text,
            });
        }
        Err(mistakes)
    }

    /// How many entries a list has.
    pub(super) fn count(&self, section: Section) -> usize {
        match section {
            Section::Machines => self.machines.len(),
            Section::Groups => self.groups.len(),
            Section::Removed => self.removed.len(),
        }
    }

    /// The name of an entry, right or wrong, if it has one.
    pub(super) fn name(&self, At { section, position }: At) -> Option<&str> {
        let (entry, key) = match section {
            Section::Machines => match self.machines.get(position)? {
                Listed::Known(machine) => return Some(machine.id.as_str()),
                Listed::Written(entry) => (&**entry, Key::Id),
            },
            Section::Groups => (self.groups.get(position)?, Key::Name),
            Section::Removed => (self.removed.get(position)?, Key::Id),
        };
        match entry {
            Node::Mapping(entry) => match entry.get(key) {
                Some(Node::Text(name)) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }
}
