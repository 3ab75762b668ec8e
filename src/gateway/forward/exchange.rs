//! A verified request and its answer, on one connection to a server.

use std::sync::Arc;

use futures::FutureExt;
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::HttpTask;
use tokio::task::coop::unconstrained;
use tracing::warn;

use crate::auth::refusal::Refusal;
use crate::config::headers::OBSERVED;
use crate::gateway::decide::unsigned::Grounds;
use crate::gateway::forward::client::Client;
use crate::gateway::forward::forwarder::{Failure, Forward, Passage, Permit};
use crate::gateway::forward::response::{self, Unfit};
use crate::gateway::forward::upstream_request::{self, Crossing};
use crate::gateway::receive::body::Body;
use crate::gateway::upstream::credentials::Place;
use crate::gateway::upstream::pool::{Connection, Exchanged, Server};

/// Pieces of an answer that are passed on at once, where they are there at once: the head and the
/// body of a small one are.
const PIECES: usize = 4;

/// Interim answers (RFC 9110, section 15.2) before the final one. They do not cross.
const MOST_INTERIM: usize = 32;

/// Sends one request, and passes its answer on.
pub(crate) struct Exchange<'a> {
    pub(crate) forward: &'a Forward,
    pub(crate) passage: &'a Passage,
    pub(crate) server: &'a Arc<Server>,
}

/// What came of an exchange whose answer the client has.
struct Answered {
    status: StatusCode,
    /// It began before the request was sent.
    early: bool,
    /// The server has said all of it, too.
    whole: bool,
}

