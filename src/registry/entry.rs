//! The lists of a registry file and their entries.

use crate::yaml::{Field, Node, Notes, quoted};

/// Most entries of one list: ten times the machines that one gateway is built for.
const MAX_ENTRIES: usize = 1_000_000;

/// A list of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Machines,
    Groups,
    Removed,
}

/// An entry of one of the lists.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) section: Section,
    position: usize,
    node: &'a Node<'a>,
    /// Those of its file.
    pub(super) notes: &'a Notes,
}

impl<'a> Entry<'a> {
    /// The entry as the tree has it.
    pub(super) fn node(self) -> &'a Node<'a> {
        self.node
    }

    /// The value of the entry.
    pub(super) fn field(self) -> Field<'a> {
        Field::entry(self.node, self.name(), self.notes)
    }

    /// The entry as messages call it: `"web-1"`, `group "fleet"`, `machine no. 3`.
    pub(super) fn name(self) -> String {
        let (noun, key) = match self.section {
            Section::Machines => ("machine", "id"),
            Section::Groups => ("group", "name"),
            Section::Removed => ("removed machine", "id"),
        };
        match self.node.entry(key).and_then(Node::text) {
            Some(name) if self.section == Section::Machines => quoted(name),
            Some(name) => format!("{noun} {}", quoted(name)),
            None => format!("{noun} no. {}", self.position + 1),
        }
    }

    /// The [`name`](Entry::name) and the line, for a message at the entry `at`: with the file, if
    /// that is another one.
    pub(super) fn whereabouts(self, at: Entry<'_>) -> String {
        let (name, line) = (self.name(), self.node.line);
        match std::ptr::eq(self.notes, at.notes) {
            // Not from a file.
            _ if line == 0 => name,
            true => format!("{name} (line {line})"),
            false => format!("{name} ({}:{line})", self.notes.file().display()),
        }
    }

    /// Whether both are the same entry.
    pub(super) fn is(self, other: Entry<'_>) -> bool {
        std::ptr::eq(self.node, other.node)
    }
}

/// The entries of all files, list by list.
#[derive(Default)]
pub(super) struct Lists<'a> {
    pub(super) machines: Vec<Entry<'a>>,
    pub(super) groups: Vec<Entry<'a>>,
    pub(super) removed: Vec<Entry<'a>>,
    /// Machines may name groups that are not among `groups`: whoever puts the machines in force
    /// knows those.
    pub(super) has_other_groups: bool,
}

impl<'a> Lists<'a> {
    /// One entry, checked by itself.
    pub(super) fn alone(node: &'a Node<'a>, section: Section, notes: &'a Notes) -> Lists<'a> {
        let entries = Lists::entries(std::slice::from_ref(node), section, notes);
        let mut lists = Lists {
            has_other_groups: true,
            ..Lists::default()
        };
        match section {
            Section::Machines => lists.machines = entries,
            Section::Groups => lists.groups = entries,
            Section::Removed => lists.removed = entries,
        }
        lists
    }

    /// Entries of one list.
    pub(super) fn entries(
        nodes: &'a [Node<'a>],
        section: Section,
        notes: &'a Notes,
    ) -> Vec<Entry<'a>> {
        let entry = |(position, node)| Entry {
            section,
            position,
            node,
            notes,
        };
        nodes.iter().enumerate().map(entry).collect()
    }

    /// The lists of the documents; those that are missing or no lists are empty, and may be
    /// mistakes. Of several files one may hold only groups, or only tombstones.
    pub(super) fn of(
        documents: impl ExactSizeIterator<Item = (&'a Node<'a>, &'a Notes)>,
    ) -> Lists<'a> {
        let is_alone = documents.len() == 1;
        let mut lists = Lists::default();
        for (document, notes) in documents {
            let mut table = Field::root(document, notes).table();
            let machines = match !is_alone && table.has_any(&["groups", "removed"]) {
                true => table.field("machines"),
                false => table.required_or("machines", NO_MACHINES),
            };
            let machines = machines.filter(is_written);
            let sections = [
                (&mut lists.machines, machines, Section::Machines),
                (&mut lists.groups, table.field("groups"), Section::Groups),
                (&mut lists.removed, table.field("removed"), Section::Removed),
            ];
            for (list, field, section) in sections {
                list.extend(entries(field, section, notes));
            }
        }
        lists
    }
}

const NO_MACHINES: &str = "is missing; for a registry without machines write `machines: []`";

/// Whether there is a value; its absence is a mistake.
fn is_written(machines: &Field<'_>) -> bool {
    let is_null = machines.is_null();
    if is_null {
        machines.mistake("has no value; for a registry without machines write `machines: []`");
    }
    !is_null
}

fn entries<'a>(list: Option<Field<'a>>, section: Section, notes: &'a Notes) -> Vec<Entry<'a>> {
    let nodes = list.map_or(&[][..], |field| field.nodes(MAX_ENTRIES));
    Lists::entries(nodes, section, notes)
}
