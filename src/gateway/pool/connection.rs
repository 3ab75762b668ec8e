//! A connection to a server, in the hands of one request.

use std::sync::LazyLock;
use std::time::Duration;

use pingora::Result;
use pingora::connectors::TransportConnector;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;

use super::server::Server;

/// Makes connections. Which of them wait for another request is the servers' matter, see
/// [`idle`](super::idle).
static CONNECTOR: LazyLock<TransportConnector> = LazyLock::new(|| TransportConnector::new(None));

pub(in crate::gateway) struct Connection {
    pub(in crate::gateway) session: HttpSession,
    /// What it was made under.
    settings: u64,
}

impl Connection {
    /// One that has waited at the server, or a new one. `now` is monotonic.
    ///
    /// # Errors
    ///
    /// Pingora's, where none can be made. Nothing has been sent then.
    pub(in crate::gateway) async fn to(server: &Server, now: Duration) -> Result<Connection> {
        let peer = server.peer();
        let settings = peer.group_key;
        let stream = match server.idle.take(settings, now) {
            Some(stream) => stream,
            // On the heap: it is seldom needed, and large with TLS in it.
            None => Box::pin(CONNECTOR.new_stream(&*peer)).await?,
        };
        let HttpPeer { options, .. } = &*peer;
        let mut session = HttpSession::new_with_options(stream, &*peer);
        session.read_timeout = options.read_timeout;
        session.write_timeout = options.write_timeout;
        Ok(Connection { session, settings })
    }

    /// Leaves it with the server for another request, or closes it, if the answer says so or was not
    /// read to its end.
    pub(in crate::gateway) async fn keep(mut self, server: &Server, now: Duration) {
        self.session.respect_keepalive();
        if let Some(stream) = self.session.reuse().await {
            server.idle.keep(stream, self.settings, now);
        }
    }
}
