//! The decision over one request, in the order of the design: cheap checks first, and nothing
//! that only a signature may cause before the signature.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use crate::auth::decision::{Admitted, Attempt, Attributed};
use crate::auth::headers::SigningHeaders;
use crate::auth::message::BodyHash;
use crate::auth::method::Method;
use crate::auth::refusal::Refusal;
use crate::auth::target::SignedTarget;
use crate::clock::Now;
use crate::config::{Gate, HEADER_BYTES, Route};
use crate::gateway::Gateway;
use crate::gateway::decide::bearer::{self, Bearer};
use crate::gateway::decide::open::Open;
use crate::gateway::decide::plan::Plan;
use crate::gateway::decide::policy::{Circumstances, Permitted};
use crate::gateway::decide::route_match::Asked;
use crate::gateway::decide::unsigned::{Grounds, Unsigned};
use crate::gateway::forward::forwarder::{Passage, Permit};
use crate::gateway::forward::upstream_request::{self, Dropped, Provenance};
use crate::gateway::receive::body::{self, Body};
use crate::gateway::receive::first_line::FirstLine;
use crate::gateway::receive::framing::{self, Framing};
use crate::gateway::receive::origin::Source;
use crate::gateway::receive::refuse::Stop;
use crate::gateway::receive::request_id::RequestId;
use crate::gateway::record::authorized::Recorded;
use crate::gateway::record::decision_record::Facts;

/// What is known once the head has passed (steps 1 to 6).
struct Opening {
    caller: Caller,
    route: usize,
    framing: Framing,
    provenance: Provenance,
    query_stripped: bool,
    /// What does not cross, unless the request passes as the client sent it.
    dropped: Dropped,
}

/// Who asks, as far as the head tells.
enum Caller {
    /// A machine, if the signature is its own. Where the route is observed, with the request as it
    /// passes if it is not.
    Attributed(Attributed, Option<Unsigned>),
    /// Anybody: the route is open.
    Anyone(Open),
    /// Somebody whom the route lets pass without a signature.
    Unsigned(Unsigned, Grounds),
}

impl Gateway {
    /// Judges a request whose head has been read. Only a request that every check let through,
    /// and whose record is written, comes back as a [`Passage`].
    ///
    /// # Errors
    ///
    /// The first check that refused. The nonce stays spent from the moment it was claimed,
    /// whatever happens afterwards.
    pub(crate) async fn decide(
        &self,
        plan: &Arc<Plan>,
        session: &mut ServerSession,
        line: Option<&FirstLine>,
        source: Source,
        id: RequestId,
    ) -> Result<(Passage, Body), Stop> {
        let arrival = self.clock.now();
        let opening = self.judge_head(plan, session, line, source, id, arrival)?;
        let on_head = self.clock.now().mono.saturating_sub(arrival.mono);

        let route = plan.route(opening.route);
        let timeout = route.body_timeout.unwrap_or(plan.limits().body_timeout);
        let body = (self.read_body(session, &opening.framing, route, timeout)).await?;

        body::check_trailers(session, plan)?;

        let complete = self.clock.now();
        let dropped = opening.dropped;
        let facts = Facts {
            plan,
            head: session.req_header(),
            route: Some(opening.route),
            dropped: dropped.names(),
            source,
            id,
        };
        let permit = match opening.caller {
            Caller::Anyone(open) => {
                let hash = BodyHash::of(body.bytes());
                Permit::Open(open.record(self, facts, &hash).await?)
            }
            Caller::Unsigned(unsigned, grounds) => {
                let hash = BodyHash::of(body.bytes());
                Permit::Unsigned(unsigned.record(grounds, self, facts, &hash).await?)
            }
            Caller::Attributed(attributed, otherwise) => {
                let verdict = self.judge_signed(attributed, &body, arrival, facts).await;
                let on_rest = self.clock.now().mono.saturating_sub(complete.mono);
                self.metrics.observe_verify(on_head + on_rest);
                match (verdict, otherwise) {
                    (Ok(permitted), _) => {
                        Permit::Signed(Recorded::write(permitted, self, facts).await?)
                    }
                    (Err(stop), Some(unsigned)) if stop.refusal().judges_the_caller() => {
                        upstream_request::check_values(&facts.head.headers)?;
                        let grounds = Grounds::observed(&stop);
                        let hash = BodyHash::of(body.bytes());
                        Permit::Unsigned(unsigned.record(grounds, self, facts, &hash).await?)
                    }
                    (Err(stop), _) => return Err(stop),
                }
            }
        };
        // What nobody signed crosses as it was sent, whatever the route does with that of others.
        if !matches!(permit, Permit::Unsigned(_)) {
            dropped.count(&self.metrics);
            if opening.query_stripped {
                self.metrics.query_stripped();
            }
        }

        let passage = Passage {
            plan: Arc::clone(plan),
            permit,
            provenance: opening.provenance,
            route: opening.route,
        };
        Ok((passage, body))
    }

