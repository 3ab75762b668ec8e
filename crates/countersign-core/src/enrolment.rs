//! Enrolment: a machine registers a key that it has just made, with a secret that lets it in. The
//! grammar of enrolment tokens, and the proof that the machine holds the private half of its key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::identity::{MachineId, PublicKey};
use super::signature::Signature;

/// The first characters of every enrolment token, by which a scanner for secrets finds one.
const PREFIX: &str = "cse_";

/// The random bytes of an enrolment token.
const TOKEN_BYTES: usize = 32;

/// The characters of [`TOKEN_BYTES`] in base64url without padding.
const TOKEN_TEXT: usize = 43;

/// The first parts of the two proofs. No request message begins like them, because methods are upper
/// case. So no signature serves as two of them.
const ENROLMENT: &str = "countersign-enrol-1";
const RENEWAL: &str = "countersign-renew-1";

/// The name of a vault, as it stands in the path of an enrolment: `[A-Za-z0-9._-]{1,128}`. It holds
/// no ':' and no '/'.
pub fn is_vault(text: &str) -> bool {
    // In a path both would be another path.
    MachineId::is_valid(text.as_bytes()) && !matches!(text, "." | "..")
}

/// An enrolment token: `cse_` and 32 random bytes in base64url. Only its digest is stored. It is
/// wiped when it is dropped, and `Debug` does not show it.
pub struct EnrolmentToken(Zeroizing<String>);

impl EnrolmentToken {
    /// The token of these bytes, which must be random.
    pub fn from_bytes(bytes: &[u8; TOKEN_BYTES]) -> EnrolmentToken {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + TOKEN_TEXT));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        EnrolmentToken(text)
    }

    /// Parses a token. It fails closed: `None` for any other text, and for a second spelling of the
    /// same bytes.
    pub fn parse(text: &str) -> Option<EnrolmentToken> {
        let encoded = text.strip_prefix(PREFIX)?;
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        let is_token = encoded.len() == TOKEN_TEXT
            && URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes[..]) == Ok(TOKEN_BYTES);
        is_token.then(|| EnrolmentToken(Zeroizing::new(text.to_owned())))
    }

    /// Parses the other spelling of a token: its bytes in 64 hexadecimal digits, as SikkerKey's client
    /// for agents takes it. It fails closed.
    pub fn parse_hex(text: &str) -> Option<EnrolmentToken> {
        let is_digits =
            text.len() == 2 * TOKEN_BYTES && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_digits {
            return None;
        }
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(EnrolmentToken::from_bytes(&bytes))
    }

    /// The SHA-256 of its text. The token cannot be found from it: it has 256 random bits.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.0)
    }

    /// The text, for the one answer that shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrolmentToken(..)")
    }
}

/// The SHA-256 of the text of an enrolment token, or of a JSON Web Token in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// The digest of a secret's text.
    pub fn of(secret: &str) -> SecretDigest {
        SecretDigest(Sha256::digest(secret).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(..)")
    }
}

/// A proof that a machine holds the private half of a new key: the key's signature over the call
/// that registers it. Nobody can register a key that they do not hold.
#[derive(Clone, Debug)]
pub struct KeyProof {
    message: String,
}

impl KeyProof {
    /// What a key signs to be enrolled: `countersign-enrol-1:{vault}:{hex SHA-256 of the
    /// secret}:{publicKey}:{timestamp}`, with the key in standard base64 and the time in Unix
    /// seconds. No field holds a ':', so the text has one reading.
    pub fn of_enrolment(
        vault: &str,
        secret: &SecretDigest,
        public_key: &[u8; 32],
        timestamp: u64,
    ) -> KeyProof {
        let digest: String = (secret.as_bytes().iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let key = STANDARD.encode(public_key);
        KeyProof {
            message: format!("{ENROLMENT}:{vault}:{digest}:{key}:{timestamp}"),
        }
    }

    /// What a new key signs to stand beside the old one of a machine:
    /// `countersign-renew-1:{machine id}:{public key}:{timestamp}`.
    pub fn of_renewal(id: &MachineId, public_key: &[u8; 32], timestamp: u64) -> KeyProof {
        let key = STANDARD.encode(public_key);
        KeyProof {
            message: format!("{RENEWAL}:{id}:{key}:{timestamp}"),
        }
    }

    /// The bytes that are signed.
    pub fn as_bytes(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// Signs it, in standard base64.
    pub fn sign(&self, key: &SigningKey) -> String {
        STANDARD.encode(key.sign(self.as_bytes()).to_bytes())
    }

    /// Whether `signature`, in standard base64, is the proof of this key. It fails closed, and takes
    /// the one spelling of base64 that request signatures have.
    pub fn is_given_by(&self, key: &PublicKey, signature: &str) -> bool {
        let signature = Signature::parse(signature.as_bytes());
        signature.is_some_and(|signature| signature.verifies_bytes(key, self.as_bytes()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
