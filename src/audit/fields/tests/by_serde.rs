//! The same records by way of serde, which knows JSON: whatever a record holds, the line is the same
//! to the byte.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

use super::super::LISTED;
use crate::audit::chain::ChainHead;
use crate::audit::hex::Hex;
use crate::audit::line::{Record, encode};
use crate::audit::record::*;
use crate::audit::record_time::RecordTime;
use crate::audit::testing::{key, machine};
use crate::audit::token_hash::{TokenHash, TokenNames};
use crate::audit::untrusted::{ClaimedMachine, ClaimedNonce, DroppedHeaders, PathOnly, SentMethod};
use crate::auth::identity::{Fingerprint, Machine, MachineId, MachineKey, PublicKey};
use crate::auth::refusal::Code;
use crate::metrics::Auth;

fn by_serde(record: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, Ascii(CompactFormatter));
    record.serialize(&mut serializer).unwrap();
    line.push(b'\n');
    line
}

fn same(record: &(impl Serialize + Record)) -> Result<(), TestCaseError> {
    let (ours, serdes) = (encode(record), by_serde(record));
    let text = |line| String::from_utf8(line).unwrap();
    prop_assert_eq!(text(ours), text(serdes));
    Ok(())
}

/// What a client may send: mostly text, sometimes none.
fn sent() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[!-~]{0,40}".prop_map(String::into_bytes),
        "/[ -~]{0,200}".prop_map(String::into_bytes),
        any::<String>().prop_map(String::into_bytes),
        vec(any::<u8>(), 0..300),
        vec(any::<u8>(), 4090..4200),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[!-~]{0,40}", any::<String>()]
}

/// What requests are made of.
#[derive(Debug)]
struct Parts {
    wall_ms: u64,
    texts: [String; 6],
    sent: [Vec<u8>; 4],
    numbers: [u64; 3],
    ips: [Option<IpAddr>; 2],
    query: Option<Query>,
    route: Option<String>,
    dropped: Vec<HeaderName>,
    bits: [bool; 8],
    sha256: [u8; 32],
    signature: [u8; 64],
    code: Code,
    status: Option<u16>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let number = || (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift);
    let query = prop_oneof![
        Just(Query::Stripped),
        Just(Query::Signed),
        Just(Query::Forwarded)
    ];
    let first = (
        prop_oneof![0..300_000_000_000_000u64, any::<u64>()],
        std::array::from_fn::<_, 6, _>(|_| text()),
        std::array::from_fn::<_, 4, _>(|_| sent()),
        std::array::from_fn::<_, 3, _>(|_| number()),
        any::<[Option<IpAddr>; 2]>(),
        option::of(query),
    );
    let name = "[!#$%&'*+.^_`|~a-z0-9-]{1,80}".prop_map(|name| name.parse().unwrap());
    let second = (
        option::of(text()),
        vec(name, 0..4),
        any::<[bool; 8]>(),
        any::<[u8; 32]>(),
        any::<[u8; 64]>(),
        proptest::sample::select(Code::ALL.to_vec()),
        any::<Option<u16>>(),
    );
    (first, second).prop_map(|(first, second)| {
        let (wall_ms, texts, sent, numbers, ips, query) = first;
        let (route, dropped, bits, sha256, signature, code, status) = second;
        Parts {
            wall_ms,
            texts,
            sent,
            numbers,
            ips,
            query,
            route,
            dropped,
            bits,
            sha256,
            signature,
            code,
            status,
        }
    })
}

impl Parts {
    fn request(&self) -> RequestFacts<'_> {
        RequestFacts {
            wall_ms: self.wall_ms,
            request_id: &self.texts[0],
            client_ip: self.ips[0],
            peer_ip: self.ips[1],
            method: SentMethod::of(&self.sent[0]),
            path: PathOnly::of(&self.sent[1]),
            query: self.query,
            route: self.route.as_deref(),
            dropped: DroppedHeaders {
                names: &self.dropped,
                and_more: self.bits[0],
            },
        }
    }

    fn machine(&self) -> Machine {
        let some = |at: usize| self.bits[at].then(|| Arc::from(&*self.texts[at + 1]));
        Machine {
            name: some(0),
            vault: some(1),
            owner: some(2),
            ..machine()
        }
    }

    fn body(&self) -> BodyDigest<'_> {
        BodyDigest {
            sha256: &self.sha256,
            bytes: self.numbers[0],
        }
    }

    fn signed<'a>(&'a self, machine: &'a Machine) -> SignatureFacts<'a> {
        SignatureFacts {
            machine,
            key: &machine.keys[0].public,
            path: &self.texts[4],
            timestamp: self.numbers[1],
            nonce: &self.texts[5],
            body: self.body(),
        }
    }

    fn claim(&self) -> ClaimedFacts<'_> {
        ClaimedFacts {
            machine: self.bits[3].then(|| ClaimedMachine::of(&self.sent[2])),
            machine_known: self.bits[1].then_some(self.bits[2]),
            timestamp: self.bits[4].then_some(self.numbers[2]),
            nonce: self.bits[5].then(|| ClaimedNonce::of(&self.sent[3])),
            body: self.bits[6].then(|| self.body()),
        }
    }
}