impl Exchange<'_> {
    /// Runs it to the end of the answer: the request is sent and the answer is passed on at the
    /// same time. Gives back what is known of the connection then. Of the verified `body` is all that
    /// ever crosses; it is let go when it has been sent.
    ///
    /// # Errors
    ///
    /// [`Failure`]. Some of the request may have been sent, and some of the answer passed on.
    pub(crate) async fn run(
        &self,
        connection: &mut Connection,
        client: &mut Client,
        body: Body,
    ) -> Result<Exchanged, Failure> {
        let request = (self.request(client.head(), body.bytes().len())).map_err(Failure::unsent)?;
        let was_head = request.method == Method::HEAD;
        let had_body = !body.bytes().is_empty();
        let queued = connection.queue(request, body.bytes()).await;
        queued.map_err(|error| Failure::unsent(error.into_up()))?;
        let answered = self.pass_answer(connection, client, body).await?;
        self.send_the_rest(connection, &answered).await;
        Ok(Exchanged {
            sent_whole: connection.stream.is_sent(),
            answered_early: answered.early,
            answered_whole: answered.whole,
            keep_alive: connection.agrees_to_stay(),
            was_head,
            had_body,
            status: answered.status,
        })
    }

    /// Sends what is left of a request that was answered well before it was sent: a server may answer
    /// first and go on reading (RFC 9112, section 9.3). After an error nobody waits for the rest.
    async fn send_the_rest(&self, connection: &Connection, answered: &Answered) {
        let is_error = answered.status.is_client_error() || answered.status.is_server_error();
        let stream = &connection.stream;
        if !answered.whole || is_error || stream.is_sent() {
            return;
        }
        let limit = self.passage.plan.upstream(self.passage.route).write_timeout;
        tokio::select! {
            biased;
            () = stream.end_of_sending() => {}
            _ = stream.stalled(limit, limit) => {}
        }
        if !stream.is_sent() {
            warn!(
                request_id = %self.passage.provenance.id,
                status = answered.status.as_u16(),
                "the backend answered before it had taken the request, and did not take the rest"
            );
        }
    }

    /// What crosses, built anew.
    fn request(&self, client: &RequestHeader, body_len: usize) -> Result<RequestHeader> {
        let Passage { plan, route, .. } = self.passage;
        let crossing = Crossing {
            client,
            provenance: &self.passage.provenance,
            body_len,
            route: plan.route(*route),
            host: &self.server.host,
        };
        let upstream = plan.upstream(*route);
        let identity = &plan.config.identity_header;
        match &self.passage.permit {
            Permit::Signed(recorded) => {
                upstream_request::request(recorded, crossing, upstream, identity)
            }
            Permit::Open(open) => upstream_request::open_request(open, crossing),
            Permit::Unsigned(unsigned) => {
                upstream_request::unsigned_request(unsigned, crossing, plan)
            }
        }
    }

    /// Sends the request, reads the answer and passes it on, until the client has all of it.
    async fn pass_answer(
        &self,
        connection: &mut Connection,
        client: &mut Client,
        body: Body,
    ) -> Result<Answered, Failure> {
        let mut unsent = Some(body);
        let Connection {
            session, stream, ..
        } = connection;
        let upstream = self.passage.plan.upstream(self.passage.route);
        let route = self.passage.plan.route(self.passage.route);
        let read_timeout = route.read_timeout.unwrap_or(upstream.read_timeout);
        let mut interim = 0;
        let mut answered = Answered {
            status: StatusCode::OK,
            early: false,
            whole: false,
        };
        loop {
            let first = tokio::select! {
                biased;
                first = session.read_response_task() => first,
                gone = client.gone() => return Err(Failure::sent(gone)),
                sending = stream.stalled(upstream.write_timeout, read_timeout) => {
                    return Err(Failure::stalled(sending));
                }
            };
            if unsent.is_some() && stream.is_sent() {
                // With its share of the budget: the answer may take as long as it likes.
                unsent = None;
            }
            let mut pieces = Vec::with_capacity(PIECES);
            let mut next = Some(first);
            // What is there already goes out together; a failure ends it.
            while let Some(piece) = next.take() {
                let piece = match piece {
                    Ok(HttpTask::Header(mut head, end)) => {
                        let raw = session.get_headers_raw_bytes();
                        if self.check_head(&mut head, &raw, client, end).await? {
                            answered.status = head.status;
                            answered.early = !stream.is_sent();
                            HttpTask::Header(head, end)
                        } else {
                            interim += 1;
                            if interim > MOST_INTERIM {
                                return Err(
                                    self.unfit(None, "the backend sends interim answers only")
                                );
                            }
                            next = unconstrained(session.read_response_task()).now_or_never();
                            continue;
                        }
                    }
                    Ok(piece) => piece,
                    Err(error) => HttpTask::Failed(error.into_up()),
                };
                let is_last = piece.is_end() || matches!(piece, HttpTask::Failed(_));
                pieces.push(piece);
                if !is_last && pieces.len() < PIECES {
                    // Not within the budget of the task, or it would seem not to be there.
                    next = unconstrained(session.read_response_task()).now_or_never();
                }
            }
            let Some(last) = pieces.last() else { continue };
            answered.whole = last.is_end() && !matches!(last, HttpTask::Failed(_));
            let passed = tokio::select! {
                biased;
                passed = client.pass_on(pieces) => passed,
                never = stream.keep_sending() => match never {},
            };
            if passed.map_err(Failure::sent)? {
                return Ok(answered);
            }
        }
    }

    /// Makes the head of an answer what crosses of it; `false` for an interim one, which does not.
    async fn check_head(
        &self,
        head: &mut ResponseHeader,
        raw: &[u8],
        client: &Client,
        end: bool,
    ) -> Result<bool, Failure> {
        let (plan, id) = (&self.passage.plan, self.passage.provenance.id);
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(false);
        }
        self.server.answered();
        let status = head.status.as_u16();
        if self.refuses_the_gateway(head.status).await {
            warn!(request_id = %id, status, "the backend refuses the credential");
            let what = "the backend refuses the gateway's credential";
            return Err(Failure::verdict(Refusal::UpstreamCredential, what));
        }
        let was_head = client.head().method == Method::HEAD;
        match response::response(head, raw, was_head, end, id, plan) {
            Ok(None) => {
                self.say_if_observed(head).map_err(Failure::sent)?;
                Ok(true)
            }
            Ok(Some(unfit)) => {
                let what = match unfit {
                    Unfit::Framing => "the backend's answer has ambiguous framing",
                    Unfit::Status => "the backend's answer has a status outside 200 to 599",
                    Unfit::Upgrade => "the backend switched protocols",
                    Unfit::Redirect => "the backend answered with a redirect",
                };
                Err(self.unfit(Some(status), what))
            }
            Err(error) => Err(Failure::sent(error)),
        }
    }

    /// Says that the request passed only because its route observes, and what enforcing would say: a
    /// client that signs cannot tell otherwise.
    fn say_if_observed(&self, head: &mut ResponseHeader) -> Result<()> {
        if let Permit::Unsigned(unsigned) = &self.passage.permit
            && let Grounds::Observed { code, .. } = unsigned.grounds()
        {
            head.insert_header(OBSERVED, code.as_str())?;
        }
        Ok(())
    }

    /// The answer cannot be passed on.
    fn unfit(&self, status: Option<u16>, what: &'static str) -> Failure {
        warn!(request_id = %self.passage.provenance.id, status, "{what}");
        Failure::verdict(Refusal::UpstreamError, what)
    }

    /// Whether an answer with this status refuses the gateway's credential, and so is no answer for
    /// the client.
    async fn refuses_the_gateway(&self, status: StatusCode) -> bool {
        let Permit::Signed(recorded) = &self.passage.permit else {
            return false;
        };
        let upstream = self.passage.plan.upstream(self.passage.route);
        let (Some(injection), Some(path)) = (recorded.injection(), &upstream.check) else {
            return false;
        };
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            if status.is_success() {
                injection.worked().await;
            }
            return false;
        }
        let place = Place {
            connector: self.forward.lookups(),
            peer: self.server.peer(),
            host: self.server.host.clone(),
            path: path.clone(),
        };
        injection.is_refused(place).await
    }
}
