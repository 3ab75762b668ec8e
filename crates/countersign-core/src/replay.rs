//! Replay protection: the time window, the key of a nonce in the replay cache, and the promise that
//! every replay cache makes.
//!
//! The argument why nothing passes twice takes no clock on trust. A store keeps a set of claims
//! and a floor that only rises. A claim with timestamp `t` succeeds only if `t` is above the
//! floor, its insertion into the set was fresh, atomically, and `t` is still above the floor
//! after the insertion. A claim is forgotten only once the floor has reached its `t`. So a second
//! claim either meets the first in the set, or meets a floor at or above its timestamp.

use sha2::{Digest, Sha256};

use super::identity::PublicKey;
use super::message::Timestamp;
use super::refusal::Refusal;

/// How far a timestamp may lie from the gateway's clock, both bounds inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Seconds into the past.
    pub past: u64,
    /// Seconds into the future, for machines whose clock is ahead.
    pub future: u64,
}

impl Window {
    /// Whether `timestamp` is acceptable at `now` (Unix seconds).
    pub fn contains(&self, now: u64, timestamp: Timestamp) -> bool {
        let t = timestamp.unix_seconds();
        t >= now.saturating_sub(self.past) && t <= now.saturating_add(self.future)
    }
}

/// The key of a spent nonce in the replay cache: 128 bits of SHA-256 over the public key and the
/// nonce. If two requests share a key, the gateway refuses the second one. An attacker that wants
/// to block another machine's nonce needs a second preimage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NonceKey([u8; 16]);

impl NonceKey {
    /// The key for a nonce under the public key that signed it: two ids may not share a key, so
    /// the key, and not the unsigned id, names the machine here.
    pub fn new(key: &PublicKey, nonce: &str) -> NonceKey {
        let digest = Sha256::new()
            .chain_update(key.as_bytes())
            .chain_update(nonce.as_bytes())
            .finalize();
        let mut short = [0u8; 16];
        short.copy_from_slice(&digest[..16]);
        NonceKey(short)
    }

    /// A key that an earlier process made, from its bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> NonceKey {
        NonceKey(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A request to spend a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The nonce, under the key that signed it.
    pub nonce: NonceKey,
    /// The owner of the quota that it counts against.
    pub owner: Owner,
    /// The timestamp that was signed with it.
    pub timestamp: Timestamp,
}

/// The owner of a quota: the first 64 bits of a public key. Keys that share them share a quota;
/// only the operator registers keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(u64);

impl Owner {
    /// An owner that an earlier process knew, from its number.
    pub fn from_number(number: u64) -> Owner {
        Owner(number)
    }

    /// The 64 bits as a number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Claim {
    /// The claim of a nonce that `key` has signed.
    pub fn new(key: &PublicKey, nonce: &str, timestamp: Timestamp) -> Claim {
        let mut first = [0u8; 8];
        first.copy_from_slice(&key.as_bytes()[..8]);
        Claim {
            nonce: NonceKey::new(key, nonce),
            owner: Owner(u64::from_le_bytes(first)),
            timestamp,
        }
    }

    /// The signed timestamp, in Unix seconds.
    pub fn unix_seconds(&self) -> u64 {
        self.timestamp.unix_seconds()
    }
}

/// A replay cache.
///
/// An implementation guarantees one thing: of two equal claims at most one returns `Ok`, even over
/// a crash or a restart. It fails closed: if it cannot check a claim, it returns
/// [`ClaimError::Unavailable`].
#[async_trait::async_trait]
pub trait NonceStore: Send + Sync {
    /// Records a nonce as used. `Ok(())` means that it was not used before.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]. The nonce may stay recorded after an error.
    async fn claim(&self, claim: Claim) -> Result<(), ClaimError>;

    /// Whether the store could answer a claim now. This decides nothing: readiness uses it to keep
    /// away requests that would be refused.
    ///
    /// # Errors
    ///
    /// Why not, in a few words for the operator.
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Why a nonce was not claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// It was spent before.
    Replayed,
    /// The machine has as many live nonces as one may have.
    OverQuota {
        /// Seconds after which it has room again, if it has slowed down.
        retry_after: u32,
    },
    /// The store cannot tell whether the nonce is new, or has no room for it.
    Unavailable {
        /// Seconds after which a newly signed request has a chance.
        retry_after: u32,
    },
}

impl From<ClaimError> for Refusal {
    fn from(error: ClaimError) -> Refusal {
        match error {
            ClaimError::Replayed => Refusal::Replayed,
            ClaimError::OverQuota { retry_after } => Refusal::Throttled { retry_after },
            ClaimError::Unavailable { retry_after } => Refusal::ReplayUnavailable { retry_after },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Window = Window {
        past: 300,
        future: 60,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::parse(seconds.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn both_ends_of_the_window_are_inside_and_their_neighbours_outside() {
        let now = 1_700_000_000;
        assert!(WINDOW.contains(now, at(now - 300)));
        assert!(!WINDOW.contains(now, at(now - 301)));
        assert!(WINDOW.contains(now, at(now + 60)));
        assert!(!WINDOW.contains(now, at(now + 61)));
    }

    #[test]
    fn a_clock_at_the_epoch_or_the_end_of_time_does_not_wrap() {
        assert!(!WINDOW.contains(0, at(1_000_000_000)));
        assert!(!WINDOW.contains(u64::MAX, at(1_000_000_000)));
    }

    #[test]
    fn a_nonce_key_depends_on_the_key_and_on_every_character() {
        let key = |seed: u8| {
            let signing = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
            PublicKey::from_bytes(signing.verifying_key().as_bytes()).unwrap()
        };
        let base = NonceKey::new(&key(1), "AAAAAAAAAAAAAAAA");
        assert_eq!(base, NonceKey::new(&key(1), "AAAAAAAAAAAAAAAA"));
        assert_ne!(base, NonceKey::new(&key(2), "AAAAAAAAAAAAAAAA"));
        assert_ne!(base, NonceKey::new(&key(1), "aAAAAAAAAAAAAAAA"));
        assert_ne!(base, NonceKey::new(&key(1), "AAAAAAAAAAAAAAAA="));
    }

    proptest! {
        #[test]
        fn the_window_is_the_interval_and_nothing_else(
            now in 1_000_000_400u64..90_000_000_000, offset in -1000i64..1000
        ) {
            let t = now.saturating_add_signed(offset);
            prop_assert_eq!(WINDOW.contains(now, at(t)), (-300..=60).contains(&offset));
        }
    }
}
