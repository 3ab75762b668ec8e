//! Reads typed values out of the tree, notes every mistake at its key, and goes on. A key that no
//! caller asks for is a mistake too, so a setting is never silently ignored.

use std::mem;

use super::mistakes::Notes;
use super::path::KeyPath;
use super::tree::{Node, Value};
use super::words::{did_you_mean, shown_key};

/// The default for the most items of one list, and for the most keys of one table. Each request
/// searches the routes one after the other, and some checks compare each item with each other.
const MAX_ITEMS: usize = 1000;

/// Most keys that the message of an unknown key lists; a longer list would bury the mistake.
const MAX_KNOWN: usize = 16;

/// A value at its place in the file.
pub(crate) struct Field<'a> {
    pub(super) node: &'a Node<'a>,
    path: KeyPath,
    notes: &'a Notes,
}

impl<'a> Field<'a> {
    pub(crate) fn root(node: &'a Node<'a>, notes: &'a Notes) -> Field<'a> {
        Field::entry(node, String::new(), notes)
    }

    /// An entry of a list. Messages show its `name`, not its index.
    pub(crate) fn entry(node: &'a Node<'a>, name: String, notes: &'a Notes) -> Field<'a> {
        let path = KeyPath::entry(name);
        Field { node, path, notes }
    }

    pub(crate) fn mistake(&self, text: impl Into<String>) {
        let path = self.path.as_str();
        self.notes.mistake(Some(self.node.line), path, text);
    }

    pub(crate) fn warning(&self, text: impl Into<String>) {
        let path = self.path.as_str();
        self.notes.warning(Some(self.node.line), path, text);
    }

    /// The line on which the value starts, counted from 1.
    pub(crate) fn line(&self) -> usize {
        self.node.line
    }

    /// The items of the list here as the tree has them, at most `most`.
    pub(crate) fn nodes(&self, most: usize) -> &'a [Node<'a>] {
        let Value::List(items) = &self.node.value else {
            self.mistake(self.unexpected("a list"));
            return &[];
        };
        if items.len() > most {
            let count = items.len();
            self.mistake(format!("has {count} items; at most {most} are allowed"));
        }
        &items[..items.len().min(most)]
    }

    /// The text here, parsed by `parse`; its error becomes a mistake.
    pub(crate) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let parsed = match &self.node.value {
            Value::Scalar { text, .. } => parse(text),
            _ => Err(self.unexpected("a single value")),
        };
        parsed.map_err(|text| self.mistake(text)).ok()
    }

    /// The items of the list here.
    pub(crate) fn items(&self) -> Vec<Field<'a>> {
        self.items_up_to(MAX_ITEMS)
    }

    fn items_up_to(&self, most: usize) -> Vec<Field<'a>> {
        let field = |(index, node)| Field {
            node,
            path: self.path.item(index),
            notes: self.notes,
        };
        (self.nodes(most).iter().enumerate()).map(field).collect()
    }

    /// Whether nothing is written here.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// Whether there is a table here.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.node.value, Value::Table(_))
    }

    /// The items of the list here. An empty list is the mistake `text`. A single value counts as a
    /// list of one item.
    pub(crate) fn one_or_more(self, text: &str) -> Vec<Field<'a>> {
        match self.node.value {
            Value::Scalar { .. } => vec![self],
            _ => self.some_items(text),
        }
    }

    /// The items of the list here. An empty list is the mistake `text`.
    pub(crate) fn some_items(&self, text: &str) -> Vec<Field<'a>> {
        self.some_items_up_to(MAX_ITEMS, text)
    }

    /// The items of the list here, at most `most`. An empty list is the mistake `text`.
    pub(crate) fn some_items_up_to(&self, most: usize, text: &str) -> Vec<Field<'a>> {
        if matches!(&self.node.value, Value::List(items) if items.is_empty()) {
            self.mistake(text);
        }
        self.items_up_to(most)
    }

    /// The entries of the table here, whose keys are names that the file chooses. An empty table is
    /// the mistake `text`.
    pub(crate) fn some_entries(&self, text: &str) -> Vec<(&'a str, Field<'a>)> {
        if matches!(&self.node.value, Value::Table(entries) if entries.is_empty()) {
            self.mistake(text);
        }
        let mut table = self.table();
        let entries = mem::take(&mut table.entries);
        let field = |(name, node, _)| {
            let path = table.path.key(&shown_key(name));
            let notes = self.notes;
            (name, Field { node, path, notes })
        };
        entries.into_iter().map(field).collect()
    }

    /// The table here. Any other value is a mistake, and counts as a table without keys.
    pub(crate) fn table(&self) -> Table<'a> {
        let mut table = Table {
            line: self.node.line,
            path: self.path.clone(),
            notes: self.notes,
            entries: Vec::new(),
            asked: Vec::new(),
            legible: true,
        };
        match &self.node.value {
            Value::Table(entries) => table.fill(entries),
            _ => {
                self.mistake(self.unexpected("a mapping"));
                table.legible = false;
            }
        }
        table
    }

    /// The mistake of another kind of value than the wanted one.
    pub(super) fn unexpected(&self, wanted: &str) -> String {
        let found = match &self.node.value {
            Value::Null => return "has no value; give it one or remove the key".into(),
            Value::Unsupported(why) => return (*why).into(),
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Table(_) => "a mapping",
        };
        format!("must be {wanted}, not {found}")
    }
}