proptest! {
    #[test]
    fn every_kind_of_decision_and_the_response_are_the_same_bytes(parts in parts()) {
        let machine = parts.machine();
        let (request, signed) = (parts.request(), parts.signed(&machine));
        same(&AcceptedRecord { request, signed, signature: &parts.signature })?;
        same(&OpenRecord { request, body: parts.body() })?;
        for observed in [None, Some((parts.code, parts.claim()))] {
            let token = parts.bits[7].then(|| TokenNames::new(None).of(&parts.sent[0]));
            same(&UnsignedRecord { request, body: parts.body(), token, observed })?;
        }
        for evidence in [RefusalEvidence::Claimed(parts.claim()), RefusalEvidence::Signed(signed)] {
            same(&RefusedRecord { request, code: parts.code, evidence })?;
        }
        same(&ResponseRecord {
            wall_ms: parts.wall_ms,
            request_id: &parts.texts[0],
            status: parts.status,
            upstream_ms: parts.bits[0].then_some(parts.numbers[0]),
            bytes: parts.numbers[1],
        })?;
    }

    #[test]
    fn a_registry_is_the_same_bytes(digest: [u8; 32], wall_ms: u64, counts: [u8; 4], keys in 0..5usize) {
        let ids: Vec<_> = (0..1200).map(|n| MachineId::parse(&format!("m.{n}_-")).unwrap()).collect();
        let some = |at: usize| &ids[..usize::from(counts[at]) * 4];
        let owner = Arc::new(Machine { keys: vec![key().into(); keys].into(), ..machine() });
        let owners: Vec<_> = (0..usize::from(counts[3]) * 4).map(|_| Arc::clone(&owner)).collect();
        same(&RegistryRecord {
            wall_ms,
            digest: &digest,
            machines: usize::from(counts[0]),
            added: some(0),
            removed: some(1),
            keys_changed: some(2),
            changed: some(3),
            keys: &owners,
        })?;
    }

    #[test]
    fn the_end_of_a_line_is_the_same_bytes(seq in 0..u64::MAX, hash: [u8; 32]) {
        let mut line = b"{\"a\":1}\n".to_vec();
        let head = ChainHead { seq, hash }.link(&mut line);
        let hash: String = head.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = format!("{{\"a\":1,\"seq\":{},\"hash\":\"{hash}\"}}\n", seq + 1);
        prop_assert_eq!(String::from_utf8(line).unwrap(), expected);
    }
}

impl Serialize for AcceptedRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = Decision::of("accepted", &self.request);
        decision.prove(&self.signed);
        decision.signature = Some(Shown(Base64(self.signature)));
        decision.serialize(serializer)
    }
}

impl Serialize for OpenRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = Decision::of("accepted", &self.request);
        decision.body(&self.body);
        decision.serialize(serializer)
    }
}

impl Serialize for UnsignedRecord<'_> {
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

impl Serialize for RefusedRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut decision = Decision::of("refused", &self.request);
        decision.code = Some(self.code.as_str());
        match &self.evidence {
            RefusalEvidence::Claimed(claim) => decision.claim(claim),
            RefusalEvidence::Signed(signed) => decision.prove(signed),
        }
        decision.serialize(serializer)
    }
}

impl Serialize for ResponseRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            ts: Shown<RecordTime>,
            request_id: &'a str,
            decision: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<u16>,
            #[serde(skip_serializing_if = "Option::is_none")]
            upstream_ms: Option<u64>,
            bytes: u64,
        }
        Line {
            ts: Shown(RecordTime::of(self.wall_ms)),
            request_id: self.request_id,
            decision: "response",
            status: self.status,
            upstream_ms: self.upstream_ms,
            bytes: self.bytes,
        }
        .serialize(serializer)
    }
}

