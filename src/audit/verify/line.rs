//! One line by itself: its place in the chain, and the signature in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use super::super::chain::{self, ChainHead};
use super::super::checkpoint::{self, Domain};
use crate::audit::reader::{Record, RecordText, RecordedKeys, RecordedMachine};

/// A line, examined by itself.
pub(super) struct ExaminedLine<'a> {
    /// Nothing but a line feed.
    pub(super) is_empty: bool,
    /// Its bytes up to its hash, and the number and hash that it claims.
    pub(super) claimed: Option<(&'a [u8], ChainHead)>,
    pub(super) content: RecordContent,
}

/// The content of its record that the verification uses.
pub(super) enum RecordContent {
    Accepted(Result<VerifiedRequest, ProofFault>),
    Checkpoint(CheckpointClaim),
    /// The chain begins or continues.
    Log {
        torn: bool,
    },
    /// The keys of machines from here on.
    Registry(Vec<(String, Vec<[u8; 32]>)>),
    Other,
}

/// A request with a valid signature by this key.
pub(super) struct VerifiedRequest {
    pub(super) machine: String,
    pub(super) key: [u8; 32],
    /// When it was recorded, in Unix seconds.
    pub(super) recorded: Option<u64>,
    /// A hash of the key and the signed message, which may occur once.
    pub(super) digest: [u8; 16],
}

pub(super) enum ProofFault {
    Incomplete(&'static str),
    Signature(String),
}

pub(super) struct CheckpointClaim {
    /// `number:hash`, as it was signed.
    pub(super) head: String,
    pub(super) gateway_key: String,
    /// Signed by the trusted key of the gateway.
    pub(super) verifies: bool,
    /// Names that key.
    pub(super) names_the_key: bool,
}

/// Examines a line. `gateway_key` is the key that signs checkpoints.
pub(super) fn examine<'a>(
    line: &'a [u8],
    gateway_key: Option<&VerifyingKey>,
    domain: Domain,
) -> ExaminedLine<'a> {
    // A line without a line feed was cut off.
    let whole = line.strip_suffix(b"\n");
    let claimed = whole.and_then(chain::claimed);
    let record = claimed.and_then(|_| Record::parse(line));
    ExaminedLine {
        is_empty: line == b"\n",
        // A line that is no record was not written by a gateway, even if it ends in a hash.
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
        // Accepted without a signature, on an open or a migration route. Such a record names no
        // machine, so there is nothing to prove.
        "accepted"
            if matches!(record.auth.as_deref(), Some("none" | "bearer"))
                && record.machine.is_none() =>
        {
            RecordContent::Other
        }
        "accepted" => RecordContent::Accepted(prove(&record)),
        "checkpoint" => RecordContent::Checkpoint(checkpoint(record, gateway_key, domain)),
        "log" => RecordContent::Log { torn: record.torn },
        // An enrolment names the new machine with its key, as a registry does.
        "registry" | "enrolled" => {
            let keys = |owner: RecordedKeys<'_>| {
                let keys = owner.public_keys.iter().filter_map(|key| key_bytes(key));
                (owner.id.to_string(), keys.collect())
            };
            RecordContent::Registry(record.keys.into_iter().map(keys).collect())
        }
        _ => RecordContent::Other,
    }
}

/// Checks the machine's signature over the message that the record gives the parts of.
fn prove(record: &Record<'_>) -> Result<VerifiedRequest, ProofFault> {
    fn part<'r>(
        text: &'r Option<RecordText<'_>>,
        name: &'static str,
    ) -> Result<&'r str, ProofFault> {
        text.as_deref().ok_or(ProofFault::Incomplete(name))
    }
    let RecordedMachine { id, public_key } =
        (record.machine.as_ref()).ok_or(ProofFault::Incomplete("machine"))?;
    let message = format!(
        "{}:{}:{}:{}:{}",
        part(&record.method, "method")?,
        part(&record.signed_path, "signed_path")?,
        (record.timestamp).ok_or(ProofFault::Incomplete("timestamp"))?,
        part(&record.nonce, "nonce")?,
        part(&record.body_sha256, "body_sha256")?,
    );
    let signature = part(&record.signature, "signature")?;
    let key = (public_key.as_deref().and_then(key_bytes))
        .ok_or(ProofFault::Incomplete("machine.public_key"))?;
    let verified = || {
        let signature = Signature::from_slice(&STANDARD.decode(signature).ok()?).ok()?;
        let key = VerifyingKey::from_bytes(&key).ok()?;
        key.verify_strict(message.as_bytes(), &signature).ok()
    };
    match verified() {
        Some(()) => Ok(VerifiedRequest {
            machine: id.to_string(),
            key,
            recorded: record.unix_seconds(),
            digest: digest(&key, &message),
        }),
        None => Err(ProofFault::Signature(id.to_string())),
    }
}

fn digest(key: &[u8; 32], message: &str) -> [u8; 16] {
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
    let text =
        |text: Option<RecordText<'_>>| text.map_or_else(String::new, |text| text.to_string());
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