/// The keys and values at a place. A caller asks for every key that the table may have; when the
/// table is dropped, the keys that remain are reported as unknown.
pub(crate) struct Table<'a> {
    line: usize,
    path: KeyPath,
    notes: &'a Notes,
    entries: Vec<(&'a str, &'a Node<'a>, usize)>,
    asked: Vec<&'static str>,
    /// Whether there was a table to read. Otherwise its keys get no further mistakes.
    legible: bool,
}

impl<'a> Table<'a> {
    /// The value of `key`, if the file has it.
    pub(crate) fn field(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.asked.push(key);
        let Some(field) = self.take(key) else {
            #[cfg(test)]
            self.notes.absent(self.path.key(key).into());
            return None;
        };
        Some(field)
    }

    /// The value of `key`; its absence is a mistake.
    pub(crate) fn required(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.required_or(key, "is missing")
    }

    /// The value of `key`; its absence is the mistake `text`.
    pub(crate) fn required_or(&mut self, key: &'static str, text: &str) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() {
            self.mistake(key, text);
        }
        field
    }

    /// Whether the file has one of these keys, of which none has been asked for yet.
    pub(crate) fn has_any(&self, keys: &[&str]) -> bool {
        self.entries.iter().any(|(name, ..)| keys.contains(name))
    }

    /// Notes a mistake about a key that may be absent.
    pub(crate) fn mistake(&self, key: &str, text: impl Into<String>) {
        if self.legible {
            let path = self.path.key(key);
            self.notes.mistake(Some(self.line), path.as_str(), text);
        }
    }

    /// A warning at one of the keys, also where it is missing.
    pub(crate) fn warning(&self, key: &str, text: impl Into<String>) {
        if self.legible {
            let path = self.path.key(key);
            self.notes.warning(Some(self.line), path.as_str(), text);
        }
    }

    /// The parsed value of `key`, or `default` if the key is absent or has a mistake. After a
    /// mistake the whole file is discarded.
    pub(crate) fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.field(key)
            .and_then(|field| field.parse(parse))
            .unwrap_or(default)
    }

    /// The table of `key`; a table without keys if the key is absent.
    pub(crate) fn table(&mut self, key: &'static str) -> Table<'a> {
        match self.field(key) {
            Some(field) => field.table(),
            None => Table {
                line: self.line,
                path: self.path.key(key),
                notes: self.notes,
                entries: Vec::new(),
                asked: Vec::new(),
                legible: self.legible,
            },
        }
    }

    /// The items of the list of `key`; none if the key is absent.
    pub(crate) fn items(&mut self, key: &'static str) -> Vec<Field<'a>> {
        self.field(key)
            .map(|field| field.items())
            .unwrap_or_default()
    }

    fn fill(&mut self, entries: &'a [(Node<'a>, Node<'a>)]) {
        if entries.len() > MAX_ITEMS {
            let text = format!(
                "has {} keys; at most {MAX_ITEMS} are allowed",
                entries.len()
            );
            self.notes
                .mistake(Some(self.line), self.path.as_str(), text);
        }
        self.entries.reserve_exact(entries.len().min(MAX_ITEMS));
        for (key, node) in entries.iter().take(MAX_ITEMS) {
            let Some(name) = key.text() else {
                let text = match key.value {
                    Value::Unsupported(why) => why,
                    _ => "has a key that is not plain text",
                };
                self.notes.mistake(Some(key.line), self.path.as_str(), text);
                continue;
            };
            let first = self.entries.iter().find(|(known, ..)| *known == name);
            if let Some((_, _, line)) = first {
                let text = format!("is given twice, first on line {line}; keep one of the two");
                let path = self.path.key(&shown_key(name));
                self.notes.mistake(Some(key.line), path.as_str(), text);
            } else {
                self.entries.push((name, node, key.line));
            }
        }
    }

    fn take(&mut self, key: &str) -> Option<Field<'a>> {
        let index = self.entries.iter().position(|(name, ..)| *name == key)?;
        let (_, node, _) = self.entries.remove(index);
        Some(Field {
            node,
            path: self.path.key(key),
            notes: self.notes,
        })
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        for (name, _, line) in mem::take(&mut self.entries) {
            let hint = match did_you_mean(name, self.asked.iter().copied()) {
                none if none.is_empty() && self.asked.len() <= MAX_KNOWN => {
                    format!("; known here: {}", self.asked.join(", "))
                }
                hint => hint,
            };
            let path = self.path.key(&shown_key(name));
            let text = format!("is an unknown key{hint}");
            self.notes.mistake(Some(line), path.as_str(), text);
        }
    }
}
