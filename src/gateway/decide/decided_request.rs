//! The decision: a request that every check let through, before its record is written.

use std::net::IpAddr;

use http::HeaderValue;

use crate::gateway::decide::forwarded_headers::Dropped;
use crate::gateway::decide::open::OpenRequest;
use crate::gateway::decide::policy::Permitted;
use crate::gateway::decide::unsigned::{PassReason, UnsignedRequest};
use crate::gateway::receive::request_id::RequestId;
use crate::management::call::RegistryCall;

/// A request that may pass. It is not forwarded before its record is written: only that makes it an
/// [`AuthorizedRequest`](crate::gateway::record::authorized::AuthorizedRequest).
#[derive(Debug)]
pub(crate) struct DecidedRequest {
    pub(crate) pass: Pass,
    /// The index of the route.
    pub(crate) route: usize,
    pub(crate) provenance: Provenance,
    /// The headers that are not forwarded, unless the request passes as the client sent it.
    pub(crate) dropped: Dropped,
    /// The query is not forwarded.
    pub(crate) query_stripped: bool,
}

/// How the request passes. Only `Signed` can carry an identity or a credential of the gateway: `Open`
/// and `Unsigned` hold no machine, and `Managing` is never forwarded.
#[derive(Debug)]
pub(crate) enum Pass {
    /// A machine signed it, and may make it.
    Signed(Permitted),
    /// An operator signed this call to the registry, or a machine its own call, and may make it.
    Managing(Permitted, RegistryCall),
    /// The route is open.
    Open(OpenRequest),
    /// The route still lets requests without a valid signature pass.
    Unsigned(UnsignedRequest, PassReason),
}

/// The facts about a request that the gateway itself vouches for.
#[derive(Debug)]
pub(crate) struct Provenance {
    pub(crate) id: RequestId,
    pub(crate) client_ip: Option<IpAddr>,
    /// `http` or `https`, as the client spoke it.
    pub(crate) scheme: &'static str,
    /// The host that the client asked for.
    pub(crate) host: HeaderValue,
}
