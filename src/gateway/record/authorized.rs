//! The authorized request: its decision has been written to the audit log, so it may be forwarded.

use std::ops::Deref;
use std::sync::Arc;

use pingora::http::RequestHeader;

use crate::audit::Receipt;
use crate::gateway::decide::decided_request::{DecidedRequest, Pass, Provenance};
use crate::gateway::decide::open::OpenRequest;
use crate::gateway::decide::policy::Permitted;
use crate::gateway::decide::rejection::Rejection;
use crate::gateway::decide::unsigned::{PassReason, UnsignedRequest};
use crate::gateway::plan::Plan;
use crate::gateway::receive::body::Body;
use crate::gateway::receive::origin::RequestSource;
use crate::gateway::record::recorder::{Facts, Recorder};
use countersign_core::message::BodyHash;
use countersign_core::refusal::Refusal;

/// A request that may be forwarded. The one way to make it writes the record of that very request.
#[derive(Debug)]
pub(crate) struct AuthorizedRequest {
    /// The plan that it was judged by, and is forwarded by.
    pub(crate) plan: Arc<Plan>,
    pub(crate) pass: RecordedPass,
    pub(crate) provenance: Provenance,
    /// The index of the route.
    pub(crate) route: usize,
}

/// How the request passes, now that this is on record.
#[derive(Debug)]
pub(crate) enum RecordedPass {
    /// By a machine's signature. Only this variant yields an upstream request with an identity, or
    /// with a credential of the gateway.
    Signed(Recorded<Permitted>),
    /// On an open route.
    Open(Recorded<OpenRequest>),
    /// On a migration route, without a valid signature.
    Unsigned(Recorded<UnsignedRequest>, PassReason),
}

/// A request whose record has been written. The receipt is the proof: only the audit log makes one,
/// and only this file pairs it with the request.
#[derive(Debug)]
pub(crate) struct Recorded<T> {
    request: T,
    _receipt: Receipt,
}

impl<T> Deref for Recorded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.request
    }
}

impl AuthorizedRequest {
    /// Writes the record of a decision.
    ///
    /// # Errors
    ///
    /// [`Refusal::AuditUnavailable`] where it was not written in time. The request is then not
    /// forwarded.
    pub(crate) async fn record(
        recorder: &Recorder,
        plan: &Arc<Plan>,
        head: &RequestHeader,
        source: RequestSource,
        decision: DecidedRequest,
        body: &Body,
    ) -> Result<AuthorizedRequest, Rejection> {
        let DecidedRequest {
            pass,
            route,
            provenance,
            dropped,
            query_stripped,
        } = decision;
        let facts = Facts {
            plan,
            head,
            route: Some(route),
            dropped: dropped.names(),
            source,
            id: provenance.id,
        };
        let hash = || BodyHash::of(body.bytes());
        let pass = match pass {
            Pass::Signed(request) => match recorder.accepted(request.signed(), facts).await {
                Ok(_receipt) => RecordedPass::Signed(Recorded { request, _receipt }),
                Err(_) => return Err(request.deny(Refusal::AuditUnavailable).into()),
            },
            Pass::Open(request) => {
                let recording = recorder.open(facts, &hash()).await;
                let _receipt = recording.map_err(|_| Refusal::AuditUnavailable)?;
                RecordedPass::Open(Recorded { request, _receipt })
            }
            Pass::Unsigned(request, reason) => {
                let recording = recorder
                    .unsigned(facts, &hash(), request.token(), reason)
                    .await;
                let _receipt = recording.map_err(|_| Refusal::AuditUnavailable)?;
                RecordedPass::Unsigned(Recorded { request, _receipt }, reason)
            }
        };
        // `dropped` and `query_stripped` follow the route. An unsigned request keeps its query and
        // its headers, except those that only the gateway sets and aliases of credential headers.
        if !matches!(pass, RecordedPass::Unsigned(..)) {
            recorder.count_dropped(&dropped, query_stripped);
        }
        Ok(AuthorizedRequest {
            plan: Arc::clone(plan),
            pass,
            provenance,
            route,
        })
    }
}
