//! The public keys of an entry as they are written, before they are known to be points of the curve.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::key_format::{self, KeyTextError};
use super::node::{Node, Small};
use super::parse::{Key, RawEntry, Section};
use super::report::{At, Report};
use super::values::small_instant;
use crate::auth::identity::Machine;
use crate::auth::validity::Validity;

/// A machine's claim to a public key, or that of one that was removed.
pub(super) struct Claim {
    pub(super) at: At,
    /// The place in `public_keys`.
    pub(super) index: usize,
    pub(super) key: [u8; 32],
    pub(super) validity: Validity,
    /// Of a machine that is taken over, with its key.
    pub(super) is_known: bool,
}

/// The claims of a machine that is taken over, behind those there are.
pub(super) fn again(claims: &mut Vec<Claim>, at: At, machine: &Machine) {
    for (index, key) in machine.keys.iter().enumerate() {
        claims.push(Claim {
            at,
            index,
            key: *key.public.as_bytes(),
            validity: key.validity,
            is_known: true,
        });
    }
}

/// Reads the keys of an entry behind the claims there are; where they are among them.
pub(super) fn read(
    report: &mut Report<'_>,
    claims: &mut Vec<Claim>,
    at: At,
    raw: &RawEntry,
) -> Range<usize> {
    let start = claims.len();
    let list = match raw.get(Key::PublicKeys) {
        Some(Node::List(list)) if list.count > 0 => list,
        Some(Node::List(_)) | None => {
            let text = match at.section {
                Section::Removed => "the keys that it had are missing",
                _ => "a machine needs at least one key; to lock it out write `enabled: false`",
            };
            report.field(at, Key::PublicKeys, text.into());
            return start..start;
        }
        Some(_) => {
            let text = "it must be a list: public_keys: [\"..\"]";
            report.field(at, Key::PublicKeys, text.into());
            return start..start;
        }
    };
    if list.count > Machine::MAX_KEYS {
        let text = format!(
            "{} keys are too many; a machine may have {}",
            list.count,
            Machine::MAX_KEYS
        );
        report.field(at, Key::PublicKeys, text);
    }
    for (index, item) in list.items.iter().take(Machine::MAX_KEYS).enumerate() {
        match one(item, at.section) {
            Ok((key, validity)) => claims.push(Claim {
                at,
                index,
                key,
                validity,
                is_known: false,
            }),
            Err(text) => report.item(at, Key::PublicKeys, index, text),
        }
    }
    start..claims.len()
}

/// A key as text, or in a mapping with its dates.
fn one(item: &Node<IgnoredAny, Small>, section: Section) -> Result<([u8; 32], Validity), String> {
    let Node::Mapping(mapping) = item else {
        return Ok((bytes(item)?, Validity::ALWAYS));
    };
    if section == Section::Removed {
        return Err("it must be the key alone".into());
    }
    let known = ["key", "not_before", "not_after"];
    let [key, not_before, not_after] = mapping.take(known)?;
    let key = key.ok_or("the mapping has no `key`")?;
    let not_before = small_instant("not_before", not_before)?;
    let not_after = small_instant("not_after", not_after)?;
    let validity = Validity::new(not_before, not_after)
        .ok_or("not_after is before not_before, so the key could never be used")?;
    Ok((bytes(key)?, validity))
}

fn bytes<M>(item: &Node<IgnoredAny, M>) -> Result<[u8; 32], String> {
    let parsed = match item {
        Node::Text(text) => key_format::parse(text),
        Node::LongText => Err(KeyTextError::TooLong),
        _ => Err(KeyTextError::NotAKey),
    };
    parsed.map_err(|error| error.to_string())
}
