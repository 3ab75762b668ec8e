//! The order of the checks: the head, the body, the signature, the nonce, the policy. Cheap checks
//! come first. Only verified requests spend a nonce or a rate.

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::http::ServerSession;

use crate::audit::TokenNames;
use crate::gateway::decide::decided_request::{DecidedRequest, Pass};
use crate::gateway::decide::forwarded_headers;
use crate::gateway::decide::head_checks::{CheckedHead, HeadChecks, RequestSender};
use crate::gateway::decide::policy::{Circumstances, Permitted};
use crate::gateway::decide::rate_limits::RateLimits;
use crate::gateway::decide::rejection::Rejection;
use crate::gateway::decide::throttle::Throttle;
use crate::gateway::decide::unsigned::PassReason;
use crate::gateway::plan::Plan;
use crate::gateway::receive::body::{self, Body, BodyBudget};
use crate::gateway::receive::draining::Draining;
use crate::gateway::receive::first_line::FirstLine;
use crate::gateway::receive::framing::Framing;
use crate::gateway::receive::origin::RequestSource;
use crate::gateway::receive::request_id::RequestId;
use crate::management::call::{CallSigner, RegistryCall};
use crate::metrics::Metrics;
use crate::registry::{Operators, RegistryStore};
use countersign_client::clock::{Clock, Now};
use countersign_core::decision::{Admitted, Attributed};
use countersign_core::message::BodyHash;
use countersign_core::refusal::{Code, Refusal};
use countersign_core::replay::NonceStore;

/// Largest body of an enrolment, in bytes: a token and a key, or a JWT of some kilobytes.
const MAX_ENROLMENT_BODY: u64 = 16 * 1024;

