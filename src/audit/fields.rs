//! The fields of a line and their order, which programs that read the log depend on.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::backend_paths::BackendPaths;
use super::hex::Hex;
use super::line::{Base64, USUAL_DECISION, encode};
use super::record::{
    AcceptedRecord, BodyDigest, ClaimedFacts, LoginFacts, OpenRecord, Query, RefusalEvidence,
    RefusedRecord, RegistryRecord, RequestFacts, ResponseRecord, SignatureFacts, UnsignedRecord,
};
use super::record_time::RecordTime;
use super::token_hash::TokenHash;
use super::untrusted::{ClaimedMachine, ClaimedNonce, DroppedHeaders, PathOnly, SentMethod};
use crate::metrics::Auth;
use countersign_core::identity::{Machine, MachineId, PublicKey};

/// Most ids, or owners of keys, that one list of a registry record names: more than an edit by hand
/// touches, and some 200 KB at the longest ids. Beyond it only the count tells.
pub(super) const LISTED: usize = 1000;

impl AcceptedRecord<'_> {
    /// Its line, before the log gives it a number and a hash.
    ///
    /// # Errors
    ///
    /// A value cannot be serialized. No record has such a value.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        encode(self, USUAL_DECISION)
    }
}

impl Serialize for AcceptedRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = DecisionFields::of("accepted", &self.request);
        decision.prove(&self.signed);
        decision.signature = Some(Base64(self.signature));
        decision.serialize(serializer)
    }
}

impl Serialize for OpenRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = DecisionFields::of("accepted", &self.request);
        decision.body(&self.body);
        decision.serialize(serializer)
    }
}

impl Serialize for UnsignedRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = match &self.observed {
            None => DecisionFields::of("accepted", &self.request),
            Some((code, claim)) => {
                let mut decision = DecisionFields::of("observed", &self.request);
                decision.code = Some(code.as_str());
                decision.claim(claim);
                decision
            }
        };
        if self.token.is_some() {
            decision.auth = Auth::Bearer.as_str();
        }
        decision.token_hash = self.token;
        decision.body(&self.body);
        decision.serialize(serializer)
    }
}

impl Serialize for RefusedRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = DecisionFields::of("refused", &self.request);
        decision.code = Some(self.code.as_str());
        match &self.evidence {
            RefusalEvidence::Claimed(claim) => decision.claim(claim),
            RefusalEvidence::Signed(signed) => decision.prove(signed),
            RefusalEvidence::Enrolment { cause } => decision.cause = *cause,
        }
        decision.serialize(serializer)
    }
}

/// A decision record.
#[derive(Serialize)]
struct DecisionFields<'a> {
    ts: RecordTime,
    request_id: &'a str,
    decision: &'static str,
    auth: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<SignerFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_machine: Option<ClaimedMachine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_known: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_hash: Option<TokenHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_ip: Option<IpAddr>,
    method: SentMethod<'a>,
    path: PathOnly<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<Query>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "DroppedHeaders::is_empty")]
    dropped_headers: DroppedHeaders<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<ClaimedNonce<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_sha256: Option<Hex<&'a [u8; 32]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Base64<&'a [u8; 64]>>,
}

impl<'a> DecisionFields<'a> {
    fn of(decision: &'static str, request: &RequestFacts<'a>) -> DecisionFields<'a> {
        DecisionFields {
            ts: RecordTime::of(request.wall_ms),
            request_id: request.request_id,
            decision,
            auth: Auth::None.as_str(),
            code: None,
            cause: None,
            machine: None,
            claimed_machine: None,
            machine_known: None,
            token_hash: None,
            client_ip: request.client_ip,
            peer_ip: request.peer_ip,
            method: request.method,
            path: request.path,
            signed_path: None,
            query: request.query,
            route: request.route,
            dropped_headers: request.dropped,
            timestamp: None,
            nonce: None,
            body_sha256: None,
            body_bytes: None,
            signature: None,
        }
    }

    fn prove(&mut self, signed: &SignatureFacts<'a>) {
        self.auth = Auth::Signature.as_str();
        self.machine = Some(SignerFields::of(signed.machine, signed.key));
        // On other routes no '?' can have been signed; were one here, it would not be written.
        self.signed_path = match self.query {
            Some(Query::Signed) => Some(signed.path),
            _ => signed.path.split('?').next(),
        };
        self.timestamp = Some(signed.timestamp);
        self.nonce = Some(ClaimedNonce::of(signed.nonce.as_bytes()));
        self.body(&signed.body);
    }

    fn claim(&mut self, claim: &ClaimedFacts<'a>) {
        self.claimed_machine = claim.machine;
        self.machine_known = claim.machine_known;
        self.timestamp = claim.timestamp;
        self.nonce = claim.nonce;
        if let Some(body) = &claim.body {
            self.body(body);
        }
    }

    fn body(&mut self, body: &BodyDigest<'a>) {
        self.body_sha256 = Some(Hex(body.sha256));
        self.body_bytes = Some(body.bytes);
    }
}

