//! Keyed hashes that name bearer tokens in records, without revealing them.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Serialize, Serializer};
use sha2::Sha256;
use tracing::warn;

use super::hex::Hex;
use super::token_key::{TokenKey, fresh, kept};

/// The name of a bearer token: the first 16 bytes of its HMAC-SHA-256 (RFC 2104), in hexadecimal.
/// Without the key, a known or guessed token cannot be matched with a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 16]);

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({self})")
    }
}

/// Names bearer tokens. The key is read, or made, when it is first needed: most gateways let no
/// bearer token pass.
pub struct TokenNames {
    file: Option<PathBuf>,
    key: OnceLock<TokenKey>,
}

impl TokenNames {
    /// Names by the key in `file`, which is made if it is missing. Without a file the key is lost
    /// when the process ends, and a token has another name after it.
    pub fn new(file: Option<PathBuf>) -> TokenNames {
        TokenNames {
            file,
            key: OnceLock::new(),
        }
    }

    /// Reads or makes the key, which may block, before a request has to wait for it. Fails open:
    /// the service log reports a failure, and a temporary key takes its place. Tokens then have
    /// other names after a restart, and no request is lost.
    pub fn prepare(&self) {
        self.key();
    }

    /// The name of a token.
    pub fn of(&self, token: &[u8]) -> TokenHash {
        // HMAC takes a key of any length; were it to refuse one, the name would be of no token.
        let mut name = [0; 16];
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&**self.key()) {
            mac.update(token);
            name.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        }
        TokenHash(name)
    }

    fn key(&self) -> &TokenKey {
        self.key.get_or_init(|| {
            let Some(file) = &self.file else {
                warn!(
                    "bearer tokens have other names in the audit trail after each restart: there is \
                     no state directory to keep their key in; name a file with audit.token_key"
                );
                return fresh();
            };
            kept(file).unwrap_or_else(|error| {
                warn!(
                    "bearer tokens have other names in the audit trail until the next restart: \
                     {}: {error}",
                    file.display()
                );
                fresh()
            })
        })
    }
}

impl fmt::Debug for TokenNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenNames(..)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use zeroize::Zeroizing;

    use super::*;

    fn names_in(folder: &tempfile::TempDir) -> TokenNames {
        TokenNames::new(Some(folder.path().join("token-hash.key")))
    }

    #[test]
    fn a_token_has_one_name_and_another_token_another() {
        let names = TokenNames::new(None);
        assert_eq!(names.of(b"s.one"), names.of(b"s.one"));
        assert_ne!(names.of(b"s.one"), names.of(b"s.two"));
    }

    #[test]
    fn under_another_key_a_token_has_another_name() {
        let (one, other) = (TokenNames::new(None), TokenNames::new(None));
        assert_ne!(one.of(b"s.one"), other.of(b"s.one"));
    }

    #[test]
    fn a_name_is_the_hmac_of_rfc_4231_cut_to_half() {
        // Test case 2 of RFC 4231 has the key "Jefe", which HMAC pads with zeros as this is.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let names = TokenNames::new(None);
        names.key.set(Zeroizing::new(key)).unwrap();
        let name = names.of(b"what do ya want for nothing?").to_string();
        assert_eq!(name, "5bdcc146bf60754e6a042426089575c7");
    }

    #[test]
    fn the_key_outlives_the_process_and_is_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let name = names_in(&folder).of(b"s.one");
        assert_eq!(names_in(&folder).of(b"s.one"), name);
        let file = folder.path().join("token-hash.key");
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(file).unwrap().len(), 65);
    }

    #[test]
    fn a_file_that_is_no_key_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token-hash.key");
        for text in ["\n", "abc", &"g".repeat(64), &"a".repeat(65)] {
            std::fs::write(&file, text).unwrap();
            assert!(kept(&file).is_err(), "{text}");
            names_in(&folder).prepare();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn a_file_that_a_killed_start_left_empty_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token-hash.key");
        std::fs::write(&file, "").unwrap();
        std::fs::write(folder.path().join("token-hash.key.new"), "ab").unwrap();
        let name = names_in(&folder).of(b"s.one");
        assert_eq!(names_in(&folder).of(b"s.one"), name);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        let names = TokenNames::new(None);
        names.prepare();
        assert_eq!(format!("{names:?}"), "TokenNames(..)");
    }
}
