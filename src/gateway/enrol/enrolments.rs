//! Enrols machines: judged, added and recorded in one task, which goes on if the client leaves.

use std::sync::Arc;
use std::time::Duration;

use pingora::Result;
use pingora::protocols::http::ServerSession;
use tokio::sync::Semaphore;
use tracing::{error, warn};

use super::answer;
use crate::enrolment::{
    self, Enrolled, EnrolmentCall, EnrolmentFault, EnrolmentRequest, EnrolmentSecret, NotEnrolled,
};
use crate::gateway::plan::Plan;
use crate::gateway::receive::body::Body;
use crate::gateway::receive::request_id::RequestId;
use crate::gateway::record::enrolment::EnrolmentFacts;
use crate::gateway::record::recorder::Recorder;
use crate::registry::database::{Author, Database};
use crate::registry::{Operators, RegistryStore};
use countersign_client::clock::Clock;
use countersign_core::refusal::{Refusal, RegistryFault};

/// Enrolments that are judged at once: each waits for the database, and anybody can begin one.
/// Beyond it they are refused, so that a database that hangs holds no more.
const MOST: usize = 64;

/// Longest wait for an enrolment. Stock clients wait 15 s, also for the machine to be in force.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longest wait until the requests of a new machine pass here. A gateway follows the registry within
/// 2 s; the machine is told in any case.
const IN_FORCE: Duration = Duration::from_secs(3);

/// How often the registry in force is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// Enrols machines.
pub(crate) struct Enrolments {
    registry: Arc<RegistryStore>,
    operators: Option<Arc<Operators>>,
    running: Arc<Semaphore>,
    clock: Clock,
}

/// One enrolment, apart from the connection that it came on.
struct EnrolmentTask {
    registry: Arc<RegistryStore>,
    operators: Option<Arc<Operators>>,
    recorder: Recorder,
    plan: Arc<Plan>,
    call: EnrolmentCall,
    body: Body,
    facts: EnrolmentFacts,
    clock: Clock,
}

impl Enrolments {
    pub(crate) fn new(
        registry: Arc<RegistryStore>,
        operators: Option<Arc<Operators>>,
        clock: Clock,
    ) -> Enrolments {
        Enrolments {
            registry,
            operators,
            running: Arc::new(Semaphore::new(MOST)),
            clock,
        }
    }

    /// Enrols the machine, and writes the record.
    ///
    /// # Errors
    ///
    /// [`NotEnrolled`]. Nothing is in the registry then, unless the refusal says that this is not
    /// known.
    pub(crate) async fn enrol(
        &self,
        recorder: &Recorder,
        plan: &Arc<Plan>,
        call: EnrolmentCall,
        body: Body,
        facts: &EnrolmentFacts,
    ) -> Result<Enrolled, NotEnrolled> {
        let fault = |refusal| NotEnrolled {
            refusal,
            cause: EnrolmentFault::Unavailable,
        };
        let running = Arc::clone(&self.running).try_acquire_owned();
        let permit = running.map_err(|_| fault(Refusal::Overloaded))?;
        let task = EnrolmentTask {
            registry: Arc::clone(&self.registry),
            operators: self.operators.clone(),
            recorder: recorder.clone(),
            plan: Arc::clone(plan),
            call,
            body,
            facts: facts.clone(),
            clock: self.clock.clone(),
        };
        let running = tokio::spawn(async move {
            let result = task.run().await;
            drop(permit);
            result
        });
        let unknown = Refusal::RegistryUnavailable(RegistryFault::Unknown);
        match tokio::time::timeout(DEADLINE, running).await {
            Ok(Ok(Ok(enrolled))) => {
                self.wait_until_in_force(&enrolled).await;
                Ok(enrolled)
            }
            Ok(Ok(refused)) => refused,
            Ok(Err(_)) => {
                error!(request_id = %facts.id, "a panic while a machine was enrolled");
                Err(fault(Refusal::Internal))
            }
            Err(_) => {
                warn!(request_id = %facts.id, "an enrolment was not decided in {DEADLINE:?}");
                Err(fault(unknown))
            }
        }
    }

    /// The machine may sign a request as soon as it has its answer.
    async fn wait_until_in_force(&self, enrolled: &Enrolled) {
        let waiting = async {
            while self.registry.find(enrolled.id.as_str()).is_none() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(IN_FORCE, waiting).await.is_err() {
            warn!(
                machine = enrolled.id.as_str(),
                "a new machine is not in force here after {IN_FORCE:?}"
            );
        }
    }

    /// Answers the machine.
    ///
    /// # Errors
    ///
    /// Only Pingora's.
    pub(crate) async fn answer(
        &self,
        session: &mut ServerSession,
        plan: &Plan,
        enrolled: &Enrolled,
        secret: EnrolmentSecret,
        id: RequestId,
    ) -> Result<()> {
        match &plan.config.enrolment {
            Some(enrolment) => {
                answer::write(session, enrolled, &enrolment.public_url, secret, id).await
            }
            // Without it no call is found.
            None => Ok(()),
        }
    }
}

impl EnrolmentTask {
    async fn run(mut self) -> Result<Enrolled, NotEnrolled> {
        let away = NotEnrolled {
            refusal: Refusal::RegistryUnavailable(RegistryFault::Away),
            cause: EnrolmentFault::Unavailable,
        };
        // The record comes after the transaction, so a log that fails must not cost a use.
        if !self.recorder.can_record() {
            return Err(NotEnrolled {
                refusal: Refusal::AuditUnavailable,
                cause: EnrolmentFault::Unavailable,
            });
        }
        let database = self.registry.database().ok_or(away)?.clone();
        let request = EnrolmentRequest {
            call: &self.call,
            body: self.body.bytes(),
            client: self.facts.source.client,
            request_id: self.facts.id.as_str(),
            window: self.plan.window,
            now: self.clock.now().unix_seconds(),
        };
        let joiners = self.plan.joiners();
        let operators = self.operators.as_ref();
        let objection = |entry: &_| operators.and_then(|it| it.objection(entry));
        let result = enrolment::enrol(&request, joiners, &database, &objection).await;
        self.body.wipe();
        let enrolled = result?;
        let recorded = self.recorder.enrolled(&enrolled, &self.facts).await;
        if let Err(error) = recorded {
            error!(
                machine = enrolled.id.as_str(),
                %error,
                "the record of an enrolment was not written; the machine is removed again"
            );
            self.remove(&database, &enrolled).await;
            return Err(NotEnrolled {
                refusal: Refusal::AuditUnavailable,
                cause: EnrolmentFault::Unavailable,
            });
        }
        Ok(enrolled)
    }

    /// A machine that no record tells of must not stay.
    async fn remove(&self, database: &Database, enrolled: &Enrolled) {
        let author = Author {
            by: enrolled.by.to_string(),
            request_id: self.facts.id.as_str().to_owned(),
            at: self.clock.now().unix_seconds(),
        };
        if let Err(error) = database.remove(&enrolled.id, &author).await {
            error!(
                machine = enrolled.id.as_str(),
                %error,
                "the machine could not be removed: remove it with `countersign machine remove`"
            );
        }
    }
}
