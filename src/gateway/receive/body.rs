//! The request body: read whole, under a limit, a deadline and a memory budget that all requests
//! share, before the request is decided.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderName;
use pingora::ErrorType;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroize;

use crate::gateway::receive::framing::{self, Trailers};
use crate::gateway::receive::request_stream::RequestStream;
use crate::metrics::Metrics;
use countersign_core::refusal::Refusal;

/// A whole body, with its share of the budget, given back when it is dropped.
pub(crate) struct Body {
    bytes: Bytes,
    _share: Option<Share>,
}

/// The bytes that all requests together may hold in memory as bodies. Clones share it.
#[derive(Clone)]
pub(crate) struct BodyBudget {
    bytes: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Part of a [`BodyBudget`], given back when dropped.
pub(crate) struct Share {
    permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl BodyBudget {
    pub(crate) fn new(bytes: usize, metrics: Arc<Metrics>) -> BodyBudget {
        BodyBudget {
            bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            metrics,
        }
    }

    /// Takes the bytes at once or not at all: a waiting request would keep its share while it
    /// waits.
    ///
    /// # Errors
    ///
    /// [`Refusal::Overloaded`], if that many are not left.
    pub(crate) fn take(&self, bytes: usize) -> Result<Share, Refusal> {
        let count = u32::try_from(bytes).map_err(|_| Refusal::Overloaded)?;
        let permit = Arc::clone(&self.bytes)
            .try_acquire_many_owned(count)
            .map_err(|_| Refusal::Overloaded)?;
        self.metrics.body_buffered(bytes);
        Ok(Share {
            permit,
            metrics: Arc::clone(&self.metrics),
        })
    }
}

impl Share {
    /// Adds another part of the same budget to this one.
    pub(crate) fn absorb(&mut self, mut other: Share) {
        // `other` is left empty, so that dropping it gives nothing back.
        let all = other.permit.num_permits();
        if let Some(permit) = other.permit.split(all) {
            self.permit.merge(permit);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.metrics.body_released(self.permit.num_permits());
    }
}

impl Body {
    /// Reads the body to its end. The share of the budget grows with what has arrived, not with
    /// what was announced, so that announcing costs the gateway nothing.
    ///
    /// # Errors
    ///
    /// 413 over `limit` bytes, 408 after `deadline`, 503 where the budget is used up, 400 where
    /// the body breaks its framing or the client goes away.
    pub(crate) async fn read(
        session: &mut ServerSession,
        limit: u64,
        deadline: Duration,
        budget: &BodyBudget,
    ) -> Result<Body, Refusal> {
        if session.is_body_empty() {
            return Ok(Body {
                bytes: Bytes::new(),
                _share: None,
            });
        }
        tokio::time::timeout(deadline, read_all(session, limit, budget))
            .await
            .unwrap_or(Err(Refusal::RequestTimeout))
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Overwrites the body, as far as nothing else holds its bytes: it was a secret.
    pub(crate) fn wipe(&mut self) {
        if let Ok(mut bytes) = std::mem::take(&mut self.bytes).try_into_mut() {
            bytes.zeroize();
        }
    }
}

/// Judges the trailers behind a body that was read to its end. `is_trusted` tells the names that
/// only the gateway writes.
///
/// # Errors
///
/// 400; see [`framing::check_trailers`].
pub(crate) fn check_trailers(
    session: &ServerSession,
    is_trusted: impl Fn(&HeaderName) -> bool,
) -> Result<(), Refusal> {
    let extensions = &session.req_header().extensions;
    let of_http2 = || extensions.get::<Trailers>()?.get().cloned();
    match RequestStream::trailers(session).or_else(of_http2) {
        None => Ok(()),
        Some(trailers) => framing::check_trailers(&trailers, is_trusted),
    }
}

/// Sends `100 Continue` where the client waits for it; called once the headers have passed.
pub(crate) async fn send_continue(session: &mut ServerSession) -> pingora::Result<()> {
    let keepalive = session.get_keepalive();
    let header = ResponseHeader::build(100, Some(0))?;
    session.write_response_header(Box::new(header)).await?;
    // Pingora takes an answer before the end of the body for the last one.
    session.set_keepalive(keepalive);
    Ok(())
}

/// Why a body could not be read to its end.
fn broken(error: &pingora::Error) -> Refusal {
    match error.etype() {
        ErrorType::ReadTimedout => Refusal::RequestTimeout,
        ErrorType::ConnectionClosed | ErrorType::ReadError => {
            Refusal::BadRequest("the connection ended within the body")
        }
        _ => Refusal::BadRequest("the body is not framed as announced"),
    }
}

async fn read_all(
    session: &mut ServerSession,
    limit: u64,
    budget: &BodyBudget,
) -> Result<Body, Refusal> {
    let mut share: Option<Share> = None;
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut length = 0u64;
    loop {
        let piece = match session.read_request_body().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                let fault = RequestStream::fault(session).map(Refusal::BadRequest);
                return Err(fault.unwrap_or_else(|| broken(&error)));
            }
        };
        length += piece.len() as u64;
        if length > limit {
            return Err(Refusal::BodyTooLarge { limit });
        }
        let more = budget.take(piece.len())?;
        match &mut share {
            Some(share) => share.absorb(more),
            None => share = Some(more),
        }
        // Most bodies arrive in one piece, which is then kept as it is.
        match first.take() {
            None if rest.is_empty() => first = Some(piece),
            None => rest.extend_from_slice(&piece),
            Some(head) => {
                rest.extend_from_slice(&head);
                rest.extend_from_slice(&piece);
            }
        }
    }
    Ok(Body {
        bytes: first.unwrap_or_else(|| rest.freeze()),
        _share: share,
    })
}
