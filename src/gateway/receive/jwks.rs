//! The public keys of the gateway's assertions, on a data listener: a backend that verifies
//! assertions reads them there.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

/// The media type of a JWK set (RFC 7517, section 8.5.2).
pub(crate) const MEDIA_TYPE: &str = "application/jwk-set+json";

/// How long a backend may keep the keys: a new key that signs must be known soon after a reload.
pub(crate) const CACHING: &str = "public, max-age=60";

/// Answers the request with the keys, and no other request on this connection. It is neither
/// recorded nor counted.
///
/// # Errors
///
/// Only Pingora's, where the client does not wait for the response.
pub(crate) async fn answer(session: &mut ServerSession, keys: Bytes) -> Result<()> {
    session.set_keepalive(None);
    let mut header = ResponseHeader::build(StatusCode::OK, Some(3))?;
    header.insert_header(CONTENT_TYPE, MEDIA_TYPE)?;
    header.insert_header(CONTENT_LENGTH, keys.len())?;
    header.insert_header(CACHE_CONTROL, CACHING)?;
    session.write_response_header(Box::new(header)).await?;
    let is_head = session.req_header().method == Method::HEAD;
    let body = if is_head { Bytes::new() } else { keys };
    session.write_response_body(body, true).await
}
