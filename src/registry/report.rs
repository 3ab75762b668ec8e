//! Collects mistakes while a file is checked, and finds the line of each.

use std::cell::OnceCell;
use std::path::Path;

use super::mistakes::{Mistake, Mistakes, quoted};
use super::node::Node;
use super::outline::Outline;
use super::parse::{Entry, Key};

/// The mistakes found so far in one file.
pub(super) struct Report<'f> {
    text: &'f str,
    entries: &'f [Entry],
    outline: OnceCell<Option<Outline<'f>>>,
    mistakes: Mistakes,
}

impl<'f> Report<'f> {
    pub(super) fn new(file: &Path, text: &'f str, entries: &'f [Entry]) -> Report<'f> {
        Report {
            text,
            entries,
            outline: OnceCell::new(),
            mistakes: Mistakes::none_yet(file),
        }
    }

    /// A mistake of the file as a whole.
    pub(super) fn file(&mut self, text: String) {
        self.mistakes.push(Mistake {
            line: None,
            machine: None,
            key: None,
            text,
        });
    }

    /// A mistake of the machine at `position`.
    pub(super) fn machine(&mut self, position: usize, text: String) {
        self.push(position, None, None, text);
    }

    /// A mistake under one of its keys.
    pub(super) fn field(&mut self, position: usize, key: Key, text: String) {
        self.push(position, Some(key), Some(key.as_str().to_owned()), text);
    }

    /// A mistake in one of its public keys.
    pub(super) fn public_key(&mut self, position: usize, index: usize, text: String) {
        let key = Key::PublicKeys;
        self.push(
            position,
            Some(key),
            Some(format!("{}[{index}]", key.as_str())),
            text,
        );
    }

    /// The machine at `position` as a message names it, with its line where that is known.
    pub(super) fn whereabouts(&self, position: usize) -> String {
        match self.line(position, None) {
            Some(line) => format!("{} (line {line})", self.name(position)),
            None => self.name(position),
        }
    }

    /// Whether the file is free of mistakes.
    ///
    /// # Errors
    ///
    /// All the mistakes, in the order of the file as far as lines are known.
    pub(super) fn finish(mut self) -> Result<(), Mistakes> {
        if self.mistakes.count() == 0 {
            return Ok(());
        }
        self.mistakes.sort_by_line();
        Err(self.mistakes)
    }

    fn push(&mut self, position: usize, on: Option<Key>, key: Option<String>, text: String) {
        let mistake = Mistake {
            line: self.line(position, on),
            machine: Some(self.name(position)),
            key,
            text,
        };
        self.mistakes.push(mistake);
    }

    fn name(&self, position: usize) -> String {
        if let Some(Node::Mapping(machine)) = self.entries.get(position)
            && let Some(Node::Text(id)) = machine.get(Key::Id)
        {
            return quoted(id);
        }
        format!("machine no. {}", position + 1)
    }

    /// The line of the key, else of the machine, counted from 1. The outline is only believed where it
    /// counts as many machines as the parser.
    fn line(&self, position: usize, key: Option<Key>) -> Option<usize> {
        let outline = self.outline.get_or_init(|| {
            Outline::of(self.text).filter(|outline| outline.items.len() == self.entries.len())
        });
        let outline = outline.as_ref()?;
        let item = outline.items.get(position)?;
        let line = key.and_then(|key| outline.line_of(item, key.as_str()));
        Some(line.unwrap_or(item.lines.start) + 1)
    }
}
