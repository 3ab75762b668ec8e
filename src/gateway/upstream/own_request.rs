//! A request of the gateway itself to a backend: a login, or the check of a secret. It has a
//! connection of its own, which is closed afterwards, so that no answer can be taken for another's.

use bytes::Bytes;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use zeroize::Zeroizing;

use super::MOST_INTERIM;

/// Sends the request, and reads the head of the answer.
///
/// # Errors
///
/// Pingora's. The request may have been sent.
pub(super) async fn send(
    connector: &Connector,
    peer: &HttpPeer,
    request: RequestHeader,
    body: Bytes,
) -> Result<HttpSession> {
    let (mut session, _) = connector.get_http_session(peer).await?;
    session.write_request_header(Box::new(request)).await?;
    if !body.is_empty() {
        session.write_request_body(body, true).await?;
    }
    session.finish_request_body().await?;
    for _ in 0..=MOST_INTERIM {
        session.read_response_header().await?;
        let head = session.response_header();
        if head.is_some_and(|head| !head.status.is_informational()) {
            return Ok(session);
        }
    }
    let text = "the backend sends interim answers only";
    Error::e_explain(ErrorType::InvalidHTTPHeader, text)
}

/// Reads the body, as far as `most` bytes; `None` if it is longer, or breaks off.
pub(super) async fn read_body(
    session: &mut HttpSession,
    most: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    // Allocated in full: growing would leave copies that are not wiped.
    let mut body = Zeroizing::new(Vec::with_capacity(most));
    loop {
        match session.read_response_body().await {
            Ok(None) => return Some(body),
            Ok(Some(piece)) if body.len() + piece.len() <= most => body.extend_from_slice(&piece),
            Ok(Some(_)) | Err(_) => return None,
        }
    }
}

/// Closes the connection.
pub(super) async fn close(session: HttpSession) {
    if let HttpSession::H1(mut session) = session {
        session.shutdown().await;
    }
}
