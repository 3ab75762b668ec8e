//! Registries for the tests of this module.
#![allow(clippy::panic, reason = "a test may panic")]

use std::path::Path;

use ed25519_dalek::SigningKey;

use super::files::RegistryFiles;
use super::keys::CheckKey;
use super::{IdCase, Registry, key_format, load as loading};
use crate::yaml::Mistakes;

/// The public key number `number`, in base64.
pub(super) fn key(number: u64) -> String {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    key_format::to_base64(SigningKey::from_bytes(&seed).verifying_key().as_bytes())
}

/// The list item of a machine; more lines may follow it, indented by four.
pub(super) fn entry(id: &str, number: u64) -> String {
    format!("  - id: {id}\n    public_keys: [\"{}\"]\n", key(number))
}

/// The file of these items.
pub(super) fn file(items: &str) -> String {
    format!("machines:\n{items}")
}

/// Builds the registry of the file `m.yaml`.
pub(super) fn build(
    text: &str,
    previous: Option<&Registry>,
    case: IdCase,
    check_key: &CheckKey<'_>,
) -> Result<Registry, Mistakes> {
    let files = RegistryFiles::one(Path::new("m.yaml"), text.to_owned());
    loading::build(&files, previous, case, check_key)
}

/// Loads a file.
pub(super) fn load(text: &str) -> Result<Registry, Mistakes> {
    Registry::from_bytes(Path::new("m.yaml"), text.as_bytes(), None)
}

/// The registry of these items.
pub(super) fn registry(items: &str) -> Registry {
    match load(&file(items)) {
        Ok(registry) => registry,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// The mistakes of a file that is refused.
pub(super) fn refusal(text: &str) -> String {
    match load(text) {
        Ok(_) => panic!("accepted"),
        Err(mistakes) => mistakes.to_string(),
    }
}
