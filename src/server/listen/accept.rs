//! Accepting connections. Pingora's own loop panics where it cannot bind, has no limit of
//! connections, and cannot be stopped without a sleep.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::client_stream::ClientStream;
use super::connection_timeouts::ConnectionTimeouts;
use super::sources::{SourceSlot, Sources};
use super::tls::Tls;
use super::{http2, proxy_line};
use crate::config::TrustedProxies;
use crate::gateway::{Edge, Origin, ResetOnClose};
use crate::metrics::Metrics;
use countersign_core::refusal::Code;

/// A bound socket, with what happens to a connection before the application gets it.
pub(crate) struct BoundListener {
    pub(crate) socket: TcpListener,
    pub(crate) options: Arc<ListenerOptions>,
}

/// The options of a listener.
#[derive(Default)]
pub(crate) struct ListenerOptions {
    pub(crate) tls: Option<Arc<Tls>>,
    /// The proxies whose connections begin with a PROXY line; others are closed.
    pub(crate) proxies: Option<TrustedProxies>,
    /// The path of the health check.
    pub(crate) health: Option<Arc<str>>,
}

/// An application of a listener, made for each connection.
pub(crate) trait Serve: HttpServerApp + Send + Sync + Sized + 'static {
    /// The application for one connection.
    fn serving(
        self: &Arc<Self>,
        origin: Origin,
        reset: ResetOnClose,
        options: &ListenerOptions,
    ) -> Arc<Self>;

    /// Longest wait for a client to take some of what is written to it.
    fn write_timeout(&self) -> Duration;

    /// Resolves when a connection that has not completed its TLS handshake has to make room for a
    /// newer one. Default: never.
    fn give_way(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }
}

impl Serve for Edge {
    fn serving(
        self: &Arc<Self>,
        origin: Origin,
        reset: ResetOnClose,
        options: &ListenerOptions,
    ) -> Arc<Self> {
        Edge::serving(self, origin, reset, options.health.clone())
    }

    fn write_timeout(&self) -> Duration {
        Edge::write_timeout(self)
    }
}

/// The loop that accepts the connections of one application, over all its listeners.
pub(crate) struct AcceptLoop<A> {
    pub(crate) app: Arc<A>,
    /// Where connections are counted; the admin listener's are not.
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// One permit for each connection. If none is left, a new connection is closed at once, because
    /// no response is possible before TLS. It counts as `overloaded`.
    pub(crate) permits: Arc<Semaphore>,
    /// Whether a connection beyond that waits in the backlog of the system, because another one will
    /// soon make room.
    pub(crate) waits_for_room: bool,
    /// Limits the connections of each source. Trusted proxies are exempt. `None`: no limit.
    pub(crate) sources: Option<(Arc<Sources>, TrustedProxies)>,
    /// Whether the last connection found no permit, so that the log says it once.
    pub(crate) full: AtomicBool,
    /// Connections closed because of their PROXY line, or the lack of one.
    pub(crate) turned_away: AtomicU64,
    pub(crate) timeouts: ConnectionTimeouts,
    /// Turns true when every connection should end after its current request.
    pub(crate) shutdown: ShutdownWatch,
    /// Every connection's task.
    pub(crate) tasks: TaskTracker,
}

/// Pause after the system refused a connection (no descriptors left, say). Without it the loop
/// would spin, and fill the log.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The log names one of this many connections that are closed for their PROXY line.
const LOG_EVERY: u64 = 1000;

impl<A: Serve> AcceptLoop<A> {
    /// A loop for `connections` at once. It counts neither its connections nor their sources.
    pub(crate) fn new(
        app: Arc<A>,
        connections: usize,
        timeouts: ConnectionTimeouts,
        shutdown: ShutdownWatch,
    ) -> AcceptLoop<A> {
        AcceptLoop {
            app,
            metrics: None,
            permits: Arc::new(Semaphore::new(connections)),
            waits_for_room: false,
            sources: None,
            full: AtomicBool::new(false),
            turned_away: AtomicU64::new(0),
            timeouts,
            shutdown,
            tasks: TaskTracker::new(),
        }
    }

