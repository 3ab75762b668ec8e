//! The ids of machines: no two entries of a file have the same.

use std::collections::HashMap;

use super::entry::{Entry, Section};
use crate::yaml::Table;
use countersign_core::identity::MachineId;

/// The ids read so far, and the entries that have them.
pub(super) struct Ids<'a>(HashMap<MachineId, Entry<'a>>);

impl<'a> Ids<'a> {
    pub(super) fn with_capacity(count: usize) -> Ids<'a> {
        Ids(HashMap::with_capacity(count))
    }

    /// Reads the id of an entry. An id that another entry has is a mistake.
    pub(super) fn read(&mut self, table: &mut Table<'a>, entry: Entry<'a>) -> Option<MachineId> {
        let missing = "is missing; write the value of X-Machine-Id that the machine sends";
        let field = table.required_or("id", missing)?;
        let id = field.parse_text(|text| {
            MachineId::parse(text).ok_or_else(|| {
                format!(
                    "an id is 1 to {} of the characters A-Z a-z 0-9 . _ -",
                    MachineId::MAX_LEN
                )
            })
        })?;
        if let Some(first) = self.0.insert(id.clone(), entry) {
            let first_place = first.whereabouts();
            field.mistake(match (first.section, entry.section) {
                (Section::Removed, Section::Machines) => format!(
                    "the id was that of {first_place}, and old records name it; choose another id, \
                     or take that entry out of `removed` if this is the same machine"
                ),
                _ => format!("the id is used twice; {first_place} has it already"),
            });
        }
        Some(id)
    }
}
