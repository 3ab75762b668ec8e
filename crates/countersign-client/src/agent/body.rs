//! Buffers a client's request body, because it must be hashed before the request is sent. Three
//! limits hold: the size of a body, the memory of all bodies, and the time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::AgentFault;

/// Deadline for a whole body.
const DEADLINE: Duration = Duration::from_secs(60);

/// Longest time, and most bytes, of a discarded body; equal to the gateway's limits.
const DISCARD: Duration = Duration::from_secs(5);
const DISCARD_BYTES: usize = 32 << 20;

/// Longest wait for the next part of a discarded body.
const STALL: Duration = Duration::from_secs(2);

/// A body and its share of the memory budget, which is released on drop.
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads a body. `budget` counts bytes.
///
/// # Errors
///
/// [`AgentFault::BodyTooLarge`], [`AgentFault::RequestTimeout`], [`AgentFault::BadRequest`], and
/// [`AgentFault::Overloaded`]. A request does not wait for the budget, because a waiting client
/// holds its connection.
pub(super) async fn read(
    body: &mut Incoming,
    limit: u64,
    budget: &Arc<Semaphore>,
) -> Result<BufferedBody, AgentFault> {
    match tokio::time::timeout(DEADLINE, collect(body, limit, budget)).await {
        Ok(read) => read,
        Err(_) => Err(AgentFault::RequestTimeout),
    }
}

async fn collect(
    body: &mut Incoming,
    limit: u64,
    budget: &Arc<Semaphore>,
) -> Result<BufferedBody, AgentFault> {
    // The declared length is reserved at once. Otherwise half-read bodies could starve each other.
    let declared = body.size_hint().exact().unwrap_or(0);
    if declared > limit {
        return Err(AgentFault::BodyTooLarge(limit));
    }
    let mut share = reserve(budget, declared)?;
    let mut read = BytesMut::with_capacity(usize::try_from(declared).unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| AgentFault::BadRequest)?.into_data() else {
            continue; // trailers, which are never forwarded
        };
        let length = (read.len() + piece.len()) as u64;
        if length > limit {
            return Err(AgentFault::BodyTooLarge(limit));
        }
        let reserved = share.as_ref().map_or(0, |it| it.num_permits() as u64);
        if length > reserved {
            let more = reserve(budget, length - reserved)?;
            match (&mut share, more) {
                (Some(share), Some(more)) => share.merge(more),
                (None, more) => share = more,
                (Some(_), None) => {}
            }
        }
        read.extend_from_slice(&piece);
    }
    Ok(BufferedBody {
        bytes: read.freeze(),
        _share: share,
    })
}

/// Reads the rest of a refused request's body and throws it away, beside the answer: a client that
/// is still sending would lose the refusal to a reset. It ends with the upload, at the bounds, or
/// when the client stops; then the connection is closed.
pub(super) fn discard(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(tokio::time::timeout(DISCARD, async move {
        let mut left = DISCARD_BYTES;
        while left > 0
            && let Ok(Some(Ok(frame))) = tokio::time::timeout(STALL, body.frame()).await
        {
            let count = frame.data_ref().map_or(1, Bytes::len);
            left = left.saturating_sub(count.max(1));
        }
    }));
}

fn reserve(
    budget: &Arc<Semaphore>,
    bytes: u64,
) -> Result<Option<OwnedSemaphorePermit>, AgentFault> {
    if bytes == 0 {
        return Ok(None);
    }
    let bytes = u32::try_from(bytes).map_err(|_| AgentFault::Overloaded)?;
    match Arc::clone(budget).try_acquire_many_owned(bytes) {
        Ok(share) => Ok(Some(share)),
        Err(_) => Err(AgentFault::Overloaded),
    }
}
