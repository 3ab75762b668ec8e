//! The edge: one request from its head to its end. It is received, decided, recorded, and then
//! answered with a refusal, forwarded, or answered as a call to the registry.

mod enrolment;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use tracing::error;

use super::assembly::Gateway;
use super::decide::rejection::Rejection;
use super::forward::client::{Afterwards, Client};
use super::plan::Plan;
use super::receive::body::Body;
use super::receive::first_line::FirstLine;
use super::receive::head::{self, RequestHead};
use super::receive::linger::Linger;
use super::receive::origin::{Origin, RequestSource};
use super::receive::request_id::RequestId;
use super::receive::reset_on_close::ResetOnClose;
use super::receive::{health, jwks, keep_alive, refusal_response};
use super::record::authorized::{Authorization, AuthorizedCall, AuthorizedRequest};
use super::record::outcome::{CallOutcome, RequestOutcome};
use crate::config::HEADER_BYTES;
use countersign_core::refusal::Refusal;

/// The application that Pingora runs for each request of a data listener.
pub(crate) struct Edge {
    gateway: Arc<Gateway>,
    options: HttpServerOptions,
    /// The source of the connection that it serves; `None` before there is one.
    origin: Option<Origin>,
    /// How its client's connection ends.
    reset: ResetOnClose,
    /// The path of the listener's health check, if it has one.
    health: Option<Arc<str>>,
}

/// Bytes of body that an HTTP/2 client may send ahead of being read. The default of 64 KiB carries
/// little more than 1 MB/s to a client 50 ms away. A connection can hold twice as many unread.
const H2_WINDOW: u32 = 256 * 1024;

impl Edge {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Edge {
        Edge {
            gateway,
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

    /// Judges the request, and writes the decision down. A panic on the way rejects the request,
    /// and the connection's next request is not affected.
    async fn authorize(
        &self,
        plan: &Arc<Plan>,
        session: &mut ServerSession,
        line: Option<&FirstLine>,
        source: RequestSource,
        id: RequestId,
    ) -> Result<(Authorization, Body), Rejection> {
        let Gateway {
            decider, recorder, ..
        } = &*self.gateway;
        let authorizing = async {
            let (decision, body) = decider.decide(plan, session, line, source, id).await?;
            let head = session.req_header();
            let recording = Authorization::record(recorder, plan, head, source, decision, &body);
            Ok((recording.await?, body))
        };
        AssertUnwindSafe(authorizing)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                error!(request_id = %id, "a panic while a request was judged; it was not forwarded");
                Err(Rejection::Unverified(Refusal::Internal))
            })
    }

    /// Forwards the request, and gives the connection back for its next request where the protocol
    /// allows that.
    async fn forward(
        &self,
        session: Box<ServerSession>,
        request: &AuthorizedRequest,
        body: Body,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let Gateway {
            recorder,
            forwarder,
            ..
        } = &*self.gateway;
        let mut client = Client::new(session, self.gateway.draining().clone());
        let forwarding = async {
            let (outcome, afterwards) = forwarder.forward(&mut client, request, body).await;
            outcome.record(recorder, request);
            afterwards
        };
        let ended = AssertUnwindSafe(forwarding).catch_unwind().await;
        let afterwards = ended.unwrap_or_else(|_| {
            error!(request_id = %request.provenance.id, "a panic while a request was forwarded");
            RequestOutcome::PANICKED.record(recorder, request);
            after_a_panic(&client)
        });
        self.end(client, afterwards, shutdown).await
    }

    /// Answers a call to the registry, and gives the connection back as [`Edge::forward`] does.
    async fn manage(
        &self,
        session: Box<ServerSession>,
        call: &AuthorizedCall,
        body: Body,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let Gateway {
            recorder, manager, ..
        } = &*self.gateway;
        let mut client = Client::new(session, self.gateway.draining().clone());
        let managing = async {
            let (outcome, afterwards) = manager.answer(&mut client, recorder, call, body).await;
            outcome.record(recorder, call);
            afterwards
        };
        let ended = AssertUnwindSafe(managing).catch_unwind().await;
        let afterwards = ended.unwrap_or_else(|_| {
            error!(request_id = %call.provenance.id, "a panic while a call was answered");
            CallOutcome::PANICKED.record(recorder, call);
            after_a_panic(&client)
        });
        self.end(client, afterwards, shutdown).await
    }

