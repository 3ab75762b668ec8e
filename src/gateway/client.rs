//! The client of a request that is being forwarded: it gets the answer, and it may go away first.

use std::future::pending;

use http::Version;
use http::header::TRANSFER_ENCODING;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{Error, ErrorType, Result};

use super::Leaving;
use super::refuse;
use super::request_id::RequestId;
use crate::auth::refusal::Refusal;

/// The session of a request that was read whole, and judged.
pub(super) struct Client {
    session: Box<ServerSession>,
    leaving: Leaving,
    /// It has sent more than this request.
    sent_too_much: bool,
}

impl Client {
    pub(super) fn new(session: Box<ServerSession>, leaving: Leaving) -> Client {
        Client {
            session,
            leaving,
            sent_too_much: false,
        }
    }

    /// The head of the request.
    pub(super) fn head(&self) -> &RequestHeader {
        self.session.req_header()
    }

    /// Waits for the client to go away, for ever if it does not. One that sends more, a pipelined
    /// request, must not lose the answer to its first: its connection is closed after that answer
    /// instead.
    pub(super) async fn gone(&mut self) -> Box<Error> {
        if self.sent_too_much {
            return pending().await;
        }
        match self.session.read_body_or_idle(true).await {
            Err(error) if *error.etype() == ErrorType::ConnectError => {
                self.sent_too_much = true;
                self.session.set_keepalive(None);
                pending().await
            }
            Err(error) => error.into_down(),
            Ok(_) => pending().await,
        }
    }

    /// Passes pieces of the answer on; whether that was all of it.
    ///
    /// # Errors
    ///
    /// The backend's failure, if that is the last piece; or the client cannot be written to.
    pub(super) async fn pass_on(&mut self, mut pieces: Vec<HttpTask>) -> Result<bool> {
        for piece in &mut pieces {
            if let HttpTask::Header(answer, _) = piece {
                self.fit(answer);
            }
        }
        self.session.response_duplex_vec(pieces).await
    }

    /// Fits the head of the answer to the client. One that a gateway which is shutting down has
    /// served is told that no further request is taken on its connection. An HTTP/1.0 client
    /// knows no chunks: without a length, the end of the connection ends its body.
    fn fit(&mut self, answer: &mut ResponseHeader) {
        let chunks_to_http10 = self.head().version == Version::HTTP_10
            && answer.remove_header(&TRANSFER_ENCODING).is_some();
        if chunks_to_http10 || self.leaving.is_set() {
            self.session.set_keepalive(None);
        }
    }

    /// Tells it why there is no answer, unless one has begun.
    pub(super) async fn refuse(&mut self, refusal: &Refusal, id: RequestId) {
        if self.status().is_some() {
            return;
        }
        let is_head = self.head().method == http::Method::HEAD;
        let written = refuse::write(&mut self.session, refusal, id, is_head).await;
        if written.is_ok() {
            // The answer is whole, and the request was read whole.
            let _ = self.session.finish_body().await;
        }
    }

    /// The status of the answer, once its head is written.
    pub(super) fn status(&self) -> Option<u16> {
        let head = self.session.response_written();
        head.map(|head| head.status.as_u16())
    }

    /// Bytes of body it was sent.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.session.body_bytes_sent() as u64
    }

    /// Whether another request may follow on its connection, once the answer is whole.
    pub(super) fn may_go_on(&self) -> bool {
        !self.sent_too_much
    }

    pub(super) fn into_session(self) -> ServerSession {
        *self.session
    }
}
