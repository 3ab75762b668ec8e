//! The admin listener: the status page, metrics, probes, and the order to reload.

mod accept_header;
mod host;
pub(crate) mod order;
mod pending;
mod response;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};
use pingora::ErrorType;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::Semaphore;

use self::host::is_own_host;
use self::pending::PendingConnections;
use self::response::{AdminResponse, Kind, found, status_json, status_page, text};
use super::listen::accept::{ListenerOptions, Serve};
use super::listen::connection_timeouts::ConnectionTimeouts;
use super::status::{Refresh, StatusBoard};
use crate::gateway::{Origin, ResetOnClose, jwks};

/// The application of the admin listener.
pub(crate) struct Admin {
    board: Arc<StatusBoard>,
    /// Names of the gateway, in lower case, besides this machine's own.
    hosts: Vec<String>,
    /// The connections without a complete request.
    pending: Arc<PendingConnections>,
    /// One permit for each response other than a probe's: such a response is long, and its reader
    /// may be slow.
    responses: Semaphore,
}

/// Most connections without a request. Of more than that the oldest is closed, so that no client
/// can keep a probe out by connecting.
const MOST_PENDING: usize = 64;

/// Most responses at once, probes' aside: scrapers are few.
const MOST_RESPONSES: usize = 64;

/// Most connections at once: pending ones, those with a response, and room for probes and for
/// connections that are just being closed.
pub(crate) const MOST_CONNECTIONS: usize = 4 * (MOST_PENDING + MOST_RESPONSES);

/// Longest time for the head of a connection's first request: probes send it at once.
const FIRST_HEAD: Duration = Duration::from_secs(5);

/// Longest time for the next one: a scraper comes every fifteen or thirty seconds.
const IDLE: Duration = Duration::from_secs(60);

/// The time-outs of a connection before its first request. It speaks no HTTP/2.
pub(crate) const TIMEOUTS: ConnectionTimeouts = ConnectionTimeouts {
    handshake: FIRST_HEAD,
    idle: IDLE,
};

/// Longest time for a request, a reload included.
const DEADLINE: Duration = Duration::from_secs(60);

/// Most parts that `/readyz` names.
const MOST_NAMED: usize = 20;

/// Longest wait for a client to take a piece of its answer.
const WRITE: Duration = Duration::from_secs(10);

/// Left on a connection that has carried a request.
struct CarriedRequest;

impl Serve for Admin {
    fn serving(self: &Arc<Self>, _: Origin, _: ResetOnClose, _: &ListenerOptions) -> Arc<Self> {
        Arc::clone(self)
    }

    fn write_timeout(&self) -> Duration {
        WRITE
    }

    fn give_way(&self) -> impl Future<Output = ()> + Send + 'static {
        let pending = self.pending.enter();
        async move { pending.gave_way().await }
    }
}

/// Where the public keys of the gateway's assertions are.
const JWKS: &str = "/.well-known/jwks.json";

impl Admin {
    pub(crate) fn new(board: Arc<StatusBoard>, hosts: Vec<String>) -> Admin {
        Admin {
            board,
            hosts,
            pending: PendingConnections::new(MOST_PENDING),
            responses: Semaphore::new(MOST_RESPONSES),
        }
    }