/// A machine whose signature verified, and the key that verified it.
#[derive(Serialize)]
struct SignerFields<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vault: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    key: Hex<[u8; 8]>,
    public_key: Base64<&'a [u8; 32]>,
}

impl<'a> SignerFields<'a> {
    fn of(machine: &'a Machine, key: &'a PublicKey) -> SignerFields<'a> {
        SignerFields {
            id: machine.id.as_str(),
            name: machine.name.as_deref(),
            vault: machine.vault.as_deref(),
            owner: machine.owner.as_deref(),
            key: Hex(key.fingerprint().to_bytes()),
            public_key: Base64(key.as_bytes()),
        }
    }
}

impl Serialize for ResponseRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct ResponseFields<'a> {
            ts: RecordTime,
            request_id: &'a str,
            decision: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<u16>,
            #[serde(skip_serializing_if = "Option::is_none")]
            upstream_ms: Option<u64>,
            bytes: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            login: Option<LoginFacts<'a>>,
            #[serde(skip_serializing_if = "BackendPaths::is_empty")]
            backend_paths: &'a BackendPaths,
        }
        ResponseFields {
            ts: RecordTime::of(self.wall_ms),
            request_id: self.request_id,
            decision: "response",
            status: self.status,
            upstream_ms: self.upstream_ms,
            bytes: self.bytes,
            login: self.login,
            backend_paths: self.backend_paths,
        }
        .serialize(serializer)
    }
}

impl Serialize for RegistryRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct RegistryFields<'a> {
            ts: RecordTime,
            decision: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            of: Option<&'static str>,
            digest: Hex<&'a [u8; 32]>,
            machines: usize,
            added: IdList<'a>,
            removed: IdList<'a>,
            keys_changed: IdList<'a>,
            changed: IdList<'a>,
            keys: Vec<KeyOwner<'a>>,
        }
        RegistryFields {
            ts: RecordTime::of(self.wall_ms),
            decision: "registry",
            of: self.operators.then_some("operators"),
            digest: Hex(self.digest),
            machines: self.machines,
            added: IdList::of(self.added),
            removed: IdList::of(self.removed),
            keys_changed: IdList::of(self.keys_changed),
            changed: IdList::of(self.changed),
            keys: (self.keys.iter().take(LISTED))
                .map(|machine| KeyOwner::of(machine))
                .collect(),
        }
        .serialize(serializer)
    }
}

/// A machine and its keys.
#[derive(Serialize)]
struct KeyOwner<'a> {
    id: &'a str,
    public_keys: Vec<Base64<&'a [u8; 32]>>,
}

impl<'a> KeyOwner<'a> {
    fn of(machine: &'a Machine) -> KeyOwner<'a> {
        let keys = machine.keys.iter();
        KeyOwner {
            id: machine.id.as_str(),
            public_keys: keys.map(|key| Base64(key.public.as_bytes())).collect(),
        }
    }
}

/// A list of machines, cut at [`LISTED`].
#[derive(Serialize)]
pub(super) struct IdList<'a> {
    count: usize,
    ids: Vec<&'a str>,
}

impl<'a> IdList<'a> {
    fn of(ids: &'a [MachineId]) -> IdList<'a> {
        IdList::from_iter(ids.len(), ids)
    }

    /// The list of `count` machines.
    pub(super) fn from_iter(
        count: usize,
        ids: impl IntoIterator<Item = &'a MachineId>,
    ) -> IdList<'a> {
        let ids = ids.into_iter().take(LISTED).map(MachineId::as_str);
        IdList {
            count,
            ids: ids.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
