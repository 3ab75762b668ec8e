//! The authorized request: its decision has been written to the audit log, so it may be forwarded,
//! or manage the registry.

use std::ops::Deref;
use std::sync::Arc;

use pingora::http::RequestHeader;

use crate::audit::Receipt;
use crate::config::Upstream;
use crate::gateway::decide::decided_request::{DecidedRequest, Pass, Provenance};
use crate::gateway::decide::open::OpenRequest;
use crate::gateway::decide::policy::Permitted;
use crate::gateway::decide::rejection::Rejection;
use crate::gateway::decide::unsigned::{PassReason, UnsignedRequest};
use crate::gateway::plan::Plan;
use crate::gateway::receive::body::Body;
use crate::gateway::receive::origin::RequestSource;
use crate::gateway::record::recorder::{Facts, Recorder};
use crate::gateway::upstream::pool::Pool;
use crate::management::call::RegistryCall;
use crate::metrics::EchoCounts;
use countersign_core::message::BodyHash;
use countersign_core::refusal::Refusal;

/// A request on record, by what it is authorized for.
#[derive(Debug)]
pub(crate) enum Authorization {
    /// It may be forwarded.
    Forward(AuthorizedRequest),
    /// It may manage the registry. It has no upstream, so it cannot be forwarded.
    Manage(AuthorizedCall),
}

/// A call to the registry, which its operator, or the machine that it is about, may make.
#[derive(Debug)]
pub(crate) struct AuthorizedCall {
    pub(crate) plan: Arc<Plan>,
    pub(crate) call: RegistryCall,
    /// The signed request.
    pub(crate) signed: Recorded<Permitted>,
    pub(crate) provenance: Provenance,
    /// The index of the route.
    pub(crate) route: usize,
}

/// A request that may be forwarded. The one way to make it writes the record of that very request.
#[derive(Debug)]
pub(crate) struct AuthorizedRequest {
    /// The plan that it was judged by, and is forwarded by.
    pub(crate) plan: Arc<Plan>,
    pub(crate) pass: RecordedPass,
    pub(crate) provenance: Provenance,
    /// The index of the route.
    pub(crate) route: usize,
    /// The index of the route's upstream.
    upstream: usize,
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
    /// Its upstream.
    pub(crate) fn upstream(&self) -> &Upstream {
        self.plan.upstream(self.upstream)
    }

    /// The index of its upstream.
    pub(crate) fn upstream_index(&self) -> usize {
        self.upstream
    }

    /// The servers of its upstream.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        self.plan.pool(self.upstream)
    }

    /// The counters of the echo check of its upstream.
    pub(crate) fn echo_counts(&self) -> &EchoCounts {
        self.plan.echo_counts(self.upstream)
    }
}

impl Authorization {
    /// Writes the record of a decision.
    ///
    /// # Errors
    ///
    /// [`Refusal::AuditUnavailable`] where it was not written in time. The request is then neither
    /// forwarded nor answered.
    pub(crate) async fn record(
        recorder: &Recorder,
        plan: &Arc<Plan>,
        head: &RequestHeader,
        source: RequestSource,
        decision: DecidedRequest,
        body: &Body,
    ) -> Result<Authorization, Rejection> {
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
        let upstream = plan.route(route).upstream();
        let pass = match pass {
            Pass::Managing(request, call) => match recorder.accepted(request.signed(), facts).await
            {
                Ok(_receipt) => {
                    recorder.count_dropped(&dropped, query_stripped);
                    return Ok(Authorization::Manage(AuthorizedCall {
                        plan: Arc::clone(plan),
                        call,
                        signed: Recorded { request, _receipt },
                        provenance,
                        route,
                    }));
                }
                Err(_) => return Err(request.deny(Refusal::AuditUnavailable).into()),
            },
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
        // Only calls come to a route without an upstream.
        let upstream = upstream.ok_or(Refusal::Internal)?;
        Ok(Authorization::Forward(AuthorizedRequest {
            plan: Arc::clone(plan),
            pass,
            provenance,
            route,
            upstream,
        }))
    }
}
