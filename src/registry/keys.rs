//! The costly part of a load: is every key of the file a point that may be trusted, and does each belong to
//! one machine?

use std::collections::{HashMap, HashSet};

use super::Registry;
use super::claims::Claim;
use super::cores::on_all_cores;
use super::parse::{Key, Section};
use super::report::Report;
use crate::auth::identity::{KeyError, PublicKey};

/// Fewer keys than this are not worth a thread: it costs about as much as one key.
const KEYS_WORTH_A_THREAD: usize = 16;

/// The check of one key: [`PublicKey::from_bytes`], or what a test counts with.
pub(super) type CheckKey<'c> = dyn Fn(&[u8; 32]) -> Result<PublicKey, KeyError> + Sync + 'c;

/// The keys of the claims, in their order; a key that is refused is missing, and in the report. What the
/// previous registry holds has been checked before and is not checked again: of removed machines and of those
/// that are taken over then not even the point is there, which nobody needs.
pub(super) fn check(
    claims: &[Claim],
    previous: Option<&Registry>,
    check_key: &CheckKey<'_>,
    report: &mut Report<'_>,
) -> Vec<Option<PublicKey>> {
    refuse_shared_keys(claims, report);
    let mut known: HashMap<&[u8; 32], Option<PublicKey>> = (claims.iter())
        .filter(|claim| !claim.is_known)
        .map(|claim| (&claim.key, None))
        .collect();
    let before = previous.into_iter().flat_map(Registry::machines);
    for key in before.flat_map(|machine| machine.keys.iter()) {
        if let Some(known) = known.get_mut(key.public.as_bytes()) {
            *known = Some(key.public);
        }
    }
    let removed: HashSet<&[u8; 32]> = previous
        .into_iter()
        .flat_map(Registry::removed)
        .flat_map(|tombstone| tombstone.keys.iter())
        .collect();
    let is_removed =
        |claim: &Claim| claim.at.section == Section::Removed && removed.contains(&claim.key);
    let mut keys: Vec<Option<PublicKey>> = claims
        .iter()
        .map(|claim| known.get(&claim.key).copied().flatten())
        .collect();
    let is_fresh = |at: &usize| {
        let claim = &claims[*at];
        keys[*at].is_none() && !claim.is_known && !is_removed(claim)
    };
    let fresh: Vec<usize> = (0..claims.len()).filter(is_fresh).collect();
    let checked = on_all_cores(&fresh, KEYS_WORTH_A_THREAD, |&at| {
        check_key(&claims[at].key)
    });
    for (at, result) in fresh.into_iter().zip(checked) {
        match result {
            Ok(key) => keys[at] = Some(key),
            Err(error) => {
                let Claim { at, index, .. } = claims[at];
                let text = format!("{error}; make a new key with `countersign keygen`");
                report.item(at, Key::PublicKeys, index, text);
            }
        }
    }
    keys
}

/// `X-Machine-Id` is not signed: two machines with one key could each replay the other's requests once.
fn refuse_shared_keys(claims: &[Claim], report: &mut Report<'_>) {
    let mut owners = HashMap::with_capacity(claims.len());
    for claim in claims {
        let Some(owner) = owners.insert(&claim.key, claim.at) else {
            continue;
        };
        let place = || report.whereabouts(owner);
        let text = match (owner.section, claim.at.section) {
            _ if owner == claim.at => "the same key is listed twice; remove one".to_owned(),
            (Section::Removed, Section::Machines) => format!(
                "the key was that of {}, and old records name it; make a new key, or take that entry out \
                 of `removed` if this is the same machine",
                place()
            ),
            _ => format!(
                "the key belongs to {} already; a key may belong to one machine only",
                place()
            ),
        };
        report.item(claim.at, Key::PublicKeys, claim.index, text);
    }
}
