//! One line by itself: its place in the chain, and what it proves.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::super::chain::{self, ChainHead};
use super::super::checkpoint::{self, Domain};
use crate::config::instant;

/// What a line is by itself.
pub(super) struct ExaminedLine<'a> {
    /// Nothing but a line feed.
    pub(super) is_empty: bool,
    /// Its bytes up to its hash, and the number and hash that it claims.
    pub(super) claimed: Option<(&'a [u8], ChainHead)>,
    pub(super) content: RecordContent,
}

/// What its record says, as far as the check goes into it.
pub(super) enum RecordContent {
    Accepted(Result<Proof, ProofFault>),
    Checkpoint(CheckpointClaim),
    /// Where the chain begins or goes on.
    Log {
        torn: bool,
    },
    /// Keys that belong to machines from here on.
    Registry(Vec<(String, Vec<[u8; 32]>)>),
    Other,
}

/// A request whose signature verifies under this key.
pub(super) struct Proof {
    pub(super) machine: String,
    pub(super) key: [u8; 32],
    /// When it was recorded, in Unix seconds.
    pub(super) recorded: Option<u64>,
    /// What may be there once: a hash of the key and of all that was signed.
    pub(super) spent: [u8; 16],
}

pub(super) enum ProofFault {
    Incomplete(&'static str),
    Signature(String),
}

pub(super) struct CheckpointClaim {
    /// `number:hash`, as it was signed.
    pub(super) head: String,
    pub(super) gateway_key: String,
    /// Signed by the key that the check believes in.
    pub(super) verifies: bool,
    /// Names that key.
    pub(super) names_the_key: bool,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    decision: Cow<'a, str>,
    #[serde(borrow)]
    auth: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ts: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signed_path: Option<Cow<'a, str>>,
    timestamp: Option<u64>,
    #[serde(borrow)]
    nonce: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body_sha256: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow)]
    machine: Option<Machine<'a>>,
    #[serde(borrow)]
    head: Option<Cow<'a, str>>,
    #[serde(borrow)]
    gateway_key: Option<Cow<'a, str>>,
    #[serde(default)]
    torn: bool,
    #[serde(borrow, default)]
    keys: Vec<Owner<'a>>,
}

#[derive(Deserialize)]
struct Machine<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    public_key: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Owner<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    public_keys: Vec<Cow<'a, str>>,
}

/// Looks at a line; `gateway_key` is the key that checkpoints should be signed with.
pub(super) fn examine<'a>(
    line: &'a [u8],
    gateway_key: Option<&VerifyingKey>,
    domain: Domain,
) -> ExaminedLine<'a> {
    // What does not end in a line feed was cut off, whatever it says.
    let whole = line.strip_suffix(b"\n");
    let claimed = whole.and_then(chain::claimed);
    let record = claimed.and_then(|_| serde_json::from_slice::<Record<'_>>(line).ok());
    ExaminedLine {
        is_empty: line == b"\n",
        // A line that is no JSON was not written by a gateway, whatever it ends in.
        claimed: record.as_ref().and(claimed),
        content: record.map_or(RecordContent::Other, |record| {
            content(record, gateway_key, domain)
        }),
    }
}

fn content(
    record: Record<'_>,
    gateway_key: Option<&VerifyingKey>,
    domain: Domain,
) -> RecordContent {
    match &*record.decision {
        // On an open route anybody may ask, and where bearer credentials still pass, whoever has
        // one. Such a record names no machine, and so proves nothing about one.
        "accepted"
            if matches!(record.auth.as_deref(), Some("none" | "bearer"))
                && record.machine.is_none() =>
        {
            RecordContent::Other
        }
        "accepted" => RecordContent::Accepted(prove(&record)),
        "checkpoint" => RecordContent::Checkpoint(checkpoint(record, gateway_key, domain)),
        "log" => RecordContent::Log { torn: record.torn },
        "registry" => {
            let keys = |owner: Owner<'_>| {
                let keys = owner.public_keys.iter().filter_map(|key| key_bytes(key));
                (owner.id.into_owned(), keys.collect())
            };
            RecordContent::Registry(record.keys.into_iter().map(keys).collect())
        }
        _ => RecordContent::Other,
    }
}

/// Checks the machine's signature over the message that the record gives the parts of.
fn prove(record: &Record<'_>) -> Result<Proof, ProofFault> {
    let part = |part: &Option<Cow<'_, str>>, name| {
        let text = part.as_deref().ok_or(ProofFault::Incomplete(name))?;
        Ok::<String, ProofFault>(text.to_owned())
    };
    let machine = (record.machine.as_ref()).ok_or(ProofFault::Incomplete("machine"))?;
    let message = format!(
        "{}:{}:{}:{}:{}",
        part(&record.method, "method")?,
        part(&record.signed_path, "signed_path")?,
        (record.timestamp).ok_or(ProofFault::Incomplete("timestamp"))?,
        part(&record.nonce, "nonce")?,
        part(&record.body_sha256, "body_sha256")?,
    );
    let signature = part(&record.signature, "signature")?;
    let key = key_bytes(&machine.public_key).ok_or(ProofFault::Incomplete("machine.public_key"))?;
    let verified = || {
        let signature = Signature::from_slice(&STANDARD.decode(signature).ok()?).ok()?;
        let key = VerifyingKey::from_bytes(&key).ok()?;
        key.verify_strict(message.as_bytes(), &signature).ok()
    };
    match verified() {
        Some(()) => Ok(Proof {
            machine: machine.id.clone().into_owned(),
            key,
            recorded: record.ts.as_deref().and_then(seconds),
            spent: spent(&key, &message),
        }),
        None => Err(ProofFault::Signature(machine.id.clone().into_owned())),
    }
}

/// The whole seconds of a record's time.
fn seconds(ts: &str) -> Option<u64> {
    let whole = ts.strip_suffix('Z')?.split('.').next()?;
    instant::to_unix_seconds(&format!("{whole}Z"))
}

fn spent(key: &[u8; 32], message: &str) -> [u8; 16] {
    let hash = Sha256::new().chain_update(key).chain_update(message);
    let mut half = [0; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    half
}

fn checkpoint(
    record: Record<'_>,
    gateway_key: Option<&VerifyingKey>,
    domain: Domain,
) -> CheckpointClaim {
    let text = |text: Option<Cow<'_, str>>| text.unwrap_or_default().into_owned();
    let (head, ts, named) = (text(record.head), text(record.ts), text(record.gateway_key));
    let signature = text(record.signature);
    CheckpointClaim {
        verifies: gateway_key
            .is_some_and(|key| checkpoint::verifies(key, domain, &head, &ts, &signature)),
        names_the_key: gateway_key.is_some_and(|key| key_bytes(&named) == Some(key.to_bytes())),
        head,
        gateway_key: named,
    }
}

fn key_bytes(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
