//! The fields of a line and their order, which those who read the log depend on.

use std::sync::Arc;

use super::hex::Hex;
use super::line::{Base64, List, Object, Record, Value, object};
use super::record::{
    AcceptedRecord, BodyDigest, ClaimedFacts, OpenRecord, Query, RefusalEvidence, RefusedRecord,
    RegistryRecord, RequestFacts, ResponseRecord, SignatureFacts, UnsignedRecord,
};
use super::record_time::RecordTime;
use super::token_hash::TokenHash;
use super::untrusted::{ClaimedMachine, ClaimedNonce};
use crate::auth::identity::{Machine, MachineId, PublicKey};
use crate::metrics::Auth;

/// Most ids, or owners of keys, that one list of a registry record names: more than an edit by hand
/// touches, and some 200 KB at the longest ids. Beyond it only the count tells.
const LISTED: usize = 1000;

/// Room for a usual decision record.
const DECISION: usize = 1280;

impl Record for AcceptedRecord<'_> {
    const USUAL: usize = DECISION;

    fn write(&self, line: &mut Object<'_>) {
        let mut decision = DecisionFields::of("accepted", &self.request);
        decision.prove(&self.signed);
        decision.signature = Some(Base64(self.signature));
        decision.write(line);
    }
}

impl Record for OpenRecord<'_> {
    const USUAL: usize = DECISION;

    fn write(&self, line: &mut Object<'_>) {
        let mut decision = DecisionFields::of("accepted", &self.request);
        decision.body = Some(self.body);
        decision.write(line);
    }
}

impl Record for UnsignedRecord<'_> {
    const USUAL: usize = DECISION;

    fn write(&self, line: &mut Object<'_>) {
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
        decision.body = Some(self.body);
        decision.write(line);
    }
}

impl Record for RefusedRecord<'_> {
    const USUAL: usize = DECISION;

    fn write(&self, line: &mut Object<'_>) {
        let mut decision = DecisionFields::of("refused", &self.request);
        decision.code = Some(self.code.as_str());
        match &self.evidence {
            RefusalEvidence::Claimed(claim) => decision.claim(claim),
            RefusalEvidence::Signed(signed) => decision.prove(signed),
        }
        decision.write(line);
    }
}

impl Record for ResponseRecord<'_> {
    const USUAL: usize = 320;

    fn write(&self, line: &mut Object<'_>) {
        line.field("ts", RecordTime::of(self.wall_ms));
        line.field("request_id", self.request_id);
        line.field("decision", "response");
        line.optional("status", self.status);
        line.optional("upstream_ms", self.upstream_ms);
        line.field("bytes", self.bytes);
    }
}

impl Record for RegistryRecord<'_> {
    const USUAL: usize = 1024;

    fn write(&self, line: &mut Object<'_>) {
        line.field("ts", RecordTime::of(self.wall_ms));
        line.field("decision", "registry");
        line.field("digest", Hex(self.digest));
        line.field("machines", self.machines);
        line.field("added", IdList(self.added));
        line.field("removed", IdList(self.removed));
        line.field("keys_changed", IdList(self.keys_changed));
        line.field("changed", IdList(self.changed));
        line.field("keys", List(self.keys.iter().take(LISTED).map(KeyOwner)));
    }
}

/// A decision record.
struct DecisionFields<'a> {
    request: &'a RequestFacts<'a>,
    decision: &'static str,
    auth: &'static str,
    code: Option<&'static str>,
    machine: Option<SignerFields<'a>>,
    claimed_machine: Option<ClaimedMachine<'a>>,
    machine_known: Option<bool>,
    token_hash: Option<TokenHash>,
    signed_path: Option<&'a str>,
    timestamp: Option<u64>,
    nonce: Option<ClaimedNonce<'a>>,
    body: Option<BodyDigest<'a>>,
    signature: Option<Base64<'a>>,
}

