//! The file of a machine's private key.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::file::{self, FileFault};
use countersign_core::private_key::{self, NotAKey};

/// Largest key file, in bytes; a PEM key has some hundred. A larger file is an error.
const MAX_FILE: usize = 64 * 1024;

/// Why a key file cannot be used. The error holds nothing of the content.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The file is missing.
    #[error("there is no such file")]
    Missing,
    /// The file cannot be read, or is not a regular file.
    #[error("{0}")]
    Unusable(FileFault),
    /// Users other than the file's owner may read or write it.
    #[error("is open to others than its owner (mode {0:04o}): chmod 600")]
    Open(u32),
    /// The file holds no usable key.
    #[error(transparent)]
    NotAKey(#[from] NotAKey),
}

impl From<FileFault> for KeyFault {
    fn from(fault: FileFault) -> KeyFault {
        match fault {
            FileFault::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => {
                KeyFault::Missing
            }
            _ => KeyFault::Unusable(fault),
        }
    }
}

/// Reads a PKCS#8 PEM key, as `countersign keygen` and `openssl genpkey` write it. A mode beyond
/// 0600 is an error, because other users may have copied the key.
///
/// # Errors
///
/// [`KeyFault`]. It fails closed.
pub fn read_private(path: &Path) -> Result<SigningKey, KeyFault> {
    let private = |file: &Metadata| match file.permissions().mode() & 0o7777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(KeyFault::Open(mode)),
    };
    let text = file::read_secret_if(path, MAX_FILE, private)?;
    Ok(private_key::parse(&text)?)
}

/// Reads a PKCS#8 PEM key from a stream, such as standard input.
///
/// # Errors
///
/// [`KeyFault`]. It fails closed.
pub fn read_from(stream: &mut impl Read) -> Result<SigningKey, KeyFault> {
    // Allocated in full: growing would leave copies that are not zeroed.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    (stream.take(MAX_FILE as u64 + 1).read_to_end(&mut text))
        .map_err(|error| KeyFault::Unusable(FileFault::Unreadable(error)))?;
    if text.len() > MAX_FILE {
        return Err(KeyFault::Unusable(FileFault::TooLarge(MAX_FILE)));
    }
    Ok(private_key::parse(&text)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    fn written(folder: &Path, text: &str, mode: u32) -> std::path::PathBuf {
        let file = folder.join("key.pem");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    /// As `openssl genpkey` writes it.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
        -----END PRIVATE KEY-----\n";

    fn openssl(arguments: &[&str]) -> String {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_key_that_only_its_owner_may_read_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400] {
            let key = read_private(&written(folder.path(), KEY, mode)).unwrap();
            assert_eq!(key.to_bytes(), [7; 32]);
            fs::remove_file(folder.path().join("key.pem")).unwrap();
        }
    }

    #[test]
    fn a_mode_beyond_0600_is_a_fault_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
            let fault = read_private(&written(folder.path(), KEY, mode)).unwrap_err();
            assert!(matches!(fault, KeyFault::Open(found) if found == mode));
        }
    }

    #[test]
    fn a_link_leads_to_the_file_and_its_mode_counts() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(written(folder.path(), KEY, 0o600), &link).unwrap();
        assert!(read_private(&link).is_ok());
        written(folder.path(), KEY, 0o644);
        assert!(matches!(read_private(&link), Err(KeyFault::Open(0o644))));
    }

    #[test]
    fn what_is_missing_or_no_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read_private(&folder.path().join("nothing"));
        assert!(matches!(missing, Err(KeyFault::Missing)));
        let folder = read_private(folder.path()).unwrap_err().to_string();
        assert_eq!(folder, "is a directory, not a regular file");
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_other_end() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let pipe = read_private(&pipe).unwrap_err().to_string();
        assert_eq!(pipe, "is a named pipe, not a regular file");
    }

    #[test]
    fn keys_of_other_kinds_are_called_by_their_name() {
        let rsa = openssl(&["genpkey", "-algorithm", "RSA"]);
        let ec = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]);
        let x25519 = openssl(&["genpkey", "-algorithm", "X25519"]);
        for (text, word) in [(&rsa, "RSA"), (&ec, "ECDSA"), (&x25519, "X25519")] {
            let fault = private_key::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(fault.contains(word), "{fault}");
        }
    }

    #[test]
    fn a_file_too_large_for_a_key_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path(), &"x".repeat(MAX_FILE + 1), 0o600);
        let large = read_private(&file).unwrap_err().to_string();
        assert_eq!(large, "is larger than 64 KiB");
    }
}
