//! What is written down and counted of each request: one decision record, and one response
//! record for what was forwarded.

use std::time::Duration;

use http::header::HeaderName;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use crate::audit::{
    self, AcceptedRecord, ClaimedFacts, ClaimedMachine, ClaimedNonce, DroppedHeaders, PathOnly,
    Query, Receipt, RefusalEvidence, RefusedRecord, ResponseRecord, SentMethod, TokenHash,
};
use crate::auth::decision::Signed;
use crate::auth::headers::{SigningHeader, Timestamp};
use crate::auth::message::BodyHash;
use crate::auth::refusal::Refusal;
use crate::auth::target::QueryPolicy;
use crate::gateway::Gateway;
use crate::gateway::decide::plan::Plan;
use crate::gateway::decide::unsigned::Grounds;
use crate::gateway::forward::forwarder::{Passage, Permit};
use crate::gateway::receive::origin::Source;
use crate::gateway::receive::refuse::Stop;
use crate::gateway::receive::request_id::RequestId;
use crate::metrics::{Auth, Outcome, RouteCounts};

/// What any record tells of a request whose head was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) head: &'a RequestHeader,
    /// The index of its route.
    pub(crate) route: Option<usize>,
    /// The client's headers that do not cross, where it is forwarded; else the one that it was refused
    /// for.
    pub(crate) dropped: DroppedHeaders<'a>,
    pub(crate) source: Source,
    pub(crate) id: RequestId,
}

/// How a forwarded request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending<'a> {
    /// The status the client got; `None` where it was gone before.
    pub(crate) status: Option<u16>,
    /// Bytes of body sent to the client.
    pub(crate) bytes: u64,
    pub(crate) upstream_took: Duration,
    /// The answer broke off, or never came.
    pub(crate) failed: bool,
    /// What the client was told instead of the backend's answer.
    pub(crate) refusal: Option<&'a Refusal>,
}

impl Ending<'_> {
    /// What is known after a panic: nothing but that it failed.
    pub(crate) const fn panicked() -> Ending<'static> {
        Ending {
            status: None,
            bytes: 0,
            upstream_took: Duration::ZERO,
            failed: true,
            refusal: None,
        }
    }
}

impl Gateway {
    /// Writes the record of an accepted request. [`Recorded`](crate::gateway::record::authorized::Recorded) calls
    /// this, before anything is forwarded.
    ///
    /// # Errors
    ///
    /// Where it cannot be written in time; the request must then not be forwarded.
    pub(crate) async fn record_accepted(
        &self,
        signed: &Signed,
        facts: Facts<'_>,
    ) -> Result<Receipt, audit::AuditError> {
        let record = AcceptedRecord {
            request: self.describe(&facts),
            signed: proof(signed),
            signature: signed.signature().as_bytes(),
        };
        self.audit.accepted(&record).await
    }

    /// Writes the record of a request on an open route. [`Open`](crate::gateway::decide::open::Open) calls this,
    /// before anything is forwarded.
    ///
    /// # Errors
    ///
    /// As [`Gateway::record_accepted`].
    pub(crate) async fn record_open(
        &self,
        facts: Facts<'_>,
        body: &BodyHash,
    ) -> Result<Receipt, audit::AuditError> {
        let record = audit::OpenRecord {
            request: self.describe(&facts),
            body: self::body(body),
        };
        self.audit.open(&record).await
    }

    /// Writes the record of a request that nobody signed, on a route that still lets it pass.
    /// [`Unsigned`](crate::gateway::decide::unsigned::Unsigned) calls this, before anything is forwarded.
    ///
    /// # Errors
    ///
    /// As [`Gateway::record_accepted`].
    pub(crate) async fn record_unsigned(
        &self,
        facts: Facts<'_>,
        body: &BodyHash,
        token: Option<TokenHash>,
        grounds: Grounds,
    ) -> Result<Receipt, audit::AuditError> {
        let mut request = self.describe(&facts);
        request.query = (facts.head.raw_path().contains(&b'?')).then_some(Query::Forwarded);
        request.dropped = DroppedHeaders::default();
        let record = audit::UnsignedRecord {
            request,
            body: self::body(body),
            token,
            observed: match grounds {
                Grounds::Bearer => None,
                Grounds::Observed {
                    code,
                    machine_known,
                } => {
                    let claim = claim(facts.head);
                    Some((
                        code,
                        ClaimedFacts {
                            machine_known,
                            ..claim
                        },
                    ))
                }
            },
        };
        let receipt = self.audit.unsigned(&record).await?;
        if let Grounds::Observed { code, .. } = grounds {
            self.metrics.observed(code);
        }
        Ok(receipt)
    }

