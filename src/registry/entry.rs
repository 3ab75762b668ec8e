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
}

impl<'a> Entry<'a> {
    /// The entry as the tree has it.
    pub(super) fn node(self) -> &'a Node<'a> {
        self.node
    }

    /// The value of the entry.
    pub(super) fn field(self, notes: &'a Notes) -> Field<'a> {
        Field::entry(self.node, self.name(), notes)
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

    /// The [`name`](Entry::name) and the line.
    pub(super) fn whereabouts(self) -> String {
        match self.node.line {
            // Not from a file.
            0 => self.name(),
            line => format!("{} (line {line})", self.name()),
        }
    }

    /// Whether both are the same entry of the file.
    pub(super) fn is(self, other: Entry<'_>) -> bool {
        (self.section, self.position) == (other.section, other.position)
    }
}

/// The entries of a file, list by list.
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
    pub(super) fn alone(node: &'a Node<'a>, section: Section) -> Lists<'a> {
        let entries = Lists::entries(std::slice::from_ref(node), section);
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
    pub(super) fn entries(nodes: &'a [Node<'a>], section: Section) -> Vec<Entry<'a>> {
        let entry = |(position, node)| Entry {
            section,
            position,
            node,
        };
        nodes.iter().enumerate().map(entry).collect()
    }

    /// The lists of a document; those that are missing or no lists are empty, and may be mistakes.
    pub(super) fn of(document: &'a Node<'a>, notes: &'a Notes) -> Lists<'a> {
        let mut table = Field::root(document, notes).table();
        let machines = table.required_or("machines", NO_MACHINES);
        Lists {
            machines: entries(machines.filter(is_written), Section::Machines),
            groups: entries(table.field("groups"), Section::Groups),
            removed: entries(table.field("removed"), Section::Removed),
            has_other_groups: false,
        }
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

fn entries<'a>(list: Option<Field<'a>>, section: Section) -> Vec<Entry<'a>> {
    let nodes = list.map_or(&[][..], |field| field.nodes(MAX_ENTRIES));
    Lists::entries(nodes, section)
}
