//! The reads that an adapter makes at the backend for one recorded request of a machine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::CONTENT_ENCODING;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::HttpTask;
use tokio::sync::Semaphore;
use tracing::warn;

use super::connect::connect;
use super::failure::ForwardFailure;
use super::response;
use super::response_filter::ResponsePolicy;
use super::upstream_request::{self, ForwardedHeaders, RequestSecrets};
use crate::audit::BackendPaths;
use crate::gateway::adapter::kv_answer::{KvAnswer, NotKv};
use crate::gateway::adapter::kv_read::KvRead;
use crate::gateway::adapter::translation::KvReader;
use crate::gateway::decide::policy::{Permitted, closed_path};
use crate::gateway::receive::body::{BodyBudget, Share};
use crate::gateway::record::authorized::{AuthorizedRequest, Recorded};
use crate::gateway::upstream::MOST_INTERIM;
use crate::gateway::upstream::credentials::check::CheckTarget;
use crate::gateway::upstream::credentials::injection::Injection;
use crate::gateway::upstream::pool::connection::Connection;
use crate::gateway::upstream::pool::reuse::FinishedExchange;
use crate::gateway::upstream::pool::server::UpstreamServer;
use countersign_client::clock::Clock;
use countersign_core::refusal::Refusal;

/// Longest answer of the backend to one read, in bytes. OpenBao stores entries of 1 MiB at most;
/// the names in a folder may need more. A longer one fails the call.
const MOST_OF_READ: usize = 4 << 20;

/// Most bytes that all answers to one call may have together. Beyond it the call fails.
const MOST_OF_CALL: usize = 32 << 20;

/// Makes the reads of one request. Only a request that a machine signed, and that is on record, can
/// have one; each read carries its identity and its credential.
pub(super) struct KvForwarder<'a> {
    pub(super) request: &'a AuthorizedRequest,
    pub(super) signed: &'a Recorded<Permitted>,
    pub(super) injection: &'a Injection,
    pub(super) kv: &'a str,
    /// The headers of the client that the reads carry.
    pub(super) client: &'a RequestHeader,
    pub(super) lookups: &'a Arc<Connector>,
    pub(super) clock: &'a Clock,
    pub(super) budget: &'a BodyBudget,
    /// The reads that all requests together may make at once.
    pub(super) slots: &'a Semaphore,
    pub(super) progress: Mutex<ReadProgress>,
}

/// What is known of the reads so far.
#[derive(Default)]
pub(super) struct ReadProgress {
    paths: BackendPaths,
    bytes: usize,
    share: Option<Share>,
    /// The server of the last read that was denied.
    denied_by: Option<Arc<UpstreamServer>>,
}

impl KvReader for KvForwarder<'_> {
    type Failure = ForwardFailure;

    async fn read(&self, read: &KvRead) -> Result<KvAnswer, ForwardFailure> {
        let target = read.target(self.kv);
        if closed_path(&target, self.request.plan.route(self.request.route)).is_some() {
            // No configuration and no id lead there; were it so, this read would still not be made.
            let why = "a read would lie in a path that is closed";
            return Err(ForwardFailure::replaced(Refusal::Internal, why));
        }
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        self.progress().paths.note(&target);
        let (server, mut connection) = connect(self.request, self.clock).await?;
        let exchanged = self
            .exchange(&server, &mut connection, read.method(), &target)
            .await;
        let (status, body, finished) = exchanged.inspect_err(|failure| {
            if failure.is_timeout_of_server() {
                server.timed_out(self.clock.now().mono);
            }
        })?;
        let now = self.clock.now().mono;
        connection.put_away(&server, &finished, now).await;
        let sent = RequestSecrets {
            injection: Some(self.injection),
            assertion: None,
        };
        ResponsePolicy::new(self.request, sent).check_body(&body)?;
        let answer = KvAnswer::understand(read.kind(), status, &body);
        let answer = answer.map_err(|NotKv(why)| self.unfit(Some(status), why))?;
        match answer {
            KvAnswer::Denied => self.progress().denied_by = Some(server),
            _ if status.is_success() => self.injection.worked(),
            _ => {}
        }
        Ok(answer)
    }
}