impl Serialize for RegistryRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            ts: Shown<RecordTime>,
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
            ts: Shown(RecordTime::of(self.wall_ms)),
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
    ts: Shown<RecordTime>,
    request_id: &'a str,
    decision: &'static str,
    auth: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<KnownMachine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_machine: Option<Shown<ClaimedMachine<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_known: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_hash: Option<Shown<TokenHash>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_ip: Option<IpAddr>,
    method: Shown<SentMethod<'a>>,
    path: Shown<PathOnly<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dropped_headers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<Shown<ClaimedNonce<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_sha256: Option<Shown<Hex<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Shown<Base64<'a>>>,
}

impl<'a> Decision<'a> {
    fn of(decision: &'static str, request: &RequestFacts<'a>) -> Decision<'a> {
        Decision {
            ts: Shown(RecordTime::of(request.wall_ms)),
            request_id: request.request_id,
            decision,
            auth: Auth::None.as_str(),
            code: None,
            machine: None,
            claimed_machine: None,
            machine_known: None,
            token_hash: None,
            client_ip: request.client_ip,
            peer_ip: request.peer_ip,
            method: Shown(request.method),
            path: Shown(request.path),
            signed_path: None,
            query: request.query.map(|query| match query {
                Query::Stripped => "stripped",
                Query::Signed => "signed",
                Query::Forwarded => "forwarded",
            }),
            route: request.route,
            dropped_headers: dropped(&request.dropped),
            timestamp: None,
            nonce: None,
            body_sha256: None,
            body_bytes: None,
            signature: None,
        }
    }

    fn prove(&mut self, signed: &SignatureFacts<'a>) {
        self.auth = Auth::Signature.as_str();
        self.machine = Some(KnownMachine::of(signed.machine, signed.key));
        // On other routes no '?' can have been signed; were one here, it would not be written.
        self.signed_path = match self.query {
            Some("signed") => Some(signed.path),
            _ => signed.path.split('?').next(),
        };
        self.timestamp = Some(signed.timestamp);
        self.nonce = Some(Shown(ClaimedNonce::of(signed.nonce.as_bytes())));
        self.body(&signed.body);
    }

    fn claim(&mut self, claim: &ClaimedFacts<'a>) {
        self.claimed_machine = claim.machine.map(Shown);
        self.machine_known = claim.machine_known;
        self.timestamp = claim.timestamp;
        self.nonce = claim.nonce.map(Shown);
        if let Some(body) = &claim.body {
            self.body(body);
        }
    }

    fn body(&mut self, body: &BodyDigest<'a>) {
        self.body_sha256 = Some(Shown(Hex(body.sha256)));
        self.body_bytes = Some(body.bytes);
    }
}

/// Names, cut at 64 bytes.
fn dropped(headers: &DroppedHeaders<'_>) -> Vec<String> {
    let cut = |name: &HeaderName| match name.as_str() {
        name if name.len() > 64 => format!("{}\u{2026}", &name[..64]),
        name => name.to_owned(),
    };
    let names = headers.names.iter().map(cut);
    let more = headers.and_more && !headers.names.is_empty();
    names.chain(more.then(|| "\u{2026}".to_owned())).collect()
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
            public_key: Shown(Base64(key.as_bytes())),
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
        let base64 = |key: &'a MachineKey| Shown(Base64(key.public.as_bytes()));
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

/// A key or a signature in standard base64. In one piece: formatted bit by bit it would cost more than
/// all of its line.
struct Base64<'a>(&'a [u8]);

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 88]; // of 64 bytes
        let len = STANDARD
            .encode_slice(self.0, &mut text)
            .map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text[..len]).map_err(|_| fmt::Error)?)
    }
}

/// Compact JSON that escapes everything but printable ASCII, which serde_json by itself does not.
struct Ascii(CompactFormatter);

impl Formatter for Ascii {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_string_fragment(writer, fragment);
        }
        let printable = |c: char| matches!(c, ' '..='~');
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| !printable(c)) {
            self.0.write_string_fragment(writer, &rest[..at])?;
            let end = rest[at..].find(printable).map_or(rest.len(), |n| at + n);
            for unit in rest[at..end].encode_utf16() {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[end..];
        }
        self.0.write_string_fragment(writer, rest)
    }
}
