//! Claims for the tests of the journal.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use countersign_core::identity::PublicKey;
use countersign_core::message::Timestamp;
use countersign_core::replay::Claim;

/// The claim of nonce `n` with timestamp `t`, always by the same machine.
pub(super) fn claim(n: u32, t: u64) -> Claim {
    let signing = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let public = PublicKey::from_bytes(signing.verifying_key().as_bytes()).unwrap();
    let timestamp = Timestamp::parse(t.to_string().as_bytes()).unwrap();
    Claim::new(&public, &format!("nonce-{n:020}"), timestamp)
}
