//! Who a machine is: its id, its public keys, and the record the registry holds of it.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

/// The name a machine signs under, the value of `X-Machine-Id`: `[A-Za-z0-9._-]{1,128}`,
/// compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineId(Arc<str>);

impl MachineId {
    /// Longest id accepted, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Parses an id. Returns `None`, and so refuses, for anything outside the grammar: nothing
    /// is trimmed and no case is folded.
    pub fn parse(text: &str) -> Option<MachineId> {
        Self::is_valid(text.as_bytes()).then(|| MachineId(text.into()))
    }

    /// Whether `bytes` are a machine id, without keeping them.
    pub fn is_valid(bytes: &[u8]) -> bool {
        (1..=Self::MAX_LEN).contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    }

    /// The id as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for MachineId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why 32 bytes are not accepted as a machine's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes do not decode to a point of the curve.
    #[error("it is not a point on the curve")]
    NotAPoint,
    /// The bytes are a second spelling of another key (RFC 8032, section 5.1.3, step 1).
    #[error("it is not the canonical encoding of a point")]
    NotCanonical,
    /// A small-order point: signatures exist that fit many messages.
    #[error("it is a weak key (a small-order point)")]
    Weak,
    /// The point has a torsion component, so verifiers may disagree about its signatures.
    #[error("it is not in the prime-order subgroup")]
    Torsion,
}

/// An Ed25519 public key (RFC 8032) that is canonical, not weak and torsion-free. It is kept
/// decompressed, so that verifying does not decompress it each time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Checks and decompresses a key.
    ///
    /// # Errors
    ///
    /// Every [`KeyError`]; a key that any check doubts is not made.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<PublicKey, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        let point = key.to_edwards();
        if point.compress().as_bytes() != bytes {
            return Err(KeyError::NotCanonical);
        }
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        if !point.is_torsion_free() {
            return Err(KeyError::Torsion);
        }
        Ok(PublicKey(key))
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The short name of the key in headers and records.
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = Sha256::digest(self.as_bytes());
        let mut first = [0u8; 8];
        first.copy_from_slice(&digest[..8]);
        Fingerprint(u64::from_be_bytes(first))
    }

    pub(super) fn verifying(&self) -> &VerifyingKey {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

/// The first 16 hex digits of the SHA-256 of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One machine as the registry knows it. The registry makes these; nothing a client sends does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The name it signs under.
    pub id: MachineId,
    /// `X-Machine-Name` to the backend: visible ASCII, at most 128 bytes.
    pub name: Option<Arc<str>>,
    /// `X-Machine-Vault` to the backend: visible ASCII, at most 128 bytes.
    pub vault: Option<Arc<str>>,
    /// `X-Machine-Owner` to the backend: visible ASCII, at most 128 bytes.
    pub owner: Option<Arc<str>>,
    /// The keys it may sign with, at least one and at most [`Machine::MAX_KEYS`].
    pub keys: Box<[PublicKey]>,
    /// `false` refuses every request of this machine with `machine_disabled`.
    pub enabled: bool,
    /// First second (Unix) in which it may act; before it, `machine_expired`.
    pub not_before: Option<u64>,
    /// First second (Unix) in which it may no longer act; from it on, `machine_expired`.
    pub expires: Option<u64>,
}

impl Machine {
    /// Most keys one machine may have: every key is one more signature check for a request that
    /// none of them fits.
    pub const MAX_KEYS: usize = 4;
}
