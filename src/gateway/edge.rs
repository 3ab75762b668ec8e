//! The client's side: each request is read, judged in the order of the design, and then either
//! answered with a refusal or forwarded. The backend hears of none before its
//! record is written.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use futures::FutureExt;
use pingora::ErrorType;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::server::HttpSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use tracing::error;

use crate::auth::refusal::Refusal;
use crate::config::HEADER_BYTES;
use crate::gateway::Gateway;
use crate::gateway::decide::plan::Plan;
use crate::gateway::forward::client::{Afterwards, Client, ResetOnClose};
use crate::gateway::forward::forwarder::{Forward, Passage};
use crate::gateway::receive::body::Body;
use crate::gateway::receive::first_line::{self, FirstLine, NoHead};
use crate::gateway::receive::health;
use crate::gateway::receive::origin::{Origin, Source};
use crate::gateway::receive::refuse::{self, Linger, Stop};
use crate::gateway::receive::request_id::RequestId;
use crate::gateway::receive::request_stream::RequestStream;
use crate::gateway::record::decision_record::Ending;

/// The application that Pingora runs for each request of a data listener.
pub(crate) struct Edge {
    gateway: Arc<Gateway>,
    forward: Arc<Forward>,
    options: HttpServerOptions,
    /// The connection that it serves; `None` before there is one.
    origin: Option<Origin>,
    /// How its client's connection ends.
    reset: ResetOnClose,
    /// The path of the listener's health check, if it has one.
    health: Option<Arc<str>>,
}

/// Bytes of body that an HTTP/2 client may send ahead of being read. The default of 64 KiB carries
/// little more than 1 MB/s to a client 50 ms away; twice this is what a connection can hold unread.
const H2_WINDOW: u32 = 256 * 1024;

/// Left on a kept-alive connection: it has carried a request before, and may be idle.
struct Reused;

/// What reading the head of a request came to.
enum Head {
    /// With the request line as it was sent, where the protocol has one.
    Read(Box<ServerSession>, Option<FirstLine>),
    /// The client closed, or nothing came for as long as an idle connection is kept.
    Gone,
    Refused(Box<ServerSession>, Refusal),
}

impl Edge {
    pub(crate) fn new(gateway: Arc<Gateway>, forward: Arc<Forward>) -> Edge {
        Edge {
            gateway,
            forward,
            options: HttpServerOptions::default(),
            origin: None,
            reset: ResetOnClose::default(),
            health: None,
        }
    }

    /// The same for one connection, of a listener whose health check has this path.
    pub(crate) fn serving(
        &self,
        origin: Origin,
        reset: ResetOnClose,
        health: Option<Arc<str>>,
    ) -> Arc<Edge> {
        let limit = self.gateway.plan().limits().requests_per_connection;
        let mut options = HttpServerOptions::default();
        // Pingora counts how often the connection is used again.
        options.keepalive_request_limit = Some(limit.saturating_sub(1));
        Arc::new(Edge {
            gateway: Arc::clone(&self.gateway),
            forward: Arc::clone(&self.forward),
            options,
            origin: Some(origin),
            reset,
            health,
        })
    }

    /// Longest wait for a client to take some of what is written to it.
    pub(crate) fn write_timeout(&self) -> Duration {
        self.gateway.plan().limits().write_timeout
    }

    /// Reads the head of the next request: the wait for its first byte is idle time, and all the
    /// rest of the head has one total deadline.
    async fn read_head(&self, session: ServerSession, shutdown: &ShutdownWatch) -> Head {
        match session {
            ServerSession::H1(session) => self.read_h1_head(session, shutdown).await,
            // An HTTP/2 stream begins with a head that is complete.
            mut session => {
                let timeout = self.gateway.plan().limits().write_timeout;
                session.set_write_timeout(Some(timeout));
                Head::Read(Box::new(session), None)
            }
        }
    }

