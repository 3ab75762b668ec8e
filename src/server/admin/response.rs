//! The responses of the admin listener.

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

use crate::server::status::{self, Refresh, StatusBoard};

/// One response.
pub(super) struct AdminResponse {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) caching: &'static str,
    pub(super) kind: Kind,
    pub(super) body: Bytes,
}

/// The kind of a response, which decides its other headers.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Plain,
    /// A page for a browser.
    Page,
    /// `Accept` chose its form.
    Negotiated,
}

impl AdminResponse {
    /// Sends it.
    ///
    /// # Errors
    ///
    /// Only Pingora's, where the client does not wait for the response.
    pub(super) async fn send(
        self,
        session: &mut ServerSession,
        is_head: bool,
    ) -> pingora::Result<()> {
        let mut header = ResponseHeader::build(self.status, Some(8))?;
        header.insert_header(CONTENT_TYPE, self.content_type)?;
        header.insert_header(CONTENT_LENGTH, self.body.len())?;
        header.insert_header(CACHE_CONTROL, self.caching)?;
        // No page of another site may embed what this machine alone can reach.
        header.insert_header(X_CONTENT_TYPE_OPTIONS, "nosniff")?;
        header.insert_header("Cross-Origin-Resource-Policy", "same-origin")?;
        match self.kind {
            Kind::Plain => {}
            Kind::Page => {
                header.insert_header(CONTENT_SECURITY_POLICY, status::content_security_policy())?;
                header.insert_header(REFERRER_POLICY, "no-referrer")?;
            }
            Kind::Negotiated => header.insert_header(VARY, ACCEPT.as_str())?,
        }
        session.write_response_header(Box::new(header)).await?;
        let body = if is_head { Bytes::new() } else { self.body };
        session.write_response_body(body, true).await
    }
}

/// `Cache-Control` of what is true at this moment only.
const NOT_KEPT: &str = "no-store";

pub(super) fn text(status: StatusCode, words: &str) -> AdminResponse {
    AdminResponse {
        status,
        ..found("text/plain; charset=utf-8", format!("{words}\n"))
    }
}

pub(super) fn found(content_type: &'static str, body: impl Into<Bytes>) -> AdminResponse {
    AdminResponse {
        status: StatusCode::OK,
        content_type,
        caching: NOT_KEPT,
        kind: Kind::Plain,
        body: body.into(),
    }
}

pub(super) fn status_page(board: &StatusBoard, refresh: Refresh) -> AdminResponse {
    match status::html(&board.status(), refresh) {
        Ok(page) => AdminResponse {
            kind: Kind::Page,
            ..found("text/html; charset=utf-8", page)
        },
        Err(error) => failed(&error),
    }
}

pub(super) fn status_json(board: &StatusBoard) -> AdminResponse {
    match serde_json::to_vec(&board.status()) {
        Ok(data) => found("application/json", data),
        Err(error) => failed(&error),
    }
}

/// Never seen: neither form of the status has a value that cannot be written.
fn failed(error: &dyn std::error::Error) -> AdminResponse {
    tracing::error!(%error, "the status could not be written");
    let why = "the status could not be written; the log has the cause";
    text(StatusCode::INTERNAL_SERVER_ERROR, why)
}
