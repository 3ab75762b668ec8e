//! What the commands of a machine's side share: its key, and a request's body.

use std::fmt::Display;
use std::path::Path;

use super::Failure;
use crate::file::{self, FileFault};
use crate::signing::{Signer, Unsignable, key_file};

/// The signer of a machine whose key lies in this file, which nobody else may read.
///
/// # Errors
///
/// What is wrong with the file or with the id; nothing of the file's content.
pub(super) fn signer(id: &str, key: &Path) -> Result<Signer, Failure> {
    let private = key_file::read_private(key)
        .map_err(|fault| Failure::Operation(format!("{}: {fault}", key.display())))?;
    Ok(Signer::new(id, private)?)
}

impl From<Unsignable> for Failure {
    fn from(why: Unsignable) -> Failure {
        match why {
            Unsignable::Id(_)
            | Unsignable::Method(_)
            | Unsignable::Target(_)
            | Unsignable::Query => Failure::Usage(why.to_string()),
            Unsignable::Clock | Unsignable::Random(_) => Failure::Operation(why.to_string()),
        }
    }
}

/// Reads a request body: `-` is standard input.
///
/// # Errors
///
/// What cannot be read.
pub(super) fn read_body(source: Option<&Path>) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    /// The largest body that any route takes.
    const MAX_BODY: usize = 32 * 1024 * 1024;

    let failed = |what: &dyn Display| Failure::Operation(what.to_string());
    match source {
        None => Ok(Vec::new()),
        Some(path) if path == Path::new("-") => {
            let mut body = Vec::new();
            (std::io::stdin().take(MAX_BODY as u64 + 1))
                .read_to_end(&mut body)
                .map_err(|error| failed(&format_args!("standard input: {error}")))?;
            match body.len() {
                0..=MAX_BODY => Ok(body),
                _ => Err(failed(
                    &"standard input: larger than 32 MiB, which no route takes",
                )),
            }
        }
        Some(path) => file::read(path, MAX_BODY).map_err(|fault| match fault {
            FileFault::TooLarge(_) => {
                failed(&format_args!("{}, which no route takes", fault.of(path)))
            }
            _ => failed(&fault.of(path)),
        }),
    }
}
