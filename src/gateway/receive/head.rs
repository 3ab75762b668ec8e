//! The head of the next request on a connection: read within its deadlines, or refused.

use std::pin::pin;

use bytes::BytesMut;
use pingora::ErrorType;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::server::HttpSession;
use pingora::server::ShutdownWatch;

use super::draining::Draining;
use super::first_line::{self, FirstLine, HeadError};
use super::keep_alive;
use super::request_stream::RequestStream;
use crate::config::Limits;
use countersign_core::refusal::Refusal;

/// The result of reading a head.
pub(crate) enum RequestHead {
    /// With the request line as it was sent, where the protocol has one.
    Read(Box<ServerSession>, Option<FirstLine>),
    /// The client closed, or sent nothing for as long as an idle connection is kept.
    Gone,
    Refused(Box<ServerSession>, Refusal),
}

/// Reads the head of the next request. The wait for its first byte is idle time; the rest of the
/// head has one deadline.
pub(crate) async fn read(
    session: ServerSession,
    limits: &Limits,
    shutdown: &ShutdownWatch,
    draining: &Draining,
) -> RequestHead {
    match session {
        ServerSession::H1(session) => read_h1(session, limits, shutdown, draining).await,
        // An HTTP/2 stream begins with a head that is complete.
        mut session => {
            session.set_write_timeout(Some(limits.write_timeout));
            RequestHead::Read(Box::new(session), None)
        }
    }
}

async fn read_h1(
    mut session: HttpSession,
    limits: &Limits,
    shutdown: &ShutdownWatch,
    draining: &Draining,
) -> RequestHead {
    let left = session.get_keepalive_reuses_remaining();
    let idle = match keep_alive::is_reused(&mut session) {
        true => limits.keepalive,
        false => limits.header_timeout,
    };
    let mut stop = shutdown.clone();
    let Some(mut stream) = RequestStream::next_request(session.into_inner()) else {
        return RequestHead::Gone;
    };
    let begun = tokio::select! {
        biased; // a request that has arrived is served, also while shutting down
        begun = tokio::time::timeout(idle, FirstLine::wait(&mut stream)) => begun,
        _ = stop.wait_for(|&stop| stop) => return RequestHead::Gone,
    };
    if !matches!(begun, Ok(true)) {
        return RequestHead::Gone;
    }
    let mut deadline = pin!(tokio::time::sleep(limits.header_timeout));
    let head = tokio::select! {
        biased; // the deadline need not be set where the whole head has arrived
        head = FirstLine::read(&mut stream) => Some(head),
        () = &mut deadline => None,
    };
    let (head, line) = match head {
        Some(Ok((line, head))) => (head, Ok(line)),
        Some(Err(HeadError::Gone)) => return RequestHead::Gone,
        Some(Err(HeadError::TooLarge)) => (BytesMut::new(), Err(Refusal::HeaderTooLarge)),
        None => (BytesMut::new(), Err(Refusal::RequestTimeout)),
    };
    let mut session = Box::new(first_line::session_with(stream, head));
    session.set_total_drain_timeout(Some(limits.drain_timeout));
    session.set_ignore_info_resp(true);
    session.set_keepalive_reuses_remaining(left);
    // The deadlines for the whole are kept here and in `body`; this bounds a single read.
    session.set_read_timeout(Some(limits.body_timeout + limits.header_timeout));
    let line = match line {
        Ok(line) => line,
        Err(refusal) => return RequestHead::Refused(session, refusal),
    };
    let read = tokio::select! {
        biased;
        read = session.read_request() => Some(read),
        () = &mut deadline => None,
    };
    match read {
        Some(Ok(true)) => {
            // Reading has set it to unlimited; a client that wants to close is respected.
            if session.get_keepalive().is_some() {
                session.set_keepalive(Some(limits.keepalive.as_secs().max(1)));
            }
            if *shutdown.borrow() || draining.has_begun() {
                session.set_keepalive(None);
            }
            RequestHead::Read(session, Some(line))
        }
        Some(Err(error)) if *error.etype() == ErrorType::InvalidHTTPHeader => {
            RequestHead::Refused(session, line.refusal(&error))
        }
        Some(Ok(false) | Err(_)) => RequestHead::Gone,
        None => RequestHead::Refused(session, Refusal::RequestTimeout),
    }
}
