//! Reading a small file that holds a secret.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

/// The first `most` bytes of the file, in memory that is wiped.
///
/// # Errors
///
/// What the system says, with the path; nothing of the content.
pub(super) fn read(path: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    // Room for all of it at once: growing would leave copies behind that nobody wipes.
    let mut secret = Zeroizing::new(Vec::with_capacity(most + 1));
    File::open(path)
        .and_then(|file| file.take(most as u64).read_to_end(&mut secret))
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(secret)
}
