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

use super::request_id::RequestId;
use crate::auth::decision::{Denied, Unproved};
use crate::auth::refusal::Refusal;
use crate::config::headers::REQUEST_ID;

/// A refusal, with what is known of who was refused.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody knows who sent it.
    Unverified(Refusal),
    /// Neither does anybody now: the signature is wrong.
    Unproved(Unproved),
    /// The signature is good.
    Denied(Box<Denied>),
}

impl Stop {
    pub(super) fn refusal(&self) -> &Refusal {
        match self {
            Stop::Unverified(refusal) => refusal,
            Stop::Unproved(_) => &Refusal::BadSignature,
            Stop::Denied(denied) => &denied.refusal,
        }
    }

    /// Whether the machine that a wrong signature names is known, for the record alone.
    pub(super) fn machine_known(&self) -> Option<bool> {
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
pub(super) async fn write(
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

/// How long, and for how many bytes, a client that is still sending is listened to after its
/// answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    /// Most bytes read and thrown away.
    pub(super) bytes: usize,
    /// Longest time, all reads together.
    pub(super) time: Duration,
}

impl Linger {
    /// Closes an HTTP/1 connection so that the answer arrives: to close a socket with unread
    /// bytes in it resets the connection, and the reset may overtake the answer.
    pub(super) async fn close(self, session: ServerSession) {
        let ServerSession::H1(session) = session else {
            return; // an HTTP/2 stream ends by itself
        };
        let mut stream = session.into_inner();
        let _ = tokio::time::timeout(self.time, async {
            stream.shutdown().await;
            drain(&mut stream, self.bytes).await;
        })
        .await;
    }
}

/// Reads until the client closes, or `limit` bytes; what is read is dropped.
async fn drain(stream: &mut Stream, limit: usize) {
    // On the heap, or it would lie in the future of every request.
    let mut scratch = vec![0u8; 4096];
    let mut left = limit;
    while left > 0 {
        match stream.read(&mut scratch).await {
            Ok(0) | Err(_) => return,
            Ok(count) => left = left.saturating_sub(count),
        }
    }
}