/// Judges requests.
pub(crate) struct Decider {
    head: HeadChecks,
    budget: BodyBudget,
    draining: Draining,
    nonces: Arc<dyn NonceStore>,
    rate_limits: RateLimits,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// Those whose signatures count.
pub(crate) struct KnownSigners {
    pub(crate) machines: Arc<RegistryStore>,
    /// Those who may manage the registry.
    pub(crate) operators: Option<Arc<Operators>>,
}

impl Decider {
    pub(crate) fn new(
        signers: KnownSigners,
        nonces: Arc<dyn NonceStore>,
        token_names: Arc<TokenNames>,
        budget: BodyBudget,
        draining: Draining,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Decider {
        Decider {
            head: HeadChecks {
                registry: signers.machines,
                operators: signers.operators,
                throttle: Throttle::new(Arc::clone(&metrics)),
                token_names,
                metrics: Arc::clone(&metrics),
            },
            budget,
            draining,
            nonces,
            rate_limits: RateLimits::new(),
            metrics,
            clock,
        }
    }

    /// Judges a request whose head has been read. Only a request that every check let through comes
    /// back as a [`DecidedRequest`].
    ///
    /// # Errors
    ///
    /// The first check that refused. A claimed nonce stays claimed.
    pub(crate) async fn decide(
        &self,
        plan: &Plan,
        session: &mut ServerSession,
        line: Option<&FirstLine>,
        source: RequestSource,
        id: RequestId,
    ) -> Result<(DecidedRequest, Body), Rejection> {
        let arrival = self.clock.now();
        let head = (self.head).check(plan, session, line, source, id, arrival)?;
        let on_head = self.clock.now().mono.saturating_sub(arrival.mono);
        let CheckedHead {
            sender,
            route,
            call,
            framing,
            provenance,
            query_stripped,
            dropped,
        } = head;

        let timeout = (plan.route(route).body_timeout).unwrap_or(plan.limits().body_timeout);
        let body = (self.read_body(session, &framing, plan.route(route).max_body, timeout)).await?;
        body::check_trailers(session, |name| {
            forwarded_headers::is_identity_name(name, &plan.config.identity_header)
                || plan.resembles_credential_header(name)
        })?;

        let complete = self.clock.now();
        let pass = match sender {
            RequestSender::Open(open) => Pass::Open(open),
            RequestSender::Unsigned(unsigned, reason) => Pass::Unsigned(unsigned, reason),
            RequestSender::Claimed(attributed, otherwise) => {
                let on = (route, call.as_ref());
                let judging = self.judge_signed(plan, on, attributed, &body, arrival, source);
                let judged = judging.await;
                let on_rest = self.clock.now().mono.saturating_sub(complete.mono);
                self.metrics.observe_verify(on_head + on_rest);
                match (judged, otherwise) {
                    (Ok(permitted), _) => match call {
                        None => Pass::Signed(permitted),
                        Some(call) => Pass::Managing(permitted, call),
                    },
                    (Err(rejection), Some(unsigned)) if rejection.refusal().judges_the_caller() => {
                        forwarded_headers::check_values(&session.req_header().headers)?;
                        Pass::Unsigned(unsigned, PassReason::observed(&rejection))
                    }
                    (Err(rejection), _) => return Err(rejection),
                }
            }
        };
        let decision = DecidedRequest {
            pass,
            route,
            provenance,
            dropped,
            query_stripped,
        };
        Ok((decision, body))
    }

    /// Receives a call that enrols a machine: its head is checked, and its body is read.
    ///
    /// # Errors
    ///
    /// The first check that refused, or why the body could not be read.
    pub(crate) async fn receive_enrolment(
        &self,
        plan: &Plan,
        session: &mut ServerSession,
        line: Option<&FirstLine>,
        source: RequestSource,
    ) -> Result<Body, Refusal> {
        let arrival = self.clock.now();
        let framing = (self.head).check_enrolment(plan, session, line, source, arrival)?;
        let timeout = plan.limits().body_timeout;
        let reading = self.read_body(session, &framing, MAX_ENROLMENT_BODY, timeout);
        let body = reading.await?;
        body::check_trailers(session, |_| false)?;
        Ok(body)
    }

    /// Notes a refusal against its source, for the throttle.
    pub(crate) fn refused(&self, plan: &Plan, code: Code, source: RequestSource) {
        let now = self.clock.now().mono;
        (self.head.throttle).refused(source.client, code, now, &plan.config.throttle);
    }

    /// Checks the declared length, and reads the body.
    async fn read_body(
        &self,
        session: &mut ServerSession,
        framing: &Framing,
        limit: u64,
        timeout: Duration,
    ) -> Result<Body, Refusal> {
        if framing.content_length.is_some_and(|length| length > limit) {
            return Err(Refusal::BodyTooLarge { limit });
        }
        if framing.expects_continue && !session.is_body_empty() {
            body::send_continue(session)
                .await
                .map_err(|_| Refusal::RequestTimeout)?;
        }
        // No single read may end before the whole has had its time.
        session.set_read_timeout(Some(2 * timeout));
        tokio::select! {
            biased; // a body that has arrived is served, also at the very end
            body = Body::read(session, limit, timeout, &self.budget) => body,
            () = self.draining.end_of_grace() => Err(Refusal::NotReady),
        }
    }

    /// Checks what the signature proves, and whether that is enough.
    async fn judge_signed(
        &self,
        plan: &Plan,
        (route, call): (usize, Option<&RegistryCall>),
        attributed: Attributed,
        body: &Body,
        arrival: Now,
        source: RequestSource,
    ) -> Result<Permitted, Rejection> {
        // The body may have taken its time; a revocation in the meantime counts.
        let attributed = match body.bytes().is_empty() {
            true => attributed,
            false => {
                self.head.check_registry(self.clock.now())?;
                attributed.look_up_again(|id| self.head.find(call, id))
            }
        };
        let admitted = self.admit(attributed, body, arrival, source).await?;
        let choice = plan.credential(admitted.signed().machine(), route);
        let circumstances = Circumstances {
            client: source.client,
            now: arrival.mono,
            rate_limits: &self.rate_limits,
            // The rules of a machine are about the backend. Whether it may renew is another field.
            rules_count: call.is_none_or(|call| call.signer() == CallSigner::Operator),
        };
        Ok(Permitted::check(
            admitted,
            plan.route(route),
            choice,
            circumstances,
        )?)
    }

    /// Verifies the signature, checks the state of the machine, and claims the nonce.
    async fn admit(
        &self,
        attributed: Attributed,
        body: &Body,
        arrival: Now,
        source: RequestSource,
    ) -> Result<Admitted, Rejection> {
        let signed = attributed.verify(BodyHash::of(body.bytes()))?;
        let stamped = signed.timestamp().unix_seconds().cast_signed();
        let skew = arrival.unix_seconds().cast_signed() - stamped;
        self.metrics.observe_skew(skew);
        let verified = signed.check_state(arrival.unix_seconds())?;
        let admitted = verified.claim(&*self.nonces).await?;
        let signed = admitted.signed();
        let machine = &signed.machine().id;
        // After the claim: a replayed request must not make its source familiar.
        (self.head.throttle).verified(source.client, machine.as_str(), arrival.mono);
        (self.metrics).observe_fresh_skew(machine, arrival.unix_seconds(), skew);
        if signed.machine().keys.len() > 1 {
            (self.metrics).key_used(machine, signed.key().fingerprint(), arrival.unix_seconds());
        }
        Ok(admitted)
    }
}
