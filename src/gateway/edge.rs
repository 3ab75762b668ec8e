//! The edge: one request from its head to its end. It is received, decided, recorded, and then
//! either answered with a refusal or forwarded.

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
use super::record::authorized::AuthorizedRequest;
use super::record::enrolment::EnrolmentFacts;
use super::record::outcome::RequestOutcome;
use crate::config::HEADER_BYTES;
use crate::enrolment::EnrolmentCall;
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
    ) -> Result<(AuthorizedRequest, Body), Rejection> {
        let Gateway {
            decider, recorder, ..
        } = &*self.gateway;
        let authorizing = async {
            let (decision, body) = decider.decide(plan, session, line, source, id).await?;
            let head = session.req_header();
            let recording =
                AuthorizedRequest::record(recorder, plan, head, source, decision, &body);
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
            match client.afterwards() {
                Afterwards::Reset => Afterwards::Reset,
                _ => Afterwards::Close,
            }
        });
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

    /// Enrols a machine, and closes the connection: whoever enrols has nothing else to ask unsigned.
    async fn enrol(
        &self,
        plan: Arc<Plan>,
        mut session: Box<ServerSession>,
        line: Option<&FirstLine>,
        source: RequestSource,
        id: RequestId,
        call: EnrolmentCall,
    ) -> Option<ReusedHttpStream> {
        let Gateway {
            decider,
            recorder,
            enrolments,
            ..
        } = &*self.gateway;
        let head = session.req_header();
        let facts = EnrolmentFacts {
            method: head.method.as_str().to_owned(),
            path: head.raw_path().to_owned(),
            route: call.route.clone(),
            source,
            id,
        };
        let enrolling = async {
            let receiving = decider.receive_enrolment(&plan, &mut session, line, source);
            let body = receiving.await.map_err(|refusal| (refusal, None))?;
            let enrolled = enrolments.enrol(recorder, &plan, call, body, &facts).await;
            enrolled.map_err(|why| (why.refusal, Some(why.cause)))
        };
        let ended = AssertUnwindSafe(enrolling).catch_unwind().await;
        let ended = ended.unwrap_or_else(|_| {
            error!(request_id = %id, "a panic while an enrolment was received");
            Err((Refusal::Internal, None))
        });
        let counts = plan.enrolment_counts(&facts.route);
        match ended {
            Ok(enrolled) => {
                session.set_keepalive(None);
                let answered = enrolments.answer(&mut session, &plan, &enrolled, id).await;
                if answered.is_ok() {
                    self.linger().close(*session).await;
                }
                None
            }
            Err((refusal, cause)) => {
                recorder.not_enrolled(&refusal, cause, &facts, counts);
                decider.refused(&plan, refusal.code(), source);
                let rejection = Rejection::Unverified(refusal);
                self.refuse(session, &rejection, id, true).await
            }
        }
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

/// The call that enrols a machine, if the request is one.
fn enrolment_call(plan: &Plan, session: &ServerSession) -> Option<EnrolmentCall> {
    let enrolment = plan.config.enrolment.as_ref()?;
    let target = std::str::from_utf8(session.req_header().raw_path()).ok()?;
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    EnrolmentCall::find(enrolment, path)
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
                if let Some(call) = enrolment_call(&plan, &session) {
                    return self
                        .enrol(plan, session, line.as_ref(), source, id, call)
                        .await;
                }
                let authorizing = self.authorize(&plan, &mut session, line.as_ref(), source, id);
                match authorizing.await {
                    Ok((request, body)) => self.forward(session, &request, body, shutdown).await,
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
