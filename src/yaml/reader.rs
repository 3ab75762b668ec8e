//! Reading typed values out of the tree, noting every mistake at its key and going on. A key that
//! nobody asked for is a mistake too: a setting is never silently ignored.

use std::mem;

use super::mistakes::{Notes, quoted};
use super::tree::{Node, Value};

/// Most items of one list, and keys of one table. Each route is looked at by each request until
/// one matches, and checks that compare each item with each stay quick; more is a mistake.
const MAX_ITEMS: usize = 1000;

/// A value at its place in the file.
pub(crate) struct Place<'a> {
    node: &'a Node,
    key: String,
    notes: &'a Notes,
}

impl<'a> Place<'a> {
    pub(crate) fn root(node: &'a Node, notes: &'a Notes) -> Place<'a> {
        let key = String::new();
        Place { node, key, notes }
    }

    pub(crate) fn mistake(&self, text: impl Into<String>) {
        self.notes.mistake(Some(self.node.line), &self.key, text);
    }

    pub(crate) fn warning(&self, text: impl Into<String>) {
        self.notes.warning(Some(self.node.line), &self.key, text);
    }

    /// The value that `parse` makes of the text here; its error becomes a mistake.
    pub(crate) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let parsed = match &self.node.value {
            Value::Scalar(text) => parse(text),
            _ => Err(self.unexpected("one value")),
        };
        parsed.map_err(|text| self.mistake(text)).ok()
    }

    /// The items of the list here.
    pub(crate) fn items(&self) -> Vec<Place<'a>> {
        let Value::List(items) = &self.node.value else {
            self.mistake(self.unexpected("a list"));
            return Vec::new();
        };
        if items.len() > MAX_ITEMS {
            self.mistake(format!("has more than {MAX_ITEMS} items"));
        }
        let place = |(index, node)| Place {
            node,
            key: format!("{}[{index}]", self.key),
            notes: self.notes,
        };
        (items.iter().take(MAX_ITEMS).enumerate())
            .map(place)
            .collect()
    }

    /// Whether there is a table here.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.node.value, Value::Table(_))
    }

    /// The items of the list here, at least one (to an empty one, `text` is said); a single value
    /// stands for a list of itself.
    pub(crate) fn one_or_more(self, text: &str) -> Vec<Place<'a>> {
        match self.node.value {
            Value::Scalar(_) => vec![self],
            _ => self.some_items(text),
        }
    }

    /// The items of the list here, at least one: to an empty one, `text` is said.
    pub(crate) fn some_items(&self, text: &str) -> Vec<Place<'a>> {
        if matches!(&self.node.value, Value::List(items) if items.is_empty()) {
            self.mistake(text);
        }
        self.items()
    }

    /// The entries of the table here, whose keys are names that the file chooses; at least one: to
    /// an empty one, `text` is said.
    pub(crate) fn some_entries(&self, text: &str) -> Vec<(&'a str, Place<'a>)> {
        if matches!(&self.node.value, Value::Table(entries) if entries.is_empty()) {
            self.mistake(text);
        }
        let mut table = self.table();
        let entries = mem::take(&mut table.entries);
        let place = |(name, node, _)| {
            let key = table.path(&shown_key(name));
            let notes = self.notes;
            (name, Place { node, key, notes })
        };
        entries.into_iter().map(place).collect()
    }

    /// The table here. Something else is a mistake, and reads as a table without any key.
    pub(crate) fn table(&self) -> Table<'a> {
        let mut table = Table {
            line: self.node.line,
            key: self.key.clone(),
            notes: self.notes,
            entries: Vec::new(),
            asked: Vec::new(),
            legible: true,
        };
        match &self.node.value {
            Value::Table(entries) => table.fill(entries),
            _ => {
                self.mistake(self.unexpected("keys of its own"));
                table.legible = false;
            }
        }
        table
    }

    fn unexpected(&self, wanted: &str) -> String {
        let found = match &self.node.value {
            Value::Null => return "has no value; give it one or remove the key".into(),
            Value::Unsupported(why) => return (*why).into(),
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Table(_) => "keys of its own",
        };
        format!("takes {wanted}, not {found}")
    }
}

/// The keys and values at a place. Whoever reads a table asks for every key that it may have; when
/// the table is dropped, the keys that are left are reported as unknown.
pub(crate) struct Table<'a> {
    line: usize,
    key: String,
    notes: &'a Notes,
    entries: Vec<(&'a str, &'a Node, usize)>,
    asked: Vec<&'static str>,
    /// Whether there was a table to read: otherwise nothing more is said about its keys.
    legible: bool,
}

