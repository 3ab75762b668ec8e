//! What the commands of a machine's side share: its key, and a request's body.

use std::path::Path;

use super::Failure;
use crate::signing::{Signer, Unsignable, key_file};

/// The signer of a machine whose key lies in this file.
///
/// # Errors
///
/// What is wrong with the file or with the id; nothing of the file's content.
pub(super) fn signer(id: &str, key: &Path) -> Result<Signer, Failure> {
    let private = key_file::read(key)
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
    const MAX_BODY: u64 = 32 * 1024 * 1024;

    let mut body = Vec::new();
    let (name, read) = match source {
        None => return Ok(body),
        Some(path) if path == Path::new("-") => (
            "standard input".to_owned(),
            std::io::stdin().take(MAX_BODY + 1).read_to_end(&mut body),
        ),
        Some(path) => (
            path.display().to_string(),
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_BODY + 1).read_to_end(&mut body)),
        ),
    };
    read.map_err(|e| Failure::Operation(format!("{name}: {e}")))?;
    if body.len() as u64 > MAX_BODY {
        return Err(Failure::Operation(format!(
            "{name}: larger than 32 MiB, which no route takes"
        )));
    }
    Ok(body)
}
