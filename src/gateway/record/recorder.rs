//! The decision record of each request, and the response record of each forwarded one.

use std::sync::Arc;

use http::header::HeaderName;
use pingora::http::RequestHeader;

use crate::audit::{
    self, AcceptedRecord, AuditLog, ClaimedFacts, ClaimedMachine, ClaimedNonce, DroppedHeaders,
    PathOnly, Query, Receipt, RefusalEvidence, RefusedRecord, RegistryCallRecord, SentMethod,
    TokenHash,
};
use crate::gateway::decide::forwarded_headers::Dropped;
use crate::gateway::decide::rejection::Rejection;
use crate::gateway::decide::route_match;
use crate::gateway::decide::unsigned::PassReason;
use crate::gateway::plan::Plan;
use crate::gateway::receive::origin::RequestSource;
use crate::gateway::receive::request_id::RequestId;
use crate::metrics::{Auth, Metrics, Outcome, RouteCounts};
use countersign_client::clock::Clock;
use countersign_core::decision::Signed;
use countersign_core::header_name::SigningHeader;
use countersign_core::message::BodyHash;
use countersign_core::message::Timestamp;
use countersign_core::refusal::Refusal;
use countersign_core::target::QueryPolicy;

/// The facts that every record tells of a request whose head was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) head: &'a RequestHeader,
    /// The index of its route.
    pub(crate) route: Option<usize>,
    /// The dropped headers. For a refused request: the header that caused the refusal.
    pub(crate) dropped: DroppedHeaders<'a>,
    pub(crate) source: RequestSource,
    pub(crate) id: RequestId,
}

/// Writes the records, and counts what they tell. Clones share the audit log.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(super) audit: Arc<AuditLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

impl Recorder {
    pub(crate) fn new(audit: Arc<AuditLog>, metrics: Arc<Metrics>, clock: Clock) -> Recorder {
        Recorder {
            audit,
            metrics,
            clock,
        }
    }

    /// Writes the record of an accepted request, before it is forwarded.
    ///
    /// # Errors
    ///
    /// The record was not written in time. The request must then not be forwarded.
    pub(super) async fn accepted(
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

    /// Writes the record of a request on an open route, before it is forwarded.
    ///
    /// # Errors
    ///
    /// As [`Recorder::accepted`].
    pub(super) async fn open(
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

    /// Writes the record of a request without a valid signature, before it is forwarded.
    ///
    /// # Errors
    ///
    /// As [`Recorder::accepted`].
    pub(super) async fn unsigned(
        &self,
        facts: Facts<'_>,
        body: &BodyHash,
        token: Option<TokenHash>,
        reason: PassReason,
    ) -> Result<Receipt, audit::AuditError> {
        let mut request = self.describe(&facts);
        request.query = (facts.head.raw_path().contains(&b'?')).then_some(Query::Forwarded);
        request.dropped = DroppedHeaders::default();
        let record = audit::UnsignedRecord {
            request,
            body: self::body(body),
            token,
            observed: match reason {
                PassReason::Bearer => None,
                PassReason::Observed {
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
        if let PassReason::Observed { code, .. } = reason {
            self.metrics.observed(code);
        }
        Ok(receipt)
    }

    /// Writes the record of a change of the registry, before it is made.
    ///
    /// # Errors
    ///
    /// The record was not written in time. The change must then not be made.
    pub(crate) async fn registry_call(
        &self,
        record: &RegistryCallRecord<'_>,
    ) -> Result<Receipt, audit::AuditError> {
        self.audit.registry_call(record).await
    }

    /// Writes the record of a refused request, and counts it.
    pub(crate) fn refused(
        &self,
        plan: &Plan,
        head: &RequestHeader,
        rejection: &Rejection,
        source: RequestSource,
        id: RequestId,
    ) {
        let refusing = match rejection.refusal() {
            Refusal::HeaderNotForwarded(lost) => {
                HeaderName::from_bytes(lost.name().as_bytes()).ok()
            }
            _ => None,
        };
        let facts = Facts {
            plan,
            head,
            route: route_match::route_of_refused(&plan.config.routes, head),
            dropped: DroppedHeaders {
                names: refusing.as_slice(),
                and_more: false,
            },
            source,
            id,
        };
        let evidence = match rejection {
            Rejection::Denied(denied) => RefusalEvidence::Signed(proof(&denied.signed)),
            Rejection::Unproved(unproved) => RefusalEvidence::Claimed(ClaimedFacts {
                machine_known: Some(unproved.machine_known),
                body: Some(body(&unproved.body)),
                ..claim(head)
            }),
            Rejection::Unverified(_) => RefusalEvidence::Claimed(claim(head)),
        };
        self.audit.refused(&RefusedRecord {
            request: self.describe(&facts),
            code: rejection.refusal().code(),
            evidence,
        });
        self.count_refusal(rejection, plan.counts(facts.route));
    }

    /// Writes the record of a request whose head could not be read, and counts it.
    pub(crate) fn refused_unread(
        &self,
        rejection: &Rejection,
        source: RequestSource,
        id: RequestId,
    ) {
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
            code: rejection.refusal().code(),
            evidence: RefusalEvidence::Claimed(ClaimedFacts::default()),
        });
        self.count_refusal(rejection, &self.metrics.no_route());
    }

    /// Counts the headers and the query that are not forwarded.
    pub(super) fn count_dropped(&self, dropped: &Dropped, query_stripped: bool) {
        dropped.count(&self.metrics);
        if query_stripped {
            self.metrics.query_stripped();
        }
    }

    fn count_refusal(&self, rejection: &Rejection, route: &RouteCounts) {
        let auth = match rejection {
            Rejection::Denied(_) => Auth::Signature,
            Rejection::Unproved(_) | Rejection::Unverified(_) => Auth::None,
        };
        route.request(Outcome::Refused, auth);
        self.metrics.refused(rejection.refusal().code());
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

/// The claims of an unverified head, as far as they are well formed.
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
