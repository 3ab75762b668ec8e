//! The records, in two shapes: here what is known when, so that no record can claim more than was
//! checked; in `wire` the flat order of fields in the line.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::token_hash::TokenHash;
use super::untrusted::{ClaimedMachine, ClaimedNonce, DroppedHeaders, PathOnly, SentMethod};
use crate::auth::identity::{Machine, MachineId, PublicKey};
use crate::auth::refusal::Code;

/// What is known of any request, whether or not it is believed.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// When it was decided, in Unix milliseconds.
    pub wall_ms: u64,
    /// The gateway's own id for it, also in the response.
    pub request_id: &'a str,
    /// Where it came from, as trusted proxies report it.
    pub client_ip: Option<IpAddr>,
    /// The other end of the connection.
    pub peer_ip: Option<IpAddr>,
    /// The method as sent.
    pub method: SentMethod<'a>,
    /// The path as sent.
    pub path: PathOnly<'a>,
    /// What is done with its query, if it has one.
    pub query: Option<Query>,
    /// The route it matched.
    pub route: Option<&'a str>,
    /// The client's headers that do not cross, or the one that it is refused for.
    pub dropped: DroppedHeaders<'a>,
}

/// What is done with the query of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Query {
    /// It is dropped, and never recorded.
    Stripped,
    /// It is signed and crosses to the backend; `signed_path` shows it.
    Signed,
    /// Nobody signed it, and it crosses as the client sent it. It is never recorded.
    Forwarded,
}

/// What a signature that verified proves.
#[derive(Clone, Copy, Debug)]
pub struct SignatureFacts<'a> {
    /// Who signed.
    pub machine: &'a Machine,
    /// The one of its keys that fits.
    pub key: &'a PublicKey,
    /// The path exactly as signed. What follows a `?` is recorded only on routes that sign the
    /// query.
    pub path: &'a str,
    /// `X-RecordTime`, in Unix seconds.
    pub timestamp: u64,
    /// `X-Nonce`.
    pub nonce: &'a str,
    /// The body.
    pub body: BodyDigest<'a>,
}

/// What a request says of itself and nothing has proved: as much of it as was read before the
/// refusal.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClaimedFacts<'a> {
    /// `X-Machine-Id` as sent.
    pub machine: Option<ClaimedMachine<'a>>,
    /// Whether the registry knows it, where the signature was found wrong.
    pub machine_known: Option<bool>,
    /// `X-RecordTime`, if it keeps its grammar.
    pub timestamp: Option<u64>,
    /// `X-Nonce` as sent.
    pub nonce: Option<ClaimedNonce<'a>>,
    /// The body, if it was read.
    pub body: Option<BodyDigest<'a>>,
}

/// A body, by its digest: no byte of it is recorded.
#[derive(Clone, Copy, Debug)]
pub struct BodyDigest<'a> {
    /// SHA-256 of the body.
    pub sha256: &'a [u8; 32],
    /// Its length in bytes.
    pub bytes: u64,
}

/// A request that will be forwarded once this is written.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedRecord<'a> {
    /// The request.
    pub request: RequestFacts<'a>,
    /// What its signature proves.
    pub signed: SignatureFacts<'a>,
    /// The signature: with the public key and the fields above, anyone can verify the record.
    pub signature: &'a [u8; 64],
}

/// A request on an open route, that will be forwarded once this is written: nobody has proved
/// anything.
#[derive(Clone, Copy, Debug)]
pub struct OpenRecord<'a> {
    /// The request.
    pub request: RequestFacts<'a>,
    /// Its body.
    pub body: BodyDigest<'a>,
}

/// A request that nobody signed, or not well, and that will be forwarded once this is written, as
/// the client sent it: its route still lets such requests pass.
#[derive(Clone, Copy, Debug)]
pub struct UnsignedRecord<'a> {
    /// The request.
    pub request: RequestFacts<'a>,
    /// Its body.
    pub body: BodyDigest<'a>,
    /// The bearer credential that it carries, by its keyed hash.
    pub token: Option<TokenHash>,
    /// Where the route is observed: why enforcing would have refused it, and what it says of itself.
    pub observed: Option<(Code, ClaimedFacts<'a>)>,
}

/// A request that was refused.
#[derive(Clone, Copy, Debug)]
pub struct RefusedRecord<'a> {
    /// The request.
    pub request: RequestFacts<'a>,
    /// Why.
    pub code: Code,
    /// What is known of who asked.
    pub evidence: RefusalEvidence<'a>,
}

/// What is known of who sent a refused request.
#[derive(Clone, Copy, Debug)]
pub enum RefusalEvidence<'a> {
    /// RefusedRecord before a signature verified.
    Claimed(ClaimedFacts<'a>),
    /// RefusedRecord although the signature verified.
    Signed(SignatureFacts<'a>),
}

/// How an accepted request ended.
#[derive(Clone, Copy, Debug)]
pub struct ResponseRecord<'a> {
    /// When, in Unix milliseconds.
    pub wall_ms: u64,
    /// The id in the decision record.
    pub request_id: &'a str,
    /// The status sent to the client; `None` if it was gone before.
    pub status: Option<u16>,
    /// How long the exchange with the backend took, in milliseconds, if there was one.
    pub upstream_ms: Option<u64>,
    /// The bytes of body sent to the client.
    pub bytes: u64,
}

/// A machine registry came into force, at the start or later.
#[derive(Clone, Copy, Debug)]
pub struct RegistryRecord<'a> {
    /// When, in Unix milliseconds.
    pub wall_ms: u64,
    /// SHA-256 of the file.
    pub digest: &'a [u8; 32],
    /// How many machines it names.
    pub machines: usize,
    /// Machines that the one before did not have; at the start, all.
    pub added: &'a [MachineId],
    /// Machines that only the one before had.
    pub removed: &'a [MachineId],
    /// Machines of both whose keys differ.
    pub keys_changed: &'a [MachineId],
    /// Machines of both with the same keys, in which something else differs: switched off or on,
    /// another name or date.
    pub changed: &'a [MachineId],
    /// The added machines and those with other keys, with the keys that are theirs from now on.
    pub keys: &'a [Arc<Machine>],
}
