//! One client request, from its head to the response.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::answer::{AgentFault, AnswerBody, alive};
use super::body::{self, BufferedBody};
use super::gateway_answer::GatewayAnswer;
use super::guard::Guard;
use super::key::AgentKeys;
use super::notice::{self, GatewayReachability, Notices};
use super::outgoing::{self, ForwardedHeaderNames};
use super::pool::{AgentPool, NoAnswer};
use super::refused::{self, Refused};
use super::retry::{RetryOutcome, RetryPolicy};
use super::skew::{ClockCorrection, MOST, Skew};
use super::tls_fault;
use crate::clock::Clock;
use crate::signing::{Unsignable, any_method, parse_target};
use countersign_core::message::BodyHash;
use countersign_core::refusal::Code;
use countersign_core::target::QueryPolicy;

/// The path of the health check. The grammar refuses `;` in a path, so no backend can have it.
const HEALTH: &str = "/;health";

/// Bodies of this size and more, in bytes, are hashed on a blocking thread. Hashing takes
/// milliseconds, which would delay other requests.
const LARGE: usize = 256 * 1024;

/// The state that all requests share.
pub(super) struct AgentExchange {
    pub(super) guard: Guard,
    pub(super) keys: Arc<AgentKeys>,
    pub(super) skew: Skew,
    pub(super) pool: AgentPool,
    pub(super) clock: Clock,
    pub(super) forwarded: ForwardedHeaderNames,
    pub(super) query: QueryPolicy,
    pub(super) budget: Arc<Semaphore>,
    pub(super) max_body: u64,
    pub(super) answer_timeout: Duration,
    pub(super) patience: RetryPolicy,
    pub(super) reach: GatewayReachability,
    /// Logs the faults that the client's response does not show.
    pub(super) notices: Notices,
}

/// The parts of a request that all its attempts share.
struct Outgoing {
    method: Method,
    /// The signed target.
    signed: String,
    /// The sent target: the signed target behind the gateway's prefix.
    sent: String,
    headers: HeaderMap,
    body: BufferedBody,
    hash: BodyHash,
}

