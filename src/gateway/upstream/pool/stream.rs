//! A connection to a server as Pingora's session gets it, made full duplex.
//!
//! Pingora's session owns its stream and either writes or reads. A server may answer before it has
//! read the request, or send back what it reads; so the request is queued here, and each read of
//! the answer first writes as much of it as the server takes.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;

/// A body of at most this many bytes is copied behind the head, to leave in one write.
const COPIED_BODY: usize = 8 * 1024;

/// One connection to a server. Clones are handles to the same connection: Pingora's session holds
/// one, and the request's task another.
#[derive(Clone)]
pub(crate) struct UpstreamStream(Arc<Mutex<StreamState>>);

struct StreamState {
    stream: Stream,
    /// Of the socket beneath, where there is one.
    descriptor: Option<RawFd>,
    is_tls: bool,
    /// The head of the request, and a small body with it, as far as it is not written yet.
    head: BytesMut,
    /// The rest of the body, likewise.
    body: Bytes,
    /// Something was written and not flushed.
    unflushed: bool,
    /// A write failed. The answer may still be there to read.
    broken: bool,
    /// Bytes written and read so far.
    moved: u64,
}

/// The state of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// The server has sent nothing and keeps the connection open.
    Quiet,
    /// The server has sent bytes that no request asked for.
    Unsolicited,
    /// The server has closed the connection, or it has failed.
    Closed,
}

impl UpstreamStream {
    pub(super) fn new(stream: Stream) -> UpstreamStream {
        let descriptor = stream.get_socket_digest().map(|_| stream.id());
        UpstreamStream(Arc::new(Mutex::new(StreamState {
            descriptor,
            is_tls: stream.get_ssl_digest().is_some(),
            stream,
            head: BytesMut::new(),
            body: Bytes::new(),
            unflushed: false,
            broken: false,
            moved: 0,
        })))
    }

    /// Queues the body behind what the session has written: the head.
    pub(crate) fn queue_body(&self, body: &Bytes) {
        let mut state = self.state();
        if body.len() <= COPIED_BODY {
            state.head.extend_from_slice(body);
        } else {
            state.body = body.clone();
        }
    }

    /// Whether the server's end took all of the request.
    pub(crate) fn is_sent(&self) -> bool {
        let state = self.state();
        !state.broken && !state.has_more()
    }

    /// Writes the request on, for as long as this is polled. It never ends: it runs beside
    /// something that does.
    pub(crate) async fn keep_sending(&self) -> std::convert::Infallible {
        poll_fn(|cx| {
            self.state().push(cx);
            Poll::Pending
        })
        .await
    }