    async fn read_h1_head(&self, mut session: HttpSession, shutdown: &ShutdownWatch) -> Head {
        // A copy: a connection that is idle must not keep a plan that was replaced.
        let limits = *self.gateway.plan().limits();
        let reused = session.take_connection_user_context().is_some();
        let left = session.get_keepalive_reuses_remaining();
        let idle = match reused {
            true => limits.keepalive,
            false => limits.header_timeout,
        };
        let mut stop = shutdown.clone();
        let Some(mut stream) = RequestStream::next_request(session.into_inner()) else {
            return Head::Gone;
        };
        let begun = tokio::select! {
            biased; // a request that has arrived is served, also while shutting down
            begun = tokio::time::timeout(idle, FirstLine::wait(&mut stream)) => begun,
            _ = stop.wait_for(|&stop| stop) => return Head::Gone,
        };
        if !matches!(begun, Ok(true)) {
            return Head::Gone;
        }
        let mut deadline = pin!(tokio::time::sleep(limits.header_timeout));
        let head = tokio::select! {
            biased; // the deadline need not be set where everything is there
            head = FirstLine::read(&mut stream) => Some(head),
            () = &mut deadline => None,
        };
        let (head, line) = match head {
            Some(Ok((line, head))) => (head, Ok(line)),
            Some(Err(NoHead::Gone)) => return Head::Gone,
            Some(Err(NoHead::TooLarge)) => (BytesMut::new(), Err(Refusal::HeaderTooLarge)),
            None => (BytesMut::new(), Err(Refusal::RequestTimeout)),
        };
        let mut session = Box::new(first_line::session_with(stream, head));
        session.set_total_drain_timeout(Some(limits.drain_timeout));
        session.set_ignore_info_resp(true);
        session.set_keepalive_reuses_remaining(left);
        // The deadlines for the whole are kept here and in `body`; this bounds a single read.
        session.set_read_timeout(Some(limits.body_timeout + limits.header_timeout));
        let line = match line {
            Ok(line) => line,
            Err(refusal) => return Head::Refused(session, refusal),
        };
        let read = tokio::select! {
            biased;
            read = session.read_request() => Some(read),
            () = &mut deadline => None,
        };
        match read {
            Some(Ok(true)) => {
                // Reading has set it to "for ever"; a client that wants to close is respected.
                if session.get_keepalive().is_some() {
                    session.set_keepalive(Some(limits.keepalive.as_secs().max(1)));
                }
                if *shutdown.borrow() || self.gateway.leaving().is_set() {
                    session.set_keepalive(None);
                }
                Head::Read(session, Some(line))
            }
            Some(Err(error)) if *error.etype() == ErrorType::InvalidHTTPHeader => {
                Head::Refused(session, line.refusal(&error))
            }
            Some(Ok(false) | Err(_)) => Head::Gone,
            None => Head::Refused(session, Refusal::RequestTimeout),
        }
    }

