//! A connection to a server, while one request uses it.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use pingora::Result;
use pingora::connectors::TransportConnector;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;

use super::idle::ConnectionOwner;
use super::reuse::{FinishedExchange, Reuse};
use super::server::UpstreamServer;
use super::stream::UpstreamStream;

/// Makes connections. Each server keeps its idle ones, see [`idle`](super::idle).
static CONNECTOR: LazyLock<TransportConnector> = LazyLock::new(|| TransportConnector::new(None));

pub(crate) struct Connection {
    pub(crate) session: HttpSession,
    pub(crate) stream: UpstreamStream,
    /// The owner of the connection; `None`: it carries this request only.
    owner: Option<ConnectionOwner>,
    /// The generation of the TLS settings that it was made with.
    settings: u64,
}

impl Connection {
    /// Takes an idle connection of the owner, or makes a new one. `now` is monotonic.
    ///
    /// # Errors
    ///
    /// Pingora's, if no connection can be made. Nothing has been sent then.
    pub(crate) async fn to(
        server: &UpstreamServer,
        owner: Option<ConnectionOwner>,
        now: Duration,
    ) -> Result<Connection> {
        let peer = server.peer();
        let settings = peer.group_key;
        let idle = owner.and_then(|owner| server.idle.take(owner, settings, now));
        let stream = match idle {
            Some(stream) => stream,
            // On the heap: it is seldom needed, and large with TLS in it.
            None => UpstreamStream::new(Box::pin(CONNECTOR.new_stream(&*peer)).await?),
        };
        // Without Pingora's own time-outs, which know nothing of the other direction.
        let session = HttpSession::new_with_options(Box::new(stream.clone()), &*peer);
        Ok(Connection {
            session,
            stream,
            owner,
            settings,
        })
    }

    /// Queues the request. Reading the answer sends it.
    ///
    /// # Errors
    ///
    /// Pingora's, where the head cannot be written as HTTP/1.1. Nothing has been sent then.
    pub(crate) async fn queue(&mut self, request: RequestHeader, body: &Bytes) -> Result<()> {
        self.session.write_request_header(Box::new(request)).await?;
        self.stream.queue_body(body);
        Ok(())
    }

    /// Whether both sides agreed to keep the connection, and nothing was read behind the answer.
    pub(crate) fn agrees_to_stay(&mut self) -> bool {
        self.session.respect_keepalive();
        self.session.will_keepalive()
    }

    /// Keeps the connection for another request of its owner, or closes it.
    pub(crate) async fn put_away(
        self,
        server: &UpstreamServer,
        exchanged: &FinishedExchange,
        now: Duration,
    ) {
        let reuse = exchanged.reuse();
        let Connection {
            session,
            stream,
            owner: Some(owner),
            settings,
        } = self
        else {
            return;
        };
        // Pingora has a last word, by what its parser has seen.
        if reuse != Reuse::Never && session.reuse().await.is_some() {
            server.idle.keep(stream, owner, settings, now, reuse);
        }
    }
}
