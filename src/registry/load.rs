//! From the texts of the files to a registry, or to the list of their mistakes.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::entry::Lists;
use super::fields;
use super::files::RegistryFiles;
use super::ids::IdCase;
use super::keys::{self, CheckKey};
use super::new_machines::NewMachines;
use super::removed::{Tombstone, TombstoneDraft};
use super::snapshot::Registry;
use crate::config::RegistrySource;
use crate::yaml::{self, Mistakes, Node, Notes};
use countersign_core::identity::{Machine, MachineKey, PublicKey};

impl Registry {
    /// Loads a file, or the files of a directory. The keys of `previous` are not checked again, and unchanged machines are
    /// shared with it.
    ///
    /// # Errors
    ///
    /// All the mistakes together; one refuses the whole of it.
    pub fn load(path: &Path, previous: Option<&Registry>) -> Result<Registry, Mistakes> {
        let source = RegistrySource::at(path);
        Registry::load_source(&source, previous, IdCase::Exact)
    }

    /// As [`Registry::load`], from any source, with a rule about the case of ids.
    ///
    /// # Errors
    ///
    /// As [`Registry::load`]: a mistake in one of several files refuses all of them.
    pub fn load_source(
        source: &RegistrySource,
        previous: Option<&Registry>,
        case: IdCase,
    ) -> Result<Registry, Mistakes> {
        let files = RegistryFiles::read(source)?;
        build(&files, previous, case, &PublicKey::from_bytes)
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
        let files = RegistryFiles::one(file, text.to_owned());
        build(&files, previous, IdCase::Exact, &PublicKey::from_bytes)
    }
}

/// Builds a registry from the texts of its files. Machines and keys that `previous` holds are shared
/// with it.
///
/// # Errors
///
/// All the mistakes. One is enough to refuse the whole: half a registry locks machines out, or
/// leaves a revoked one in.
pub(super) fn build(
    files: &RegistryFiles,
    previous: Option<&Registry>,
    case: IdCase,
    check_key: &CheckKey<'_>,
) -> Result<Registry, Mistakes> {
    build_with(files, None, previous, case, check_key)
}

/// As [`build`], with further machines.
pub(super) fn build_with(
    files: &RegistryFiles,
    new: Option<NewMachines<'_>>,
    previous: Option<&Registry>,
    case: IdCase,
    check_key: &CheckKey<'_>,
) -> Result<Registry, Mistakes> {
    let mut notes: Vec<Notes> = (files.files.iter())
        .map(|file| Notes::new(&file.path))
        .collect();
    let documents: Vec<Option<Node<'_>>> = (files.files.iter().zip(&notes))
        .map(|(file, notes)| yaml::document(&file.text, notes, EMPTY))
        .collect();
    // Without one of the documents, the others would have mistakes that are none.
    let documents: Option<Vec<Node<'_>>> = documents.into_iter().collect();
    let registry = documents.as_deref().map(|documents| {
        let mut lists = Lists::of(documents.iter().zip(&notes));
        lists.machines.extend(new.iter().flat_map(|new| new.list()));
        Registry {
            digest: files.digest,
            ..assemble(&lists, previous, case, check_key)
        }
    });
    drop(documents);
    notes.extend(new.map(NewMachines::into_notes));
    Notes::conclude_all(notes, registry)
}

const EMPTY: &str = "is empty; for a registry without machines write `machines: []`";

/// The registry of these lists, without its digest. It is complete only where there are no mistakes.
fn assemble(
    lists: &Lists<'_>,
    previous: Option<&Registry>,
    case: IdCase,
    check_key: &CheckKey<'_>,
) -> Registry {
    let fields = fields::read(lists, previous, case);
    let keys = keys::check(&fields.claims, previous, check_key);
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
        digest: [0; 32],
    }
}
