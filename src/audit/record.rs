//! The records as the gateway makes them: typed by what has been checked, so that no record can
//! claim more. `fields` puts them into the flat order of a line.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::backend_paths::BackendPaths;
use super::token_hash::TokenHash;
use super::untrusted::{ClaimedMachine, ClaimedNonce, DroppedHeaders, PathOnly, SentMethod};
use countersign_core::identity::{Machine, MachineId, PublicKey};
use countersign_core::refusal::Code;

/// The facts of any request, authenticated or not.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// When it was decided, in Unix milliseconds.
    pub wall_ms: u64,
    /// The gateway's own id for it, also in the response.
    pub request_id: &'a str,
    /// The address of the client, as trusted proxies report it.
    pub client_ip: Option<IpAddr>,
    /// The other end of the connection.
    pub peer_ip: Option<IpAddr>,
    /// The method as sent.
    pub method: SentMethod<'a>,
    /// The path as sent.
    pub path: PathOnly<'a>,
    /// The handling of its query, if it has one.
    pub query: Option<Query>,
    /// The route it matched.
    pub route: Option<&'a str>,
    /// The client's headers that are not forwarded, or the one that it is refused for.
    pub dropped: DroppedHeaders<'a>,
}

/// The handling of the query of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Query {
    /// It is dropped, and never recorded.
    Stripped,
    /// It is signed and forwarded; `signed_path` shows it.
    Signed,
    /// It is forwarded unsigned, as the client sent it, and never recorded.
    Forwarded,
}

/// The facts that a verified signature proves.
#[derive(Clone, Copy, Debug)]
pub struct SignatureFacts<'a> {
    /// The machine that signed.
    pub machine: &'a Machine,
    /// The key that verified the signature.
    pub key: &'a PublicKey,
    /// The path exactly as signed. Its query is recorded only on routes that sign the query.
    pub path: &'a str,
    /// `X-Timestamp`, in Unix seconds.
    pub timestamp: u64,
    /// `X-Nonce`.
    pub nonce: &'a str,
    /// The body.
    pub body: BodyDigest<'a>,
}

/// The unproved claims of a request, as far as they were read before the refusal.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClaimedFacts<'a> {
    /// `X-Machine-Id` as sent.
    pub machine: Option<ClaimedMachine<'a>>,
    /// Whether the registry has this machine, where the signature did not verify.
    pub machine_known: Option<bool>,
    /// `X-Timestamp`, if it keeps its grammar.
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
    /// The facts that its signature proves.
    pub signed: SignatureFacts<'a>,
    /// The signature. With the public key and the fields above, anyone can verify the record.
    pub signature: &'a [u8; 64],
}

/// An unauthenticated request on an open route, which will be forwarded once this is written.
#[derive(Clone, Copy, Debug)]
pub struct OpenRecord<'a> {
    /// The request.
    pub request: RequestFacts<'a>,
    /// Its body.
    pub body: BodyDigest<'a>,
}

/// A request without a valid signature on a migration route, which will be forwarded as the client
/// sent it once this is written.
#[derive(Clone, Copy, Debug)]
pub struct UnsignedRecord<'a> {
    /// The request.
    pub request: RequestFacts<'a>,
    /// Its body.
    pub body: BodyDigest<'a>,
    /// The bearer credential that it carries, by its keyed hash.
    pub token: Option<TokenHash>,
    /// On an observed route: the code that `enforce` would have refused it with, and its claims.
    pub observed: Option<(Code, ClaimedFacts<'a>)>,
}

/// A request that was refused.
#[derive(Clone, Copy, Debug)]
pub struct RefusedRecord<'a> {
    /// The request.
    pub request: RequestFacts<'a>,
    /// The reason.
    pub code: Code,
    /// The identity of the client, as far as it is known.
    pub evidence: RefusalEvidence<'a>,
}

/// The identity of the client of a refused request, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub enum RefusalEvidence<'a> {
    /// Refused before a signature verified.
    Claimed(ClaimedFacts<'a>),
    /// Refused although the signature verified.
    Signed(SignatureFacts<'a>),
    /// Not enrolled. The cause is for the operator: the client is not told.
    Enrolment {
        /// The word of the cause, if the secret was judged.
        cause: Option<&'static str>,
    },
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
    /// The login whose token the request carried, if it carried one.
    pub login: Option<LoginFacts<'a>>,
    /// The paths that an adapter asked the backend for, in place of the signed one.
    pub backend_paths: &'a BackendPaths,
}

/// The login of a machine at a backend.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LoginFacts<'a> {
    /// The path of the auth method.
    pub mount: &'a str,
    /// The role.
    pub role: &'a str,
    /// The name of the token in the backend's audit log. Batch tokens have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accessor: Option<&'a str>,
}

/// A call that will change the registry once this is written.
#[derive(Clone, Copy, Debug)]
pub struct RegistryCallRecord<'a> {
    /// When, in Unix milliseconds.
    pub wall_ms: u64,
    /// The id in the decision record.
    pub request_id: &'a str,
    /// The operator's id; for a machine's own call, the machine's.
    pub by: &'a str,
    /// The change.
    pub change: CalledChange<'a>,
}

/// A change of the registry that a call asks for.
#[derive(Clone, Copy, Debug)]
pub enum CalledChange<'a> {
    /// Machines to add, with their keys.
    AddMachines(&'a [(&'a MachineId, &'a [[u8; 32]])]),
    /// Fields of a machine to change or remove. With other keys: all its keys then.
    ChangeMachine {
        /// The machine.
        machine: &'a MachineId,
        /// The names of the fields.
        fields: &'a [&'a str],
        /// All its keys, if they are among the fields.
        keys: Option<&'a [[u8; 32]]>,
    },
    /// A machine to remove.
    RemoveMachine(&'a MachineId),
    /// A key to add to a machine.
    AddKey(&'a MachineId, &'a [u8; 32]),
    /// An enrolment token to create. The token itself is in no record.
    CreateToken {
        /// Its id.
        id: &'a str,
        /// How many machines it may enrol.
        max_uses: u32,
        /// First Unix second after its validity.
        expires: u64,
    },
    /// An enrolment token to revoke, by its id.
    RevokeToken(&'a str),
}

/// A machine registry was loaded, at the start or later.
#[derive(Clone, Copy, Debug)]
pub struct RegistryRecord<'a> {
    /// When, in Unix milliseconds.
    pub wall_ms: u64,
    /// SHA-256 of the file.
    pub digest: &'a [u8; 32],
    /// How many machines it names.
    pub machines: usize,
    /// Machines that the registry before did not have. At the start: all.
    pub added: &'a [MachineId],
    /// Machines that only the registry before had.
    pub removed: &'a [MachineId],
    /// Machines of both registries whose keys differ.
    pub keys_changed: &'a [MachineId],
    /// Machines of both registries with the same keys and another difference: disabled or enabled,
    /// another name or date.
    pub changed: &'a [MachineId],
    /// The added machines and those with other keys, with their keys from now on.
    pub keys: &'a [Arc<Machine>],
    /// Whether these are the operators, and not the machines.
    pub operators: bool,
}
