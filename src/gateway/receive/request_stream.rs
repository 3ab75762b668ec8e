//! The bytes of one HTTP/1 connection, cut into requests: Pingora's session reads a head, then that
//! request's body and not a byte further. Bytes that a client sends early, a pipelined request or
//! the beginning of one, wait here for their turn.
//!
//! So the body is checked in its raw form, before Pingora's lenient reader sees it, and a client
//! that leaves is noticed also where it has sent more.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use http::header::HeaderMap;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::gateway::receive::chunks::Chunks;

/// How much is read at once while a head is awaited: most heads fit.
const READ: usize = 2048;

/// Most bytes read ahead of their turn while a request is served; the rest waits in the kernel. A
/// client that sent more than that is not noticed to leave before it is written to.
const AHEAD: usize = 4096;

/// A client's connection, as HTTP/1 reads it.
pub(crate) struct RequestStream {
    inner: Stream,
    /// Bytes that were read and not yet handed on.
    ahead: BytesMut,
    /// Behind a lock, since a session lends its stream out for reading alone.
    body: Mutex<BodyFraming>,
}

/// The bytes that are still to be read of the current request.
enum BodyFraming {
    /// Everything that comes: no head has been judged yet.
    Unknown,
    /// The number of bytes left; at 0 the request is at its end.
    Sized(u64),
    Chunked(Box<Chunks>),
    /// The body was refused, for this reason.
    Malformed(&'static str),
}

impl RequestStream {
    /// Prepares the connection for its next request. The first time it wraps the stream. `None`
    /// cannot occur; it would end the connection.
    pub(crate) fn next_request(stream: Stream) -> Option<Box<RequestStream>> {
        let mut this = RequestStream::of(stream)?;
        *this.body_mut() = BodyFraming::Unknown;
        Some(this)
    }

    fn of(stream: Stream) -> Option<Box<RequestStream>> {
        // Asked by reference first: a downcast that fails does not give the stream back.
        match stream.as_any().is::<RequestStream>() {
            true => stream.into_any().downcast().ok(),
            false => Some(Box::new(RequestStream {
                inner: stream,
                ahead: BytesMut::new(),
                body: Mutex::new(BodyFraming::Unknown),
            })),
        }
    }

    /// The connection without any notion of requests. Bytes that were read ahead are lost.
    pub(crate) fn into_connection(stream: Stream) -> Option<Stream> {
        RequestStream::of(stream).map(|this| this.inner)
    }

    fn in_session(session: &ServerSession) -> Option<&RequestStream> {
        session.stream()?.as_any().downcast_ref()
    }

    /// From here on the session reads a body of this length and no more; `None` is a chunked one.
    /// Whether that is so: a session over another stream is not bounded.
    #[must_use]
    pub(crate) fn begin_body(session: &ServerSession, length: Option<u64>) -> bool {
        let Some(this) = RequestStream::in_session(session) else {
            return false;
        };
        *this.body() = match length {
            Some(length) => BodyFraming::Sized(length),
            None => BodyFraming::Chunked(Box::new(Chunks::new())),
        };
        true
    }

    /// The mistake in the body, where that ended it.
    pub(crate) fn fault(session: &ServerSession) -> Option<&'static str> {
        match &*RequestStream::in_session(session)?.body() {
            BodyFraming::Malformed(why) => Some(why),
            _ => None,
        }
    }

    /// The trailers of a chunked body that was read to its end.
    pub(crate) fn trailers(session: &ServerSession) -> Option<HeaderMap> {
        match &*RequestStream::in_session(session)?.body() {
            BodyFraming::Chunked(chunks) if !chunks.trailers().is_empty() => {
                Some(chunks.trailers().clone())
            }
            _ => None,
        }
    }

    /// The bytes that were read ahead.
    pub(crate) fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Reads more ahead; `false` when the client has closed.
    pub(crate) async fn read_ahead(&mut self) -> bool {
        self.ahead.reserve(READ);
        matches!(self.inner.read_buf(&mut self.ahead).await, Ok(count) if count > 0)
    }

    fn body(&self) -> MutexGuard<'_, BodyFraming> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn body_mut(&mut self) -> &mut BodyFraming {
        self.body.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands bytes on, from what was read ahead or from the connection, `most` at most.
    fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        let most = most.min(buf.remaining());
        if !self.ahead.is_empty() {
            let count = most.min(self.ahead.len());
            buf.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        if most == buf.remaining() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let mut limited = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut limited))?;
        let count = limited.filled().len();
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    /// Between the end of a request and the beginning of the next: nothing is handed on, so this is
    /// ready only when the client closes.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 512];
        while self.ahead.len() < AHEAD {
            let mut piece = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(piece.filled());
        }
        Poll::Pending
    }
}

