//! The client of a request that is being forwarded: it gets the answer, and it may go away first.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Version;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{Error, ErrorSource, Result};

use crate::auth::refusal::Refusal;
use crate::gateway::Leaving;
use crate::gateway::receive::refuse;
use crate::gateway::receive::request_id::RequestId;

/// The session of a request that was read whole, and judged.
pub(crate) struct Client {
    session: Box<ServerSession>,
    leaving: Leaving,
    answer: Answer,
}

/// How far the final answer has come. An interim answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing of it is written.
    Owed,
    /// Its head is written, and more is to come.
    Begun,
    /// All of it is written.
    Whole,
    /// The client cannot be written to any more.
    Lost,
}

/// What the client's connection is good for when its request is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It may carry another request.
    KeepAlive,
    /// It is closed, so that what was written arrives.
    Close,
    /// It is reset: the client takes nothing any more, or would take half an answer for a whole one.
    Reset,
}

/// Has a client's connection end by a reset instead of an orderly close. Its stream holds the one
/// handle, and the gateway another.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResetOnClose(Arc<AtomicBool>);

impl ResetOnClose {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Client {
    pub(crate) fn new(session: Box<ServerSession>, leaving: Leaving) -> Client {
        Client {
            session,
            leaving,
            answer: Answer::Owed,
        }
    }

    /// The head of the request.
    pub(crate) fn head(&self) -> &RequestHeader {
        self.session.req_header()
    }

    /// Waits for the client to go away, for ever if it does not. What it sends beyond this request
    /// waits for its turn, see [`RequestStream`](crate::gateway::receive::request_stream::RequestStream).
    pub(crate) async fn gone(&mut self) -> Box<Error> {
        match self.session.read_body_or_idle(true).await {
            Err(error) => {
                self.answer = Answer::Lost;
                error.into_down()
            }
            Ok(_) => pending().await,
        }
    }

    /// Passes pieces of the answer on; whether that was all of it.
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
        self.answer = match &passed {
            Ok(true) => Answer::Whole,
            Err(error) if *error.esource() != ErrorSource::Upstream => Answer::Lost,
            _ if self.status().is_some() => Answer::Begun,
            _ => Answer::Owed,
        };
        passed
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
    pub(crate) async fn refuse(&mut self, refusal: &Refusal, id: RequestId) {
        if self.answer != Answer::Owed {
            return;
        }
        if self.leaving.is_set() {
            self.session.set_keepalive(None);
        }
        let is_head = self.head().method == http::Method::HEAD;
        let written = async {
            refuse::write(&mut self.session, refusal, id, is_head).await?;
            self.session.finish_body().await
        };
        self.answer = match written.await {
            Ok(_) => Answer::Whole,
            Err(_) => Answer::Lost,
        };
    }

    /// The status of the final answer, once its head is written.
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

    /// What its connection is good for, now that nothing more is written.
    pub(crate) fn afterwards(&self) -> Afterwards {
        match self.answer {
            Answer::Whole => Afterwards::KeepAlive,
            // The framing of the answer tells that it is cut off.
            Answer::Begun if !self.ends_with_connection() => Afterwards::Close,
            Answer::Owed | Answer::Begun | Answer::Lost => Afterwards::Reset,
        }
    }

    /// Whether the answer ends where the connection ends.
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
