//! The admin listener: metrics, liveness and readiness probes, and the order to reload.

pub(crate) mod order;
mod pending;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap};
use http::{Method, StatusCode};
use pingora::ErrorType;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::Semaphore;

use self::pending::PendingConnections;
use super::listen::accept::{ListenerOptions, Serve};
use super::reload::Reloader;
use super::replay_cache::ReplayCache;
use crate::gateway::{Gateway, Origin, ResetOnClose, jwks};
use crate::metrics::{self, Metrics};

/// The application of the admin listener.
pub(crate) struct Admin {
    gateway: Arc<Gateway>,
    reloader: Arc<Reloader>,
    replay: Arc<ReplayCache>,
    metrics: Arc<Metrics>,
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
}

struct AdminResponse {
    status: StatusCode,
    content_type: &'static str,
    caching: &'static str,
    body: Bytes,
}

/// Where the public keys of the gateway's assertions are.
const JWKS: &str = "/.well-known/jwks.json";

impl Admin {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        reloader: Arc<Reloader>,
        replay: Arc<ReplayCache>,
        metrics: Arc<Metrics>,
        hosts: Vec<String>,
    ) -> Admin {
        Admin {
            gateway,
            reloader,
            replay,
            metrics,
            hosts,
            pending: PendingConnections::new(MOST_PENDING),
            responses: Semaphore::new(MOST_RESPONSES),
        }
    }

    fn answer(&self, method: &Method, path: &str) -> AdminResponse {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        }
        match path {
            "/livez" => text(StatusCode::OK, "alive"),
            "/readyz" => match self.gateway.readiness().check() {
                Ok(()) => text(StatusCode::OK, &self.with_parts_out_of_service("ready")),
                Err(why) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &self.with_parts_out_of_service(&why),
                ),
            },
            "/metrics" => {
                self.reloader.show_staleness();
                if let Some(live) = self.replay.live() {
                    self.metrics.nonces(live);
                }
                AdminResponse {
                    status: StatusCode::OK,
                    content_type: metrics::CONTENT_TYPE,
                    caching: NOT_KEPT,
                    body: self.metrics.render().into(),
                }
            }
            JWKS => match self.gateway.plan().assertions() {
                Some(assertions) => AdminResponse {
                    status: StatusCode::OK,
                    content_type: jwks::MEDIA_TYPE,
                    caching: jwks::CACHING,
                    body: assertions.jwks(),
                },
                None => text(
                    StatusCode::NOT_FOUND,
                    "the configuration has no `assertion`, so there are no keys",
                ),
            },
            _ => text(
                StatusCode::NOT_FOUND,
                "only /metrics, /livez, /readyz and /.well-known/jwks.json",
            ),
        }
    }

    /// The first line, and a line for each backend part that is out of service. Such a part does
    /// not make the gateway unready: it is out of service for every other gateway too.
    fn with_parts_out_of_service(&self, first: &str) -> String {
        let out = self.gateway.plan().out_of_service();
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
        let reloader = Arc::clone(&self.reloader);
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
            let mut answer = self.answer(&head.method, path);
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
            return text(StatusCode::FORBIDDEN, why);
        }
        match path {
            order::PATH => self.reload(session).await,
            path => self.answer(&head.method, path),
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
                Admin::send(session, answer, false).await?;
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
        Admin::send(session, answer, is_head).await?;
        Ok(true)
    }

    async fn send(
        session: &mut ServerSession,
        answer: AdminResponse,
        is_head: bool,
    ) -> pingora::Result<()> {
        let mut header = ResponseHeader::build(answer.status, Some(4))?;
        header.insert_header(CONTENT_TYPE, answer.content_type)?;
        header.insert_header(CONTENT_LENGTH, answer.body.len())?;
        header.insert_header(CACHE_CONTROL, answer.caching)?;
        session.write_response_header(Box::new(header)).await?;
        let body = if is_head { Bytes::new() } else { answer.body };
        session.write_response_body(body, true).await
    }
}

/// Whether `Host` is there once and is this machine's own name, an address, or one of `hosts`, with
/// any port. A page in a browser whose name was made to resolve to this machine (DNS rebinding)
/// sends its own. It fails closed: a Host that is missing or malformed is refused.
fn is_own_host(headers: &HeaderMap, hosts: &[String]) -> bool {
    let mut values = headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(text) = value.to_str() else {
        return false;
    };
    let text = text.to_ascii_lowercase();
    let is_port =
        |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
    let name = match text.rsplit_once(':') {
        Some((name, port)) if is_port(port) && !name.is_empty() => name,
        _ => &text,
    };
    if let Some(address) = name.strip_prefix('[') {
        let address = address.strip_suffix(']').map(str::parse::<Ipv6Addr>);
        return matches!(address, Some(Ok(_)));
    }
    name == "localhost" || name.parse::<Ipv4Addr>().is_ok() || hosts.iter().any(|host| host == name)
}

/// `Cache-Control` of what is true at this moment only.
const NOT_KEPT: &str = "no-store";

fn text(status: StatusCode, words: &str) -> AdminResponse {
    AdminResponse {
        status,
        content_type: "text/plain; charset=utf-8",
        caching: NOT_KEPT,
        body: format!("{words}\n").into(),
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn own(hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        is_own_host(&headers, &["gw.internal".to_owned()])
    }

    #[test]
    fn this_machine_is_called_by_its_own_name_an_address_or_a_configured_name() {
        for host in [
            "localhost",
            "LocalHost:9790",
            "127.0.0.1",
            "127.0.0.1:1",
            "10.0.0.1:65535",
            "[::1]",
            "[2001:db8::1]:9790",
            "gw.internal",
            "GW.Internal:80",
        ] {
            assert!(own(&[host]), "{host}");
        }
    }

    #[test]
    fn any_other_name_may_be_a_page_of_somebodys() {
        for host in [
            "",
            "rebound.example",
            "localhost.example",
            "example.localhost",
            "127.0.0.1.example:9790",
            "127.1",
            "0x7f000001",
            "2130706433",
            "::1",
            "[::1",
            "::1]",
            "[127.0.0.1]",
            "[localhost]",
            "localhost:",
            "localhost:x",
            "localhost:+1",
            "localhost:65536",
            "localhost:1:2",
            ":9790",
            "user@localhost",
            "localhost,rebound.example",
            "localhost rebound.example",
            "localhost.",
            "other.gw.internal",
            "gw.internal.example",
        ] {
            assert!(!own(&[host]), "{host}");
        }
        assert!(!own(&[]));
        assert!(!own(&["localhost", "localhost"]));
    }
}
