//! The admin listener: metrics, the two probes, and the order to reload.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, StatusCode};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;

use super::accept::{Door, Serve};
use super::readiness::Readiness;
use super::reload::{Reloading, order};
use crate::gateway::{Origin, ResetOnClose};
use crate::metrics::{self, Metrics};

/// The application of the admin listener.
pub(super) struct Admin {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) reloading: Arc<Reloading>,
    /// Brings the gauges that are only looked at up to date.
    pub(super) refresh: Box<dyn Fn(&Metrics) + Send + Sync>,
}

/// Longest time for a request, and for the next one on a connection: a scraper comes every
/// fifteen or thirty seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Most parts that `/readyz` names.
const MOST_TOLD: usize = 20;

impl Serve for Admin {
    fn serving(self: &Arc<Self>, _: Origin, _: ResetOnClose, _: &Door) -> Arc<Self> {
        Arc::clone(self)
    }

    fn write_timeout(&self) -> Duration {
        DEADLINE
    }
}

struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Admin {
    fn answer(&self, method: &Method, path: &str) -> Answer {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        }
        match path {
            "/livez" => text(StatusCode::OK, "alive"),
            "/readyz" => match self.readiness.check() {
                Ok(()) => text(StatusCode::OK, &self.with_what_is_out("ready")),
                Err(why) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &self.with_what_is_out(&why),
                ),
            },
            "/metrics" => {
                (self.refresh)(&self.metrics);
                Answer {
                    status: StatusCode::OK,
                    content_type: metrics::CONTENT_TYPE,
                    body: self.metrics.render(),
                }
            }
            _ => text(StatusCode::NOT_FOUND, "only /metrics, /livez and /readyz"),
        }
    }

    /// The answer's first line, and one for each part behind the gateway that is out of service. Such
    /// a part does not make the gateway unready: it would be so at every other gateway too.
    fn with_what_is_out(&self, first: &str) -> String {
        let out = self.reloading.gateway.plan().out_of_service();
        let more = out.len().saturating_sub(MOST_TOLD);
        let told = out
            .iter()
            .take(MOST_TOLD)
            .map(|part| format!("out of service: {part}"));
        let more = (more > 0).then(|| format!("and {more} more"));
        let lines: Vec<String> = [first.to_owned()]
            .into_iter()
            .chain(told)
            .chain(more)
            .collect();
        lines.join("\n")
    }

    async fn reload(&self, session: &ServerSession) -> Answer {
        let head = session.req_header();
        let peer = session.client_addr().and_then(|peer| peer.as_inet());
        let losses = match order::read(&head.method, &head.headers, peer.map(|peer| peer.ip())) {
            Ok(losses) => losses,
            Err(why) => return text(StatusCode::FORBIDDEN, why),
        };
        let reloading = Arc::clone(&self.reloading);
        let outcome = tokio::task::spawn_blocking(move || reloading.on_order(losses)).await;
        match outcome {
            Ok(outcome) if outcome.is_good => text(StatusCode::OK, &outcome.lines.join("\n")),
            Ok(outcome) => text(StatusCode::UNPROCESSABLE_ENTITY, &outcome.lines.join("\n")),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the reload did not end"),
        }
    }

    async fn serve(&self, session: &mut ServerSession) -> pingora::Result<bool> {
        session.set_keepalive(Some(DEADLINE.as_secs()));
        session.set_write_timeout(Some(DEADLINE));
        if !session.read_request().await? {
            return Ok(false);
        }
        let head = session.req_header();
        let is_head = head.method == Method::HEAD;
        let answer = match head.uri.path() {
            order::PATH => self.reload(session).await,
            path => self.answer(&head.method, path),
        };
        let mut header = ResponseHeader::build(answer.status, Some(4))?;
        header.insert_header(CONTENT_TYPE, answer.content_type)?;
        header.insert_header(CONTENT_LENGTH, answer.body.len())?;
        header.insert_header(CACHE_CONTROL, "no-store")?;
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(DEADLINE.as_secs()));
        }
        session.write_response_header(Box::new(header)).await?;
        let body = if is_head { String::new() } else { answer.body };
        session.write_response_body(body.into(), true).await?;
        Ok(true)
    }
}

fn text(status: StatusCode, words: &str) -> Answer {
    Answer {
        status,
        content_type: "text/plain; charset=utf-8",
        body: format!("{words}\n"),
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
            let settings = HttpPersistentSettings::for_session(&session);
            let stream = session.finish().await.ok().flatten()?;
            Some(ReusedHttpStream::from_reusable_stream(stream, settings))
        };
        tokio::time::timeout(DEADLINE, exchange)
            .await
            .ok()
            .flatten()
    }
}
