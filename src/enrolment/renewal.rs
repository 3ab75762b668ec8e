//! Renewal: a machine with an end asks for a new key beside its old one, and for a later end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::registry::CheckedEntry;
use countersign_core::enrolment::KeyProof;
use countersign_core::identity::PublicKey;
use countersign_core::message::Timestamp;
use countersign_core::replay::Window;

/// A renewal that may be made, if its transaction finds the machine as it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRenewal {
    /// The new key.
    pub key: [u8; 32],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentKey {
    public_key: String,
    timestamp: u64,
    proof: String,
}

impl KeyRenewal {
    /// Judges the renewal of the machine with this entry, whose old key signed the request, at `now`
    /// in Unix seconds. The new key proves itself.
    ///
    /// # Errors
    ///
    /// Every mistake, one text each. It fails closed.
    pub fn judge(
        body: &[u8],
        entry: &CheckedEntry,
        window: &Window,
        now: u64,
    ) -> Result<KeyRenewal, Vec<String>> {
        entry.renewal_ends(now)?;
        let sent: SentKey = serde_json::from_slice(body).map_err(|_| {
            vec![
                "The body is not {\"public_key\": TEXT, \"timestamp\": NUMBER, \"proof\": TEXT}."
                    .to_owned(),
            ]
        })?;
        let bytes = STANDARD.decode(&sent.public_key).ok();
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| {
            vec![
                "public_key: must be the 32 bytes of an Ed25519 public key in standard base64."
                    .to_owned(),
            ]
        })?;
        let key = PublicKey::from_bytes(&bytes)
            .map_err(|why| vec![format!("public_key: {why}; make another key.")])?;
        let timestamp = Timestamp::parse(sent.timestamp.to_string().as_bytes());
        if !timestamp.is_some_and(|timestamp| window.contains(now, timestamp)) {
            return Err(vec![format!(
                "timestamp: is outside the accepted window around {now}; set the machine's clock."
            )]);
        }
        let proof = KeyProof::of_renewal(entry.id(), &bytes, sent.timestamp);
        if !proof.is_given_by(&key, &sent.proof) {
            return Err(vec![
                "proof: is not the signature of public_key over this machine, key and timestamp."
                    .to_owned(),
            ]);
        }
        Ok(KeyRenewal { key: bytes })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use serde_json::{Value, json};

    const NOW: u64 = 1_800_000_000;
    const WINDOW: Window = Window {
        past: 300,
        future: 300,
    };

    fn public(seed: u8) -> [u8; 32] {
        SigningKey::from_bytes(&[seed; 32])
            .verifying_key()
            .to_bytes()
    }

    fn entry(may_renew: bool) -> CheckedEntry {
        let key = STANDARD.encode(public(1));
        let entry = json!({
            "id": "web-1", "public_keys": [key], "expires": "2027-01-16", "expires_in": "1d",
            "may_renew": may_renew,
        });
        CheckedEntry::parse(&entry).unwrap()
    }

    fn body(seed: u8, at: u64) -> Value {
        let id = countersign_core::identity::MachineId::parse("web-1").unwrap();
        let proof = KeyProof::of_renewal(&id, &public(seed), at);
        let proof = proof.sign(&SigningKey::from_bytes(&[seed; 32]));
        json!({ "public_key": STANDARD.encode(public(seed)), "timestamp": at, "proof": proof })
    }

    fn judge(body: &Value) -> Result<KeyRenewal, Vec<String>> {
        KeyRenewal::judge(body.to_string().as_bytes(), &entry(true), &WINDOW, NOW)
    }

    #[test]
    fn a_proved_key_may_be_added() {
        let expected = KeyRenewal { key: public(2) };
        assert_eq!(judge(&body(2, NOW)), Ok(expected));
    }

    #[test]
    fn a_machine_that_may_not_renew_is_refused() {
        let told = KeyRenewal::judge(
            body(2, NOW).to_string().as_bytes(),
            &entry(false),
            &WINDOW,
            NOW,
        );
        assert!(told.unwrap_err()[0].contains("may_renew"));
    }

    #[test]
    fn a_key_that_does_not_prove_itself_is_refused() {
        let mut other = body(2, NOW);
        other["public_key"] = json!(STANDARD.encode(public(3)));
        assert!(judge(&other).unwrap_err()[0].starts_with("proof:"));
        for (at, is_good) in [(NOW - 300, true), (NOW - 301, false), (NOW + 301, false)] {
            assert_eq!(judge(&body(2, at)).is_ok(), is_good, "{at}");
        }
        for key in ["public_key", "timestamp", "proof"] {
            let mut half = body(2, NOW);
            half.as_object_mut().unwrap().remove(key);
            assert!(judge(&half).is_err(), "{key}");
        }
        let mut weak = body(2, NOW);
        weak["public_key"] = json!(STANDARD.encode([0; 32]));
        assert!(judge(&weak).unwrap_err()[0].starts_with("public_key:"));
    }
}
