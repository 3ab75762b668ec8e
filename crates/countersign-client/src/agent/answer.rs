//! The agent's responses: the gateway's response, streamed, or a refusal of the agent in the
//! gateway's format.

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

/// Longest wait for the next part of a response body. A gateway that stalls longer is given up.
const PIECE: Duration = Duration::from_secs(60);

/// The body of any response.
pub(super) type AnswerBody = BoxBody<Bytes, std::io::Error>;

/// Why the agent itself refuses a request, or gets no response to it. Each has a fixed code; if the
/// gateway has the same case, the code is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AgentFault {
    /// `Host` is not one of the agent's names.
    ForbiddenHost,
    /// A web page sent the request.
    ForbiddenOrigin,
    /// The grammar refuses the target, as the gateway would.
    BadTarget(TargetError),
    /// A header that is not forwarded, and without which the request would change its meaning.
    HeaderNotForwarded(LostHeader),
    /// A query, with the agent's query policy `reject`.
    QueryNotAllowed,
    /// A method that no route may accept.
    MethodNotAllowed,
    /// The body is larger than the agent's limit, in bytes.
    BodyTooLarge(u64),
    /// The body was not complete before the deadline.
    RequestTimeout,
    /// The body was incomplete or had a framing error.
    BadRequest,
    /// The memory budget for request bodies is exhausted.
    Overloaded,
    /// The agent is stopping.
    NotReady,
    /// The clock is not set, or the system gives no random bytes.
    CannotSign,
    /// No connection to the gateway; the text says why.
    Unreachable(String),
    /// The gateway did not respond before the deadline. The backend may have carried out the
    /// request.
    NoAnswerInTime,
    /// The connection broke after the request was sent. The backend may have carried it out.
    BrokenOff,
    /// The response is not HTTP; the text names the likely protocol.
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
            AgentFault::ForbiddenHost => "The agent does not accept this Host: use localhost or 127.0.0.1 with its port, or \
                 start the agent with --host NAME."
                .into(),
            AgentFault::ForbiddenOrigin => {
                "The agent takes no requests from web pages (Origin, Sec-Fetch-Site).".into()
            }
            AgentFault::HeaderNotForwarded(lost) => lost.text("by the agent (--forward-header)"),
            AgentFault::BadTarget(why) => format!(
                "The request target cannot be signed, because the gateway would refuse it: {why}."
            ),
            AgentFault::QueryNotAllowed => {
                "The agent's query policy is reject: send the path without '?'."
                    .into()
            }
            AgentFault::MethodNotAllowed => "No gateway accepts this method. Methods are upper case, and CONNECT and TRACE are refused.".into(),
            AgentFault::BodyTooLarge(limit) => {
                format!("The request body is larger than the agent's limit of {limit} bytes.")
            }
            AgentFault::RequestTimeout => "The request body was not complete before the deadline.".into(),
            AgentFault::BadRequest => "The request body is incomplete, or has a framing error.".into(),
            AgentFault::Overloaded => {
                "The agent's memory budget for request bodies is exhausted: try again.".into()
            }
            AgentFault::NotReady => "The agent is shutting down: try again.".into(),
            AgentFault::CannotSign => {
                "The agent cannot sign: this machine's clock is not set, or the system gives no random bytes. See its log."
                    .into()
            }
            AgentFault::Unreachable(why) => format!("The agent cannot reach the gateway: {why}."),
            AgentFault::NoAnswerInTime => {
                "The gateway did not respond before the deadline. The request may have been carried out."
                    .into()
            }
            AgentFault::BrokenOff => {
                "The connection to the gateway broke after the request was sent. The request may have been carried out."
                    .into()
            }
            AgentFault::NotHttp(why) => format!("The agent got no HTTP response: {why}."),
        }
    }

    /// The response to the client.
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
        // Marks the agent's refusals; those of the gateway have a request id instead.
        headers.insert(SERVER, HeaderValue::from_static("countersign-agent"));
        if *self == AgentFault::MethodNotAllowed
            && let Ok(allow) = HeaderValue::from_str(&METHODS.join(", "))
        {
            headers.insert(ALLOW, allow);
        }
        answer
    }
}

/// A body that is complete in memory.
pub(super) fn whole(bytes: Bytes) -> AnswerBody {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// A body that fails at once, so that the client sees the gateway's truncated response as an error.
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
        let why = "the gateway's response is truncated";
        Poll::Ready(Some(Err(std::io::Error::other(why))))
    }
}

/// The response to the health check, which checks only that the agent runs.
pub(super) fn alive() -> Response<AnswerBody> {
    let mut answer = Response::new(whole(Bytes::from_static(b"{\"ok\":true}\n")));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(SERVER, HeaderValue::from_static("countersign-agent"));
    answer
}

/// Removes the hop-by-hop headers (RFC 9110, section 7.6.1).
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

/// A streamed body of the gateway's response. Each part has a deadline. At the end of the body, the
/// connection returns to the pool. A truncated body is truncated for the client too.
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
        let late = std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the gateway sent nothing for 60 s",
        );
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
