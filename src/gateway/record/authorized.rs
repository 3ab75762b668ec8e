//! The authorized request: its decision has been written to the audit log, so it may be forwarded.

use std::sync::Arc;

use pingora::http::RequestHeader;

use crate::audit::TokenHash;
use crate::gateway::decide::decided_request::{DecidedRequest, Pass, Provenance};
use crate::gateway::decide::open::OpenRequest;
use crate::gateway::plan::Plan;
use crate::gateway::decide::policy::Permitted;
use crate::gateway::decide::rejection::Rejection;
use crate::gateway::decide::unsigned::{PassReason, UnsignedRequest};
use crate::gateway::receive::body::Body;
use crate::gateway::receive::origin::RequestSource;
use crate::gateway::record::recorder::{Facts, Recorder};
use crate::gateway::upstream::credentials::state::Injection;
use crate::metrics::Auth;
use countersign_core::decision::{Denied, Signed};
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
    /// By a machine's signature.
    Signed(RecordedSigned),
    /// On an open route.
    Open(RecordedOpen),
    /// On a migration route, without a valid signature.
    Unsigned(RecordedUnsigned),
}

/// A permitted request of a machine whose record has been written. Only this value yields an
/// upstream request with an identity, or with a credential of the gateway.
#[derive(Debug)]
pub(crate) struct RecordedSigned(Permitted);

/// A request on an open route whose record has been written.
#[derive(Debug)]
pub(crate) struct RecordedOpen(OpenRequest);

/// A request without a valid signature whose record has been written.
#[derive(Debug)]
pub(crate) struct RecordedUnsigned {
    request: UnsignedRequest,
    reason: PassReason,
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
            Pass::Signed(permitted) => {
                RecordedPass::Signed(RecordedSigned::record(permitted, recorder, facts).await?)
            }
            Pass::Open(open) => {
                RecordedPass::Open(RecordedOpen::record(open, recorder, facts, &hash()).await?)
            }
            Pass::Unsigned(request, reason) => {
                let hash = hash();
                let recording = RecordedUnsigned::record(request, reason, recorder, facts, &hash);
                RecordedPass::Unsigned(recording.await?)
            }
        };
        // An unsigned request is forwarded as it was sent, so nothing of it is dropped.
        if !matches!(pass, RecordedPass::Unsigned(_)) {
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

impl RecordedSigned {
    async fn record(
        permitted: Permitted,
        recorder: &Recorder,
        facts: Facts<'_>,
    ) -> Result<RecordedSigned, Box<Denied>> {
        match recorder.accepted(permitted.signed(), facts).await {
            Ok(_receipt) => Ok(RecordedSigned(permitted)),
            Err(_) => Err(permitted.deny(Refusal::AuditUnavailable)),
        }
    }

    /// The credential that it carries.
    pub(crate) fn injection(&self) -> Option<&Injection> {
        self.0.injection()
    }

    /// The signed message and its machine.
    pub(crate) fn signed(&self) -> &Signed {
        self.0.signed()
    }
}

impl RecordedOpen {
    async fn record(
        request: OpenRequest,
        recorder: &Recorder,
        facts: Facts<'_>,
        body: &BodyHash,
    ) -> Result<RecordedOpen, Refusal> {
        match recorder.open(facts, body).await {
            Ok(_receipt) => Ok(RecordedOpen(request)),
            Err(_) => Err(Refusal::AuditUnavailable),
        }
    }

    /// The method as sent.
    pub(crate) fn method(&self) -> &str {
        self.0.method()
    }

    /// The target as it is forwarded.
    pub(crate) fn target(&self) -> &str {
        self.0.target()
    }
}

impl RecordedUnsigned {
    async fn record(
        request: UnsignedRequest,
        reason: PassReason,
        recorder: &Recorder,
        facts: Facts<'_>,
        body: &BodyHash,
    ) -> Result<RecordedUnsigned, Refusal> {
        let written = (recorder.unsigned(facts, body, request.token(), reason)).await;
        match written {
            Ok(_receipt) => Ok(RecordedUnsigned { request, reason }),
            Err(_) => Err(Refusal::AuditUnavailable),
        }
    }

    /// The method as sent.
    pub(crate) fn method(&self) -> &str {
        self.request.method()
    }

    /// The target as sent, without the prefix that the route strips.
    pub(crate) fn target(&self) -> &str {
        self.request.target()
    }

    /// Why it may pass.
    pub(crate) fn reason(&self) -> PassReason {
        self.reason
    }

    /// The name of its bearer token, if it carries one.
    pub(crate) fn token(&self) -> Option<TokenHash> {
        self.request.token()
    }

    /// How it authenticates to the backend.
    pub(crate) fn auth(&self) -> Auth {
        self.request.auth()
    }
}
