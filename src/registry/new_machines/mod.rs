//! Many machines at once, in one of four formats that the content tells: YAML, JSON lines, CSV with
//! a header, or lines of `authorized_keys`.
//!
//! Each format becomes the tree that `machines.yaml` becomes, with the lines of its own file. So the
//! reader of `machines.yaml` finds its mistakes, and names the lines.

mod authorized_keys;
mod csv;
mod json_lines;
mod quoted_node;
mod random_id;
mod yaml_list;

use std::path::Path;

use super::checked_entry::CheckedEntry;
use super::entry::{Entry, Lists, Section};
use super::fields;
use super::ids::IdCase;
use super::keys;
use crate::yaml::{Mistakes, Node, Notes, Value};
use countersign_core::identity::PublicKey;

pub use random_id::random_id;

use quoted_node::text;

/// Most machines of one addition: those of a registry.
const MAX_MACHINES: usize = 1_000_000;

/// The entries of machines that are to be added. Their mistakes are found when they are checked.
pub struct NewMachines<'t> {
    entries: Vec<Node<'t>>,
    notes: Notes,
}

impl<'t> NewMachines<'t> {
    /// Takes the entries out of a text; `file` is for the messages. Those without an id get a random
    /// one.
    ///
    /// # Errors
    ///
    /// The mistakes of a text without entries. Other mistakes wait for the check.
    pub fn parse(file: &Path, text: &'t str) -> Result<NewMachines<'t>, Mistakes> {
        let notes = Notes::new(file);
        let text = text.trim_start_matches('\u{feff}');
        let entries = match ListFormat::of(text) {
            ListFormat::Yaml => yaml_list::read(text, &notes),
            ListFormat::JsonLines => Some(json_lines::read(text, &notes)),
            ListFormat::Csv => csv::read(text, &notes),
            ListFormat::AuthorizedKeys => Some(authorized_keys::read(text, &notes)),
        };
        let Some(mut entries) = entries else {
            return Err(notes.conclude(None::<()>).err().unwrap_or_else(|| {
                Mistakes::only(file, None, "cannot be read as a list of machines")
            }));
        };
        if entries.is_empty() {
            notes.mistake(None, "", "has no machine to add");
        }
        if entries.len() > MAX_MACHINES {
            let text = format!("has {} machines, more than {MAX_MACHINES}", entries.len());
            notes.mistake(None, "", text);
            entries.truncate(MAX_MACHINES);
        }
        for entry in &mut entries {
            give_id(entry, &notes);
        }
        Ok(NewMachines { entries, notes })
    }

    /// Checks the entries as far as they need no other ones: for a registry that checks the rest by
    /// itself. Their groups may be any.
    ///
    /// # Errors
    ///
    /// Every mistake, with its line.
    pub fn check(self) -> Result<Vec<CheckedEntry>, Mistakes> {
        {
            let lists = Lists {
                machines: self.list().collect(),
                has_other_groups: true,
                ..Lists::default()
            };
            let fields = fields::read(&lists, None, IdCase::Exact);
            keys::check(&fields.claims, None, &PublicKey::from_bytes);
        }
        let entries = self.checked();
        Notes::conclude_all(vec![self.notes], entries)
    }

    /// The entries in the canonical form; `None` if one of them has a mistake.
    pub(super) fn checked(&self) -> Option<Vec<CheckedEntry>> {
        let entries = self.entries.iter();
        entries.map(|node| CheckedEntry::read(node).ok()).collect()
    }

    /// The entries for the reader of a registry.
    pub(super) fn list(&self) -> impl Iterator<Item = Entry<'_>> {
        Lists::entries(&self.entries, Section::Machines, &self.notes).into_iter()
    }

    pub(super) fn into_notes(self) -> Notes {
        self.notes
    }
}

/// The format of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListFormat {
    Yaml,
    JsonLines,
    Csv,
    AuthorizedKeys,
}

impl ListFormat {
    /// The first line that is neither empty nor a comment tells it.
    fn of(text: &str) -> ListFormat {
        let mut lines = text.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        match first.unwrap_or_default() {
            line if json_lines::begin_with(line) => ListFormat::JsonLines,
            line if authorized_keys::begin_with(line) => ListFormat::AuthorizedKeys,
            line if csv::begin_with(line) => ListFormat::Csv,
            _ => ListFormat::Yaml,
        }
    }
}

fn give_id(entry: &mut Node<'_>, notes: &Notes) {
    let line = entry.line;
    let Value::Table(fields) = &mut entry.value else {
        return;
    };
    if fields.iter().any(|(key, _)| key.text() == Some("id")) {
        return;
    }
    match random_id() {
        Ok(id) => fields.insert(0, (text(line, "id"), text(line, id.as_str().to_owned()))),
        Err(why) => notes.mistake(Some(line), "", why),
    }
}

#[cfg(test)]
mod tests;