    /// Writes down and counts a refused request.
    pub(crate) fn refused(
        &self,
        plan: &Plan,
        session: &ServerSession,
        stop: &Stop,
        source: Source,
        id: RequestId,
    ) {
        let head = session.req_header();
        let missed = match stop.refusal() {
            Refusal::HeaderNotForwarded(lost) => {
                HeaderName::from_bytes(lost.name().as_bytes()).ok()
            }
            _ => None,
        };
        let facts = Facts {
            plan,
            head,
            route: plan.config.routes.find(head.uri.path()),
            dropped: DroppedHeaders {
                names: missed.as_slice(),
                and_more: false,
            },
            source,
            id,
        };
        let evidence = match stop {
            Stop::Denied(denied) => RefusalEvidence::Signed(proof(&denied.signed)),
            Stop::Unproved(unproved) => RefusalEvidence::Claimed(ClaimedFacts {
                machine_known: Some(unproved.machine_known),
                body: Some(body(&unproved.body)),
                ..claim(head)
            }),
            Stop::Unverified(_) => RefusalEvidence::Claimed(claim(head)),
        };
        self.audit.refused(&RefusedRecord {
            request: self.describe(&facts),
            code: stop.refusal().code(),
            evidence,
        });
        self.count_refusal(stop, plan.counts(facts.route));
        let (code, now) = (stop.refusal().code(), self.clock.now().mono);
        (self.throttle).refused(source.client, code, now, &plan.config.throttle);
    }

    /// Writes down and counts a request whose head could not be read.
    pub(crate) fn refused_unread(&self, stop: &Stop, source: Source, id: RequestId) {
        self.audit.refused(&RefusedRecord {
            request: audit::RequestFacts {
                wall_ms: self.clock.now().wall_ms,
                request_id: id.as_str(),
                client_ip: source.client,
                peer_ip: source.peer,
                method: SentMethod::of(b""),
                path: PathOnly::of(b""),
                query: None,
                route: None,
                dropped: DroppedHeaders::default(),
            },
            code: stop.refusal().code(),
            evidence: RefusalEvidence::Claimed(ClaimedFacts::default()),
        });
        self.count_refusal(stop, &self.metrics.no_route());
    }

    /// Writes down and counts how a forwarded request ended.
    pub(crate) fn forwarded(&self, passage: &Passage, ending: Ending<'_>) {
        let plan = &passage.plan;
        (plan.upstream_times(passage.route)).observe(ending.upstream_took);
        let (outcome, auth) = match &passage.permit {
            Permit::Signed(_) => (Outcome::Forwarded, Auth::Signature),
            Permit::Open(_) => (Outcome::Forwarded, Auth::None),
            Permit::Unsigned(unsigned) => match unsigned.grounds() {
                Grounds::Bearer => (Outcome::Forwarded, unsigned.auth()),
                Grounds::Observed { .. } => (Outcome::Observed, unsigned.auth()),
            },
        };
        let outcome = if ending.failed {
            Outcome::Failed
        } else {
            outcome
        };
        plan.counts(Some(passage.route)).request(outcome, auth);
        if let Some(refusal) = ending.refusal {
            self.metrics.refused(refusal.code());
        }
        self.audit.response(&ResponseRecord {
            wall_ms: self.clock.now().wall_ms,
            request_id: passage.provenance.id.as_str(),
            status: ending.status,
            upstream_ms: u64::try_from(ending.upstream_took.as_millis()).ok(),
            bytes: ending.bytes,
        });
    }

    fn count_refusal(&self, stop: &Stop, route: &RouteCounts) {
        let auth = match stop {
            Stop::Denied(_) => Auth::Signature,
            Stop::Unproved(_) | Stop::Unverified(_) => Auth::None,
        };
        route.request(Outcome::Refused, auth);
        self.metrics.refused(stop.refusal().code());
    }

    fn describe<'a>(&'a self, facts: &'a Facts<'a>) -> audit::RequestFacts<'a> {
        let target = facts.head.raw_path();
        let route = facts.route.map(|index| facts.plan.route(index));
        let query = match route.map(|route| route.query) {
            _ if !target.contains(&b'?') => None,
            Some(QueryPolicy::Strip) => Some(Query::Stripped),
            Some(QueryPolicy::Signed) => Some(Query::Signed),
            Some(QueryPolicy::Reject) | None => None,
        };
        audit::RequestFacts {
            wall_ms: self.clock.now().wall_ms,
            request_id: facts.id.as_str(),
            client_ip: facts.source.client,
            peer_ip: facts.source.peer,
            method: SentMethod::of(facts.head.method.as_str().as_bytes()),
            path: PathOnly::of(target),
            query,
            route: route.map(|route| &*route.path),
            dropped: facts.dropped,
        }
    }
}

fn body(hash: &BodyHash) -> audit::BodyDigest<'_> {
    audit::BodyDigest {
        sha256: hash.as_bytes(),
        bytes: hash.body_len(),
    }
}

fn proof(signed: &Signed) -> audit::SignatureFacts<'_> {
    let message = signed.message();
    audit::SignatureFacts {
        machine: signed.machine(),
        key: signed.key(),
        path: message.target(),
        timestamp: message.timestamp().unix_seconds(),
        nonce: message.nonce(),
        body: body(message.body()),
    }
}

/// What an unverified head claims, as far as it keeps its grammar.
fn claim(head: &RequestHeader) -> ClaimedFacts<'_> {
    let value = |header: SigningHeader| {
        head.headers
            .get(HeaderName::from_static(header.name()))
            .map(|value| value.as_bytes())
    };
    ClaimedFacts {
        machine_known: None,
        machine: value(SigningHeader::MachineId).map(ClaimedMachine::of),
        timestamp: value(SigningHeader::Timestamp)
            .and_then(Timestamp::parse)
            .map(Timestamp::unix_seconds),
        nonce: value(SigningHeader::Nonce).map(ClaimedNonce::of),
        body: None,
    }
}
