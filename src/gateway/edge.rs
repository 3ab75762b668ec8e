//! The client's side: each request is read, judged in the order of the design, and then either
//! answered with a refusal or handed to the proxy phase. The backend hears of none before its
//! record is written.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use pingora::ErrorType;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tracing::error;

use super::Gateway;
use super::body::Body;
use super::decide::Stop;
use super::forward::{Forward, Passage};
use super::refuse::{self, Linger};
use super::request_id::RequestId;
use super::whole_session::WholeSession;
use crate::auth::refusal::Refusal;
use crate::config::HEADER_BYTES;

/// The application that Pingora runs for each request of a data listener.
pub(crate) struct Edge {
    gateway: Arc<Gateway>,
    proxy: Arc<HttpProxy<Forward>>,
    options: HttpServerOptions,
}

/// Left on a kept-alive connection: it has carried a request before, and may be idle.
struct Reused;

/// What reading the head of a request came to.
enum Head {
    Read,
    /// The client closed, or nothing came for as long as an idle connection is kept.
    Gone,
    Refused(Refusal),
}

impl Edge {
    pub(super) fn new(gateway: Arc<Gateway>, proxy: Arc<HttpProxy<Forward>>) -> Edge {
        let limits = &gateway.config.limits;
        let mut options = HttpServerOptions::default();
        options.keepalive_request_limit = Some(limits.requests_per_connection);
        options.h2_idle_timeout = Some(limits.keepalive);
        Edge {
            gateway,
            proxy,
            options,
        }
    }

    /// Reads the head of the next request, within one total deadline.
    async fn read_head(&self, session: &mut ServerSession, shutdown: &ShutdownWatch) -> Head {
        let limits = &self.gateway.config.limits;
        let idle = match session.take_connection_user_context() {
            Some(_) => limits.keepalive,
            None => Duration::ZERO,
        };
        // Between two bytes at most as long as an idle connection is kept, and never for ever.
        session.set_keepalive(Some(
            (limits.keepalive + limits.header_timeout).as_secs().max(1),
        ));
        session.set_write_timeout(Some(limits.write_timeout));
        session.set_read_timeout(Some(limits.body_timeout));
        session.set_total_drain_timeout(Some(limits.drain_timeout));
        session.set_ignore_info_resp(true);

        let mut shutdown = shutdown.clone();
        let read = tokio::select! {
            biased; // a request that has arrived is served, also while shutting down
            read = tokio::time::timeout(idle + limits.header_timeout, session.read_request()) => read,
            _ = shutdown.wait_for(|&stop| stop) => return Head::Gone,
        };
        match read {
            Ok(Ok(true)) => {
                // Reading has set it to "for ever"; a client that wants to close is respected.
                if session.get_keepalive().is_some() {
                    session.set_keepalive(Some(limits.keepalive.as_secs().max(1)));
                }
                if *shutdown.borrow() {
                    session.set_keepalive(None);
                }
                Head::Read
            }
            Ok(Ok(false)) => Head::Gone,
            Ok(Err(error)) => match error.etype() {
                ErrorType::InvalidHTTPHeader => Head::Refused(unreadable(&error)),
                _ => Head::Gone,
            },
            Err(_) if idle.is_zero() => Head::Refused(Refusal::RequestTimeout),
            Err(_) => Head::Gone,
        }
    }

    /// Judges the request; a panic on the way is a refusal too, and the next request is fine.
    async fn decide(
        &self,
        session: &mut ServerSession,
        id: RequestId,
    ) -> Result<(Passage, Body), Stop> {
        AssertUnwindSafe(self.gateway.decide(session, id))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                error!(request_id = %id, "a panic while a request was judged; it was not forwarded");
                Err(Stop::Unverified(Refusal::Internal))
            })
    }

    /// Runs the proxy phase, and gives the connection back for the next request where that is
    /// in order.
    async fn forward(
        &self,
        mut session: Box<ServerSession>,
        passage: Passage,
        body: Body,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session
            .req_header_mut()
            .extensions_mut()
            .insert(Arc::new(passage));
        let (whole, home) = WholeSession::new(session, body.bytes().clone());
        self.proxy
            .process_new_http(ServerSession::new_custom(Box::new(whole)), shutdown)
            .await;
        drop(body);
        let returned = home.take()?;
        if returned.reusable && !*shutdown.borrow() {
            reuse(*returned.session).await
        } else {
            self.linger().close(*returned.session).await;
            None
        }
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
            Ok(()) if framing_is_known => reuse(*session).await,
            Ok(()) => {
                self.linger().close(*session).await;
                None
            }
            Err(_) => None,
        }
    }

    fn linger(&self) -> Linger {
        let limits = &self.gateway.config.limits;
        Linger {
            bytes: limits.drain_bytes as usize,
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
        let mut session = Box::new(session);
        let head = self.read_head(&mut session, shutdown).await;
        let id = RequestId::next();
        let stop = match head {
            Head::Gone => return None,
            Head::Refused(refusal) => {
                let stop = Stop::Unverified(refusal);
                self.gateway.refused_unread(&session, &stop, id);
                return self.refuse(session, &stop, id, false).await;
            }
            Head::Read => match self.decide(&mut session, id).await {
                Ok((passage, body)) => return self.forward(session, passage, body, shutdown).await,
                Err(stop) => stop,
            },
        };
        self.gateway.refused(&session, &stop, id);
        self.refuse(session, &stop, id, true).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn h2_options(&self) -> Option<H2Options> {
        let limits = &self.gateway.config.limits;
        let mut options = default_h2_options();
        options.max_concurrent_streams(limits.h2_streams);
        options.max_header_list_size(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX));
        Some(options)
    }
}

/// Sends `100 Continue` where the client waits for it; called once the headers have passed.
pub(super) async fn send_continue(session: &mut ServerSession) -> pingora::Result<()> {
    let header = ResponseHeader::build(100, Some(0))?;
    session.write_response_header(Box::new(header)).await
}

async fn reuse(session: ServerSession) -> Option<ReusedHttpStream> {
    let mut settings = HttpPersistentSettings::for_session(&session);
    settings.set_user_context(Box::new(Reused));
    let stream = session.finish().await.ok().flatten()?;
    Some(ReusedHttpStream::from_reusable_stream(stream, settings))
}

/// The refusal for a head that Pingora's parser gave up on. It tells a block that is too large
/// only by its words.
fn unreadable(error: &pingora::Error) -> Refusal {
    let text = error.to_string();
    if text.contains("header larger than") || text.contains("too many headers") {
        Refusal::HeaderTooLarge
    } else {
        Refusal::BadRequest("the request line or a header is malformed")
    }
}
