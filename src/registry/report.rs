//! Collects mistakes while a file is checked, and finds the line of each.

use std::cell::OnceCell;
use std::path::Path;

use super::lists::Lists;
use super::mistakes::{Mistake, Mistakes, quoted};
use super::outline::Outline;
use super::parse::{Key, Section};

/// The mistakes found so far in one file.
pub(super) struct Report<'f> {
    text: &'f str,
    lists: &'f Lists,
    outlines: [OnceCell<Option<Outline<'f>>>; Section::ALL.len()],
    mistakes: Mistakes,
}

/// An entry of the file, by its list and its place in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct At {
    pub(super) section: Section,
    pub(super) position: usize,
}

impl<'f> Report<'f> {
    /// Of a file, its text, and the lists in that.
    pub(super) fn new(file: &Path, text: &'f str, lists: &'f Lists) -> Report<'f> {
        Report {
            text,
            lists,
            outlines: Default::default(),
            mistakes: Mistakes::none_yet(file),
        }
    }

    /// A mistake of the file as a whole.
    pub(super) fn file(&mut self, text: String) {
        self.mistakes.push(Mistake {
            line: None,
            entry: None,
            key: None,
            text,
        });
    }

    /// A mistake of an entry.
    pub(super) fn entry(&mut self, at: At, text: String) {
        self.push(at, None, None, text);
    }

    /// A mistake under one of its keys.
    pub(super) fn field(&mut self, at: At, key: Key, text: String) {
        self.push(at, Some(key), Some(key.as_str().to_owned()), text);
    }

    /// A mistake in one item of a list under one of its keys.
    pub(super) fn item(&mut self, at: At, key: Key, index: usize, text: String) {
        let place = format!("{}[{index}]", key.as_str());
        self.push(at, Some(key), Some(place), text);
    }

    /// An entry as a message names it, with its line where that is known.
    pub(super) fn whereabouts(&self, at: At) -> String {
        match self.line(at, None) {
            Some(line) => format!("{} (line {line})", self.name(at)),
            None => self.name(at),
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

    fn push(&mut self, at: At, on: Option<Key>, key: Option<String>, text: String) {
        let mistake = Mistake {
            line: self.line(at, on),
            entry: Some(self.name(at)),
            key,
            text,
        };
        self.mistakes.push(mistake);
    }

    fn name(&self, at: At) -> String {
        let what = match at.section {
            Section::Machines => "machine",
            Section::Groups => "group",
            Section::Removed => "removed machine",
        };
        match self.lists.name(at) {
            Some(name) if at.section == Section::Machines => quoted(name),
            Some(name) => format!("{what} {}", quoted(name)),
            None => format!("{what} no. {}", at.position + 1),
        }
    }

    /// The line of the key, else of the entry, counted from 1. The outline is only believed where it
    /// counts as many entries as the parser.
    fn line(&self, at: At, key: Option<Key>) -> Option<usize> {
        let outline = self.outlines[at.section as usize].get_or_init(|| {
            Outline::of(self.text, at.section.as_str())
                .filter(|outline| outline.items.len() == self.lists.count(at.section))
        });
        let outline = outline.as_ref()?;
        let item = outline.items.get(at.position)?;
        let line = key.and_then(|key| outline.line_of(item, key.as_str()));
        Some(line.unwrap_or(item.lines.start) + 1)
    }
}
