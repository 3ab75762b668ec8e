//! A load balancer's question on a data listener: should requests be sent here?

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

use crate::gateway::Gateway;

/// Whether this is the question: its path alone decides. What a load balancer sends as a Host, or
/// whether it sends one, does not matter, and it signs nothing.
pub(crate) fn is_asked(session: &ServerSession, path: Option<&str>) -> bool {
    let head = session.req_header();
    let asks = matches!(head.method, Method::GET | Method::HEAD);
    asks && path.is_some_and(|path| head.raw_path() == path.as_bytes())
}

impl Gateway {
    /// Answers it, and nothing else on this connection. It tells whether, and not why: anybody may
    /// ask. It is neither recorded nor counted.
    ///
    /// # Errors
    ///
    /// Only Pingora's, where the load balancer does not wait for the answer.
    pub(crate) async fn answer_health(&self, session: &mut ServerSession) -> Result<()> {
        session.set_keepalive(None);
        let (status, text) = match self.is_ready() {
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

    fn is_ready(&self) -> bool {
        !self.leaving.is_set() && self.nonces.ready().is_ok() && self.audit.healthy()
    }
}
