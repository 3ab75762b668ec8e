//! What the agent answers: the gateway's answer as it streams in, or a refusal of its own, in the
//! gateway's form.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::pool::Lease;
use countersign_core::lost_header::LostHeader;
use countersign_core::method::METHODS;
use countersign_core::target::TargetError;

/// Longest wait for the next piece of an answer. It bounds a gateway that stops in the middle.
const PIECE: Duration = Duration::from_secs(60);

/// The body of any answer.
pub(super) type AnswerBody = BoxBody<Bytes, std::io::Error>;

/// Why the agent itself refuses a request, or cannot get an answer to it. Each is a fixed word, as
/// the gateway's are; where the gateway has the same case, it is the same word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AgentFault {
    /// `Host` is none of the agent's names.
    ForbiddenHost,
    /// A web page has sent it.
    ForbiddenOrigin,
    /// The grammar refuses the target; so would the gateway.
    BadTarget(TargetError),
    /// A header that does not cross, and without which the request would mean something else.
    HeaderNotForwarded(LostHeader),
    /// A query, where the agent was told that the route takes none.
    QueryNotAllowed,
    /// No method that a route may take.
    MethodNotAllowed,
    /// The body is over the agent's limit, in bytes.
    BodyTooLarge(u64),
    /// The body was not complete in time.
    RequestTimeout,
    /// The body broke off or was framed wrongly.
    BadRequest,
    /// The budget for bodies is used up.
    Overloaded,
    /// The agent is stopping.
    NotReady,
    /// It cannot be signed: the clock is not set, or there are no random bytes.
    CannotSign,
    /// No connection to the gateway; the text says why.
    Unreachable(String),
    /// The gateway did not answer in time. The request may have been carried out.
    NoAnswerInTime,
    /// The connection broke after the request was sent. It may have been carried out.
    BrokenOff,
    /// The answer is not HTTP; the text says what it may be.
    NotHttp(String),
}

impl AgentFault {
    /// Status and code.
    fn status_and_code(&self) -> (u16, &'static str) {
        match self {
            AgentFault::ForbiddenHost => (403, "forbidden_host"),
            AgentFault::ForbiddenOrigin => (403, "forbidden_origin"),
            AgentFault::BadTarget(_) => (400, "bad_target"),
            AgentFault::HeaderNotForwarded(_) => (400, "header_not_forwarded"),
            AgentFault::QueryNotAllowed => (400, "query_not_allowed"),
            AgentFault::MethodNotAllowed => (405, "method_not_allowed"),
            AgentFault::BodyTooLarge(_) => (413, "body_too_large"),
            AgentFault::RequestTimeout => (408, "request_timeout"),
            AgentFault::BadRequest => (400, "bad_request"),
            AgentFault::Overloaded => (503, "overloaded"),
            AgentFault::NotReady => (503, "not_ready"),
            AgentFault::CannotSign => (503, "cannot_sign"),
            AgentFault::Unreachable(_) => (502, "gateway_unreachable"),
            AgentFault::NoAnswerInTime => (504, "gateway_timeout"),
            AgentFault::BrokenOff | AgentFault::NotHttp(_) => (502, "gateway_error"),
        }
    }

    /// The code alone, for the log.
    pub(super) fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    fn text(&self) -> String {
        match self {
            AgentFault::ForbiddenHost => "The agent is not called by this Host: use localhost or 127.0.0.1 \
                 with its port, or start it with --host NAME."
                .into(),
            AgentFault::ForbiddenOrigin => {
                "The agent takes no requests from web pages (Origin, Sec-Fetch-Site).".into()
            }
            AgentFault::HeaderNotForwarded(lost) => lost.text("by the agent (--forward-header)"),
            AgentFault::BadTarget(why) => format!(
                "The request target cannot be signed, since the gateway would refuse it: {why}."
            ),
            AgentFault::QueryNotAllowed => {
                "The agent was told that the gateway's route takes no query: send the path without '?'."
                    .into()
            }
            AgentFault::MethodNotAllowed => "The method is not one that a gateway takes.".into(),
            AgentFault::BodyTooLarge(limit) => {
                format!("The request body is larger than the {limit} bytes that the agent takes.")
            }
            AgentFault::RequestTimeout => "The request body was not complete in time.".into(),
            AgentFault::BadRequest => "The request body broke off, or is framed wrongly.".into(),
            AgentFault::Overloaded => {
                "The agent holds as many bytes of request bodies as it may: try again.".into()
            }
            AgentFault::NotReady => "The agent is stopping: try again.".into(),
            AgentFault::CannotSign => {
                "The agent cannot sign: this machine's clock is not set, or the system gives no random bytes."
                    .into()
            }
            AgentFault::Unreachable(why) => format!("The gateway cannot be reached: {why}."),
            AgentFault::NoAnswerInTime => {
                "The gateway did not answer in time. Whether the request was carried out is not known."
                    .into()
            }
            AgentFault::BrokenOff => {
                "The connection to the gateway broke after the request was sent. Whether it was carried out is not known."
                    .into()
            }
            AgentFault::NotHttp(why) => format!("The gateway gave no answer: {why}."),
        }
    }

