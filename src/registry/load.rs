//! From the bytes of a file to a registry, or to the list of its mistakes.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::entry::Lists;
use super::fields;
use super::ids::IdCase;
use super::keys::{self, CheckKey};
use super::removed::{Tombstone, TombstoneDraft};
use super::snapshot::Registry;
use crate::yaml::{self, Mistakes, Notes};
use countersign_core::identity::{Machine, MachineKey, PublicKey};

/// Largest registry file, in bytes: a third of a million machines with every field. It keeps a
/// wrong file name from filling the memory; a load takes about six times the size of the text.
pub const MAX_FILE: u64 = 64 << 20;

impl Registry {
    /// Loads a file. The keys of `previous` are not checked again, and unchanged machines are
    /// shared with it.
    ///
    /// # Errors
    ///
    /// All the mistakes of the file together; one refuses the whole of it.
    pub fn load(file: &Path, previous: Option<&Registry>) -> Result<Registry, Mistakes> {
        Registry::load_with(file, previous, IdCase::Exact)
    }

    /// As [`Registry::load`], with a rule about the case of ids.
    ///
    /// # Errors
    ///
    /// As [`Registry::load`].
    pub fn load_with(
        file: &Path,
        previous: Option<&Registry>,
        case: IdCase,
    ) -> Result<Registry, Mistakes> {
        build(file, &read(file)?, previous, case, &PublicKey::from_bytes)
    }

    /// Makes a registry of the contents of a file; `file` is only for the messages.
    ///
    /// # Errors
    ///
    /// As [`Registry::load`].
    pub fn from_bytes(
        file: &Path,
        bytes: &[u8],
        previous: Option<&Registry>,
    ) -> Result<Registry, Mistakes> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| yaml::not_text(file, &bytes[..error.valid_up_to()]))?;
        build(file, text, previous, IdCase::Exact, &PublicKey::from_bytes)
    }
}

/// The text of a registry file.
///
/// # Errors
///
/// One mistake: it cannot be read, is no regular file, is larger than [`MAX_FILE`], changed while
/// it was read, or is not UTF-8.
pub(super) fn read(path: &Path) -> Result<String, Mistakes> {
    yaml::text_of(path, MAX_FILE as usize, "registry")
}

/// Builds a registry from the text of `file`. Machines and keys that `previous` holds are shared
/// with it.
///
/// # Errors
///
/// All the mistakes. One is enough to refuse the whole file: half a registry locks machines out, or
/// leaves a revoked one in.
pub(super) fn build(
    file: &Path,
    text: &str,
    previous: Option<&Registry>,
    case: IdCase,
    check_key: &CheckKey<'_>,
) -> Result<Registry, Mistakes> {
    let notes = Notes::new(file);
    let none = "is empty; for a registry without machines write `machines: []`";
    let registry = yaml::document(text, &notes, none).map(|document| {
        let fields = fields::read(&Lists::of(&document, &notes), previous, case, &notes);
        let keys = keys::check(&fields.claims, previous, check_key, &notes);
        let with_dates = |claims: Range<usize>| -> Box<[MachineKey]> {
            let claims = claims.filter_map(|at| {
                let validity = fields.claims[at].validity;
                keys[at].map(|public| MachineKey { public, validity })
            });
            claims.collect()
        };
        let shared = |machine: Machine| {
            let before = previous.and_then(|previous| previous.find(machine.id.as_str()));
            match before {
                Some(same) if **same == machine => Arc::clone(same),
                _ => machine.into(),
            }
        };
        let tombstone = |TombstoneDraft { id, at, claims }| Tombstone {
            id,
            keys: (fields.claims[claims].iter())
                .map(|claim| claim.key)
                .collect(),
            at,
        };
        Registry {
            machines: (fields.machines.into_iter())
                .map(|(machine, claims)| Machine {
                    keys: with_dates(claims),
                    ..machine
                })
                .map(shared)
                .collect(),
            groups: fields.groups,
            removed: fields.removed.into_iter().map(tombstone).collect(),
            digest: Sha256::digest(text).into(),
        }
    });
    notes.conclude(registry).map(|(registry, _)| registry)
}
