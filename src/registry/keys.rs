//! The costly part of a load: checks that every key is a safe point of the curve, and that it
//! belongs to one machine only.

use std::collections::{HashMap, HashSet};

use super::claims::KeyClaim;
use super::cores::on_all_cores;
use super::entry::Section;
use super::snapshot::Registry;
use crate::yaml::Notes;
use countersign_core::identity::{KeyError, PublicKey};

/// Fewer keys than this are not worth a thread: it costs about as much as one key.
const KEYS_WORTH_A_THREAD: usize = 16;

/// The check of one key: [`PublicKey::from_bytes`], or a test's counter.
pub(super) type CheckKey<'c> = dyn Fn(&[u8; 32]) -> Result<PublicKey, KeyError> + Sync + 'c;

/// The keys of the claims, in their order; a refused key is missing, and a mistake.
///
/// The keys of `previous` were checked when it was loaded and are not checked again. Of the keys of
/// its tombstones only the bytes are known, so those stay `None`: nothing needs the point.
pub(super) fn check(
    claims: &[KeyClaim<'_>],
    previous: Option<&Registry>,
    check_key: &CheckKey<'_>,
    notes: &Notes,
) -> Vec<Option<PublicKey>> {
    refuse_shared_keys(claims, notes);
    let before = previous.into_iter().flat_map(Registry::machines);
    let known: HashMap<&[u8; 32], PublicKey> = before
        .flat_map(|machine| &machine.keys)
        .map(|key| (key.public.as_bytes(), key.public))
        .collect();
    let before = previous.into_iter().flat_map(Registry::removed);
    let removed: HashSet<&[u8; 32]> = before.flat_map(|tombstone| &tombstone.keys).collect();
    let mut keys: Vec<Option<PublicKey>> = (claims.iter())
        .map(|claim| known.get(&claim.key).copied())
        .collect();
    let is_fresh = |at: &usize| {
        let claim = &claims[*at];
        let is_removed = claim.entry.section == Section::Removed && removed.contains(&claim.key);
        keys[*at].is_none() && !is_removed
    };
    let fresh: Vec<usize> = (0..claims.len()).filter(is_fresh).collect();
    let checked = on_all_cores(&fresh, KEYS_WORTH_A_THREAD, |&at| {
        check_key(&claims[at].key)
    });
    for (at, result) in fresh.into_iter().zip(checked) {
        match result {
            Ok(key) => keys[at] = Some(key),
            Err(error) => {
                let text = format!("{error}; make a new key with `countersign keygen`");
                claims[at].mistake(notes, text);
            }
        }
    }
    keys
}

/// `X-Machine-Id` is not signed: two machines with one key could each replay the other's requests
/// once.
pub(super) fn refuse_shared_keys(claims: &[KeyClaim<'_>], notes: &Notes) {
    let mut owners = HashMap::with_capacity(claims.len());
    for claim in claims {
        let Some(owner) = owners.insert(&claim.key, claim.entry) else {
            continue;
        };
        let text = match (owner.section, claim.entry.section) {
            _ if owner.is(claim.entry) => "the same key is listed twice; remove one".to_owned(),
            (Section::Removed, Section::Machines) => format!(
                "the key was that of {}, and old records name it; make a new key, or take that entry \
                 out of `removed` if this is the same machine",
                owner.whereabouts()
            ),
            _ => format!(
                "the key belongs to {} already; a key may belong to one machine only",
                owner.whereabouts()
            ),
        };
        claim.mistake(notes, text);
    }
}
