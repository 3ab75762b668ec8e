//! A refusal, and the answer to it: JSON that the known clients read, and a way to end the
//! connection that lets it arrive.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use serde::Serialize;
use tokio::io::AsyncReadExt;

use crate::auth::decision::{Denied, Unproved};
use crate::auth::refusal::Refusal;
use crate::config::headers::REQUEST_ID;
use crate::gateway::receive::request_id::RequestId;
use crate::gateway::receive::request_stream::RequestStream;

/// A refusal, with what is known of who was refused.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody knows who sent it.
    Unverified(Refusal),
    /// Neither does anybody now: the signature is wrong.
    Unproved(Unproved),
    /// The signature is good.
    Denied(Box<Denied>),
}

impl Stop {
    pub(crate) fn refusal(&self) -> &Refusal {
        match self {
            Stop::Unverified(refusal) => refusal,
            Stop::Unproved(_) => &Refusal::BadSignature,
            Stop::Denied(denied) => &denied.refusal,
        }
    }

    /// Whether the machine that a wrong signature names is known, for the record alone.
    pub(crate) fn machine_known(&self) -> Option<bool> {
        match self {
            Stop::Unproved(unproved) => Some(unproved.machine_known),
            Stop::Unverified(_) | Stop::Denied(_) => None,
        }
    }
}

impl From<Unproved> for Stop {
    fn from(unproved: Unproved) -> Stop {
        Stop::Unproved(unproved)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Unverified(refusal)
    }
}

impl From<Box<Denied>> for Stop {
    fn from(denied: Box<Denied>) -> Stop {
        Stop::Denied(denied)
    }
}

/// The body of every refusal. `error` is what SikkerKey clients show, `errors` what Vault
/// clients show.
#[derive(Serialize)]
struct Reply<'a> {
    error: &'a str,
    errors: [&'a str; 1],
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_time: Option<u64>,
}

/// Writes the answer. Where `session` has read no request, because there was none to read, the
/// answer is the same.
///
/// # Errors
///
/// Only Pingora's, where the client cannot be written to any more.
pub(crate) async fn write(
    session: &mut ServerSession,
    refusal: &Refusal,
    id: RequestId,
    is_head: bool,
) -> Result<()> {
    let (header, body) = reply(refusal, id)?;
    session.write_response_header(Box::new(header)).await?;
    let body = if is_head { Bytes::new() } else { body };
    session.write_response_body(body, true).await
}

fn reply(refusal: &Refusal, id: RequestId) -> Result<(ResponseHeader, Bytes)> {
    let code = refusal.code();
    let text = refusal.text();
    let body = serde_json::to_vec(&Reply {
        error: &text,
        errors: [&text],
        code: code.as_str(),
        request_id: id.as_str(),
        server_time: match refusal {
            Refusal::ClockSkew { server_time } => Some(*server_time),
            _ => None,
        },
    })
    .unwrap_or_default();
    let mut header = ResponseHeader::build(code.status(), Some(8))?;
    header.insert_header(CONTENT_TYPE, "application/json")?;
    header.insert_header(CONTENT_LENGTH, body.len())?;
    header.insert_header(CACHE_CONTROL, "no-store")?;
    header.insert_header(REQUEST_ID, id.as_str())?;
    if code.status() == 401 {
        header.insert_header(WWW_AUTHENTICATE, "Countersign")?;
    }
    if let Some(seconds) = refusal.retry_after() {
        header.insert_header(RETRY_AFTER, seconds.to_string())?;
    }
    if let Refusal::MethodNotAllowed { allow } = refusal {
        header.insert_header(ALLOW, &**allow)?;
    }
    Ok((header, body.into()))
}

/// Lingering close: how long, and for how many bytes, a client that is still sending is read after
/// its answer. A client whose unread bytes are met with a reset, or whose HTTP/2 stream ends under
/// it, may never see the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linger {
    /// Most bytes read and thrown away.
    pub(crate) bytes: u64,
    /// Longest time, all reads together.
    pub(crate) time: Duration,
}

/// Longest wait for the next byte of an upload that is thrown away: long enough for a lost packet to
/// be sent again twice, and too short to hold connections open for nothing.
const STALL: Duration = Duration::from_secs(2);

/// Bytes of an upload read at once: what one TLS record holds.
const PIECE: usize = 16 * 1024;

impl Linger {
    /// Ends an HTTP/1 connection, or an HTTP/2 stream, so that the answer arrives. The answer has been
    /// written, and its end is sent at once: a client that waits for it does not wait for this.
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
