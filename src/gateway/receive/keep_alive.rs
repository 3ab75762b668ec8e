//! Keep-alive: a connection goes on to its next request, or lingers until its last response has
//! arrived.

use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::server::HttpSession;

use super::linger::Linger;

/// Left on a kept-alive connection: it has carried a request before, and may be idle.
struct Reused;

/// Whether the connection has carried a request before.
pub(super) fn is_reused(session: &mut HttpSession) -> bool {
    session.take_connection_user_context().is_some()
}

/// Gives the connection back for its next request. A connection that closes instead lingers: a
/// pipelined request that is on its way must not cost the client this response.
pub(crate) async fn go_on(session: ServerSession, linger: Linger) -> Option<ReusedHttpStream> {
    let is_last =
        session.get_keepalive().is_none() || session.get_keepalive_reuses_remaining() == Some(0);
    if matches!(session, ServerSession::H1(_)) && is_last {
        linger.close(session).await;
        return None;
    }
    let mut settings = HttpPersistentSettings::for_session(&session);
    settings.set_user_context(Box::new(Reused));
    let stream = session.finish().await.ok().flatten()?;
    Some(ReusedHttpStream::from_reusable_stream(stream, settings))
}