    /// Writes the request on until the server has taken all of it, or takes no more.
    pub(crate) async fn end_of_sending(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            state.push(cx);
            match !state.broken && state.has_more() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Waits until no byte has moved in either direction for as long as that may take: `write`
    /// while the request is being sent, else `read`. Gives back whether it was being sent. The wait
    /// ends up to a quarter of that time late.
    pub(crate) async fn stalled(&self, write: Duration, read: Duration) -> bool {
        let mut before = None;
        let mut quarters = 0;
        loop {
            let now = self.progress();
            quarters = if before == Some(now) { quarters + 1 } else { 0 };
            if quarters == 4 {
                return now.1;
            }
            before = Some(now);
            tokio::time::sleep(if now.1 { write } else { read } / 4).await;
        }
    }

    /// The state of the connection while no request uses it.
    pub(super) fn silence(&self) -> Silence {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let read = poll_fn(|cx| Pin::new(&mut self.state().stream).poll_read(cx, &mut buffer));
        // Not within the budget of the task, or it would seem quiet.
        match unconstrained(read).now_or_never() {
            None => self.state().silence_of_socket(),
            Some(Ok(())) if !buffer.filled().is_empty() => Silence::Unsolicited,
            Some(_) => Silence::Closed,
        }
    }

    /// How many bytes have moved, and whether some of the request waits for the server to take it.
    fn progress(&self) -> (u64, bool) {
        let state = self.state();
        (state.moved, !state.broken && state.has_more())
    }

    fn state(&self) -> MutexGuard<'_, StreamState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamState {
    /// The state by the socket itself. The runtime learns of arrived bytes a moment later, under
    /// load many milliseconds, and until then reports nothing to read.
    fn silence_of_socket(&self) -> Silence {
        let Some(descriptor) = self.descriptor else {
            return Silence::Quiet;
        };
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(descriptor, &mut [0], flags) {
            Err(Errno::EAGAIN) => Silence::Quiet,
            // In TLS it may be the end of the connection as well as data.
            Ok(1..) if !self.is_tls => Silence::Unsolicited,
            Ok(_) | Err(_) => Silence::Closed,
        }
    }

    fn has_more(&self) -> bool {
        !self.head.is_empty() || !self.body.is_empty() || self.unflushed
    }

    /// Writes as much of the request as the server takes now.
    fn push(&mut self, cx: &mut Context<'_>) {
        while !self.broken && self.has_more() {
            let next: &[u8] = if self.head.is_empty() {
                &self.body
            } else {
                &self.head
            };
            let stream = Pin::new(&mut self.stream);
            if next.is_empty() {
                match stream.poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(_)) => self.broken = true,
                    Poll::Pending => return,
                }
                continue;
            }
            match stream.poll_write(cx, next) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    if self.head.is_empty() {
                        self.body.advance(count);
                        if self.body.is_empty() {
                            // An empty view would keep all of it in memory.
                            self.body = Bytes::new();
                        }
                    } else {
                        self.head.advance(count);
                    }
                    self.unflushed = true;
                    self.moved += count as u64;
                }
                Poll::Ready(_) => self.broken = true,
                Poll::Pending => return,
            }
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        state.push(cx);
        let before = buf.filled().len();
        let read = Pin::new(&mut state.stream).poll_read(cx, buf);
        state.moved += (buf.filled().len() - before) as u64;
        read
    }
}

/// Bytes that the session writes are queued. Reading the response sends them.
impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.state().head.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The connection closes when its last handle is dropped: a farewell could wait for a server that
/// reads nothing.
#[async_trait]
impl Shutdown for UpstreamStream {
    async fn shutdown(&mut self) {}
}

impl UniqueID for UpstreamStream {
    fn id(&self) -> UniqueIDType {
        self.state().stream.id()
    }
}

// The digests describe a connection to Pingora's log, which nothing here reads.
impl Ssl for UpstreamStream {}

impl Peek for UpstreamStream {}

impl GetTimingDigest for UpstreamStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for UpstreamStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for UpstreamStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

/// Without the request: it may hold a secret.
impl fmt::Debug for UpstreamStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let (to_send, moved) = (state.head.len() + state.body.len(), state.moved);
        write!(f, "UpstreamStream({to_send} bytes to send, {moved} moved)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[allow(
    clippy::disallowed_methods,
    reason = "the clock of the test, which it stops"
)]
mod tests {
    use pingora::connectors::TransportConnector;
    use pingora::upstreams::peer::HttpPeer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A stream whose server takes `room` bytes that it has not read, and the server's end.
    fn stream(room: usize) -> (UpstreamStream, tokio::io::DuplexStream) {
        let (ours, theirs) = duplex(room);
        (UpstreamStream::new(Box::new(ours)), theirs)
    }

    #[tokio::test]
    async fn reading_the_answer_sends_the_request() {
        let (mut ours, mut server) = stream(1024);
        ours.write_all(b"head ").await.unwrap();
        ours.queue_body(&Bytes::from_static(b"body"));
        server.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        ours.read_exact(&mut answer).await.unwrap();
        let mut request = [0; 9];
        server.read_exact(&mut request).await.unwrap();
        assert_eq!((&answer, &request), (b"answer", b"head body"));
        assert!(ours.is_sent());
    }

