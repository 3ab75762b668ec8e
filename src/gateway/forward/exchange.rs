//! The exchange of an authorized request and its response, on one connection to a server.

use std::sync::Arc;

use futures::FutureExt;
use http::{HeaderValue, Method, StatusCode};
use pingora::Result;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::HttpTask;
use tokio::task::coop::unconstrained;
use tracing::warn;

use super::client::Client;
use super::failure::ForwardFailure;
use super::response;
use super::response_filter::{ResponseFilter, ResponsePolicy};
use super::upstream_request::{self, ForwardedHeaders, RequestSecrets};
use crate::config::headers::OBSERVED;
use crate::gateway::decide::unsigned::PassReason;
use crate::gateway::receive::body::Body;
use crate::gateway::record::authorized::{AuthorizedRequest, RecordedPass};
use crate::gateway::upstream::MOST_INTERIM;
use crate::gateway::upstream::credentials::check::CheckTarget;
use crate::gateway::upstream::credentials::injection::Injection;
use crate::gateway::upstream::pool::connection::Connection;
use crate::gateway::upstream::pool::reuse::FinishedExchange;
use crate::gateway::upstream::pool::server::UpstreamServer;
use countersign_client::clock::Clock;
use countersign_core::refusal::Refusal;

/// Most pieces of a response that are passed on at once. The head and the body of a small response
/// arrive together.
const PIECES: usize = 4;

/// Sends one request, and passes its response on.
pub(super) struct Exchange<'a> {
    pub(super) request: &'a AuthorizedRequest,
    /// The credential that the request carries. Only a signed request has one.
    pub(super) injection: Option<&'a Injection>,
    /// The gateway's assertion about the machine and the request, where the route sends one.
    pub(super) assertion: Option<HeaderValue>,
    pub(super) server: &'a Arc<UpstreamServer>,
    /// For the question whether the backend accepts the credential.
    pub(super) lookups: &'a Arc<Connector>,
    pub(super) clock: &'a Clock,
}

/// The end of an exchange whose response the client has.
struct ResponseEnd {
    status: StatusCode,
    /// The response began before the request was sent.
    early: bool,
    /// The server sent all of the response.
    whole: bool,
}

