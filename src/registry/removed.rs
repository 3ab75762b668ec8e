//! Tombstones: the ids and keys of removed machines are not given away again, and their old records
//! stay checkable.

use std::ops::Range;

use super::claims::{self, KeyClaim};
use super::entry::Entry;
use super::ids::Ids;
use super::instants;
use countersign_core::identity::MachineId;

/// The id and the keys of a machine that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Its id.
    pub id: MachineId,
    /// The keys that it had.
    pub keys: Box<[[u8; 32]]>,
    /// When it was removed, in Unix seconds.
    pub at: u64,
}

/// A tombstone, with its keys among the claims.
pub(super) struct TombstoneDraft {
    pub(super) id: MachineId,
    pub(super) at: u64,
    pub(super) claims: Range<usize>,
}

/// Reads the list. It precedes the machines, so that a machine with a taken id or key gets the
/// mistake.
pub(super) fn read<'a>(
    entries: &[Entry<'a>],
    ids: &mut Ids<'a>,
    claims: &mut Vec<KeyClaim<'a>>,
) -> Vec<TombstoneDraft> {
    let mut removed = Vec::with_capacity(entries.len());
    for &entry in entries {
        let mut table = entry.field().table();
        let id = ids.read(&mut table, entry);
        let claims = claims::read(&mut table, entry, claims);
        let at = table.required_or("at", "is missing; write when the machine was removed");
        let at = at.and_then(|field| instants::at(&field));
        if let (Some(id), Some(at)) = (id, at) {
            removed.push(TombstoneDraft { id, at, claims });
        }
    }
    removed
}
