//! The records of enrolments.

use crate::audit::{
    self, DroppedHeaders, EnrolledBy, EnrolledRecord, PathOnly, Receipt, RefusalEvidence,
    RefusedRecord, RequestFacts, SentMethod,
};
use crate::enrolment::{AdmittedBy, Enrolled, EnrolmentFault};
use crate::gateway::receive::origin::RequestSource;
use crate::gateway::receive::request_id::RequestId;
use crate::gateway::record::recorder::Recorder;
use crate::metrics::{Auth, EnrolmentResult, Outcome, RouteCounts};
use countersign_core::refusal::{Code, Refusal};

/// The facts of a call to enrol a machine. They outlive the call: its record is written also if the
/// client has left.
#[derive(Clone, Debug)]
pub(crate) struct EnrolmentFacts {
    pub(crate) method: String,
    pub(crate) path: Vec<u8>,
    /// The path of the enrolment route.
    pub(crate) route: String,
    pub(crate) source: RequestSource,
    pub(crate) id: RequestId,
}

impl Recorder {
    /// Whether records can be written, as far as is known.
    pub(crate) fn can_record(&self) -> bool {
        self.audit.healthy()
    }

    /// Writes the record of a machine that was enrolled, before the machine is told, and counts it.
    ///
    /// # Errors
    ///
    /// The record was not written in time. The machine must not stay then.
    pub(crate) async fn enrolled(
        &self,
        enrolled: &Enrolled,
        facts: &EnrolmentFacts,
    ) -> Result<Receipt, audit::AuditError> {
        let record = EnrolledRecord {
            request: self.describe_enrolment(facts),
            machine: &enrolled.id,
            name: &enrolled.name,
            vault: &enrolled.vault,
            owner: enrolled.owner.as_deref(),
            key: &enrolled.key,
            hostname: &enrolled.hostname,
            proved: enrolled.proved,
            by: match &enrolled.by {
                AdmittedBy::Token(token) => EnrolledBy::Token { token },
                AdmittedBy::Joiner { name, subject } => EnrolledBy::Joiner {
                    joiner: name,
                    subject: subject.as_deref(),
                },
            },
        };
        let receipt = self.audit.enrolled(&record).await?;
        self.metrics.enrolment(EnrolmentResult::Enrolled);
        Ok(receipt)
    }

    /// Writes the record of a refused enrolment, and counts it. `cause` is for the record alone.
    pub(crate) fn not_enrolled(
        &self,
        refusal: &Refusal,
        cause: Option<EnrolmentFault>,
        facts: &EnrolmentFacts,
        route: &RouteCounts,
    ) {
        let code = refusal.code();
        self.audit.refused(&RefusedRecord {
            request: self.describe_enrolment(facts),
            code,
            evidence: RefusalEvidence::Enrolment {
                cause: cause.map(EnrolmentFault::as_str),
            },
        });
        route.request(Outcome::Refused, Auth::None);
        self.metrics.refused(code);
        self.metrics.enrolment(match code {
            Code::EnrolmentRefused => EnrolmentResult::Refused,
            code if code.status() < 500 => EnrolmentResult::Invalid,
            _ => EnrolmentResult::Unavailable,
        });
    }

    fn describe_enrolment<'a>(&'a self, facts: &'a EnrolmentFacts) -> RequestFacts<'a> {
        RequestFacts {
            wall_ms: self.clock.now().wall_ms,
            request_id: facts.id.as_str(),
            client_ip: facts.source.client,
            peer_ip: facts.source.peer,
            method: SentMethod::of(facts.method.as_bytes()),
            path: PathOnly::of(&facts.path),
            query: None,
            route: Some(&facts.route),
            dropped: DroppedHeaders::default(),
        }
    }
}
