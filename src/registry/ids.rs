//! The ids of machines: no two entries of a registry have the same.

use std::collections::HashMap;

use super::entry::{Entry, Section};
use crate::config::Config;
use crate::yaml::{Table, quoted};
use countersign_core::identity::MachineId;

/// Whether ids that differ in case only may belong to different machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdCase {
    /// They may: the gateway compares ids byte for byte.
    #[default]
    Exact,
    /// They may not. A backend at which machines log in folds the case of their names (OpenBao does
    /// so with entity aliases), and would take two such machines for one.
    Folded,
}

impl IdCase {
    /// The rule that a gateway with this configuration needs.
    pub fn of(config: &Config) -> IdCase {
        match config
            .upstreams
            .iter()
            .any(|upstream| upstream.login.is_some())
        {
            true => IdCase::Folded,
            false => IdCase::Exact,
        }
    }
}

/// The ids read so far, and the entries that have them.
pub(super) struct Ids<'a> {
    known: HashMap<MachineId, Entry<'a>>,
    /// The same in lower case; empty if the case of ids is exact.
    folded: HashMap<String, (MachineId, Entry<'a>)>,
    case: IdCase,
}

impl<'a> Ids<'a> {
    pub(super) fn new(case: IdCase, count: usize) -> Ids<'a> {
        Ids {
            known: HashMap::with_capacity(count),
            folded: HashMap::new(),
            case,
        }
    }

    /// Reads the id of an entry. An id that another entry has is a mistake, and so is one that
    /// differs from it in case only if [`IdCase::Folded`].
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
        if let Some(first) = self.known.insert(id.clone(), entry) {
            let first_place = first.whereabouts(entry);
            field.mistake(match (first.section, entry.section) {
                (Section::Removed, Section::Machines) => format!(
                    "the id was that of {first_place}, and old records name it; choose another id, \
                     or take that entry out of `removed` if this is the same machine"
                ),
                _ => format!("the id is used twice; {first_place} has it already"),
            });
        } else if let Some((other, first)) = self.fold(&id, entry) {
            field.mistake(format!(
                "differs from {} in case only, and the backend at which machines log in would take \
                 the two for one machine; {} has that id: choose another one",
                quoted(other.as_str()),
                first.whereabouts(entry)
            ));
        }
        Some(id)
    }

    /// Notes an id in lower case. Returns another id that is the same in lower case.
    fn fold(&mut self, id: &MachineId, entry: Entry<'a>) -> Option<(MachineId, Entry<'a>)> {
        if self.case == IdCase::Exact {
            return None;
        }
        let folded = id.as_str().to_ascii_lowercase();
        self.folded.insert(folded, (id.clone(), entry))
    }
}
