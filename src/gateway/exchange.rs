//! A verified request and its answer, on one connection to a server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::{Error, ErrorType, Result};
use tokio::task::coop::unconstrained;
use tracing::warn;

use super::answer::{self, Unfit};
use super::client::Client;
use super::credentials::Place;
use super::forward::{Failure, Forward, Passage, Permit};
use super::pool::Server;
use super::stamp::{self, Crossing};
use super::unsigned::Grounds;
use crate::auth::refusal::Refusal;
use crate::config::headers::OBSERVED;

/// Pieces of an answer that are passed on at once, where they are there at once: the head and the
/// body of a small one are.
const PIECES: usize = 4;

/// Interim answers (RFC 9110, section 15.2) before the final one. They do not cross.
const MOST_INTERIM: usize = 32;

/// Sends one request, and passes its answer on.
pub(super) struct Exchange<'a> {
    pub(super) forward: &'a Forward,
    pub(super) passage: &'a Passage,
    pub(super) server: &'a Arc<Server>,
    /// The verified body: all that ever crosses of it.
    pub(super) body: &'a Bytes,
}

impl Exchange<'_> {
    /// Runs it to the end of the answer; whether the connection may be used again.
    ///
    /// # Errors
    ///
    /// [`Failure`]. Some of the request may have been sent, and some of the answer passed on.
    pub(super) async fn run(
        &self,
        connection: &mut HttpSession,
        client: &mut Client,
    ) -> Result<bool, Failure> {
        let request = self.request(client.head()).map_err(Failure::unsent)?;
        let sending = self.send(connection, request);
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            gone = client.gone() => return Err(Failure::sent(gone)),
        };
        // Where the body broke off there may still be an answer that says why.
        let broken = match sent {
            Ok(broken) => broken,
            Err(error) => return Err(Failure::sent(error.into_up())),
        };
        let answered_whole = match self.pass_answer(connection, client).await {
            Err(mut failure) if failure.is_of_server() => {
                if let Some(broken) = broken {
                    failure = Failure::sent(broken.into_up());
                }
                return Err(failure);
            }
            outcome => outcome?,
        };
        Ok(answered_whole && broken.is_none())
    }

    /// What crosses, built anew.
    fn request(&self, client: &RequestHeader) -> Result<RequestHeader> {
        let Passage { plan, route, .. } = self.passage;
        let crossing = Crossing {
            client,
            provenance: &self.passage.provenance,
            body_len: self.body.len(),
            route: plan.route(*route),
            host: &self.server.host,
        };
        let upstream = plan.upstream(*route);
        let identity = &plan.config.identity_header;
        match &self.passage.permit {
            Permit::Signed(recorded) => stamp::request(recorded, crossing, upstream, identity),
            Permit::Open(open) => stamp::open_request(open, crossing),
            Permit::Unsigned(unsigned) => stamp::unsigned_request(unsigned, crossing, plan),
        }
    }

    /// Sends the head and the body. A failure of the body's is given back as a value.
    async fn send(
        &self,
        connection: &mut HttpSession,
        request: RequestHeader,
    ) -> Result<Option<Box<Error>>> {
        // Pingora's own time-out covers writing, and not the flush behind it.
        let limit = connection.write_timeout.unwrap_or(Duration::MAX);
        in_time(limit, connection.write_request_header(Box::new(request))).await?;
        let body = async {
            if !self.body.is_empty() {
                connection.write_body(self.body).await?;
            }
            in_time(limit, connection.finish_body()).await
        };
        Ok(body.await.err())
    }

    /// Reads the answer and passes it on, until the client has all of it; whether the server has
    /// said all of it too.
    async fn pass_answer(
        &self,
        connection: &mut HttpSession,
        client: &mut Client,
    ) -> Result<bool, Failure> {
        let mut interim = 0;
        loop {
            let first = tokio::select! {
                biased;
                first = connection.read_response_task() => first,
                gone = client.gone() => return Err(Failure::sent(gone)),
            };
            let mut pieces = Vec::with_capacity(PIECES);
            let mut next = Some(first);
            // What is there already goes out together; a failure ends it.
            while let Some(piece) = next.take() {
                let piece = match piece {
                    Ok(HttpTask::Header(mut head, end)) => {
                        if self.check_head(&mut head, client, end).await? {
                            HttpTask::Header(head, end)
                        } else {
                            interim += 1;
                            if interim > MOST_INTERIM {
                                return Err(
                                    self.unfit(None, "the backend sends interim answers only")
                                );
                            }
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
                    next = unconstrained(connection.read_response_task()).now_or_never();
                }
            }
            let Some(last) = pieces.last() else { continue };
            let said_all = last.is_end() && !matches!(last, HttpTask::Failed(_));
            if client.pass_on(pieces).await.map_err(Failure::sent)? {
                return Ok(said_all);
            }
        }
    }

    /// Makes the head of an answer what crosses of it; `false` for an interim one, which does not.
    async fn check_head(
        &self,
        head: &mut ResponseHeader,
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
        let may_have_body = client.head().method != Method::HEAD && !end;
        match answer::response(head, may_have_body, id, plan) {
            Ok(None) => {
                self.say_if_observed(head).map_err(Failure::sent)?;
                Ok(true)
            }
            Ok(Some(unfit)) => {
                let what = match unfit {
                    Unfit::Framing => "the backend's answer has no certain length",
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

/// Gives a write up when the server has not taken it in time.
async fn in_time<T>(limit: Duration, write: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, write).await {
        Ok(outcome) => outcome,
        Err(_) => Error::e_explain(ErrorType::WriteTimedout, "while sending a request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_never_taken_is_given_up() {
        let never = std::future::pending::<Result<()>>();
        let outcome = in_time(Duration::from_secs(30), never).await;
        let kind = outcome.map_err(|error| error.etype().clone());
        assert_eq!(kind, Err(ErrorType::WriteTimedout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_taken_keeps_its_outcome() {
        let outcome = in_time(Duration::from_secs(30), async { Ok(7) }).await;
        assert!(matches!(outcome, Ok(7)));
    }
}