    /// Ends a request on its client's connection.
    async fn end(
        &self,
        client: Client,
        afterwards: Afterwards,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let session = client.into_session();
        match afterwards {
            Afterwards::KeepAlive if !*shutdown.borrow() => {
                return keep_alive::go_on(session, self.linger()).await;
            }
            Afterwards::KeepAlive | Afterwards::Close => self.linger().close(session).await,
            Afterwards::Reset if matches!(session, ServerSession::H1(_)) => self.reset.set(),
            // An HTTP/2 stream resets itself alone, and leaves the connection to the others.
            Afterwards::Reset => {}
        }
        None
    }

    /// Answers a rejected request. Before the signature has verified, the framing of what the
    /// client sends on this connection is not trusted, so it is closed.
    async fn refuse(
        &self,
        mut session: Box<ServerSession>,
        rejection: &Rejection,
        id: RequestId,
        has_head: bool,
    ) -> Option<ReusedHttpStream> {
        let framing_is_known = matches!(rejection, Rejection::Denied(_));
        if !framing_is_known {
            session.set_keepalive(None);
        }
        let is_head = has_head && session.req_header().method == http::Method::HEAD;
        let refusal = rejection.refusal();
        let written = refusal_response::write(&mut session, refusal, id, is_head).await;
        match written {
            Ok(()) if framing_is_known => keep_alive::go_on(*session, self.linger()).await,
            Ok(()) => {
                self.linger().close(*session).await;
                None
            }
            Err(_) => None,
        }
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

/// After a panic the client gets nothing more: its connection is not used again.
fn after_a_panic(client: &Client) -> Afterwards {
    match client.afterwards() {
        Afterwards::Reset => Afterwards::Reset,
        _ => Afterwards::Close,
    }
}

#[async_trait]
impl HttpServerApp for Edge {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let gateway = &self.gateway;
        // A copy: a connection that is idle must not keep a plan that was replaced.
        let limits = *gateway.plan().limits();
        let head = head::read(session, &limits, shutdown, gateway.draining()).await;
        let id = RequestId::next();
        match head {
            RequestHead::Gone => None,
            RequestHead::Refused(session, refusal) => {
                let rejection = Rejection::Unverified(refusal);
                let source = RequestSource::of_connection(self.origin);
                gateway.recorder.refused_unread(&rejection, source, id);
                self.refuse(session, &rejection, id, false).await
            }
            RequestHead::Read(mut session, _)
                if health::is_asked(&session, self.health.as_deref()) =>
            {
                let is_ready = gateway.readiness().check().is_ok();
                if health::answer(&mut session, is_ready).await.is_ok() {
                    self.linger().close(*session).await;
                }
                None
            }
            RequestHead::Read(mut session, line) => {
                let plan = gateway.plan();
                if let Some(assertions) = plan.assertions()
                    && health::is_asked(&session, assertions.jwks_path())
                {
                    if jwks::answer(&mut session, assertions.jwks()).await.is_ok() {
                        self.linger().close(*session).await;
                    }
                    return None;
                }
                let source =
                    RequestSource::of_request(self.origin, &session, &plan.config.trusted_proxies);
                if let Some(call) = Edge::enrolment_call(&plan, &session) {
                    return self
                        .enrol(plan, session, line.as_ref(), source, id, call)
                        .await;
                }
                let authorizing = self.authorize(&plan, &mut session, line.as_ref(), source, id);
                match authorizing.await {
                    Ok((Authorization::Forward(request), body)) => {
                        self.forward(session, &request, body, shutdown).await
                    }
                    Ok((Authorization::Manage(call), body)) => {
                        self.manage(session, &call, body, shutdown).await
                    }
                    Err(rejection) => {
                        let head = session.req_header();
                        (gateway.recorder).refused(&plan, head, &rejection, source, id);
                        (gateway.decider).refused(&plan, rejection.refusal().code(), source);
                        self.refuse(session, &rejection, id, true).await
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
        // Twice the limit: `framing` judges it, and refuses it with a response of the gateway's.
        options.max_header_list_size(u32::try_from(2 * HEADER_BYTES).unwrap_or(u32::MAX));
        Some(options)
    }
}
