//! The machine that asks to be enrolled: its key, its proof and its names, checked against the terms
//! of its admission.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::admission::EnrolmentGrant;
use super::body::{EnrolmentBody, SentProof};
use crate::config::{instant, show_lifetime};
use crate::registry::CheckedEntry;
use countersign_core::enrolment::KeyProof;
use countersign_core::identity::{Machine, MachineId, PublicKey};
use countersign_core::message::Timestamp;
use countersign_core::pattern::Pattern;
use countersign_core::replay::Window;

/// Longest host name that is taken, in bytes (RFC 1035 has 253).
const MAX_HOSTNAME: usize = 255;

/// A machine that may be added.
pub(super) struct EnrollingMachine {
    pub(super) key: PublicKey,
    pub(super) name: String,
    pub(super) hostname: String,
    pub(super) proved: bool,
}

impl EnrollingMachine {
    /// Checks what a machine says of itself. The secret has been judged before: only its holder
    /// learns the mistakes.
    ///
    /// # Errors
    ///
    /// Every mistake, one text each. It fails closed: a proof that is there must be right, also
    /// where none is asked for.
    pub(super) fn check(
        body: &EnrolmentBody,
        grant: &EnrolmentGrant,
        window: &Window,
        now: u64,
    ) -> Result<EnrollingMachine, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut note = |result: Result<(), String>| {
            if let Err(mistake) = result {
                mistakes.push(mistake);
            }
        };
        let key = key(&body.public_key);
        match (&body.proof, &key) {
            (Some(proof), Ok(key)) => note(proves(proof, key, grant, window, now)),
            (None, _) if grant.require_proof => note(Err(
                "proof: is missing. Sign the enrolment with the new key, as `countersign enrol` does."
                    .to_owned(),
            )),
            _ => {}
        }
        let hostname = &body.hostname;
        note(match is_hostname(hostname) {
            true => fits("hostname", hostname, grant.hostname_pattern.as_ref()),
            false => Err(format!(
                "hostname: must be 1 to {MAX_HOSTNAME} visible ASCII characters."
            )),
        });
        let name = grant
            .name
            .as_ref()
            .or(body.name.as_ref())
            .unwrap_or(hostname);
        note(match Machine::is_label(name) {
            true => fits("name", name, grant.name_pattern.as_ref()),
            false => Err(format!(
                "name: must be 1 to {} visible ASCII characters, without a space at either end.",
                Machine::MAX_LABEL
            )),
        });
        match key {
            Ok(key) if mistakes.is_empty() => Ok(EnrollingMachine {
                key,
                name: name.clone(),
                hostname: hostname.clone(),
                proved: body.proof.is_some(),
            }),
            Ok(_) => Err(mistakes),
            Err(mistake) => {
                mistakes.insert(0, mistake);
                Err(mistakes)
            }
        }
    }

    /// The entry of the machine in the registry.
    ///
    /// # Errors
    ///
    /// The mistakes of the terms, in the words of the registry.
    pub(super) fn entry(
        &self,
        id: &MachineId,
        grant: &EnrolmentGrant,
        now: u64,
    ) -> Result<CheckedEntry, Vec<String>> {
        let terms = &grant.machine;
        let mut entry = terms.to_json();
        let mut put = |key: &str, value: Value| entry.insert(key.to_owned(), value);
        put("id", json!(id.as_str()));
        put("name", json!(self.name));
        put("vault", json!(grant.vault));
        put("public_keys", json!([STANDARD.encode(self.key.as_bytes())]));
        if let Some(life) = terms.expires_in {
            let end = now.saturating_add(life);
            put("expires", json!(instant::to_text(end)));
            // A renewal reads it; without one it would say nothing.
            match terms.may_renew {
                true => put("expires_in", json!(show_lifetime(life))),
                false => entry.remove("expires_in"),
            };
        }
        CheckedEntry::parse(&Value::Object(entry))
    }
}

fn key(text: &str) -> Result<PublicKey, String> {
    let bytes = STANDARD.decode(text).ok();
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| {
        "publicKey: must be the 32 bytes of an Ed25519 public key in standard base64.".to_owned()
    })?;
    PublicKey::from_bytes(&bytes).map_err(|why| format!("publicKey: {why}; make another key."))
}

fn proves(
    sent: &SentProof,
    key: &PublicKey,
    grant: &EnrolmentGrant,
    window: &Window,
    now: u64,
) -> Result<(), String> {
    let timestamp = Timestamp::parse(sent.timestamp.to_string().as_bytes());
    if !timestamp.is_some_and(|timestamp| window.contains(now, timestamp)) {
        return Err(format!(
            "timestamp: is outside the accepted window around {now}; set the machine's clock."
        ));
    }
    let proof = KeyProof::of_enrolment(&grant.vault, &grant.digest, key.as_bytes(), sent.timestamp);
    match proof.is_given_by(key, &sent.signature) {
        true => Ok(()),
        false => Err(
            "proof: is not the signature of publicKey over this vault, secret, key and timestamp."
                .to_owned(),
        ),
    }
}

fn is_hostname(text: &str) -> bool {
    let is_visible = |byte: u8| (0x21..=0x7e).contains(&byte);
    (1..=MAX_HOSTNAME).contains(&text.len()) && text.bytes().all(is_visible)
}

fn fits(what: &str, text: &str, pattern: Option<&Pattern>) -> Result<(), String> {
    match pattern {
        Some(pattern) if !pattern.matches(text) => Err(format!(
            "{what}: does not match {pattern}, which is asked for here."
        )),
        _ => Ok(()),
    }
}
