//! The proxy phase: a verified request goes to a server of its upstream, at most once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use http::header::HOST;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use tracing::warn;

use super::Gateway;
use super::account::Ending;
use super::answer::{self, Unfit};
use super::credentials::Place;
use super::open::OpenRecorded;
use super::plan::Plan;
use super::pool::{self, Server, Walk};
use super::recorded::Recorded;
use super::refuse;
use super::stamp::{self, Crossing, Provenance};
use super::unsigned::UnsignedRecorded;
use crate::auth::refusal::Refusal;

/// A recorded request on its way into the proxy phase. It travels in the extensions of the
/// request head, which only this process can fill; a request without one is not forwarded.
#[derive(Debug)]
pub(super) struct Passage {
    /// What it was judged by, and is forwarded by.
    pub(super) plan: Arc<Plan>,
    pub(super) permit: Permit,
    pub(super) provenance: Provenance,
    pub(super) route: usize,
    pub(super) body_len: usize,
}

/// What lets a request pass.
#[derive(Debug)]
pub(super) enum Permit {
    /// A machine's signature.
    Signed(Recorded),
    /// An open route.
    Open(OpenRecorded),
    /// A route that still lets requests pass that nobody signed.
    Unsigned(UnsignedRecorded),
}

/// The proxy phase as Pingora calls it.
pub(super) struct Forward {
    pub(super) gateway: Arc<Gateway>,
    /// For questions of the gateway's own.
    pub(super) lookups: Arc<Connector>,
}

/// What is kept while one request is forwarded.
#[derive(Default)]
pub(super) struct Progress {
    passage: Option<Arc<Passage>>,
    walk: Walk,
    /// The server in hand.
    server: Option<Arc<Server>>,
    /// When the first attempt to reach a server began, on the monotonic clock.
    started: Duration,
    /// The request is on its way to a server, or has been.
    sent: bool,
    /// Why the backend's answer was not passed on, where that was the gateway's decision.
    verdict: Option<Refusal>,
}

