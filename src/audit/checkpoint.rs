//! Checkpoints: lines in which the gateway signs the head of the chain with its own key. With the
//! public key, a log can be told from one that was written anew without the private key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::Serialize;

use super::chain::ChainHead;
use super::line::Base64;
use super::record_time::RecordTime;

/// The stream that a checkpoint signs. A checkpoint of one stream never verifies for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Domain {
    /// The audit log, with every accepted request.
    #[default]
    Trail,
    /// The file of refusals before authentication.
    Refusals,
}

/// Signs checkpoints. The private key is wiped when it is dropped.
pub struct CheckpointSigner(SigningKey);

impl CheckpointSigner {
    /// A signer with the gateway's key.
    pub fn new(key: SigningKey) -> CheckpointSigner {
        CheckpointSigner(key)
    }

    /// The record of a checkpoint at `head`, at `wall_ms` (Unix milliseconds).
    pub(super) fn sign(&self, domain: Domain, head: ChainHead, wall_ms: u64) -> Checkpoint {
        let (ts, head) = (RecordTime::of(wall_ms), head.to_string());
        let message = message(domain, &head, &ts.to_string());
        Checkpoint {
            ts,
            decision: "checkpoint",
            head,
            gateway_key: Base64(self.0.verifying_key().to_bytes()),
            signature: Base64(self.0.sign(message.as_bytes()).to_bytes()),
        }
    }
}

/// A signed head of the chain.
#[derive(Serialize)]
pub(super) struct Checkpoint {
    ts: RecordTime,
    decision: &'static str,
    head: String,
    gateway_key: Base64<[u8; 32]>,
    signature: Base64<[u8; 64]>,
}

/// Whether `signature`, in base64, is by `key` over a checkpoint. Fails closed: an odd input is
/// `false`.
pub fn verifies(key: &VerifyingKey, domain: Domain, head: &str, ts: &str, signature: &str) -> bool {
    let signature =
        (STANDARD.decode(signature).ok()).and_then(|bytes| Signature::from_slice(&bytes).ok());
    signature.is_some_and(|signature| {
        key.verify_strict(message(domain, head, ts).as_bytes(), &signature)
            .is_ok()
    })
}

/// The signed message. Its prefix separates it from anything else that the key might sign.
fn message(domain: Domain, head: &str, ts: &str) -> String {
    let name = match domain {
        Domain::Trail => "audit",
        Domain::Refusals => "audit-refusals",
    };
    format!("countersign-{name}-checkpoint-1:{head}:{ts}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::audit::line::encode;
    use crate::audit::testing::read_back;

    fn signed() -> (VerifyingKey, serde_json::Value) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let head = ChainHead {
            seq: 12,
            hash: [0xab; 32],
        };
        let line = CheckpointSigner::new(key.clone()).sign(Domain::Trail, head, 1_750_000_000_123);
        (key.verifying_key(), read_back(&line))
    }

    fn good(key: &VerifyingKey, line: &serde_json::Value) -> bool {
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        verifies(
            key,
            Domain::Trail,
            &text("head"),
            &text("ts"),
            &text("signature"),
        )
    }

    #[test]
    fn a_checkpoint_verifies_under_the_key_it_names() {
        let (key, line) = signed();
        assert!(good(&key, &line));
        let named = STANDARD.decode(line["gateway_key"].as_str().unwrap());
        assert_eq!(named.unwrap(), key.as_bytes());
    }

    #[test]
    fn a_checkpoint_reads_as_published() {
        let head = ChainHead {
            seq: 12,
            hash: [0xab; 32],
        };
        let signer = CheckpointSigner::new(SigningKey::from_bytes(&[7; 32]));
        let line = encode(&signer.sign(Domain::Trail, head, 1_750_000_000_123), 0).unwrap();
        let expected = concat!(
            r#"{"ts":"2025-06-15T15:06:40.123Z","decision":"checkpoint","#,
            r#""head":"12:abababababababababababababababababababababababababababababababab","#,
            r#""gateway_key":"6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=","#,
            r#""signature":"PXo1uQ2VHCcc4NGZZcgirLEiilssxFBhRajfXLgxH1HryRoElp8ws8BxmqIqkkrlGq+FuJZb/3Qgym6iaxgbBA=="}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn it_does_not_under_another() {
        let (_, line) = signed();
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert!(!good(&other, &line));
    }

    #[test]
    fn it_holds_the_head_and_the_time() {
        let (key, line) = signed();
        for (name, value) in [
            ("head", line["head"].as_str().unwrap().replace("12:", "13:")),
            ("ts", "2025-06-15T15:06:40.124Z".to_owned()),
            ("signature", "AAAA".to_owned()),
        ] {
            let mut changed = line.clone();
            changed[name] = value.into();
            assert!(!good(&key, &changed), "{name}");
        }
    }
}