    /// Accepts until `shutdown` turns true.
    pub(crate) async fn run(self: Arc<Self>, listener: BoundListener) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let room = async {
                match self.waits_for_room {
                    true => Arc::clone(&self.permits).acquire_owned().await.ok(),
                    false => None,
                }
            };
            let permit = tokio::select! {
                permit = room => permit,
                _ = shutdown.wait_for(|&stop| stop) => return,
            };
            let accepted = tokio::select! {
                accepted = listener.socket.accept() => accepted,
                _ = shutdown.wait_for(|&stop| stop) => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.receive(stream, peer, &listener.options, permit);
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection; retry in 100 ms");
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                }
            }
        }
    }

    fn receive(
        self: &Arc<Self>,
        mut stream: TcpStream,
        peer: SocketAddr,
        options: &Arc<ListenerOptions>,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let free = || Arc::clone(&self.permits).try_acquire_owned().ok();
        let Some(permit) = permit.or_else(free) else {
            if !self.full.swap(true, Ordering::Relaxed) {
                warn!(%peer, "the limit of connections is reached; further ones are closed at once");
            }
            if let Some(metrics) = &self.metrics {
                metrics.refused(Code::Overloaded);
            }
            return;
        };
        self.full.store(false, Ordering::Relaxed);
        let (this, options) = (Arc::clone(self), Arc::clone(options));
        // Here, in the order of arrival: the tasks begin in another one.
        let give_way = self.app.give_way();
        self.tasks.spawn(async move {
            let _permit = permit;
            let _counted = this.metrics.as_ref().map(OpenConnection::new);
            let Some(origin) = this.origin(&mut stream, peer, &options).await else {
                return;
            };
            let Ok(_slot) = this.take_slot(origin) else {
                return;
            };
            let reset = ResetOnClose::default();
            let app = this.app.serving(origin, reset.clone(), &options);
            let plain = ClientStream::new(stream, peer, app.write_timeout(), reset);
            let stream: Stream = match &options.tls {
                None => {
                    drop(give_way);
                    Box::new(plain)
                }
                Some(tls) => {
                    let acceptor = tls.acceptor();
                    let mut stop = this.shutdown.clone();
                    let shaken = tokio::select! {
                        shaken = tokio::time::timeout(this.timeouts.handshake, acceptor.tls_handshake(plain)) => shaken,
                        () = give_way => return,
                        _ = stop.wait_for(|&stop| stop) => return,
                    };
                    match shaken {
                        Ok(Ok(stream)) => Box::new(stream),
                        Ok(Err(error)) => {
                            debug!(%peer, error = error.etype().as_str(), "no TLS handshake");
                            return;
                        }
                        Err(_) => return,
                    }
                }
            };
            if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
                http2::serve(&app, stream, this.timeouts, &this.shutdown, &this.tasks).await;
            } else {
                // Pingora's loop over the requests of an HTTP/1 connection.
                app.process_new(stream, &this.shutdown).await;
            }
        });
    }

    /// Returns the source of a connection. `None`: the connection must begin with the PROXY line of
    /// a trusted proxy, and does not.
    async fn origin(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        options: &ListenerOptions,
    ) -> Option<Origin> {
        let peer = peer.ip().to_canonical();
        let Some(trusted) = &options.proxies else {
            return Some(Origin {
                peer,
                proxied: None,
            });
        };
        if !trusted.contains(peer) {
            self.turn_away(peer, "it is not one of the trusted_proxies");
            return None;
        }
        let mut stop = self.shutdown.clone();
        let read = tokio::select! {
            read = proxy_line::read(stream, self.timeouts.handshake) => read,
            _ = stop.wait_for(|&stop| stop) => return None,
        };
        match read {
            Ok(proxied) => Some(Origin { peer, proxied }),
            // A load balancer's TCP health check.
            Err(proxy_line::ProxyLineError::Gone) => None,
            Err(bad) => {
                self.turn_away(peer, &bad.to_string());
                None
            }
        }
    }

    /// Counts the connection for its source; `None` if the source has no limit.
    ///
    /// # Errors
    ///
    /// The source is at its limit. The connection is closed without a response, as at the limit of
    /// all connections.
    fn take_slot(&self, origin: Origin) -> Result<Option<SourceSlot>, ()> {
        let Some((sources, trusted)) = &self.sources else {
            return Ok(None);
        };
        let address = match origin.proxied {
            Some(client) => client,
            None if trusted.contains(origin.peer) => return Ok(None),
            None => origin.peer,
        };
        let slot = sources.enter(address);
        if slot.is_none()
            && let Some(metrics) = &self.metrics
        {
            metrics.refused(Code::Overloaded);
        }
        slot.map(Some).ok_or(())
    }

    /// Counts a connection without a valid PROXY line, and logs some of them.
    fn turn_away(&self, peer: IpAddr, why: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.refused(Code::BadRequest);
        }
        if self
            .turned_away
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(LOG_EVERY)
        {
            warn!(%peer, why, "a connection to a listener with proxy_protocol was closed");
        }
    }
}

/// One connection in the gauge, for as long as it lives.
struct OpenConnection(Arc<Metrics>);

impl OpenConnection {
    fn new(metrics: &Arc<Metrics>) -> OpenConnection {
        metrics.connection_opened();
        OpenConnection(Arc::clone(metrics))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}