impl Exchange<'_> {
    /// Runs the exchange to the end of the response: the request is sent and the response is passed
    /// on at the same time. Returns the facts about the connection. Only the verified `body` is
    /// sent, and it is released when it has been sent.
    ///
    /// # Errors
    ///
    /// [`ForwardFailure`]. Part of the request may have been sent, and part of the response passed
    /// on.
    pub(super) async fn run(
        &self,
        connection: &mut Connection,
        client: &mut Client,
        body: Body,
    ) -> Result<FinishedExchange, ForwardFailure> {
        let request = (self.upstream_request(client.head(), body.bytes().len()))
            .map_err(ForwardFailure::unsent)?;
        let was_head = request.method == Method::HEAD;
        let had_body = !body.bytes().is_empty();
        let queued = connection.queue(request, body.bytes()).await;
        queued.map_err(|error| ForwardFailure::unsent(error.into_up()))?;
        let answered = self.pass_answer(connection, client, body).await?;
        self.send_the_rest(connection, &answered).await;
        Ok(FinishedExchange {
            sent_whole: connection.stream.is_sent(),
            answered_early: answered.early,
            answered_whole: answered.whole,
            keep_alive: connection.agrees_to_stay(),
            was_head,
            had_body,
            status: answered.status,
        })
    }

    /// Sends the rest of a request whose response came before the request was sent: a server may
    /// answer first and go on reading (RFC 9112, section 9.3). After an error the rest is not sent.
    async fn send_the_rest(&self, connection: &Connection, answered: &ResponseEnd) {
        let is_error = answered.status.is_client_error() || answered.status.is_server_error();
        let stream = &connection.stream;
        if !answered.whole || is_error || stream.is_sent() {
            return;
        }
        let limit = self.request.upstream().write_timeout;
        tokio::select! {
            biased;
            () = stream.end_of_sending() => {}
            _ = stream.stalled(limit, limit) => {}
        }
        if !stream.is_sent() {
            warn!(
                request_id = %self.request.provenance.id,
                status = answered.status.as_u16(),
                "the backend answered before it had taken the request, and did not take the rest"
            );
        }
    }

    fn secrets(&self) -> RequestSecrets<'_> {
        RequestSecrets {
            injection: self.injection,
            assertion: self.assertion.as_ref(),
        }
    }

    /// Builds the upstream request.
    fn upstream_request(&self, client: &RequestHeader, body_len: usize) -> Result<RequestHeader> {
        let AuthorizedRequest { plan, route, .. } = self.request;
        let forwarded = ForwardedHeaders {
            client,
            provenance: &self.request.provenance,
            body_len,
            route: plan.route(*route),
            host: &self.server.host,
        };
        let upstream = self.request.upstream();
        let identity = &plan.config.identity_header;
        match &self.request.pass {
            RecordedPass::Signed(signed) => {
                upstream_request::signed(signed, self.secrets(), forwarded, upstream, identity)
            }
            RecordedPass::Open(open) => upstream_request::open(open, forwarded),
            RecordedPass::Unsigned(unsigned, _) => {
                upstream_request::unsigned(unsigned, forwarded, upstream, plan)
            }
        }
    }

    /// Sends the request, reads the response and passes it on, until the client has all of it.
    async fn pass_answer(
        &self,
        connection: &mut Connection,
        client: &mut Client,
        body: Body,
    ) -> Result<ResponseEnd, ForwardFailure> {
        let mut unsent = Some(body);
        let Connection {
            session, stream, ..
        } = connection;
        let upstream = self.request.upstream();
        let route = self.request.plan.route(self.request.route);
        let read_timeout = route.read_timeout.unwrap_or(upstream.read_timeout);
        let policy = ResponsePolicy::new(self.request, self.secrets());
        let mut filter = ResponseFilter::new(&policy);
        let mut interim = 0;
        let mut answered = ResponseEnd {
            status: StatusCode::OK,
            early: false,
            whole: false,
        };
        loop {
            let first = tokio::select! {
                biased;
                first = session.read_response_task() => first,
                gone = client.gone() => return Err(ForwardFailure::sent(gone)),
                sending = stream.stalled(upstream.write_timeout, read_timeout) => {
                    return Err(ForwardFailure::stalled(sending));
                }
            };
            if unsent.is_some() && stream.is_sent() {
                // With its share of the budget: the response may take long.
                unsent = None;
            }
            let mut pieces = Vec::with_capacity(PIECES);
            let mut next = Some(first);
            // Pieces that have arrived go out together; a failure ends them.
            while let Some(piece) = next.take() {
                let piece = match piece {
                    Ok(HttpTask::Header(mut head, end)) => {
                        let raw = session.get_headers_raw_bytes();
                        if self
                            .check_head(&mut head, &raw, client, end, &policy)
                            .await?
                        {
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
                    // Not within the task's budget, or it would seem not to have arrived.
                    next = unconstrained(session.read_response_task()).now_or_never();
                }
            }
            let Some(last) = pieces.last() else { continue };
            answered.whole = last.is_end() && !matches!(last, HttpTask::Failed(_));
            let pieces = filter.pass(pieces)?;
            if pieces.is_empty() {
                continue; // all is held back
            }
            let passed = tokio::select! {
                biased;
                passed = client.pass_on(pieces) => passed,
                never = stream.keep_sending() => match never {},
            };
            if passed.map_err(ForwardFailure::sent)? {
                return Ok(answered);
            }
        }
    }

    /// Prepares the head of a response for the client; `false` for an interim one, which is
    /// dropped.
    async fn check_head(
        &self,
        head: &mut ResponseHeader,
        raw: &[u8],
        client: &Client,
        end: bool,
        policy: &ResponsePolicy<'_>,
    ) -> Result<bool, ForwardFailure> {
        let (plan, id) = (&self.request.plan, self.request.provenance.id);
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(false);
        }
        self.server.answered();
        let status = head.status.as_u16();
        if self.refuses_the_gateway(head.status).await {
            warn!(request_id = %id, status, "the backend refuses the credential");
            let what = "the backend refuses the gateway's credential";
            return Err(ForwardFailure::replaced(Refusal::UpstreamCredential, what));
        }
        policy.check_head(head)?;
        let was_head = client.head().method == Method::HEAD;
        match response::prepare(head, raw, was_head, end, id, plan) {
            Ok(None) => {
                self.say_if_observed(head).map_err(ForwardFailure::sent)?;
                Ok(true)
            }
            Ok(Some(unfit)) => Err(self.unfit(Some(status), unfit.text())),
            Err(error) => Err(ForwardFailure::sent(error)),
        }
    }

    /// Adds the code with which an enforcing route would have refused the request: a signing client
    /// cannot find out otherwise.
    fn say_if_observed(&self, head: &mut ResponseHeader) -> Result<()> {
        if let RecordedPass::Unsigned(_, PassReason::Observed { code, .. }) = &self.request.pass {
            head.insert_header(OBSERVED, code.as_str())?;
        }
        Ok(())
    }

    /// The failure for a response that cannot be passed on.
    fn unfit(&self, status: Option<u16>, what: &'static str) -> ForwardFailure {
        warn!(request_id = %self.request.provenance.id, status, "{what}");
        ForwardFailure::replaced(Refusal::UpstreamError, what)
    }

    /// Whether a response with this status refuses the gateway's credential, and so is not for the
    /// client.
    async fn refuses_the_gateway(&self, status: StatusCode) -> bool {
        let upstream = self.request.upstream();
        let (Some(injection), Some(path)) = (self.injection, &upstream.check) else {
            return false;
        };
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            if status.is_success() {
                injection.worked();
            }
            return false;
        }
        let target = CheckTarget {
            connector: Arc::clone(self.lookups),
            peer: self.server.peer(),
            host: self.server.host.clone(),
            path: path.clone(),
            namespace: (upstream.login.as_ref()).and_then(|login| login.namespace_header()),
        };
        injection.is_refused(target, self.clock.now().mono).await
    }
}
