//! A new private key, and its file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};
use zeroize::Zeroizing;

/// Makes a key.
///
/// # Errors
///
/// The system gives no random bytes.
pub fn generate() -> io::Result<SigningKey> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).map_err(|error| {
        io::Error::other(format!("the system gives no random numbers: {error}"))
    })?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Writes a key to a new file of mode 0600, as PKCS#8 PEM. It never overwrites: the key that was
/// there may be the only copy.
///
/// # Errors
///
/// The file is there already, or cannot be written. Half a key is no key, so it is removed.
pub fn write(path: &Path, key: &SigningKey) -> io::Result<()> {
    let pem = private_pem(key)?;
    write_new(path, pem.as_bytes())
}

/// PKCS#8 without the public key (version 1, RFC 5958), because older OpenSSL and Python read no
/// other.
fn private_pem(key: &SigningKey) -> io::Result<Zeroizing<String>> {
    let pair = KeypairBytes {
        secret_key: key.to_bytes(),
        public_key: None,
    };
    let pem = pair.to_pkcs8_pem(LineEnding::LF);
    pem.map_err(|error| io::Error::other(format!("the key cannot be encoded: {error}")))
}

/// Writes a new file of mode 0600, flushed to the disk.
///
/// # Errors
///
/// As [`write()`].
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .inspect_err(|_| {
            // That it cannot be removed either is part of the same trouble.
            let _ = fs::remove_file(path);
        })
}
