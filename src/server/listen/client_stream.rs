//! A client's connection as Pingora gets it: with the addresses that its own listener would note,
//! and a buffer for what is written, so that the head and the body of a small answer go out
//! together. Pingora's stream has such a buffer only for its own listener.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::gateway::ResetOnClose;

/// Bytes that may wait for more, as in Pingora: what one packet on an Ethernet carries. Longer
/// writes pass through.
const BUFFER: usize = 1460;

/// Bytes that the kernel may hold for a client, twice that with its own bookkeeping. It takes more
/// only when a third of them have gone: a client seems to take nothing for as long as it takes to
/// read that. It is enough for 5 MB/s to a client 100 ms away.
const SEND_BUFFER: usize = 512 * 1024;

/// A connection from a client. Writes must be flushed; Pingora does so at the end of each response,
/// and earlier where a response has no known length.
///
/// A write fails when the client takes nothing of it for the write time-out. Pingora itself bounds
/// the writing of bodies, and not that of heads.
#[derive(Debug)]
pub(crate) struct ClientStream {
    io: BufWriter<TcpStream>,
    digest: Arc<SocketDigest>,
    write_timeout: Duration,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    reset: ResetOnClose,
}

impl ClientStream {
    /// Small writes are not held up by the kernel on top.
    pub(crate) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        write_timeout: Duration,
        reset: ResetOnClose,
    ) -> ClientStream {
        let _ = stream.set_nodelay(true);
        // Where that fails, a client that reads slowly is told later from one that reads nothing.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let _ = digest.peer_addr.set(Some(peer.into()));
        ClientStream {
            io: BufWriter::with_capacity(BUFFER, stream),
            digest: Arc::new(digest),
            write_timeout,
            stalled: None,
            reset,
        }
    }

    /// Fails a write that has waited for the client for too long.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let timeout = self.write_timeout;
        let stalled = (self.stalled).get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.reset.is_set() {
            // Where that fails, the connection ends without a reset.
            let _ = self.io.get_ref().set_zero_linger();
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A task that reads has nothing more to write for now: the head of a response must not wait
        // for its body.
        if !self.io.buffer().is_empty()
            && let Poll::Ready(Err(error)) = self.as_mut().poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.io).poll_write(cx, buf);
        self.in_time(cx, write)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.io).poll_flush(cx);
        self.in_time(cx, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = Pin::new(&mut self.io).poll_shutdown(cx);
        self.in_time(cx, shutdown)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.in_time(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // The buffer is flushed first. An error does not matter: the client has gone.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.io.get_ref().as_raw_fd()
    }
}

impl Ssl for ClientStream {}

#[async_trait]
impl Peek for ClientStream {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.io.get_ref().peek(buf).await?;
        Ok(true)
    }
}

/// No times: nothing here reads them.
impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A stream, and its client's end.
    async fn connected(write_timeout: Duration, reset: ResetOnClose) -> (ClientStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (stream, peer) = accepted.unwrap();
        (
            ClientStream::new(stream, peer, write_timeout, reset),
            client.unwrap(),
        )
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up() {
        let limit = Duration::from_millis(200);
        let (mut stream, _client) = connected(limit, ResetOnClose::default()).await;
        let endless = async { while stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {} };
        let given_up = tokio::time::timeout(100 * limit, endless).await;
        assert!(given_up.is_ok());
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_is_not_given_up() {
        let limit = Duration::from_millis(500);
        let (mut stream, mut client) = connected(limit, ResetOnClose::default()).await;
        const MANY: usize = 32 << 20;
        let reading = tokio::spawn(async move {
            let mut all = 0;
            let mut piece = vec![0; 1 << 20];
            while let Ok(count @ 1..) = client.read(&mut piece).await {
                all += count;
                // All of it takes longer than the limit, and no piece does.
                tokio::time::sleep(limit / 25).await;
            }
            all
        });
        stream.write_all(&vec![b'x'; MANY]).await.unwrap();
        stream.flush().await.unwrap();
        drop(stream);
        assert_eq!(reading.await.unwrap(), MANY);
    }

    #[tokio::test]
    async fn a_connection_ends_by_a_reset_where_that_was_asked_for() {
        for reset in [false, true] {
            let switch = ResetOnClose::default();
            let (mut stream, mut client) = connected(Duration::from_secs(9), switch.clone()).await;
            stream.write_all(b"half").await.unwrap();
            stream.flush().await.unwrap();
            let mut half = [0; 4];
            client.read_exact(&mut half).await.unwrap();
            if reset {
                switch.set();
            }
            drop(stream);
            assert_eq!(client.read(&mut half).await.is_err(), reset);
        }
    }
}