    /// Steps 1 to 6: framing and target, route, signing headers, time, machine. Of requests that need
    /// no signature no more is asked than the first two.
    fn judge_head(
        &self,
        plan: &Plan,
        session: &ServerSession,
        line: Option<&FirstLine>,
        source: Source,
        id: RequestId,
        arrival: Now,
    ) -> Result<Opening, Refusal> {
        let head = session.req_header();
        let framing = match line {
            Some(line) => line.check(session)?,
            None => framing::check_h2(head, HEADER_BYTES)?,
        };
        if upstream_request::names_an_identity(&head.headers, &plan.config.identity_header) {
            self.metrics.spoofed_identity();
        }
        let host = served_host(head, &plan.config.hosts)?;
        let Asked {
            route: route_index,
            method,
            target,
        } = Asked::of(&plan.config.routes, head.method.as_str(), head.raw_path())?;
        let route = plan.route(route_index);
        let gate = route.mode.at(arrival.unix_seconds());
        let set = match gate {
            Gate::Nothing => &[][..],
            _ => &plan.upstream(route_index).set_headers,
        };
        let dropped = upstream_request::check_crossing(&head.headers, route, set)?;

        let mut query_stripped = false;
        let mut attribute = || {
            let signed = target.under(route.query)?;
            query_stripped = signed.query_stripped();
            // Sources are not throttled on observed routes: what fails passes anyway, so nothing is gained by
            // trying, and who shares an address with somebody who fails elsewhere must not be turned away.
            if gate != Gate::Observed {
                dropped.check()?;
                self.throttle_source(plan, head, source, arrival)?;
            }
            let attributed = self.attribute(plan, head, method, signed, arrival)?;
            // There, what is wrong with a signature is the better thing to have on record.
            dropped.check().map(|()| attributed)
        };
        let bearer = || Bearer::of(&head.headers, |name| plan.takes_credential(name));
        let unsigned = |bearer: Bearer<'_>| {
            let token = bearer.token().map(|token| self.token_names.of(token));
            Unsigned::new(method, target, token)
        };
        let caller = match gate {
            Gate::Nothing => {
                dropped.check()?;
                let crossing = target.under(route.query)?;
                query_stripped = crossing.query_stripped();
                Caller::Anyone(Open::new(method, crossing))
            }
            Gate::SignatureOrBearer if !bearer::speaks_of_a_signature(&head.headers) => {
                match bearer() {
                    Bearer::Several => {
                        let text = "it holds different bearer credentials";
                        return Err(Refusal::BadRequest(text));
                    }
                    found @ Bearer::One(_) => Caller::Unsigned(unsigned(found), Grounds::Bearer),
                    Bearer::None => Caller::Attributed(attribute()?, None),
                }
            }
            Gate::Signature | Gate::SignatureOrBearer => Caller::Attributed(attribute()?, None),
            Gate::Observed => match attribute() {
                Ok(attributed) => Caller::Attributed(attributed, Some(unsigned(bearer()))),
                Err(refusal) if refusal.judges_the_caller() => {
                    Caller::Unsigned(unsigned(bearer()), Grounds::observed(&refusal.into()))
                }
                Err(refusal) => return Err(refusal),
            },
        };
        if matches!(caller, Caller::Unsigned(..)) {
            upstream_request::check_values(&head.headers)?;
        }
        Ok(Opening {
            caller,
            route: route_index,
            framing,
            provenance: Provenance {
                id,
                client_ip: source.client,
                scheme: source.scheme,
                host,
            },
            query_stripped,
            dropped,
        })
    }

    /// Steps 4 to 6: the signing headers, the time, the machine.
    fn attribute(
        &self,
        plan: &Plan,
        head: &RequestHeader,
        method: Method<'_>,
        target: SignedTarget<'_>,
        arrival: Now,
    ) -> Result<Attributed, Refusal> {
        let headers = SigningHeaders::parse(|header| {
            framing::lines(&head.headers, HeaderName::from_static(header.name()))
        })?;
        Ok(Attempt::new(method, target, headers)
            .check_time(arrival.unix_seconds(), &plan.window)?
            .look_up(|machine| self.registry.find(machine)))
    }

    /// Step 7: the declared length, then the body.
    async fn read_body(
        &self,
        session: &mut ServerSession,
        framing: &Framing,
        route: &Route,
        timeout: Duration,
    ) -> Result<Body, Refusal> {
        let limit = route.max_body;
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
            biased; // a body that is there is served, also at the very end
            body = Body::read(session, limit, timeout, &self.budget) => body,
            () = self.leaving.ended() => Err(Refusal::NotReady),
        }
    }

    /// Steps 8 to 11: what the signature proves, and whether that is enough.
    async fn judge_signed(
        &self,
        attributed: Attributed,
        body: &Body,
        arrival: Now,
        facts: Facts<'_>,
    ) -> Result<Permitted, Stop> {
        // The body may have taken its time; a revocation in the meantime counts.
        let attributed = match body.bytes().is_empty() {
            true => attributed,
            false => attributed.look_up_again(|machine| self.registry.find(machine)),
        };
        let admitted = self.admit(attributed, body, arrival, facts.source).await?;
        let (plan, route) = (facts.plan, facts.route.unwrap_or_default());
        let choice = plan.credential(admitted.signed().machine(), route);
        let circumstances = Circumstances {
            client: facts.source.client,
            now: arrival.mono,
            quotas: &self.quotas,
        };
        Ok(Permitted::check(
            admitted,
            plan.route(route),
            choice,
            circumstances,
        )?)
    }

    /// Steps 8 to 10: signature, the machine's state, the nonce.
    async fn admit(
        &self,
        attributed: Attributed,
        body: &Body,
        arrival: Now,
        source: Source,
    ) -> Result<Admitted, Stop> {
        let signed = attributed.verify(BodyHash::of(body.bytes()))?;
        let stamped = signed.timestamp().unix_seconds().cast_signed();
        let skew = arrival.unix_seconds().cast_signed() - stamped;
        self.metrics.observe_skew(skew);
        let verified = signed.check_state(arrival.unix_seconds())?;
        let admitted = verified.claim(&*self.nonces).await?;
        let signed = admitted.signed();
        let machine = &signed.machine().id;
        // Behind the claim: whoever replays a captured request must not become familiar by it.
        (self.throttle).verified(source.client, machine.as_str(), arrival.mono);
        (self.metrics).observe_fresh_skew(machine, arrival.unix_seconds(), skew);
        if signed.machine().keys.len() > 1 {
            (self.metrics).key_used(machine, signed.key().fingerprint(), arrival.unix_seconds());
        }
        Ok(admitted)
    }
}

/// The host asked for, where every host is served or this one is named.
fn served_host(head: &RequestHeader, hosts: &[String]) -> Result<HeaderValue, Refusal> {
    let host = framing::host_of(head).unwrap_or_default();
    if !hosts.is_empty() && !hosts.iter().any(|served| served.eq_ignore_ascii_case(host)) {
        return Err(Refusal::BadRequest("this host is not served here"));
    }
    match (head.uri.authority(), head.headers.get(HOST)) {
        (None, Some(value)) => Ok(value.clone()),
        _ => HeaderValue::from_str(host).map_err(|_| Refusal::BadRequest("Host is malformed")),
    }
}