impl<'a> Table<'a> {
    /// The value of `key`, if the file has it.
    pub(crate) fn place(&mut self, key: &'static str) -> Option<Place<'a>> {
        self.asked.push(key);
        let Some(place) = self.take(key) else {
            #[cfg(test)]
            self.notes.absent.borrow_mut().push(self.path(key));
            return None;
        };
        Some(place)
    }

    /// The value of `key`; its absence is a mistake.
    pub(crate) fn required(&mut self, key: &'static str) -> Option<Place<'a>> {
        let place = self.place(key);
        if place.is_none() {
            self.mistake(key, "is missing");
        }
        place
    }

    /// Notes a mistake about a key that may be absent.
    pub(crate) fn mistake(&self, key: &str, text: impl Into<String>) {
        if self.legible {
            self.notes.mistake(Some(self.line), &self.path(key), text);
        }
    }

    /// The parsed value of `key`, or `default` where the key is absent. (Where it is mistaken too,
    /// but then nothing of what is read gets out.)
    pub(crate) fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.place(key)
            .and_then(|place| place.parse(parse))
            .unwrap_or(default)
    }

    /// The table of `key`; where the key is absent, a table without any key.
    pub(crate) fn table(&mut self, key: &'static str) -> Table<'a> {
        match self.place(key) {
            Some(place) => place.table(),
            None => Table {
                line: self.line,
                key: self.path(key),
                notes: self.notes,
                entries: Vec::new(),
                asked: Vec::new(),
                legible: self.legible,
            },
        }
    }

    /// The items of the list of `key`; none where the key is absent.
    pub(crate) fn items(&mut self, key: &'static str) -> Vec<Place<'a>> {
        self.place(key)
            .map(|place| place.items())
            .unwrap_or_default()
    }

    /// Refuses keys that the documentation describes and this version does not have.
    pub(crate) fn not_yet(&mut self, keys: &[&'static str]) {
        for key in keys {
            if let Some(place) = self.take(key) {
                place.mistake(NOT_YET);
            }
        }
    }

    fn fill(&mut self, entries: &'a [(Node, Node)]) {
        if entries.len() > MAX_ITEMS {
            let text = format!("has more than {MAX_ITEMS} keys");
            self.notes.mistake(Some(self.line), &self.key, text);
        }
        for (key, node) in entries.iter().take(MAX_ITEMS) {
            let Value::Scalar(name) = &key.value else {
                let text = "has a key that is not plain text";
                self.notes.mistake(Some(key.line), &self.key, text);
                continue;
            };
            let first = self.entries.iter().find(|(known, ..)| known == name);
            if let Some((_, _, line)) = first {
                let text = format!("is given twice, first on line {line}; keep one of the two");
                let path = self.path(&shown_key(name));
                self.notes.mistake(Some(key.line), &path, text);
            } else {
                self.entries.push((name, node, key.line));
            }
        }
    }

    fn take(&mut self, key: &str) -> Option<Place<'a>> {
        let index = self.entries.iter().position(|(name, ..)| *name == key)?;
        let (_, node, _) = self.entries.remove(index);
        Some(Place {
            node,
            key: self.path(key),
            notes: self.notes,
        })
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        }
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        for (name, _, line) in mem::take(&mut self.entries) {
            let hint = did_you_mean(name, self.asked.iter().copied());
            let path = self.path(&shown_key(name));
            self.notes
                .mistake(Some(line), &path, format!("is an unknown key{hint}"));
        }
    }
}

/// What a setting of the contract that is not built yet is refused with.
const NOT_YET: &str = "is not available in this version; remove it";

/// A parser of one word out of `words`. A word of `later` belongs to the contract and is not
/// built yet.
pub(crate) fn one_of<T: Copy>(
    words: &[(&'static str, T)],
    later: &[&str],
) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let known = known.join(", ");
        if later.contains(&text) {
            return Err(format!(
                "{text} is not available in this version; use {known}"
            ));
        }
        Err(format!("{} is not one of: {known}", quoted(text)))
    }
}

/// `"; did you mean `limits`?"` where a candidate is near, else nothing.
pub(crate) fn did_you_mean<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> String {
    // A third of the word may be wrong: enough for a slip or two, too little for another word. No
    // key is near 64 bytes long, and the comparison costs the product of the lengths.
    let within = match name.len() {
        0..=64 => name.chars().count().div_ceil(3),
        _ => return String::new(),
    };
    let nearest = candidates
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= within)
        .min();
    match nearest {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => String::new(),
    }
}

/// A key as a message shows it: bare where it is a plain word, else quoted and capped.
fn shown_key(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=64).contains(&key.len()) && key.bytes().all(plain) {
        key.to_owned()
    } else {
        quoted(key)
    }
}