impl AgentExchange {
    /// Responds to a request. It never fails, because each fault has a response.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Infallible> {
        let (head, mut body) = request.into_parts();
        Ok(match self.judge(head, &mut body).await {
            Ok(answer) => answer,
            Err(fault) => {
                debug!(code = fault.code(), "refused");
                body::discard(body);
                fault.answer()
            }
        })
    }

    /// Connects to the gateway and disconnects, so that the log shows whether it can be reached.
    pub(super) async fn probe(&self) {
        let connector = self.pool.connector();
        if let Err(why) = connector.wire().await {
            self.reach.lost(self.now(), &connector.gateway, &why);
        }
    }

    async fn judge(
        &self,
        head: Parts,
        body: &mut Incoming,
    ) -> Result<Response<AnswerBody>, AgentFault> {
        self.guard.admit(&head)?;
        let target = head.uri.to_string();
        if target == HEALTH {
            return Ok(alive());
        }
        let room = [head.method.as_str().to_owned()];
        any_method(head.method.as_str(), &room).map_err(|_| AgentFault::MethodNotAllowed)?;
        let signed = match parse_target(target.as_bytes(), self.query) {
            Ok(signed) => signed.to_string(),
            Err(Unsignable::Target(why)) => return Err(AgentFault::BadTarget(why)),
            Err(_) => return Err(AgentFault::QueryNotAllowed),
        };
        let headers = self.forwarded.of(&head.headers)?;
        if self.query == QueryPolicy::Strip && head.uri.query().is_some() {
            self.notices.query_dropped(self.now());
        }
        let body = body::read(body, self.max_body, &self.budget).await?;
        let hash = hash(&body.bytes).await?;
        let outgoing = Outgoing {
            method: head.method,
            sent: format!("{}{signed}", self.pool.connector().gateway.prefix),
            signed,
            headers,
            body,
            hash,
        };
        self.deliver(&outgoing).await
    }

    /// Retries until a response is final. The body keeps its share of the memory budget until the
    /// response has begun, because the body is not needed after that.
    async fn deliver(&self, outgoing: &Outgoing) -> Result<Response<AnswerBody>, AgentFault> {
        let began = self.now();
        let mut corrected = false;
        for tries in 1.. {
            let tried = self.try_once(outgoing).await;
            let spent = self.now().saturating_sub(began);
            let pause = |outcome| self.patience.pause(outcome, tries, spent, chance());
            let (pause, why) = match tried {
                Err(NoAnswerYet::AgentFault(fault)) => return Err(fault),
                Err(NoAnswerYet::Unsent(fault)) => match pause(RetryOutcome::Unsent) {
                    Some(pause) => (pause, fault.code().to_owned()),
                    None => return Err(fault),
                },
                Ok(GatewayAnswer::Streaming(answer)) => {
                    (self.notices).passed_unsigned(self.now(), &answer, &outgoing.signed);
                    return Ok(answer);
                }
                Ok(GatewayAnswer::Refused(answer, refused)) if is_clock_skew(&refused) => {
                    // Once: a gateway that refuses its own time will refuse it again.
                    if corrected || !self.correct_clock(&refused) {
                        return Ok(answer);
                    }
                    corrected = true;
                    (Duration::ZERO, refused.code.as_str().to_owned())
                }
                Ok(GatewayAnswer::Refused(answer, refused)) => {
                    match pause(RetryOutcome::Refused(&refused)) {
                        Some(pause) => (pause, refused.code.as_str().to_owned()),
                        None => {
                            notice::refused(&refused.code, &outgoing.signed);
                            return Ok(answer);
                        }
                    }
                }
                Ok(GatewayAnswer::TooMany(answer)) => {
                    match pause(RetryOutcome::TooMany(refused::retry_after(
                        answer.headers(),
                    ))) {
                        Some(pause) => (pause, "429".to_owned()),
                        None => return Ok(answer),
                    }
                }
            };
            debug!(
                why,
                tries,
                pause_ms = pause.as_millis(),
                "retrying with a new signature"
            );
            tokio::time::sleep(pause).await;
        }
        Err(AgentFault::NotReady)
    }

    async fn try_once(&self, outgoing: &Outgoing) -> Result<GatewayAnswer, NoAnswerYet> {
        let request = self.signed(outgoing)?;
        let head = outgoing.method == Method::HEAD;
        match self.pool.send(request, self.answer_timeout).await {
            Ok((answer, lease)) => {
                self.reach.reached();
                Ok(GatewayAnswer::read(answer, lease, head).await)
            }
            Err(NoAnswer::Unsent(why)) => {
                self.reach
                    .lost(self.now(), &self.pool.connector().gateway, &why);
                Err(NoAnswerYet::Unsent(AgentFault::Unreachable(
                    why.to_string(),
                )))
            }
            Err(NoAnswer::BrokenOff(why))
                if why.is_parse() && !self.pool.connector().gateway.tls =>
            {
                let text = tls_fault::not_http(&self.pool.connector().gateway.authority);
                warn!("no HTTP response from the gateway: {text}");
                Err(NoAnswerYet::AgentFault(AgentFault::NotHttp(text)))
            }
            Err(NoAnswer::BrokenOff(why)) => {
                let gateway = &self.pool.connector().gateway;
                let why = match why.is_incomplete_message() && !gateway.tls {
                    true => tls_fault::hung_up(&gateway.authority),
                    false => self.pool.connector().tried().explained(&why),
                };
                warn!(
                    "the connection to the gateway broke after a request was sent, so the request is not retried: {why}"
                );
                Err(NoAnswerYet::AgentFault(AgentFault::BrokenOff))
            }
            Err(NoAnswer::Late) => {
                self.notices.late(self.now(), self.answer_timeout);
                Err(NoAnswerYet::AgentFault(AgentFault::NoAnswerInTime))
            }
        }
    }

    /// The request of one attempt, with a new signature.
    fn signed(
        &self,
        outgoing: &Outgoing,
    ) -> Result<Request<http_body_util::Full<Bytes>>, AgentFault> {
        let Outgoing { method, signed, .. } = outgoing;
        let now = self.skew.correct(self.clock.now().unix_seconds());
        let room = [method.as_str().to_owned()];
        let refused = |why: Unsignable| {
            warn!("cannot sign: {why}");
            AgentFault::CannotSign
        };
        let token = any_method(method.as_str(), &room).map_err(refused)?;
        // The target has parsed before, and this policy keeps all of it.
        let target = parse_target(signed.as_bytes(), QueryPolicy::Signed).map_err(refused)?;
        let signer = self.keys.current();
        let signing = signer
            .sign(token, target, outgoing.hash, now)
            .map_err(refused)?;
        let authority = &self.pool.connector().gateway.authority;
        let body = outgoing.body.bytes.clone();
        outgoing::request(
            method,
            &outgoing.sent,
            authority,
            &outgoing.headers,
            &signing,
            body,
        )
        .map_err(|_| AgentFault::BadRequest)
    }

    fn now(&self) -> Duration {
        self.clock.now().mono
    }

    /// Corrects the clock by the gateway's time. Returns whether a retry makes sense.
    fn correct_clock(&self, refused: &Refused) -> bool {
        let Some(server_time) = refused.server_time else {
            return false;
        };
        match self
            .skew
            .update(server_time, self.clock.now().unix_seconds())
        {
            ClockCorrection::Corrected(offset) => {
                warn!(
                    offset_seconds = offset,
                    "this machine's clock differs from the gateway's: signing by the gateway's time; set the clock"
                );
                true
            }
            ClockCorrection::NotBelieved => {
                warn!(
                    "the gateway reports a wrong clock on this machine, but plain HTTP does not \
                     authenticate the gateway, so its time is ignored; set the clock, or use https://"
                );
                false
            }
            ClockCorrection::TooFar(offset) => {
                warn!(
                    offset_seconds = offset,
                    "the gateway's clock differs by more than the {} hours that the agent corrects: set the clock",
                    MOST / 3600
                );
                false
            }
        }
    }
}

fn is_clock_skew(refused: &Refused) -> bool {
    refused.code.known() == Some(Code::ClockSkew)
}

/// Why one attempt has no response.
enum NoAnswerYet {
    /// No byte was sent, so a retry is safe.
    Unsent(AgentFault),
    /// The request must not be retried.
    AgentFault(AgentFault),
}

impl From<AgentFault> for NoAnswerYet {
    fn from(fault: AgentFault) -> NoAnswerYet {
        NoAnswerYet::AgentFault(fault)
    }
}

async fn hash(body: &Bytes) -> Result<BodyHash, AgentFault> {
    if body.len() < LARGE {
        return Ok(BodyHash::of(body));
    }
    let body = body.clone();
    (tokio::task::spawn_blocking(move || BodyHash::of(&body)).await)
        .map_err(|_| AgentFault::NotReady)
}

/// A number from 0 to 1, for jitter; not cryptographic.
fn chance() -> f64 {
    f64::from(RandomState::new().hash_one(0u8) as u32) / f64::from(u32::MAX)
}