impl AsyncRead for RequestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let start = buf.filled().len();
        match this.body_mut() {
            BodyFraming::Unknown => this.poll_some(cx, buf, usize::MAX),
            BodyFraming::Malformed(why) => Poll::Ready(Err(malformed(why))),
            BodyFraming::Sized(0) => this.poll_end(cx),
            BodyFraming::Sized(left) => {
                let left = *left;
                ready!(this.poll_some(cx, buf, usize::try_from(left).unwrap_or(usize::MAX)))?;
                let count = (buf.filled().len() - start) as u64;
                *this.body_mut() = BodyFraming::Sized(left.saturating_sub(count));
                Poll::Ready(Ok(()))
            }
            BodyFraming::Chunked(chunks) if chunks.is_done() => this.poll_end(cx),
            BodyFraming::Chunked(_) => {
                ready!(this.poll_some(cx, buf, usize::MAX))?;
                let BodyFraming::Chunked(chunks) = this.body_mut() else {
                    return Poll::Ready(Ok(()));
                };
                match chunks.read(&buf.filled()[start..]) {
                    Ok(count) => {
                        // The rest is the next request's, and stands before other bytes read ahead.
                        let rest = &buf.filled()[start + count..];
                        if !rest.is_empty() {
                            let mut ahead = BytesMut::with_capacity(rest.len() + this.ahead.len());
                            ahead.extend_from_slice(rest);
                            ahead.extend_from_slice(&this.ahead);
                            this.ahead = ahead;
                            buf.set_filled(start + count);
                        }
                        Poll::Ready(Ok(()))
                    }
                    Err(why) => {
                        *this.body_mut() = BodyFraming::Malformed(why);
                        buf.set_filled(start);
                        Poll::Ready(Err(malformed(why)))
                    }
                }
            }
        }
    }
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl AsyncWrite for RequestStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Without the bytes, which are the client's.
impl std::fmt::Debug for RequestStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestStream").finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for RequestStream {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

#[async_trait]
impl Peek for RequestStream {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buf).await
    }
}

impl UniqueID for RequestStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for RequestStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for RequestStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for RequestStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.inner.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for RequestStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.inner.set_socket_digest(digest);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;

    /// A stream for a request with this body, and its other end, on which these bytes were sent.
    async fn stream(body: BodyFraming, bytes: &[u8]) -> (Box<RequestStream>, DuplexStream) {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        client.write_all(bytes).await.unwrap();
        let mut stream = RequestStream::next_request(Box::new(server)).unwrap();
        *stream.body_mut() = body;
        (stream, client)
    }

    fn chunked() -> BodyFraming {
        BodyFraming::Chunked(Box::new(Chunks::new()))
    }

    async fn read(stream: &mut RequestStream) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 100];
        let count = stream.read(&mut bytes).await?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Whether a read waits.
    async fn waits(stream: &mut RequestStream) -> bool {
        let soon = std::time::Duration::from_millis(20);
        tokio::time::timeout(soon, read(stream)).await.is_err()
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end_and_the_rest_waits_for_its_turn() {
        for (body, bytes) in [
            (BodyFraming::Sized(3), &b"abcGET /"[..]),
            (chunked(), b"3\r\nabc\r\n0\r\n\r\nGET /"),
        ] {
            let (mut stream, _client) = stream(body, bytes).await;
            let own = bytes.len() - b"GET /".len();
            assert_eq!(read(&mut stream).await.unwrap(), &bytes[..own]);
            assert!(waits(&mut stream).await);
            let mut next = RequestStream::next_request(stream).unwrap();
            assert_eq!(read(&mut next).await.unwrap(), b"GET /");
        }
    }

    #[tokio::test]
    async fn what_was_read_ahead_keeps_its_order() {
        let (mut stream, mut client) = stream(BodyFraming::Sized(0), b"one").await;
        assert!(waits(&mut stream).await);
        client.write_all(b"two").await.unwrap();
        assert!(waits(&mut stream).await);
        *stream.body_mut() = chunked();
        stream.ahead = BytesMut::from(&b"0\r\n\r\nonetwo"[..]);
        assert_eq!(read(&mut stream).await.unwrap(), b"0\r\n\r\n");
        assert_eq!(&stream.ahead[..], b"onetwo");
    }

    #[tokio::test]
    async fn a_client_that_closes_is_noticed_whatever_it_sent_before() {
        for bytes in [&b""[..], b"G", b"\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
            let (mut stream, client) = stream(BodyFraming::Sized(0), bytes).await;
            assert!(waits(&mut stream).await);
            drop(client);
            assert_eq!(read(&mut stream).await.unwrap(), b"");
        }
    }

    #[tokio::test]
    async fn no_more_than_a_bound_is_read_ahead() {
        let (mut stream, _client) = stream(BodyFraming::Sized(0), &[b'a'; 60_000]).await;
        assert!(waits(&mut stream).await);
        assert!(stream.ahead.len() < AHEAD + 512);
    }

    #[tokio::test]
    async fn a_malformed_body_is_an_error_from_then_on() {
        let (mut stream, _client) = stream(chunked(), b"3\nabc\n0\n\nGET /").await;
        for _ in 0..2 {
            let error = read(&mut stream).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
