//! The public keys of an entry as they are written, before the check that they are points of the
//! curve.

use std::ops::Range;

use super::entry::{Entry, Section};
use super::instants::instant;
use super::key_format;
use crate::yaml::{Field, Table};
use countersign_core::identity::Machine;
use countersign_core::validity::Validity;

/// A public key in the entry of a machine, or of a removed one.
pub(super) struct KeyClaim<'a> {
    pub(super) entry: Entry<'a>,
    /// The index in `public_keys`.
    index: usize,
    line: usize,
    pub(super) key: [u8; 32],
    pub(super) validity: Validity,
}

impl KeyClaim<'_> {
    /// Notes a mistake at the key.
    pub(super) fn mistake(&self, text: String) {
        let path = format!("{}: public_keys[{}]", self.entry.name(), self.index);
        self.entry.notes.mistake(Some(self.line), &path, text);
    }
}

/// Appends the keys of an entry to `claims`, and returns their range there.
pub(super) fn read<'a>(
    table: &mut Table<'a>,
    entry: Entry<'a>,
    claims: &mut Vec<KeyClaim<'a>>,
) -> Range<usize> {
    let start = claims.len();
    let none = match entry.section {
        Section::Removed => "the keys of the removed machine are missing",
        _ => "a machine needs at least one key; to lock it out write `enabled: false`",
    };
    let items = (table.required_or("public_keys", none))
        .map(|field| field.some_items_up_to(Machine::MAX_KEYS, none));
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        if let Some((key, validity)) = key(item, entry.section) {
            claims.push(KeyClaim {
                entry,
                index,
                line: item.line(),
                key,
                validity,
            });
        }
    }
    start..claims.len()
}

/// A key as text, or as a mapping with its dates.
fn key(item: &Field<'_>, section: Section) -> Option<([u8; 32], Validity)> {
    let bytes = |field: &Field<'_>| {
        field.parse_text(|text| key_format::parse(text).map_err(|error| error.to_string()))
    };
    if !item.is_table() {
        return Some((bytes(item)?, Validity::ALWAYS));
    }
    if section == Section::Removed {
        item.mistake("must be the key alone, without dates");
        return None;
    }
    let mut table = item.table();
    let key = table.required("key").and_then(|field| bytes(&field));
    let not_before = instant(&mut table, "not_before");
    let not_after = instant(&mut table, "not_after");
    let validity = Validity::new(not_before, not_after);
    if validity.is_none() {
        item.mistake("not_after is before not_before, so the key could never be used");
    }
    key.zip(validity)
}
