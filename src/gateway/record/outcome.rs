//! The outcome of a forwarded request or of a call: the response record, and the counts.

use std::time::Duration;

use crate::audit::{BackendPaths, LoginFacts, ResponseRecord};
use crate::gateway::decide::unsigned::PassReason;
use crate::gateway::record::authorized::{AuthorizedCall, AuthorizedRequest, RecordedPass};
use crate::gateway::record::recorder::Recorder;
use crate::gateway::upstream::credentials::injection::Injection;
use crate::metrics::{Auth, Outcome};
use countersign_core::refusal::Code;

/// How a forwarded request ended.
#[derive(Clone, Debug)]
pub(crate) struct RequestOutcome {
    /// The status that the client got. `None`: the client left before the response, or the
    /// forwarding panicked.
    pub(crate) status: Option<u16>,
    /// Bytes of body sent to the client.
    pub(crate) bytes: u64,
    /// The time of the whole forwarding: all tried servers, and the client's reading of the
    /// response.
    pub(crate) forwarding_took: Duration,
    /// Whether the response broke off, or never came.
    pub(crate) failed: bool,
    /// The code that the client got instead of the backend's response.
    pub(crate) refusal: Option<Code>,
    /// The secret that the request carried.
    pub(crate) injection: Option<Injection>,
    /// The paths that an adapter asked the backend for.
    pub(crate) backend_paths: BackendPaths,
}

impl RequestOutcome {
    /// The outcome of a request whose forwarding panicked: nothing but the failure is known.
    pub(crate) const PANICKED: RequestOutcome = RequestOutcome {
        status: None,
        bytes: 0,
        forwarding_took: Duration::ZERO,
        failed: true,
        refusal: None,
        injection: None,
        backend_paths: BackendPaths::NONE,
    };

    /// Writes the response record, and counts the request.
    pub(crate) fn record(&self, recorder: &Recorder, request: &AuthorizedRequest) {
        let plan = &request.plan;
        (plan.upstream_times(request.upstream_index())).observe(self.forwarding_took);
        let (outcome, auth) = match &request.pass {
            RecordedPass::Signed(_) => (Outcome::Forwarded, Auth::Signature),
            RecordedPass::Open(_) => (Outcome::Forwarded, Auth::None),
            RecordedPass::Unsigned(unsigned, reason) => match reason {
                PassReason::Bearer => (Outcome::Forwarded, unsigned.auth()),
                PassReason::Observed { .. } => (Outcome::Observed, unsigned.auth()),
            },
        };
        let outcome = if self.failed {
            Outcome::Failed
        } else {
            outcome
        };
        plan.counts(Some(request.route)).request(outcome, auth);
        if let Some(code) = self.refusal {
            recorder.metrics.refused(code);
        }
        let login = self.injection.as_ref().and_then(Injection::login);
        recorder.audit.response(&ResponseRecord {
            wall_ms: recorder.clock.now().wall_ms,
            request_id: request.provenance.id.as_str(),
            status: self.status,
            upstream_ms: u64::try_from(self.forwarding_took.as_millis()).ok(),
            bytes: self.bytes,
            login: login.map(|(login, token)| LoginFacts {
                mount: login.mount(),
                role: token.role(),
                accessor: token.accessor(),
            }),
            backend_paths: &self.backend_paths,
        });
    }
}

/// How a call to the registry ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallOutcome {
    /// The status that the client got. `None`: the client left before the answer, or the call
    /// panicked.
    pub(crate) status: Option<u16>,
    /// Bytes of body sent to the client.
    pub(crate) bytes: u64,
    /// The code that the client got instead of an answer.
    pub(crate) refusal: Option<Code>,
}

impl CallOutcome {
    /// The outcome of a call that panicked: nothing but the failure is known.
    pub(crate) const PANICKED: CallOutcome = CallOutcome {
        status: None,
        bytes: 0,
        refusal: Some(Code::Internal),
    };

    /// Writes the response record, and counts the call. One that the gateway could not answer has
    /// failed; a mistake of its author is an answer.
    pub(crate) fn record(&self, recorder: &Recorder, call: &AuthorizedCall) {
        let is_fault = |code: Code| code.status() >= 500;
        let outcome = match self.refusal.is_some_and(is_fault) {
            true => Outcome::Failed,
            false => Outcome::Answered,
        };
        (call.plan.counts(Some(call.route))).request(outcome, Auth::Signature);
        if let Some(code) = self.refusal {
            recorder.metrics.refused(code);
        }
        recorder.audit.response(&ResponseRecord {
            wall_ms: recorder.clock.now().wall_ms,
            request_id: call.provenance.id.as_str(),
            status: self.status,
            upstream_ms: None,
            bytes: self.bytes,
            login: None,
            backend_paths: &BackendPaths::NONE,
        });
    }
}
