//! The machines that were removed: their ids and keys are not given away again, and what they did stays
//! checkable.

use std::collections::HashMap;
use std::ops::Range;

use super::claims::{self, Claim};
use super::fields::machine_id;
use super::node::Node;
use super::parse::{Entry, Key, Section};
use super::report::{At, Report};
use super::values::{instant, strange};
use crate::auth::identity::MachineId;

/// What is kept of a machine that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Its id.
    pub id: MachineId,
    /// The keys that it had.
    pub keys: Box<[[u8; 32]]>,
    /// When it was removed, in Unix seconds.
    pub at: u64,
}

/// A tombstone that lacks its keys.
pub(super) struct Buried {
    pub(super) id: MachineId,
    pub(super) at: u64,
    /// Its keys among the claims.
    pub(super) claims: Range<usize>,
}

/// Reads the list. It comes before the machines, so that those are told that an id or a key is taken.
pub(super) fn read(
    entries: &[Entry],
    ids: &mut HashMap<MachineId, At>,
    claims: &mut Vec<Claim>,
    report: &mut Report<'_>,
) -> Vec<Buried> {
    let mut removed = Vec::with_capacity(entries.len());
    for (position, entry) in entries.iter().enumerate() {
        let at = At {
            section: Section::Removed,
            position,
        };
        let Node::Mapping(raw) = entry else {
            let text = "it must be a mapping with the keys id, public_keys and at";
            report.entry(at, text.into());
            continue;
        };
        strange(report, at, raw);
        let id = machine_id(report, ids, at, raw);
        let claims = claims::read(report, claims, at, raw);
        if raw.get(Key::At).is_none() {
            let text = "`at` is missing; write when it was removed";
            report.entry(at, text.into());
        }
        let instant = instant(report, at, raw, Key::At);
        if let (Some(id), Some(at)) = (id, instant) {
            removed.push(Buried { id, at, claims });
        }
    }
    removed
}