impl KvForwarder<'_> {
    /// Whether the backend refused the credential, and not a read. One question after all reads is
    /// enough: it begins after the last denial.
    pub(super) async fn is_refused(&self) -> bool {
        let denied_by = self.progress().denied_by.clone();
        let upstream = self.request.upstream();
        let (Some(server), Some(path)) = (denied_by, &upstream.check) else {
            return false;
        };
        let target = CheckTarget {
            connector: Arc::clone(self.lookups),
            peer: server.peer(),
            host: server.host.clone(),
            path: path.clone(),
            namespace: (upstream.login.as_ref()).and_then(|login| login.namespace_header()),
        };
        let now = self.clock.now().mono;
        self.injection.is_refused(target, now).await
    }

    /// The paths that were asked for.
    pub(super) fn paths(&self) -> BackendPaths {
        self.progress().paths.clone()
    }

    /// Sends one read, and reads the whole answer.
    async fn exchange(
        &self,
        server: &UpstreamServer,
        connection: &mut Connection,
        method: &str,
        target: &str,
    ) -> Result<(StatusCode, Bytes, FinishedExchange), ForwardFailure> {
        let request = self.upstream_request(server, method, target);
        let request = request.map_err(ForwardFailure::unsent)?;
        let queued = connection.queue(request, &Bytes::new()).await;
        queued.map_err(|error| ForwardFailure::unsent(error.into_up()))?;
        let (status, early, body) = self.answer(server, connection).await?;
        let finished = FinishedExchange {
            sent_whole: connection.stream.is_sent(),
            answered_early: early,
            answered_whole: true,
            keep_alive: connection.agrees_to_stay(),
            was_head: false,
            had_body: false,
            status,
        };
        Ok((status, body, finished))
    }

    fn upstream_request(
        &self,
        server: &UpstreamServer,
        method: &str,
        target: &str,
    ) -> pingora::Result<RequestHeader> {
        let AuthorizedRequest { plan, route, .. } = self.request;
        let forwarded = ForwardedHeaders {
            client: self.client,
            provenance: &self.request.provenance,
            body_len: 0,
            route: plan.route(*route),
            host: &server.host,
        };
        upstream_request::read(
            self.signed,
            self.injection,
            forwarded,
            self.request.upstream(),
            &plan.config.identity_header,
            (method, target),
        )
    }

    /// Reads an answer: its status, whether it came before the request was sent, and its body.
    async fn answer(
        &self,
        server: &UpstreamServer,
        connection: &mut Connection,
    ) -> Result<(StatusCode, bool, Bytes), ForwardFailure> {
        let Connection {
            session, stream, ..
        } = connection;
        let upstream = self.request.upstream();
        let route = self.request.plan.route(self.request.route);
        let read_timeout = route.read_timeout.unwrap_or(upstream.read_timeout);
        let (mut interim, mut head) = (0, None);
        let mut body = BytesMut::new();
        loop {
            let piece = tokio::select! {
                biased;
                piece = session.read_response_task() => piece,
                sending = stream.stalled(upstream.write_timeout, read_timeout) => {
                    return Err(ForwardFailure::stalled(sending));
                }
            };
            let piece = piece.map_err(|error| ForwardFailure::sent(error.into_up()))?;
            let is_last = piece.is_end();
            match piece {
                HttpTask::Header(mut found, end) => {
                    let is_interim = found.status.is_informational();
                    if is_interim && found.status != StatusCode::SWITCHING_PROTOCOLS {
                        interim += 1;
                        if interim > MOST_INTERIM {
                            return Err(self.unfit(None, "the backend sends interim answers only"));
                        }
                        continue;
                    }
                    server.answered();
                    let raw = session.get_headers_raw_bytes();
                    let (plan, id) = (&self.request.plan, self.request.provenance.id);
                    let status = Some(found.status);
                    match response::prepare(&mut found, &raw, false, end, id, plan) {
                        Ok(None) if found.headers.contains_key(CONTENT_ENCODING) => {
                            return Err(self.unfit(status, "the backend's answer is compressed"));
                        }
                        Ok(None) => head = Some((found.status, !stream.is_sent())),
                        Ok(Some(unfit)) => return Err(self.unfit(status, unfit.text())),
                        Err(error) => return Err(ForwardFailure::sent(error)),
                    }
                }
                HttpTask::Body(Some(bytes), _) => {
                    self.take(bytes.len(), body.len())?;
                    body.extend_from_slice(&bytes);
                }
                HttpTask::Failed(error) => return Err(ForwardFailure::sent(error.into_up())),
                _ => {}
            }
            if let (true, Some((status, early))) = (is_last, head) {
                return Ok((status, early, body.freeze()));
            }
        }
    }

    /// Takes room for more bytes of an answer that has `before` already.
    fn take(&self, more: usize, before: usize) -> Result<(), ForwardFailure> {
        let mut progress = self.progress();
        progress.bytes += more;
        if before + more > MOST_OF_READ || progress.bytes > MOST_OF_CALL {
            drop(progress);
            return Err(self.unfit(None, "the backend's answers are too long for one call"));
        }
        let share = self.budget.take(more);
        let share = share.map_err(|refusal| {
            ForwardFailure::replaced(refusal, "the budget of bodies is used up")
        })?;
        match &mut progress.share {
            Some(known) => known.absorb(share),
            None => progress.share = Some(share),
        }
        Ok(())
    }

    /// The failure for an answer that cannot be used.
    fn unfit(&self, status: Option<StatusCode>, what: &'static str) -> ForwardFailure {
        let status = status.map(|status| status.as_u16());
        warn!(request_id = %self.request.provenance.id, status, "{what}");
        ForwardFailure::replaced(Refusal::UpstreamError, what)
    }

    fn progress(&self) -> MutexGuard<'_, ReadProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
