//! Accepting connections: our own loop, not Pingora's, which panics where it cannot bind, knows
//! no limit, and cannot be stopped without a sleep.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as TcpIo;
use pingora::protocols::{GetSocketDigest, SocketDigest, Stream};
use pingora::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::metrics::Metrics;

/// One bound address, with what happens to a connection before the application gets it.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Arc<Acceptor>>,
}

/// What all doors of one application share.
pub(super) struct Reception<A> {
    pub(super) app: Arc<A>,
    pub(super) metrics: Arc<Metrics>,
    /// One permit a connection; none left means that a new connection is closed at once.
    pub(super) places: Arc<Semaphore>,
    /// Longest time for a TLS handshake.
    pub(super) handshake: Duration,
    /// Told to every connection when it should end after the request in hand.
    pub(super) shutdown: ShutdownWatch,
    /// Every connection's task.
    pub(super) tasks: TaskTracker,
}

/// How long the loop rests when the system gives no connection (no descriptors left, say):
/// without a rest it would spin, and fill the log.
const REST: Duration = Duration::from_millis(100);

impl<A: ServerApp + Send + Sync + 'static> Reception<A> {
    /// Accepts until `shutdown` turns true.
    pub(super) async fn run(self: Arc<Self>, door: Door) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = door.listener.accept() => accepted,
                _ = shutdown.wait_for(|&stop| stop) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.receive(stream, peer, door.tls.clone()),
                Err(error) => {
                    warn!(%error, "cannot accept a connection; resting for 100 ms");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn receive(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, tls: Option<Arc<Acceptor>>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            debug!(%peer, "no place left for a connection");
            return;
        };
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            let _place = place;
            let _counted = Counted::new(&this.metrics);
            let plain = prepare(stream, peer);
            let stream: Stream = match tls {
                None => Box::new(plain),
                Some(acceptor) => {
                    match tokio::time::timeout(this.handshake, acceptor.tls_handshake(plain)).await
                    {
                        Ok(Ok(stream)) => Box::new(stream),
                        Ok(Err(error)) => {
                            debug!(%peer, error = error.etype().as_str(), "no TLS handshake");
                            return;
                        }
                        Err(_) => return,
                    }
                }
            };
            // Pingora's application loop returns a stream only to be called again with it.
            let mut next = Some(stream);
            while let Some(stream) = next {
                next = this.app.process_new(stream, &this.shutdown).await;
            }
        });
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

/// Gives Pingora what its own listener would: the addresses, and no delay for small writes.
fn prepare(stream: TcpStream, peer: SocketAddr) -> TcpIo {
    let _ = stream.set_nodelay(true);
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    let _ = digest.peer_addr.set(Some(peer.into()));
    let mut io = TcpIo::from(stream);
    io.set_socket_digest(digest);
    io
}
