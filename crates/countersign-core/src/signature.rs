//! The signature check: plain Ed25519 (RFC 8032), strict, over the raw bytes.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::identity::PublicKey;
use super::message::Message;

/// An Ed25519 signature as sent: 64 bytes, not yet judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; Signature::LEN]);

impl Signature {
    /// Bytes in a signature.
    pub const LEN: usize = 64;

    /// Characters of standard base64, with padding, for 64 bytes.
    const TEXT_LEN: usize = 88;

    /// Parses the header's bytes: standard base64, padded, canonical (no stray bits behind the
    /// last byte), exactly 64 bytes. `None` for anything else.
    pub fn parse(value: &[u8]) -> Option<Signature> {
        if value.len() != Self::TEXT_LEN {
            return None;
        }
        // The decoder wants room for whole groups of three bytes.
        let mut bytes = [0u8; Self::LEN + 2];
        let decoded = STANDARD.decode_slice(value, &mut bytes).ok()?;
        (decoded == Self::LEN).then(|| {
            let mut signature = [0u8; Self::LEN];
            signature.copy_from_slice(&bytes[..Self::LEN]);
            Signature(signature)
        })
    }

    /// The 64 bytes.
    pub fn as_bytes(&self) -> &[u8; Signature::LEN] {
        &self.0
    }

    /// Whether `key` made this signature over `message`.
    ///
    /// Fails closed: `verify_strict` refuses a non-canonical S, small-order R and A, and every
    /// equation that only holds up to a cofactor.
    pub fn verifies(&self, key: &PublicKey, message: &Message) -> bool {
        self.verifies_bytes(key, message.as_bytes())
    }

    pub(super) fn verifies_bytes(&self, key: &PublicKey, message: &[u8]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&self.0);
        key.verifying().verify_strict(message, &signature).is_ok()
    }
}

/// The key that stands in for an unknown machine's, so that refusing one costs the same work as
/// refusing a wrong signature. Nobody has its private half: the key is a hash, read as a
/// point of the curve and multiplied by the cofactor. A test derives it again.
pub(super) fn stand_in_key() -> &'static PublicKey {
    static KEY: LazyLock<PublicKey> = LazyLock::new(|| {
        #[allow(clippy::expect_used, reason = "a constant, checked by a test")]
        PublicKey::from_bytes(&STAND_IN).expect("the stand-in key is a good key")
    });
    &KEY
}

const STAND_IN: [u8; 32] = [
    0xc5, 0xdc, 0x4b, 0x75, 0x8a, 0xe6, 0xf9, 0xaa, 0x77, 0xe6, 0xea, 0x75, 0x64, 0x1b, 0xbe, 0x6f,
    0xf2, 0xbb, 0xcb, 0x82, 0xcd, 0xb0, 0x2f, 0x62, 0xd6, 0xc8, 0x1b, 0x88, 0x45, 0x1c, 0x80, 0x84,
];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use super::*;
    use ed25519_dalek::VerifyingKey;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_stand_in_key_is_a_hash_that_nobody_chose() {
        let (counter, point) = (0u8..)
            .find_map(|counter| {
                let hash = Sha256::digest([b"countersign stand-in key ", &[counter][..]].concat());
                let key = VerifyingKey::from_bytes(&hash.into()).ok()?;
                Some((counter, key.to_edwards().mul_by_cofactor()))
            })
            .unwrap();
        assert_eq!(counter, 0, "the first candidate serves");
        assert_eq!(point.compress().to_bytes(), STAND_IN);
        assert_eq!(stand_in_key().as_bytes(), &STAND_IN);
    }

    #[test]
    fn a_signature_has_one_spelling() {
        let text = STANDARD.encode([7u8; 64]);
        assert_eq!(Signature::parse(text.as_bytes()), Some(Signature([7; 64])));

        let stray_bits = format!("{}x==", &text[..85]);
        let url_safe = STANDARD.encode([0xffu8; 64]).replace('/', "_");
        for value in [
            text.trim_end_matches('=').to_owned(),
            format!(" {text}"),
            format!("{text}\n"),
            stray_bits,
            url_safe,
            STANDARD.encode([7u8; 63]),
            STANDARD.encode([7u8; 65]),
            "=".repeat(88),
            String::new(),
        ] {
            assert_eq!(Signature::parse(value.as_bytes()), None, "{value:?}");
        }
    }

    #[test]
    fn every_64_bytes_parse_back() {
        let mut state = 1u8;
        for _ in 0..200 {
            let bytes: [u8; 64] = std::array::from_fn(|_| {
                state = state.wrapping_mul(77).wrapping_add(41);
                state
            });
            let text = STANDARD.encode(bytes);
            assert_eq!(Signature::parse(text.as_bytes()), Some(Signature(bytes)));
        }
    }

    /// Project Wycheproof's Ed25519 vectors: the counts are exact, so that a vector that stops
    /// being run is noticed.
    #[test]
    fn wycheproof_agrees_on_every_vector() {
        use wycheproof::TestResult;
        use wycheproof::eddsa::{TestName, TestSet};

        let set = TestSet::load(TestName::Ed25519).unwrap();
        let (mut valid, mut invalid) = (0, 0);
        for group in &set.test_groups {
            let key: [u8; 32] = group.key.pk[..].try_into().unwrap();
            let key = PublicKey::from_bytes(&key).unwrap();
            for test in &group.tests {
                let accepted = <[u8; 64]>::try_from(&test.sig[..])
                    .is_ok_and(|bytes| Signature(bytes).verifies_bytes(&key, &test.msg));
                match test.result {
                    TestResult::Valid => valid += 1,
                    TestResult::Invalid => invalid += 1,
                    TestResult::Acceptable => panic!("Ed25519 has no grey vectors"),
                }
                assert_eq!(
                    accepted,
                    test.result == TestResult::Valid,
                    "vector {}: {}",
                    test.tc_id,
                    test.comment
                );
            }
        }
        assert_eq!((valid, invalid), (88, 63));
    }
}
