//! Lingering close: the end of a connection that lets the last response arrive.

use std::time::Duration;

use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use tokio::io::AsyncReadExt;

use crate::gateway::receive::request_stream::RequestStream;

/// The limits of a lingering close: for how long, and for how many bytes, a client that is still
/// sending is read after its response. A client that is reset while it sends may never see the
/// response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linger {
    /// Most bytes read and thrown away.
    pub(crate) bytes: u64,
    /// Longest time, all reads together.
    pub(crate) time: Duration,
}

/// Longest wait for the next byte of an upload that is thrown away: long enough for a lost packet
/// to be sent again twice, and too short to hold connections open for nothing.
const STALL: Duration = Duration::from_secs(2);

/// Bytes of an upload read at once: what one TLS record holds.
const PIECE: usize = 16 * 1024;

impl Linger {
    /// Ends an HTTP/1 connection, or an HTTP/2 stream, so that the response arrives. The end of the
    /// response is sent at once: the client does not wait for the lingering.
    ///
    /// Ends early when the client closes, ends its upload, or stops sending for 2 s.
    pub(crate) async fn close(self, session: ServerSession) {
        let _ = tokio::time::timeout(self.time, async {
            match session {
                ServerSession::H1(session) => {
                    if let Some(mut stream) = RequestStream::into_connection(session.into_inner()) {
                        stream.shutdown().await;
                        self.drain_connection(&mut stream).await;
                    }
                }
                // Reading opens the flow-control window again. Where the client goes on beyond the
                // limits, dropping the stream resets it with NO_ERROR (RFC 9113, section 8.1).
                session => self.drain_stream(session).await,
            }
        })
        .await;
    }

    async fn drain_connection(self, stream: &mut Stream) {
        // On the heap, or it would lie in the future of every request.
        let mut scratch = vec![0u8; PIECE];
        let mut left = self.bytes;
        while left > 0 {
            match tokio::time::timeout(STALL, stream.read(&mut scratch)).await {
                Ok(Ok(count)) if count > 0 => left = left.saturating_sub(count as u64),
                _ => return,
            }
        }
    }

    async fn drain_stream(self, mut session: ServerSession) {
        let mut left = self.bytes;
        while left > 0 {
            match tokio::time::timeout(STALL, session.read_request_body()).await {
                // A frame without data is no reason to go on for ever.
                Ok(Ok(Some(piece))) => left = left.saturating_sub(piece.len().max(1) as u64),
                _ => return,
            }
        }
    }
}