    /// Judges the request; a panic on the way is a refusal too, and the next request is fine.
    async fn decide(
        &self,
        plan: &Arc<Plan>,
        session: &mut ServerSession,
        line: Option<&FirstLine>,
        source: Source,
        id: RequestId,
    ) -> Result<(Passage, Body), Stop> {
        AssertUnwindSafe(self.gateway.decide(plan, session, line, source, id))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                error!(request_id = %id, "a panic while a request was judged; it was not forwarded");
                Err(Stop::Unverified(Refusal::Internal))
            })
    }

    /// Forwards the request, and gives the connection back for the next one where that is in order.
    async fn forward(
        &self,
        session: Box<ServerSession>,
        passage: &Passage,
        body: Body,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let mut client = Client::new(session, self.gateway.leaving());
        let forwarding = self.forward.forward(&mut client, passage, body);
        let ended = AssertUnwindSafe(forwarding).catch_unwind().await;
        let afterwards = ended.unwrap_or_else(|_| {
            error!(request_id = %passage.provenance.id, "a panic while a request was forwarded");
            self.gateway.forwarded(passage, Ending::panicked());
            match client.afterwards() {
                Afterwards::Reset => Afterwards::Reset,
                _ => Afterwards::Close,
            }
        });
        let session = client.into_session();
        match afterwards {
            Afterwards::KeepAlive if !*shutdown.borrow() => return self.go_on(session).await,
            Afterwards::KeepAlive | Afterwards::Close => self.linger().close(session).await,
            Afterwards::Reset if matches!(session, ServerSession::H1(_)) => self.reset.set(),
            // An HTTP/2 stream resets itself alone, and leaves the connection to the others.
            Afterwards::Reset => {}
        }
        None
    }

    /// Answers a refused request. Before the signature has verified, nothing that the client
    /// sends on this connection is worth another look, so it is closed.
    async fn refuse(
        &self,
        mut session: Box<ServerSession>,
        stop: &Stop,
        id: RequestId,
        has_head: bool,
    ) -> Option<ReusedHttpStream> {
        let framing_is_known = matches!(stop, Stop::Denied(_));
        if !framing_is_known {
            session.set_keepalive(None);
        }
        let is_head = has_head && session.req_header().method == http::Method::HEAD;
        let written = refuse::write(&mut session, stop.refusal(), id, is_head).await;
        match written {
            Ok(()) if framing_is_known => self.go_on(*session).await,
            Ok(()) => {
                self.linger().close(*session).await;
                None
            }
            Err(_) => None,
        }
    }

    /// Gives the connection back for its next request. One that was told to close may have more on the
    /// way, a pipelined request, which must not cost it this answer.
    async fn go_on(&self, session: ServerSession) -> Option<ReusedHttpStream> {
        let is_last = session.get_keepalive().is_none()
            || session.get_keepalive_reuses_remaining() == Some(0);
        if matches!(session, ServerSession::H1(_)) && is_last {
            self.linger().close(session).await;
            return None;
        }
        let mut settings = HttpPersistentSettings::for_session(&session);
        settings.set_user_context(Box::new(Reused));
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }

    fn linger(&self) -> Linger {
        let plan = self.gateway.plan();
        let limits = plan.limits();
        Linger {
            bytes: limits.drain_bytes,
            time: limits.drain_timeout,
        }
    }
}

#[async_trait]
impl HttpServerApp for Edge {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let head = self.read_head(session, shutdown).await;
        let id = RequestId::next();
        match head {
            Head::Gone => None,
            Head::Refused(session, refusal) => {
                let stop = Stop::Unverified(refusal);
                let source = Source::of_connection(self.origin);
                self.gateway.refused_unread(&stop, source, id);
                self.refuse(session, &stop, id, false).await
            }
            Head::Read(mut session, _) if health::is_asked(&session, self.health.as_deref()) => {
                if self.gateway.answer_health(&mut session).await.is_ok() {
                    self.linger().close(*session).await;
                }
                None
            }
            Head::Read(mut session, line) => {
                let plan = self.gateway.plan();
                let source =
                    Source::of_request(self.origin, &session, &plan.config.trusted_proxies);
                let decided = self.decide(&plan, &mut session, line.as_ref(), source, id);
                match decided.await {
                    Ok((passage, body)) => self.forward(session, &passage, body, shutdown).await,
                    Err(stop) => {
                        self.gateway.refused(&plan, &session, &stop, source, id);
                        self.refuse(session, &stop, id, true).await
                    }
                }
            }
        }
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn h2_options(&self) -> Option<H2Options> {
        let plan = self.gateway.plan();
        let limits = plan.limits();
        let mut options = default_h2_options();
        options.max_concurrent_streams(limits.h2_streams);
        options.initial_window_size(H2_WINDOW);
        options.initial_connection_window_size(2 * H2_WINDOW);
        // Twice the limit: `framing` judges it, and answers as it answers everything.
        options.max_header_list_size(u32::try_from(2 * HEADER_BYTES).unwrap_or(u32::MAX));
        Some(options)
    }
}
