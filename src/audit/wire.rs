//! The fields of a line and their order, which those who read the log depend on.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use super::record::{
    Accepted, Body, Claim, Evidence, Open, Query, Refused, RegistryLoaded, Request, Response,
    Signed, Unsigned,
};
use super::timestamp::Timestamp;
use super::token_hash::TokenHash;
use super::untrusted::{ClaimedMachine, ClaimedNonce, Method, PathOnly};
use crate::auth::identity::{Fingerprint, Machine, MachineId, MachineKey, PublicKey};
use crate::metrics::Auth;

/// Most ids, or owners of keys, that one list of a registry record names: more than an edit by hand
/// touches, and some 200 KB at the longest ids. Beyond it only the count tells.
const LISTED: usize = 1000;

impl Serialize for Accepted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = Decision::of("accepted", &self.request);
        decision.prove(&self.signed);
        decision.signature = Some(Shown(Base64Display::new(self.signature, &STANDARD)));
        decision.serialize(serializer)
    }
}

impl Serialize for Open<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = Decision::of("accepted", &self.request);
        decision.body(&self.body);
        decision.serialize(serializer)
    }
}

impl Serialize for Unsigned<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = match &self.observed {
            None => Decision::of("accepted", &self.request),
            Some((code, claim)) => {
                let mut decision = Decision::of("observed", &self.request);
                decision.code = Some(code.as_str());
                decision.claim(claim);
                decision
            }
        };
        if self.token.is_some() {
            decision.auth = Auth::Bearer.as_str();
        }
        decision.token_hash = self.token.map(Shown);
        decision.body(&self.body);
        decision.serialize(serializer)
    }
}

impl Serialize for Refused<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = Decision::of("refused", &self.request);
        decision.code = Some(self.code.as_str());
        match &self.evidence {
            Evidence::Claimed(claim) => decision.claim(claim),
            Evidence::Signed(signed) => decision.prove(signed),
        }
        decision.serialize(serializer)
    }
}

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            ts: Timestamp,
            request_id: &'a str,
            decision: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<u16>,
            #[serde(skip_serializing_if = "Option::is_none")]
            upstream_ms: Option<u64>,
            bytes: u64,
        }
        Line {
            ts: Timestamp {
                unix_ms: self.wall_ms,
            },
            request_id: self.request_id,
            decision: "response",
            status: self.status,
            upstream_ms: self.upstream_ms,
            bytes: self.bytes,
        }
        .serialize(serializer)
    }
}

impl Serialize for RegistryLoaded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            ts: Timestamp,
            decision: &'static str,
            digest: Shown<Hex<'a>>,
            machines: usize,
            added: Ids<'a>,
            removed: Ids<'a>,
            keys_changed: Ids<'a>,
            changed: Ids<'a>,
            keys: Vec<Owner<'a>>,
        }
        Line {
            ts: Timestamp {
                unix_ms: self.wall_ms,
            },
            decision: "registry",
            digest: Shown(Hex(self.digest)),
            machines: self.machines,
            added: Ids::of(self.added),
            removed: Ids::of(self.removed),
            keys_changed: Ids::of(self.keys_changed),
            changed: Ids::of(self.changed),
            keys: self.keys.iter().take(LISTED).map(Owner::of).collect(),
        }
        .serialize(serializer)
    }
}

/// A decision record.
#[derive(Serialize)]
struct Decision<'a> {
    ts: Timestamp,
    request_id: &'a str,
    decision: &'static str,
    auth: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<KnownMachine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_machine: Option<ClaimedMachine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_hash: Option<Shown<TokenHash>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_ip: Option<IpAddr>,
    method: Method<'a>,
    path: PathOnly<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<ClaimedNonce<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_sha256: Option<Shown<Hex<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Shown<Base64<'a>>>,
}

impl<'a> Decision<'a> {
    fn of(decision: &'static str, request: &Request<'a>) -> Decision<'a> {
        Decision {
            ts: Timestamp {
                unix_ms: request.wall_ms,
            },
            request_id: request.request_id,
            decision,
            auth: Auth::None.as_str(),
            code: None,
            machine: None,
            claimed_machine: None,
            token_hash: None,
            client_ip: request.client_ip,
            peer_ip: request.peer_ip,
            method: request.method,
            path: request.path,
            signed_path: None,
            query: request.query.map(|query| match query {
                Query::Stripped => "stripped",
                Query::Signed => "signed",
                Query::Forwarded => "forwarded",
            }),
            route: request.route,
            timestamp: None,
            nonce: None,
            body_sha256: None,
            body_bytes: None,
            signature: None,
        }
    }

    fn prove(&mut self, signed: &Signed<'a>) {
        self.auth = Auth::Signature.as_str();
        self.machine = Some(KnownMachine::of(signed.machine, signed.key));
        // On other routes no '?' can have been signed; were one here, it would not be written.
        self.signed_path = match self.query {
            Some("signed") => Some(signed.path),
            _ => signed.path.split('?').next(),
        };
        self.timestamp = Some(signed.timestamp);
        self.nonce = Some(ClaimedNonce::of(signed.nonce.as_bytes()));
        self.body(&signed.body);
    }

    fn claim(&mut self, claim: &Claim<'a>) {
        self.claimed_machine = claim.machine;
        self.timestamp = claim.timestamp;
        self.nonce = claim.nonce;
        if let Some(body) = &claim.body {
            self.body(body);
        }
    }

    fn body(&mut self, body: &Body<'a>) {
        self.body_sha256 = Some(Shown(Hex(body.sha256)));
        self.body_bytes = Some(body.bytes);
    }
}

/// A machine whose signature verified.
#[derive(Serialize)]
struct KnownMachine<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vault: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    key: Shown<Fingerprint>,
    public_key: Shown<Base64<'a>>,
}

impl<'a> KnownMachine<'a> {
    fn of(machine: &'a Machine, key: &'a PublicKey) -> KnownMachine<'a> {
        KnownMachine {
            id: machine.id.as_str(),
            name: machine.name.as_deref(),
            vault: machine.vault.as_deref(),
            owner: machine.owner.as_deref(),
            key: Shown(key.fingerprint()),
            public_key: Shown(Base64Display::new(key.as_bytes(), &STANDARD)),
        }
    }
}

/// A machine and the keys that are its own.
#[derive(Serialize)]
struct Owner<'a> {
    id: &'a str,
    public_keys: Vec<Shown<Base64<'a>>>,
}

impl<'a> Owner<'a> {
    fn of(machine: &'a Arc<Machine>) -> Owner<'a> {
        let base64 =
            |key: &'a MachineKey| Shown(Base64Display::new(key.public.as_bytes(), &STANDARD));
        Owner {
            id: machine.id.as_str(),
            public_keys: machine.keys.iter().map(base64).collect(),
        }
    }
}

/// A list of machines, cut at [`LISTED`].
#[derive(Serialize)]
struct Ids<'a> {
    count: usize,
    ids: Vec<&'a str>,
}

impl<'a> Ids<'a> {
    fn of(ids: &'a [MachineId]) -> Ids<'a> {
        Ids {
            count: ids.len(),
            ids: ids.iter().take(LISTED).map(MachineId::as_str).collect(),
        }
    }
}

/// Serialises a value as the text it displays.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

type Base64<'a> = Base64Display<'a, 'static, base64::engine::GeneralPurpose>;

/// Bytes in lower-case hexadecimal.
struct Hex<'a>(&'a [u8; 32]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
