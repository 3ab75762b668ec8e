//! Accepting connections: our own loop, not Pingora's, which panics where it cannot bind, knows
//! no limit, and cannot be stopped without a sleep.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::client_stream::ClientStream;
use super::sources::{Place, Sources};
use super::tls::Tls;
use super::{http2, proxy_line};
use crate::auth::refusal::Code;
use crate::config::TrustedProxies;
use crate::gateway::{Edge, Origin, ResetOnClose};
use crate::metrics::Metrics;

/// One bound address, with what happens to a connection before the application gets it.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) door: Arc<Door>,
}

/// What happens at a listener.
#[derive(Default)]
pub(crate) struct Door {
    pub(crate) tls: Option<Arc<Tls>>,
    /// A PROXY line comes first, of one of these; everybody else is turned away.
    pub(crate) proxies: Option<TrustedProxies>,
    /// The path of the health check.
    pub(crate) health: Option<Arc<str>>,
}

/// An application that may want to know whom it serves.
pub(crate) trait Serve: HttpServerApp + Send + Sync + Sized + 'static {
    /// The application for one connection.
    fn serving(self: &Arc<Self>, origin: Origin, reset: ResetOnClose, door: &Door) -> Arc<Self>;

    /// Longest wait for a client to take some of what is written to it.
    fn write_timeout(&self) -> Duration;
}

impl Serve for Edge {
    fn serving(self: &Arc<Self>, origin: Origin, reset: ResetOnClose, door: &Door) -> Arc<Self> {
        Edge::serving(self, origin, reset, door.health.clone())
    }

    fn write_timeout(&self) -> Duration {
        Edge::write_timeout(self)
    }
}

/// What all doors of one application share.
pub(crate) struct AcceptLoop<A> {
    pub(crate) app: Arc<A>,
    /// Where connections are counted; the admin listener's are not.
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// One permit a connection; none left means that a new connection is closed at once, counted
    /// as `overloaded`: before TLS there is no way to say it.
    pub(crate) permits: Arc<Semaphore>,
    /// The connections of each source, and whose are not counted; `None` where none are.
    pub(crate) sources: Option<(Arc<Sources>, TrustedProxies)>,
    /// Whether the last connection found no permit, so that the log says it once.
    pub(crate) full: AtomicBool,
    /// Connections closed because of their PROXY line, or the lack of one.
    pub(crate) turned_away: AtomicU64,
    /// Longest time for a TLS handshake, and again for HTTP/2's preface.
    pub(crate) handshake: Duration,
    /// Longest time that an HTTP/2 connection may be idle.
    pub(crate) idle: Duration,
    /// Told to every connection when it should end after the request in hand.
    pub(crate) shutdown: ShutdownWatch,
    /// Every connection's task.
    pub(crate) tasks: TaskTracker,
}

/// How long the loop rests when the system gives no connection (no descriptors left, say):
/// without a rest it would spin, and fill the log.
const REST: Duration = Duration::from_millis(100);

/// Of so many connections that are turned away the log names one.
const COMPLAIN_EVERY: u64 = 1000;

impl<A: Serve> AcceptLoop<A> {
    /// Accepts until `shutdown` turns true.
    pub(crate) async fn run(self: Arc<Self>, listener: Listener) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.socket.accept() => accepted,
                _ = shutdown.wait_for(|&stop| stop) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.receive(stream, peer, &listener.door),
                Err(error) => {
                    warn!(%error, "cannot accept a connection; resting for 100 ms");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn receive(self: &Arc<Self>, mut stream: TcpStream, peer: SocketAddr, door: &Arc<Door>) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            if !self.full.swap(true, Ordering::Relaxed) {
                warn!(%peer, "the limit of connections is reached; further ones are closed at once");
            }
            if let Some(metrics) = &self.metrics {
                metrics.refused(Code::Overloaded);
            }
            return;
        };
        self.full.store(false, Ordering::Relaxed);
        let (this, door) = (Arc::clone(self), Arc::clone(door));
        self.tasks.spawn(async move {
            let _permit = permit;
            let _counted = this.metrics.as_ref().map(Counted::new);
            let Some(origin) = this.origin(&mut stream, peer, &door).await else {
                return;
            };
            let Ok(_place) = this.place(origin) else {
                return;
            };
            let reset = ResetOnClose::default();
            let app = this.app.serving(origin, reset.clone(), &door);
            let plain = ClientStream::new(stream, peer, app.write_timeout(), reset);
            let stream: Stream = match &door.tls {
                None => Box::new(plain),
                Some(tls) => {
                    let acceptor = tls.acceptor();
                    let mut stop = this.shutdown.clone();
                    let shaken = tokio::select! {
                        shaken = tokio::time::timeout(this.handshake, acceptor.tls_handshake(plain)) => shaken,
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
                let terms = http2::Terms {
                    preface: this.handshake,
                    idle: this.idle,
                    shutdown: &this.shutdown,
                    tasks: &this.tasks,
                };
                http2::serve(&app, stream, terms).await;
            } else {
                // Pingora's loop over the requests of an HTTP/1 connection.
                app.process_new(stream, &this.shutdown).await;
            }
        });
    }

    /// Where a connection comes from; `None` for one that is turned away, because it does not begin
    /// with the PROXY line of a trusted proxy where it must.
    async fn origin(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        door: &Door,
    ) -> Option<Origin> {
        let peer = peer.ip().to_canonical();
        let Some(trusted) = &door.proxies else {
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
            read = proxy_line::read(stream, self.handshake) => read,
            _ = stop.wait_for(|&stop| stop) => return None,
        };
        match read {
            Ok(proxied) => Some(Origin { peer, proxied }),
            // A load balancer that only looks whether somebody is there.
            Err(proxy_line::Bad::Gone) => None,
            Err(bad) => {
                self.turn_away(peer, &bad.to_string());
                None
            }
        }
    }

    /// The connection's place among those of its source; `None` where those are not counted.
    ///
    /// # Errors
    ///
    /// The source has as many as one may have; it is told as little as where all are taken.
    fn place(&self, origin: Origin) -> Result<Option<Place>, ()> {
        let Some((sources, trusted)) = &self.sources else {
            return Ok(None);
        };
        let address = match origin.proxied {
            Some(client) => client,
            None if trusted.contains(origin.peer) => return Ok(None),
            None => origin.peer,
        };
        let place = sources.enter(address);
        if place.is_none()
            && let Some(metrics) = &self.metrics
        {
            metrics.refused(Code::Overloaded);
        }
        place.map(Some).ok_or(())
    }

    /// Counts a connection that cannot be what it should be, and says so now and then.
    fn turn_away(&self, peer: IpAddr, why: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.refused(Code::BadRequest);
        }
        if self
            .turned_away
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(COMPLAIN_EVERY)
        {
            warn!(%peer, why, "a connection to a listener with proxy_protocol was closed");
        }
    }
}

/// One connection in the gauge, for as long as it lives, however it ends.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Counted {
        metrics.connection_opened();
        Counted(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}
