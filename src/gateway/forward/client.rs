//! The client of a request that is being forwarded: it gets the response, or leaves before.

use std::future::pending;

use http::Version;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{Error, ErrorSource, Result};

use crate::gateway::receive::draining::Draining;
use crate::gateway::receive::refusal_response;
use crate::gateway::receive::request_id::RequestId;
use countersign_core::refusal::Refusal;

/// The client's session. Its request was read whole, and decided.
pub(crate) struct Client {
    session: Box<ServerSession>,
    draining: Draining,
    progress: ResponseProgress,
}

/// How much of the final response is written. Interim responses do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseProgress {
    /// Nothing of it is written.
    NotStarted,
    /// Its head is written, and more is to come.
    Started,
    /// All of it is written.
    Complete,
    /// The client can no longer be written to.
    ClientGone,
}

/// Whether the client's connection may go on after the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It may carry another request.
    KeepAlive,
    /// It is closed, so that what was written arrives.
    Close,
    /// It is reset: the client reads nothing any more, or would take half a response for a whole
    /// one.
    Reset,
}

impl Client {
    pub(crate) fn new(session: Box<ServerSession>, draining: Draining) -> Client {
        Client {
            session,
            draining,
            progress: ResponseProgress::NotStarted,
        }
    }

    /// The head of the request.
    pub(crate) fn head(&self) -> &RequestHeader {
        self.session.req_header()
    }

    /// Waits for the client to leave, for ever if it does not. Bytes that the client sends beyond
    /// this request wait for their turn in the `RequestStream`.
    pub(crate) async fn gone(&mut self) -> Box<Error> {
        match self.session.read_body_or_idle(true).await {
            Err(error) => {
                self.progress = ResponseProgress::ClientGone;
                error.into_down()
            }
            Ok(_) => pending().await,
        }
    }

    /// Passes pieces of the response on; `true` if that was all of it.
    ///
    /// # Errors
    ///
    /// The backend's failure, if that is the last piece; or the client cannot be written to.
    pub(crate) async fn pass_on(&mut self, mut pieces: Vec<HttpTask>) -> Result<bool> {
        for piece in &mut pieces {
            if let HttpTask::Header(answer, _) = piece {
                self.fit(answer);
            }
        }
        let passed = self.session.response_duplex_vec(pieces).await;
        self.progress = match &passed {
            Ok(true) => ResponseProgress::Complete,
            Err(error) if *error.esource() != ErrorSource::Upstream => ResponseProgress::ClientGone,
            _ if self.status().is_some() => ResponseProgress::Started,
            _ => ResponseProgress::NotStarted,
        };
        passed
    }

    /// Adapts the head of the response to the client. While the gateway drains, the response closes
    /// the connection. An HTTP/1.0 client knows no chunks: without a length, the end of the
    /// connection ends the body.
    fn fit(&mut self, answer: &mut ResponseHeader) {
        let chunks_to_http10 = self.head().version == Version::HTTP_10
            && answer.remove_header(&TRANSFER_ENCODING).is_some();
        if chunks_to_http10 || self.draining.has_begun() {
            self.session.set_keepalive(None);
        }
    }

    /// Answers with a refusal, unless a response has begun.
    pub(crate) async fn refuse(&mut self, refusal: &Refusal, id: RequestId) {
        if self.progress != ResponseProgress::NotStarted {
            return;
        }
        if self.draining.has_begun() {
            self.session.set_keepalive(None);
        }
        let is_head = self.head().method == http::Method::HEAD;
        let written = async {
            refusal_response::write(&mut self.session, refusal, id, is_head).await?;
            self.session.finish_body().await
        };
        self.progress = match written.await {
            Ok(_) => ResponseProgress::Complete,
            Err(_) => ResponseProgress::ClientGone,
        };
    }

    /// The status of the final response, once its head is written.
    pub(crate) fn status(&self) -> Option<u16> {
        let head = self.session.response_written();
        head.map(|head| head.status)
            .filter(|status| !status.is_informational())
            .map(|status| status.as_u16())
    }

    /// Bytes of body it was sent.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.session.body_bytes_sent() as u64
    }

    /// Whether the connection may go on, now that nothing more is written.
    pub(crate) fn afterwards(&self) -> Afterwards {
        match self.progress {
            ResponseProgress::Complete => Afterwards::KeepAlive,
            // The framing of the response tells that it is cut off.
            ResponseProgress::Started if !self.ends_with_connection() => Afterwards::Close,
            ResponseProgress::NotStarted
            | ResponseProgress::Started
            | ResponseProgress::ClientGone => Afterwards::Reset,
        }
    }

    /// Whether the response ends where the connection ends.
    fn ends_with_connection(&self) -> bool {
        let framing = |head: &ResponseHeader| {
            head.headers.contains_key(CONTENT_LENGTH)
                || head.headers.contains_key(TRANSFER_ENCODING)
        };
        matches!(*self.session, ServerSession::H1(_))
            && !self.session.response_written().is_some_and(framing)
    }

    pub(crate) fn into_session(self) -> ServerSession {
        *self.session
    }
}