    #[tokio::test]
    async fn an_answer_is_read_while_the_request_is_stuck() {
        let (mut ours, mut server) = stream(16);
        ours.queue_body(&Bytes::from(vec![b'x'; 100_000]));
        server.write_all(b"early").await.unwrap();
        let mut answer = [0; 5];
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"early");
        assert!(ours.progress().1 && !ours.is_sent());
    }

    #[tokio::test]
    async fn a_server_that_sends_back_all_it_reads_gets_all_and_is_heard() {
        let (mut ours, server) = stream(64);
        let body = Bytes::from(vec![b'e'; 300_000]);
        ours.queue_body(&body);
        let (mut reader, mut writer) = tokio::io::split(server);
        let echo = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut writer).await });
        let mut back = vec![0; body.len()];
        ours.read_exact(&mut back).await.unwrap();
        assert!(back == body && ours.is_sent());
        echo.abort();
    }

    #[tokio::test]
    async fn the_request_is_sent_on_beside_something_else() {
        let (ours, mut server) = stream(16);
        ours.queue_body(&Bytes::from(vec![b'x'; 10_000]));
        let mut request = vec![0; 10_000];
        tokio::select! {
            never = ours.keep_sending() => match never {},
            read = server.read_exact(&mut request) => assert_eq!(read.unwrap(), 10_000),
        }
    }

    #[tokio::test]
    async fn an_answer_that_came_before_the_connection_broke_is_read() {
        let (mut ours, mut server) = stream(16);
        server.write_all(b"413").await.unwrap();
        drop(server);
        ours.queue_body(&Bytes::from(vec![b'x'; 100_000]));
        let mut answer = Vec::new();
        ours.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"413");
        assert!(!ours.is_sent() && !ours.progress().1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_nothing_stalls_by_the_limit_for_writing() {
        let (mut ours, _server) = stream(16);
        ours.queue_body(&Bytes::from(vec![b'x'; 100_000]));
        let _ = ours.read_u8().now_or_never();
        let began = tokio::time::Instant::now();
        assert!(ours.stalled(SECOND, 60 * SECOND).await);
        assert_eq!(began.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_stalls_by_the_limit_for_reading() {
        let (mut ours, _server) = stream(1024);
        ours.queue_body(&Bytes::from_static(b"x"));
        let _ = ours.read_u8().now_or_never();
        let began = tokio::time::Instant::now();
        assert!(!ours.stalled(60 * SECOND, SECOND).await);
        assert_eq!(began.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_server_that_takes_a_little_now_and_then_does_not_stall() {
        let (ours, mut server) = stream(16);
        let mut reader = ours.clone();
        ours.queue_body(&Bytes::from(vec![b'x'; 10_000]));
        let slow = async {
            let mut piece = [0; 16];
            for _ in 0..100 {
                tokio::time::sleep(SECOND / 2).await;
                server.read_exact(&mut piece).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            () = slow => {}
            _ = reader.read_u8() => unreachable!("the server says nothing"),
            _ = ours.stalled(SECOND, SECOND) => unreachable!("it moved every half second"),
        }
    }

    #[tokio::test]
    async fn an_idle_connection_tells_quiet_from_closed_and_from_unsolicited() {
        let (ours, mut server) = stream(16);
        assert_eq!(ours.silence(), Silence::Quiet);
        server.write_all(b"!").await.unwrap();
        assert_eq!(ours.silence(), Silence::Unsolicited);
        drop(server);
        assert_eq!(ours.silence(), Silence::Closed);
    }

    #[tokio::test]
    async fn bytes_that_the_runtime_has_not_heard_of_yet_are_seen() {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = HttpPeer::new(listener.local_addr().unwrap(), false, String::new());
        let connector = TransportConnector::new(None);
        let ours = UpstreamStream::new(connector.new_stream(&peer).await.unwrap());
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(ours.silence(), Silence::Quiet);
        // Nothing is awaited from here on, so that the runtime does not learn what has arrived.
        server.write_all(b"late").unwrap();
        assert_eq!(ours.silence(), Silence::Unsolicited);
        assert_eq!(ours.silence(), Silence::Unsolicited);
    }

    #[test]
    fn nothing_of_a_request_is_in_the_debug_text() {
        let (ours, _server) = stream(16);
        ours.queue_body(&Bytes::from_static(b"secret"));
        assert_eq!(
            format!("{ours:?}"),
            "UpstreamStream(6 bytes to send, 0 moved)"
        );
    }
}
