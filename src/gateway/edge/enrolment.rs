//! A call that enrols a machine, from its head to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use pingora::apps::ReusedHttpStream;
use pingora::protocols::http::ServerSession;
use tracing::error;

use super::Edge;
use crate::enrolment::EnrolmentCall;
use crate::gateway::assembly::Gateway;
use crate::gateway::decide::rejection::Rejection;
use crate::gateway::plan::Plan;
use crate::gateway::receive::first_line::FirstLine;
use crate::gateway::receive::origin::RequestSource;
use crate::gateway::receive::request_id::RequestId;
use crate::gateway::record::enrolment::EnrolmentFacts;
use countersign_core::refusal::Refusal;

impl Edge {
    /// The call that enrols a machine, if the request is one.
    pub(super) fn enrolment_call(plan: &Plan, session: &ServerSession) -> Option<EnrolmentCall> {
        let enrolment = plan.config.enrolment.as_ref()?;
        let target = std::str::from_utf8(session.req_header().raw_path()).ok()?;
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        EnrolmentCall::find(enrolment, path)
    }

    /// Enrols a machine, and closes the connection: whoever enrols has nothing else to ask unsigned.
    pub(super) async fn enrol(
        &self,
        plan: Arc<Plan>,
        mut session: Box<ServerSession>,
        line: Option<&FirstLine>,
        source: RequestSource,
        id: RequestId,
        call: EnrolmentCall,
    ) -> Option<ReusedHttpStream> {
        let Gateway {
            decider,
            recorder,
            enrolments,
            ..
        } = &*self.gateway;
        let head = session.req_header();
        let facts = EnrolmentFacts {
            method: head.method.as_str().to_owned(),
            path: head.raw_path().to_owned(),
            route: call.route.clone(),
            source,
            id,
        };
        let secret = call.secret;
        let enrolling = async {
            let receiving = decider.receive_enrolment(&plan, &mut session, line, source);
            let body = receiving.await.map_err(|refusal| (refusal, None))?;
            let enrolled = enrolments.enrol(recorder, &plan, call, body, &facts).await;
            enrolled.map_err(|why| (why.refusal, Some(why.cause)))
        };
        let ended = AssertUnwindSafe(enrolling).catch_unwind().await;
        let ended = ended.unwrap_or_else(|_| {
            error!(request_id = %id, "a panic while an enrolment was received");
            Err((Refusal::Internal, None))
        });
        let counts = plan.enrolment_counts(&facts.route);
        match ended {
            Ok(enrolled) => {
                session.set_keepalive(None);
                let answered = enrolments
                    .answer(&mut session, &plan, &enrolled, secret, id)
                    .await;
                if answered.is_ok() {
                    self.linger().close(*session).await;
                }
                None
            }
            Err((refusal, cause)) => {
                recorder.not_enrolled(&refusal, cause, &facts, counts);
                decider.refused(&plan, refusal.code(), source);
                let rejection = Rejection::Unverified(refusal);
                self.refuse(session, &rejection, id, true).await
            }
        }
    }
}