    async fn answer(&self, head: &RequestHeader) -> AdminResponse {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        }
        match head.uri.path() {
            "/livez" => text(StatusCode::OK, "alive"),
            "/readyz" => match self.board.gateway.readiness().check() {
                Ok(()) => text(StatusCode::OK, &self.with_parts_out_of_service("ready")),
                Err(why) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &self.with_parts_out_of_service(&why),
                ),
            },
            "/" => {
                let refresh = Refresh::of(head.uri.query());
                self.computed(move |board| status_page(board, refresh))
                    .await
            }
            "/status.json" => self.computed(status_json).await,
            "/metrics" => {
                let exposition = accept_header::exposition(&head.headers);
                self.computed(move |board| {
                    board.reloader.show_staleness();
                    if let Some(live) = board.replay.live() {
                        board.metrics.nonces(live);
                    }
                    let metrics = board.metrics.scrape(&board.scraped(), exposition);
                    AdminResponse {
                        kind: Kind::Negotiated,
                        ..found(exposition.content_type(), metrics)
                    }
                })
                .await
            }
            JWKS => match self.board.gateway.plan().assertions() {
                Some(assertions) => AdminResponse {
                    caching: jwks::CACHING,
                    ..found(jwks::MEDIA_TYPE, assertions.jwks())
                },
                None => text(
                    StatusCode::NOT_FOUND,
                    "the configuration has no `assertion`, so there are no keys",
                ),
            },
            _ => text(
                StatusCode::NOT_FOUND,
                "only /, /status.json, /metrics, /livez, /readyz and /.well-known/jwks.json",
            ),
        }
    }

    /// A response that takes milliseconds, on a thread that serves no requests.
    async fn computed(
        &self,
        compute: impl FnOnce(&StatusBoard) -> AdminResponse + Send + 'static,
    ) -> AdminResponse {
        let board = Arc::clone(&self.board);
        let computed = tokio::task::spawn_blocking(move || compute(&board)).await;
        computed.unwrap_or_else(|_| {
            let why = "a bug ended this response; report it with the log";
            text(StatusCode::INTERNAL_SERVER_ERROR, why)
        })
    }

    /// The first line, and a line for each backend part that is out of service. Such a part does
    /// not make the gateway unready: it is out of service for every other gateway too.
    fn with_parts_out_of_service(&self, first: &str) -> String {
        let out = self.board.gateway.plan().out_of_service();
        let more = out.len().saturating_sub(MOST_NAMED);
        let told = out
            .iter()
            .take(MOST_NAMED)
            .map(|part| format!("out of service: {part}"));
        let more = (more > 0).then(|| format!("and {more} more"));
        let lines: Vec<String> = [first.to_owned()]
            .into_iter()
            .chain(told)
            .chain(more)
            .collect();
        lines.join("\n")
    }

    async fn reload(&self, session: &ServerSession) -> AdminResponse {
        let head = session.req_header();
        let peer = session.client_addr().and_then(|peer| peer.as_inet());
        let losses = match order::read(&head.method, &head.headers, peer.map(|peer| peer.ip())) {
            Ok(losses) => losses,
            Err(why) => return text(StatusCode::FORBIDDEN, why),
        };
        let reloader = Arc::clone(&self.board.reloader);
        let outcome = tokio::task::spawn_blocking(move || reloader.on_order(losses)).await;
        match outcome {
            Ok(outcome) if outcome.is_good => text(StatusCode::OK, &outcome.lines.join("\n")),
            Ok(outcome) => text(StatusCode::UNPROCESSABLE_ENTITY, &outcome.lines.join("\n")),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the reload did not end"),
        }
    }

    /// The response to the request. Probes are answered under any Host and at any time; under a
    /// Host that is not the gateway's they get the first line only.
    async fn answer_to(&self, session: &ServerSession) -> AdminResponse {
        let head = session.req_header();
        let path = head.uri.path();
        let is_own = is_own_host(&head.headers, &self.hosts);
        if matches!(path, "/livez" | "/readyz") {
            let mut answer = self.answer(head).await;
            if !is_own {
                let end = answer.body.iter().position(|byte| *byte == b'\n');
                answer
                    .body
                    .truncate(end.map_or(answer.body.len(), |end| end + 1));
            }
            return answer;
        }
        if !is_own {
            let why = "this Host is none of the gateway's names: use localhost or an address, or list \
                       it in admin.hosts";
            return text(StatusCode::MISDIRECTED_REQUEST, why);
        }
        match path {
            order::PATH => self.reload(session).await,
            _ => self.answer(head).await,
        }
    }

    async fn serve(&self, session: &mut ServerSession) -> pingora::Result<bool> {
        session.set_keepalive(Some(IDLE.as_secs()));
        session.set_write_timeout(Some(WRITE));
        let reused = session.take_connection_user_context().is_some();
        let limit = if reused { IDLE } else { FIRST_HEAD };
        let pending = self.pending.enter();
        let read = tokio::select! {
            biased; // a request that has arrived is answered, however many wait
            read = tokio::time::timeout(limit, session.read_request()) => read,
            () = pending.gave_way() => return Ok(false),
        };
        drop(pending);
        match read {
            Ok(Ok(true)) => {}
            Ok(Err(error)) if *error.etype() == ErrorType::InvalidHTTPHeader => {
                session.set_keepalive(None);
                let answer = text(StatusCode::BAD_REQUEST, "the request is malformed");
                answer.send(session, false).await?;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        let is_probe = matches!(session.req_header().uri.path(), "/livez" | "/readyz");
        let permit = self.responses.try_acquire();
        let answer = match is_probe || permit.is_ok() {
            true => self.answer_to(session).await,
            false => text(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once"),
        };
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(IDLE.as_secs()));
        }
        let is_head = session.req_header().method == Method::HEAD;
        answer.send(session, is_head).await?;
        Ok(true)
    }
}

#[async_trait]
impl HttpServerApp for Admin {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let exchange = async {
            if !self.serve(&mut session).await.ok()? {
                return None;
            }
            let mut settings = HttpPersistentSettings::for_session(&session);
            settings.set_user_context(Box::new(CarriedRequest));
            let stream = session.finish().await.ok().flatten()?;
            Some(ReusedHttpStream::from_reusable_stream(stream, settings))
        };
        tokio::time::timeout(IDLE + DEADLINE, exchange)
            .await
            .ok()
            .flatten()
    }
}