    /// The answer to the client.
    pub(super) fn answer(&self) -> Response<AnswerBody> {
        #[derive(serde::Serialize)]
        struct AgentReply<'a> {
            error: &'a str,
            errors: [&'a str; 1],
            code: &'a str,
        }
        let (status, code) = self.status_and_code();
        let text = self.text();
        let reply = AgentReply {
            error: &text,
            errors: [&text],
            code,
        };
        let mut answer =
            Response::new(whole(serde_json::to_vec(&reply).unwrap_or_default().into()));
        *answer.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Whose refusal it is: the gateway's have a request id in place of this.
        headers.insert(SERVER, HeaderValue::from_static("countersign-agent"));
        if *self == AgentFault::MethodNotAllowed
            && let Ok(allow) = HeaderValue::from_str(&METHODS.join(", "))
        {
            headers.insert(ALLOW, allow);
        }
        answer
    }
}

/// A body that is there already.
pub(super) fn whole(bytes: Bytes) -> AnswerBody {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// A body that breaks off at once, as it did on its way here.
pub(super) fn broken_off() -> AnswerBody {
    BrokenOff.boxed()
}

struct BrokenOff;

impl Body for BrokenOff {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let why = "the gateway's answer broke off";
        Poll::Ready(Some(Err(std::io::Error::other(why))))
    }
}

/// The answer to the health check, which asks whether the agent runs and nothing else.
pub(super) fn alive() -> Response<AnswerBody> {
    let mut answer = Response::new(whole(Bytes::from_static(b"{\"ok\":true}\n")));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(SERVER, HeaderValue::from_static("countersign-agent"));
    answer
}

/// Removes what belongs to the connection with the gateway (RFC 9110, section 7.6.1).
pub(super) fn strip_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = (headers.get_all(CONNECTION).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// A body on its way from the gateway: it has a time for each piece, and returns its connection to
/// the pool at its end. A body that breaks off breaks off for the client too.
pub(super) struct Streaming {
    body: Incoming,
    lease: Option<Lease>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Streaming {
    pub(super) fn new(body: Incoming, lease: Lease) -> Streaming {
        let mut this = Streaming {
            body,
            lease: Some(lease),
            waiting: None,
        };
        this.settle();
        this
    }

    fn settle(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for Streaming {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.waiting = None;
            if frame.is_none()
                && let Some(lease) = this.lease.take()
            {
                lease.give_back();
            }
            this.settle();
            return Poll::Ready(frame.map(|it| it.map_err(std::io::Error::other)));
        }
        let waiting = this
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(PIECE)));
        ready!(waiting.as_mut().poll(context));
        this.lease = None;
        let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "the gateway fell silent");
        Poll::Ready(Some(Err(late)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_has_the_form_of_the_gateways() {
        let answer = AgentFault::BadTarget(TargetError::EmptySegment).answer();
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "bad_target");
        assert_eq!(body["errors"][0], body["error"]);
        assert!(body["error"].as_str().unwrap().contains("empty segment"));
    }

    #[test]
    fn faults_of_the_way_to_the_gateway_are_5xx_which_clients_may_try_again() {
        for fault in [
            AgentFault::Unreachable(String::new()),
            AgentFault::NoAnswerInTime,
            AgentFault::BrokenOff,
            AgentFault::Overloaded,
            AgentFault::NotReady,
            AgentFault::CannotSign,
        ] {
            assert!(fault.answer().status().is_server_error(), "{fault:?}");
        }
    }

    #[test]
    fn what_belongs_to_the_connection_does_not_cross() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/plain"),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        strip_connection(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["content-type"]);
    }
}