impl Forward {
    /// Whether an answer with this status refuses the gateway's credential, and so is no answer for
    /// the client.
    async fn refuses_the_gateway(
        &self,
        passage: &Passage,
        status: StatusCode,
        server: Option<&Server>,
    ) -> bool {
        let Permit::Signed(recorded) = &passage.permit else {
            return false;
        };
        let check = passage.plan.upstream(passage.route).check.as_ref();
        let (Some(injection), Some(path), Some(server)) = (recorded.injection(), check, server)
        else {
            return false;
        };
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            if status.is_success() {
                injection.worked().await;
            }
            return false;
        }
        let place = Place {
            connector: Arc::clone(&self.lookups),
            peer: server.peer(),
            host: server.host.clone(),
            path: path.clone(),
        };
        injection.is_refused(place, &self.gateway.clock).await
    }
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = Progress;

    fn new_ctx(&self) -> Progress {
        Progress::default()
    }

    /// Pingora's compression module is not wanted: a body crosses as it is.
    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Progress) -> Result<()> {
        ctx.passage = session.req_header().extensions.get().cloned();
        ctx.started = self.gateway.clock.now().mono;
        passage(ctx).map(drop)
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Progress) -> Result<Box<HttpPeer>> {
        let passage = Arc::clone(passage(ctx)?);
        let now = self.gateway.clock.now().mono;
        match passage.plan.pool(passage.route).step(&mut ctx.walk, now) {
            Some(server) => {
                let mut peer = Box::new(server.peer());
                ctx.server = Some(Arc::clone(server));
                if let Some(timeout) = passage.plan.route(passage.route).read_timeout {
                    peer.options.read_timeout = Some(timeout);
                }
                Ok(peer)
            }
            None => Error::e_explain(ErrorType::ConnectError, "no server is left to try"),
        }
    }

    /// Nothing has been sent: the next server may have it.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        peer: &HttpPeer,
        ctx: &mut Progress,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let why = pool::reason(&error);
        warn!(server = %peer._address, error = why, "cannot reach a server of the upstream");
        if let Some(server) = &ctx.server {
            server.refused_connection(self.gateway.clock.now().mono);
        }
        let more =
            (ctx.passage.as_ref()).is_some_and(|it| it.plan.pool(it.route).has_more(&ctx.walk));
        error.set_retry(more);
        error
    }

    /// Something may have been sent: a verified request goes out at most once.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Progress,
        _: bool,
    ) -> Box<Error> {
        let timed_out = matches!(
            (error.esource(), error.etype()),
            (
                ErrorSource::Upstream,
                ErrorType::ReadTimedout | ErrorType::WriteTimedout
            )
        );
        if let (true, Some(server)) = (timed_out, &ctx.server) {
            server.timed_out(self.gateway.clock.now().mono);
        }
        error.set_retry(false);
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Progress,
    ) -> Result<()> {
        let passage = passage(ctx)?;
        let plan = &passage.plan;
        let crossing = Crossing {
            client: session.req_header(),
            provenance: &passage.provenance,
            body_len: passage.body_len,
            route: plan.route(passage.route),
        };
        let upstream = plan.upstream(passage.route);
        let identity = &plan.config.identity_header;
        *request = match &passage.permit {
            Permit::Signed(recorded) => stamp::request(recorded, crossing, upstream, identity)?,
            Permit::Open(open) => stamp::open_request(open, crossing)?,
            Permit::Unsigned(unsigned) => {
                stamp::unsigned_request(unsigned, crossing, upstream, identity)?
            }
        };
        if let Some(server) = &ctx.server {
            request.insert_header(HOST, server.host.clone())?;
        }
        ctx.sent = true;
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Progress,
    ) -> Result<()> {
        let passage = passage(ctx)?;
        let (plan, id) = (&passage.plan, passage.provenance.id);
        let server = ctx.server.as_deref();
        if let Some(server) = server {
            server.answered();
        }
        if self
            .refuses_the_gateway(passage, response.status, server)
            .await
        {
            warn!(request_id = %id, status = response.status.as_u16(), "the backend refuses the credential");
            ctx.verdict = Some(Refusal::UpstreamCredential);
            let what = "the backend refuses the gateway's credential";
            return Error::e_explain(ErrorType::InvalidHTTPHeader, what).map_err(Error::into_up);
        }
        let unfit = answer::response(response, id, plan)?;
        if let Some(unfit) = unfit {
            let what = match unfit {
                Unfit::Framing => "the backend's answer has no certain length",
                Unfit::Upgrade => "the backend switched protocols",
                Unfit::Redirect => "the backend answered with a redirect",
            };
            warn!(request_id = %passage.provenance.id, status = response.status.as_u16(), "{what}");
            ctx.verdict = Some(Refusal::UpstreamError);
            return Error::e_explain(ErrorType::InvalidHTTPHeader, what).map_err(Error::into_up);
        }
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Progress,
    ) -> FailToProxy {
        let refusal = ctx.verdict.take().or_else(|| refusal_for(error, ctx.sent));
        let mut error_code = 0;
        if let (Some(refusal), None) = (&refusal, session.response_written()) {
            error_code = refusal.code().status();
            let id = match &ctx.passage {
                Some(passage) => passage.provenance.id,
                None => super::request_id::RequestId::next(),
            };
            let is_head = session.req_header().method == http::Method::HEAD;
            let client = &mut session.downstream_session;
            if refuse::write(client, refusal, id, is_head).await.is_ok() {
                // The answer is whole, and the request was read whole.
                let _ = client.finish_body().await;
            }
        }
        ctx.verdict = refusal;
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Progress) {
        let Some(passage) = &ctx.passage else { return };
        let elapsed = self.gateway.clock.now().mono.saturating_sub(ctx.started);
        let status = session.response_written().map(|r| r.status.as_u16());
        if let Some(error) = error {
            // `Error`'s own text may hold the peer's words; its kind and source suffice.
            warn!(
                request_id = %passage.provenance.id,
                error = error.etype().as_str(),
                source = error.esource().as_str(),
                status,
                "a forwarded request failed"
            );
        }
        self.gateway.forwarded(
            passage,
            Ending {
                status,
                bytes: session.body_bytes_sent() as u64,
                upstream_took: elapsed,
                failed: error.is_some(),
                refusal: ctx.verdict.as_ref(),
            },
        );
    }

    // What Pingora would log holds the query; `logging` says what matters.

    fn suppress_error_log(&self, _: &Session, _: &Progress, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Progress,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// The permit to forward; without one nothing is.
fn passage(ctx: &Progress) -> Result<&Arc<Passage>> {
    match &ctx.passage {
        Some(passage) => Ok(passage),
        None => Error::e_explain(ErrorType::InternalError, "the request was not recorded"),
    }
}

/// The refusal for a failure of the proxy phase; `None` where the client is gone. Once something
/// has been sent, no answer may say that nothing was.
fn refusal_for(error: &Error, sent: bool) -> Option<Refusal> {
    use ErrorType::{
        ConnectError, ConnectNoRoute, ConnectProxyFailure, ConnectRefused, ConnectTimedout,
        InvalidCert, ReadTimedout, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout,
        WriteTimedout,
    };
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, _) => None,
        (
            _,
            ConnectError | ConnectNoRoute | ConnectProxyFailure | ConnectRefused | ConnectTimedout
            | InvalidCert | TLSHandshakeFailure | TLSHandshakeTimedout | SocketError,
        ) if !sent => Some(Refusal::UpstreamUnreachable),
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => Some(Refusal::UpstreamTimeout),
        (ErrorSource::Upstream, _) => Some(Refusal::UpstreamError),
        _ if sent => Some(Refusal::UpstreamError),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Refusal::Internal),
    }
}
