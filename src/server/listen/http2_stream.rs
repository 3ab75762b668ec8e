//! One HTTP/2 request, as the gateway gets it. Pingora's own session answers a malformed head
//! itself, with a bare 400 or a reset, and never shows trailers; this one shows the gateway all of
//! it, to be refused like any request.
//!
//! The `h2` crate still answers for itself, by a reset of the stream (PROTOCOL_ERROR) or an end of
//! the connection: pseudo-headers that are missing, doubled, misplaced or no part of a URI, names
//! in upper case, and fields of HTTP/1 connections (RFC 9113, sections 8.2 and 8.3). Pseudo-headers
//! in trailers it drops in silence.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::{CONNECTION, DATE, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Response};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::http::v2::write_body;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, OrErr, Result};

use crate::gateway::Trailers;

/// A stream that has begun: its head has been read.
pub(crate) struct Http2Stream {
    head: RequestHeader,
    body: RecvStream,
    trailers: Trailers,
    respond: SendResponse<Bytes>,
    /// Once the head of the answer has been sent.
    answer: Option<SendStream<Bytes>>,
    answered: Option<Box<ResponseHeader>>,
    /// The end of the answer has been sent.
    ended: bool,
    read: usize,
    sent: usize,
    write_timeout: Option<Duration>,
    connection: Arc<Digest>,
}

/// `Session` asks for messages beside the body, which some protocols have. HTTP/2 has none here.
type Messages = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

impl Http2Stream {
    pub(crate) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        connection: Arc<Digest>,
    ) -> Http2Stream {
        let (mut head, body) = request.into_parts();
        let trailers = Trailers::default();
        head.extensions.insert(trailers.clone());
        Http2Stream {
            head: head.into(),
            body,
            trailers,
            respond,
            answer: None,
            answered: None,
            ended: false,
            read: 0,
            sent: 0,
            write_timeout: None,
            connection,
        }
    }

    fn send_head(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        // h2 sends one head a stream, and HTTP/2 clients do not wait for 100 Continue.
        if self.ended || self.answer.is_some() || head.status.is_informational() {
            return Ok(());
        }
        head.insert_header(DATE, get_cached_date())?;
        // Fields of HTTP/1 connections (RFC 9113, section 8.2.2).
        for name in [&TRANSFER_ENCODING, &CONNECTION, &UPGRADE] {
            head.remove_header(name);
        }
        head.remove_header("keep-alive");
        head.remove_header("proxy-connection");
        let sent = Response::from_parts(head.as_owned_parts(), ());
        let answer = (self.respond)
            .send_response(sent, end)
            .or_err(ErrorType::WriteError, "while sending the head of an answer")?;
        self.answer = Some(answer);
        self.answered = Some(head);
        self.ended = end;
        Ok(())
    }

    async fn send_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let Some(answer) = &mut self.answer else {
            return Error::e_explain(ErrorType::H2Error, "a body without a head");
        };
        let length = data.len();
        // Each wait for the client to open its window is bounded by the time-out.
        let sending = write_body(answer, data, end, self.write_timeout);
        sending.await.map_err(|error| error.into_down())?;
        self.sent += length;
        self.ended = end;
        Ok(())
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let Some(answer) = &mut self.answer else {
            return Error::e_explain(ErrorType::H2Error, "trailers without a head");
        };
        answer
            .send_trailers(trailers)
            .or_err(ErrorType::WriteError, "while sending trailers")?;
        self.ended = true;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match (&mut self.answer, self.ended) {
            (Some(answer), false) => {
                answer
                    .send_data(Bytes::new(), true)
                    .or_err(ErrorType::WriteError, "while ending an answer")?;
                self.ended = true;
                Ok(())
            }
            // Without a head, dropping the stream resets it.
            _ => Ok(()),
        }
    }

    /// The next piece of the body. Reading it opens the windows of the stream and the connection
    /// again.
    async fn next_piece(&mut self) -> Result<Option<Bytes>> {
        let fail = "while reading a request body";
        if let Some(piece) = self.body.data().await {
            let piece = piece.or_err(ErrorType::ReadError, fail)?;
            self.read += piece.len();
            // It fails only where the stream is closed, which the next read tells.
            let _ = self.body.flow_control().release_capacity(piece.len());
            return Ok(Some(piece));
        }
        if let Some(trailers) = (self.body.trailers().await).or_err(ErrorType::ReadError, fail)? {
            self.trailers.arrived(trailers);
        }
        Ok(None)
    }

    /// Waits until the client resets the stream or the connection ends.
    async fn gone(&mut self) -> Box<Error> {
        let reset = match &mut self.answer {
            Some(answer) => poll_fn(|cx| answer.poll_reset(cx)).await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        };
        match reset {
            Ok(reason) => Error::explain(
                ErrorType::H2Error,
                format!("the client reset the stream: {reason}"),
            ),
            Err(error) => Error::because(ErrorType::H2Error, "the client is gone", error),
        }
    }
}

#[async_trait]
impl Session for Http2Stream {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.next_piece().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        while self.next_piece().await?.is_some() {}
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.send_head(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.send_head(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.send_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.send_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut is_last = false;
        for task in tasks {
            is_last |= match task {
                HttpTask::Header(head, end) => {
                    self.send_head(head, end)
                        .map_err(|error| error.into_down())?;
                    end
                }
                HttpTask::Body(data, end) => {
                    if let Some(data) = data.filter(|data| !data.is_empty()) {
                        self.send_body(data, end).await?;
                    }
                    end
                }
                HttpTask::Trailer(Some(trailers)) => {
                    self.send_trailers(*trailers)
                        .map_err(|error| error.into_down())?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "HTTP/2 is not upgraded");
                }
                HttpTask::Failed(error) => return Err(error),
            };
        }
        if is_last {
            self.end().map_err(|error| error.into_down())?;
        }
        Ok(is_last)
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        match no_body_expected || self.body.is_end_stream() {
            true => Err(self.gone().await),
            false => self.next_piece().await,
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.body.is_end_stream()
    }

    fn is_body_empty(&mut self) -> bool {
        self.read == 0 && self.body.is_end_stream()
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        self.read
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.answered.as_deref()
    }

    async fn finish(&mut self) -> Result<()> {
        self.end()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        if !self.ended {
            self.respond.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    // Reads and drains are bounded by those who read.
    fn set_read_timeout(&mut self, _: Option<Duration>) {}
    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }
    fn set_total_drain_timeout(&mut self, _: Option<Duration>) {}
    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.connection)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.connection)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.connection.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.connection.socket_digest.as_ref()?.local_addr()
    }

    /// For logs, and so without the query.
    fn request_summary(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri.path())
    }

    // HTTP/2 has no raw head, and nothing here sends a request's body twice.
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }
    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }
    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        None
    }
    fn restore_custom_message_reader(&mut self, _: Messages) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }
    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
