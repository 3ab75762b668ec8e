//! The health check of a data listener, by which a load balancer decides whether to send requests.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

/// Whether a request is for this path, which the gateway itself answers. The path alone decides: the
/// Host header does not matter, and a load balancer signs nothing.
pub(crate) fn is_asked(session: &ServerSession, path: Option<&str>) -> bool {
    let head = session.req_header();
    let asks = matches!(head.method, Method::GET | Method::HEAD);
    asks && path.is_some_and(|path| head.raw_path() == path.as_bytes())
}

/// Answers the health check, and no other request on this connection. The response gives no reason,
/// because anybody may ask. It is neither recorded nor counted.
///
/// # Errors
///
/// Only Pingora's, where the load balancer does not wait for the response.
pub(crate) async fn answer(session: &mut ServerSession, is_ready: bool) -> Result<()> {
    session.set_keepalive(None);
    let (status, text) = match is_ready {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    };
    let is_head = session.req_header().method == Method::HEAD;
    let body = if is_head { "" } else { text };
    let mut header = ResponseHeader::build(status, Some(3))?;
    header.insert_header(CONTENT_TYPE, "text/plain")?;
    header.insert_header(CONTENT_LENGTH, text.len())?;
    header.insert_header(CACHE_CONTROL, "no-store")?;
    session.write_response_header(Box::new(header)).await?;
    let body = Bytes::from_static(body.as_bytes());
    session.write_response_body(body, true).await
}