impl<'a> DecisionFields<'a> {
    fn of(decision: &'static str, request: &'a RequestFacts<'a>) -> DecisionFields<'a> {
        DecisionFields {
            request,
            decision,
            auth: Auth::None.as_str(),
            code: None,
            machine: None,
            claimed_machine: None,
            machine_known: None,
            token_hash: None,
            signed_path: None,
            timestamp: None,
            nonce: None,
            body: None,
            signature: None,
        }
    }

    fn prove(&mut self, signed: &SignatureFacts<'a>) {
        self.auth = Auth::Signature.as_str();
        self.machine = Some(SignerFields {
            machine: signed.machine,
            key: signed.key,
        });
        // On other routes no '?' can have been signed; were one here, it would not be written.
        self.signed_path = match self.request.query {
            Some(Query::Signed) => Some(signed.path),
            _ => signed.path.split('?').next(),
        };
        self.timestamp = Some(signed.timestamp);
        self.nonce = Some(ClaimedNonce::of(signed.nonce.as_bytes()));
        self.body = Some(signed.body);
    }

    fn claim(&mut self, claim: &ClaimedFacts<'a>) {
        self.claimed_machine = claim.machine;
        self.machine_known = claim.machine_known;
        self.timestamp = claim.timestamp;
        self.nonce = claim.nonce;
        self.body = claim.body;
    }

    fn write(&self, line: &mut Object<'_>) {
        let request = self.request;
        line.field("ts", RecordTime::of(request.wall_ms));
        line.field("request_id", request.request_id);
        line.field("decision", self.decision);
        line.field("auth", self.auth);
        line.optional("code", self.code);
        line.optional("machine", self.machine.as_ref());
        line.optional("claimed_machine", self.claimed_machine);
        line.optional("machine_known", self.machine_known);
        line.optional("token_hash", self.token_hash);
        line.optional("client_ip", request.client_ip);
        line.optional("peer_ip", request.peer_ip);
        line.field("method", request.method);
        line.field("path", request.path);
        line.optional("signed_path", self.signed_path);
        line.optional("query", request.query.map(Query::as_str));
        line.optional("route", request.route);
        line.optional("dropped_headers", request.dropped.if_any());
        line.optional("timestamp", self.timestamp);
        line.optional("nonce", self.nonce);
        line.optional("body_sha256", self.body.map(|body| Hex(body.sha256)));
        line.optional("body_bytes", self.body.map(|body| body.bytes));
        line.optional("signature", self.signature);
    }
}

impl Query {
    const fn as_str(self) -> &'static str {
        match self {
            Query::Stripped => "stripped",
            Query::Signed => "signed",
            Query::Forwarded => "forwarded",
        }
    }
}

/// A machine whose signature verified, and the key that it fits.
struct SignerFields<'a> {
    machine: &'a Machine,
    key: &'a PublicKey,
}

impl Value for SignerFields<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |fields| {
            fields.field("id", self.machine.id.as_str());
            fields.optional("name", self.machine.name.as_deref());
            fields.optional("vault", self.machine.vault.as_deref());
            fields.optional("owner", self.machine.owner.as_deref());
            fields.field("key", Hex(&self.key.fingerprint().to_bytes()));
            fields.field("public_key", Base64(self.key.as_bytes()));
        });
    }
}

/// A machine and the keys that are its own.
struct KeyOwner<'a>(&'a Arc<Machine>);

impl Value for KeyOwner<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let keys = self.0.keys.iter();
        object(out, |fields| {
            fields.field("id", self.0.id.as_str());
            fields.field(
                "public_keys",
                List(keys.map(|key| Base64(key.public.as_bytes()))),
            );
        });
    }
}

/// A list of machines, cut at [`LISTED`].
struct IdList<'a>(&'a [MachineId]);

impl Value for IdList<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let ids = self.0.iter().take(LISTED);
        object(out, |fields| {
            fields.field("count", self.0.len());
            fields.field("ids", List(ids.map(MachineId::as_str)));
        });
    }
}

#[cfg(test)]
mod tests;
