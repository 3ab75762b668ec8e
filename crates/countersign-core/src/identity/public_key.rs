//! The public keys that a machine may have.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

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
/// decompressed, so that verifying does not decompress it each time, and with its short name, which
/// every record and every request to the backend bears.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    fingerprint: Fingerprint,
}

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
        let digest = Sha256::digest(bytes);
        let mut first = [0u8; 8];
        first.copy_from_slice(&digest[..8]);
        Ok(PublicKey {
            key,
            fingerprint: Fingerprint(first),
        })
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The short name of the key in headers and records.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn verifying(&self) -> &VerifyingKey {
        &self.key
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

/// The first 16 hex digits of the SHA-256 of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// The bytes that it shows.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    /// All eight points of small order, in their one canonical encoding each.
    const SMALL_ORDER: [&str; 8] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];

    fn bytes(hex: &str) -> [u8; 32] {
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        std::array::from_fn(byte)
    }

    fn good_key(seed: u8) -> [u8; 32] {
        *SigningKey::from_bytes(&[seed; 32])
            .verifying_key()
            .as_bytes()
    }

    /// The encoding of the field element `value` mod p as `p + value`, which fits for `value` below
    /// 19.
    fn unreduced(value: u8, negative: bool) -> [u8; 32] {
        let mut encoded = [0xff; 32];
        encoded[0] = 0xed + value;
        encoded[31] = if negative { 0xff } else { 0x7f };
        encoded
    }

    /// The encoding of the point of `a` plus the point of `b`.
    fn sum(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
        let [a, b] = [a, b].map(|bytes| VerifyingKey::from_bytes(bytes).unwrap().to_edwards());
        (a + b).compress().to_bytes()
    }

    #[test]
    fn a_key_that_a_signer_made_is_a_key_and_keeps_its_bytes() {
        for seed in 0..=255 {
            let bytes = good_key(seed);
            assert_eq!(PublicKey::from_bytes(&bytes).unwrap().as_bytes(), &bytes);
        }
    }

    #[test]
    fn the_key_of_rfc_8032_test_1_is_a_key() {
        let hex = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let key = PublicKey::from_bytes(&bytes(hex)).unwrap();
        assert_eq!(key.fingerprint().to_string(), "21fe31dfa154a261");
    }

    #[test]
    fn every_point_of_small_order_is_weak() {
        for hex in SMALL_ORDER {
            assert_eq!(
                PublicKey::from_bytes(&bytes(hex)),
                Err(KeyError::Weak),
                "{hex}"
            );
        }
    }

    #[test]
    fn a_key_with_a_torsion_component_is_refused() {
        let key = good_key(7);
        for hex in &SMALL_ORDER[1..] {
            let mixed = sum(&key, &bytes(hex));
            assert_eq!(
                PublicKey::from_bytes(&mixed),
                Err(KeyError::Torsion),
                "{hex}"
            );
        }
    }

    #[test]
    fn adding_the_neutral_element_is_no_torsion() {
        let key = good_key(7);
        assert_eq!(sum(&key, &bytes(SMALL_ORDER[0])), key);
    }

    #[test]
    fn an_unreduced_coordinate_is_refused_on_the_curve_and_beside_it() {
        let mut on_the_curve = 0;
        for value in 0..19 {
            for negative in [false, true] {
                match PublicKey::from_bytes(&unreduced(value, negative)) {
                    Err(KeyError::NotCanonical) => on_the_curve += 1,
                    other => assert_eq!(other, Err(KeyError::NotAPoint), "{value}"),
                }
            }
        }
        assert_eq!(on_the_curve, ON_THE_CURVE);
    }

    /// Of 0 to 18, twelve are the y of a point, with either sign.
    const ON_THE_CURVE: usize = 24;

    #[test]
    fn a_zero_with_a_minus_sign_is_not_canonical() {
        for hex in &SMALL_ORDER[..2] {
            let mut negative_zero = bytes(hex);
            negative_zero[31] |= 0x80;
            assert_eq!(
                PublicKey::from_bytes(&negative_zero),
                Err(KeyError::NotCanonical),
                "{hex}"
            );
        }
    }

    #[test]
    fn a_coordinate_that_no_point_has_is_refused() {
        let mut two = [0; 32];
        two[0] = 2;
        assert_eq!(PublicKey::from_bytes(&two), Err(KeyError::NotAPoint));
    }

    #[test]
    fn debug_shows_the_fingerprint_alone() {
        let key = PublicKey::from_bytes(&good_key(1)).unwrap();
        assert_eq!(
            format!("{key:?}"),
            format!("PublicKey({})", key.fingerprint())
        );
    }

    #[test]
    fn a_fingerprint_keeps_its_leading_zeros() {
        assert_eq!(
            Fingerprint([0, 0, 0, 0, 0, 0, 0, 0xab]).to_string(),
            "00000000000000ab"
        );
    }
}
