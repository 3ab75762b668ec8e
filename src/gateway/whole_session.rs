//! The client's session as the proxy phase sees it: a head, and one whole, verified body.
//!
//! Pingora sends a body that was read before the proxy phase to the backend only as far as its
//! retry buffer holds it, 64 KiB; a larger one vanishes and the backend waits for ever. A session
//! of Pingora's custom kind may keep a retry buffer of its own. So this one wraps the client's
//! session, says that the body has been read, and hands the whole of it over as the retry buffer.
//! The gain is more than size: the proxy phase has no way to see bytes that were not verified.
//!
//! The trait is hidden in Pingora's documentation and may change: the version is pinned, and a
//! matrix of sizes, framings and protocols is a test.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};

use super::Leaving;

/// The wrapper. When Pingora drops it, the client's session goes back to the [`Return`].
pub(super) struct WholeSession {
    /// Always there; taken when dropped.
    client: Option<Box<ServerSession>>,
    body: Bytes,
    home: Return,
    leaving: Leaving,
    finished: bool,
    sent_too_much: bool,
}

/// Where the client's session arrives when the proxy phase is over.
#[derive(Clone, Default)]
pub(super) struct Return(Arc<Mutex<Option<Returned>>>);

/// The client's session after the proxy phase.
pub(super) struct Returned {
    pub(super) session: Box<ServerSession>,
    /// The response was sent whole, so another request may follow on the connection.
    pub(super) reusable: bool,
}

impl WholeSession {
    pub(super) fn new(
        client: Box<ServerSession>,
        body: Bytes,
        leaving: Leaving,
    ) -> (WholeSession, Return) {
        let home = Return::default();
        let session = WholeSession {
            client: Some(client),
            body,
            home: home.clone(),
            leaving,
            finished: false,
            sent_too_much: false,
        };
        (session, home)
    }

    /// Fits the head of the answer to the client. One that a gateway which is shutting down has
    /// served is told that no further request is taken on its connection. An HTTP/1.0 client
    /// knows no chunks: without a length, the end of the connection ends its body.
    fn fit(&mut self, answer: &mut ResponseHeader) {
        if answer.status.is_informational() {
            return;
        }
        let chunks_to_http10 = self.client().req_header().version == Version::HTTP_10
            && answer.remove_header(&TRANSFER_ENCODING).is_some();
        if chunks_to_http10 || self.leaving.is_set() {
            self.client_mut().set_keepalive(None);
        }
    }

    #[allow(
        clippy::expect_used,
        reason = "taken only by drop, after which nothing can ask"
    )]
    fn client(&self) -> &ServerSession {
        self.client.as_deref().expect("the session is in use")
    }

    #[allow(
        clippy::expect_used,
        reason = "taken only by drop, after which nothing can ask"
    )]
    fn client_mut(&mut self) -> &mut ServerSession {
        self.client.as_deref_mut().expect("the session is in use")
    }
}

impl Return {
    pub(super) fn take(&self) -> Option<Returned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for WholeSession {
    fn drop(&mut self) {
        if let Some(session) = self.client.take() {
            *self.home.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Returned {
                session,
                reusable: self.finished && !self.sent_too_much,
            });
        }
    }
}

#[async_trait]
impl Session for WholeSession {
    // The request: a head, and a body that is there already.

    fn req_header(&self) -> &RequestHeader {
        self.client().req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.client_mut().req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_done(&mut self) -> bool {
        true
    }

    fn is_body_empty(&mut self) -> bool {
        self.body.is_empty()
    }

    fn body_bytes_read(&self) -> usize {
        self.body.len()
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        (!self.body.is_empty()).then(|| self.body.clone())
    }

    /// Waits for the client to go away. A client that sends more, a pipelined request, must not
    /// lose the answer to its first: the connection is closed after that answer instead.
    async fn read_body_or_idle(&mut self, _: bool) -> Result<Option<Bytes>> {
        if self.sent_too_much {
            return std::future::pending().await;
        }
        match self.client_mut().read_body_or_idle(true).await {
            Err(error) if *error.etype() == ErrorType::ConnectError => {
                self.sent_too_much = true;
                self.client_mut().set_keepalive(None);
                std::future::pending().await
            }
            outcome => outcome,
        }
    }

    // The response: passed on as it is.

    async fn write_response_header(
        &mut self,
        mut resp: Box<ResponseHeader>,
        end: bool,
    ) -> Result<()> {
        self.fit(&mut resp);
        self.client_mut().write_response_header(resp).await?;
        if end {
            self.client_mut().finish_body().await?;
        }
        Ok(())
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(resp.clone()), end)
            .await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.client_mut().write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.client_mut().write_response_trailers(trailers).await
    }

    async fn response_duplex_vec(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        for task in &mut tasks {
            if let HttpTask::Header(answer, _) = task {
                self.fit(answer);
            }
        }
        self.client_mut().response_duplex_vec(tasks).await
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.client().response_written()
    }

    fn body_bytes_sent(&self) -> usize {
        self.client().body_bytes_sent()
    }

    async fn finish(&mut self) -> Result<()> {
        self.client_mut().finish_body().await?;
        self.finished = true;
        Ok(())
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.client_mut().shutdown().await;
    }

    // The connection.

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.client_mut().set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.client().get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.client_mut().set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.client().get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.client_mut().set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.client().get_total_drain_timeout()
    }

    fn digest(&self) -> Option<&Digest> {
        self.client().digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.client_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.client().client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.client().server_addr()
    }

    /// For log lines of Pingora's own. The query stays out: it may hold a secret.
    fn request_summary(&self) -> String {
        let head = self.req_header();
        format!("{} {}", head.method, head.uri.path())
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    // Messages of custom protocols: there are none.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Error::e_explain(ErrorType::InternalError, "no custom messages were taken")
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Error::e_explain(ErrorType::InternalError, "no custom messages were taken")
    }
}
