//! One address of one server: how it is connected to, and its health.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::idle::Idle;
use super::server_health::{Fitness, HealthChange, ServerHealth};
use super::tls::UpstreamTls;
use crate::config::{self, Health, Upstream};
use crate::gateway::upstream::report::ServerReport;
use crate::metrics::{Metrics, ServerSeries};

/// One address of an upstream's server, ready to be connected to.
#[derive(Debug)]
pub(crate) struct UpstreamServer {
    /// The `Host` that is sent to it.
    pub(crate) host: HeaderValue,
    pub(super) weight: u32,
    /// Every time-out is set: Pingora's own defaults are none.
    peer: Arc<HttpPeer>,
    tls: Option<Arc<UpstreamTls>>,
    /// The longest that a request to it can be without an answer.
    longest: Duration,
    /// Connections to it that wait for another request.
    pub(super) idle: Idle,
    pub(super) state: Arc<ServerState>,
    /// Has the name looked up that the address came from.
    renew: Arc<Notify>,
}

/// The health of an address. It outlives a configuration whose successor names the address too.
#[derive(Debug)]
pub(super) struct ServerState {
    upstream: String,
    server: String,
    address: SocketAddr,
    health: Mutex<ServerHealth>,
    /// Why it is out of service, while it is.
    out_because: Mutex<Option<String>>,
    series: Arc<ServerSeries>,
}

impl UpstreamServer {
    pub(super) fn new(
        upstream: &Upstream,
        server: &config::Server,
        tls: Option<&Arc<UpstreamTls>>,
        state: Arc<ServerState>,
        renew: Arc<Notify>,
    ) -> UpstreamServer {
        UpstreamServer {
            host: server.host.clone(),
            weight: server.weight,
            peer: Arc::new(peer(
                state.address,
                upstream,
                server.certified_name.as_deref(),
            )),
            tls: tls.cloned(),
            longest: upstream.connect_timeout + upstream.read_timeout,
            idle: Idle::new(upstream.idle_timeout, state.address),
            state,
            renew,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.state.address
    }

    /// How a connection to it is made.
    pub(crate) fn peer(&self) -> Arc<HttpPeer> {
        let Some(tls) = &self.tls else {
            return Arc::clone(&self.peer);
        };
        let mut peer = HttpPeer::clone(&self.peer);
        tls.apply_to(&mut peer);
        Arc::new(peer)
    }

    pub(super) fn fitness(&self, now: Duration) -> Fitness {
        self.state.health().fitness(now)
    }

    /// Whether it gets requests in turn.
    pub(super) fn in_service(&self) -> bool {
        self.state.health().in_service()
    }

    /// Its part of the status of its upstream.
    pub(super) fn report(&self) -> ServerReport {
        let in_service = self.in_service();
        let why = self.state.out_because().clone();
        ServerReport {
            upstream: self.state.upstream.clone(),
            server: self.state.server.clone(),
            address: Some(self.address()),
            trouble: (!in_service).then(|| why.unwrap_or_else(|| "it fails".to_owned())),
        }
    }

    /// A request is about to be sent to it.
    pub(super) fn chosen(&self, now: Duration) {
        self.state.health().chosen(now, self.longest);
    }

    /// Notes that the server answered a request.
    pub(crate) fn answered(&self) {
        let change = self.state.health().answered();
        self.state.note(change, "it answered a request");
    }

    /// Notes that the server refused a connection or a TLS handshake; `now` is monotonic.
    pub(crate) fn refused_connection(&self, now: Duration) {
        self.state.series.connect_error();
        self.renew.notify_one();
        let change = self.state.health().failed(now);
        self.state.note(change, "it takes no connections");
    }

    /// Notes that the server did not answer a request in time.
    pub(crate) fn timed_out(&self, now: Duration) {
        let change = self.state.health().failed(now);
        self.state.note(change, "it does not answer in time");
    }

    /// A health check of it has succeeded, or has failed for the reason given.
    pub(super) fn checked(&self, result: Result<(), String>, now: Duration, health: &Health) {
        let change = self.state.health().checked(result.is_ok(), now, health);
        let why = match &result {
            Ok(()) => "its health check succeeds",
            Err(why) => {
                self.renew.notify_one();
                why
            }
        };
        self.state.note(change, why);
    }
}

impl ServerState {
    pub(super) fn new(
        upstream: &str,
        server: &str,
        address: SocketAddr,
        metrics: &Metrics,
    ) -> Arc<ServerState> {
        let series = metrics.server(upstream, server);
        series.in_service();
        Arc::new(ServerState {
            upstream: upstream.to_owned(),
            server: server.to_owned(),
            address,
            health: Mutex::default(),
            out_because: Mutex::default(),
            series,
        })
    }

    /// The server's name in the configuration.
    pub(super) fn name(&self) -> &str {
        &self.server
    }

    pub(super) fn is_of(&self, upstream: &str, server: &str, address: SocketAddr) -> bool {
        self.upstream == upstream && self.server == server && self.address == address
    }

    /// Notes that health checks have ended.
    pub(super) fn unchecked(&self) {
        let change = self.health().unchecked();
        self.note(change, "it has no health check any more");
    }

    fn health(&self) -> MutexGuard<'_, ServerHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out_because(&self) -> MutexGuard<'_, Option<String>> {
        (self.out_because.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: Option<HealthChange>, why: &str) {
        let ServerState {
            upstream, server, ..
        } = self;
        let address = &self.address;
        match change {
            None => {}
            Some(HealthChange::Out) => {
                self.series.ejected();
                self.series.out_of_service();
                *self.out_because() = Some(why.to_owned());
                warn!(%upstream, %server, %address, why, "a server is out of service");
            }
            Some(HealthChange::Back) => {
                self.series.in_service();
                *self.out_because() = None;
                info!(%upstream, %server, %address, why, "a server is back in service");
            }
        }
    }
}

impl Drop for ServerState {
    fn drop(&mut self) {
        if self.health().in_service() {
            self.series.out_of_service();
        }
    }
}

fn peer(address: SocketAddr, upstream: &Upstream, certified_name: Option<&str>) -> HttpPeer {
    let name = certified_name.unwrap_or_default().to_owned();
    let mut peer = HttpPeer::new(address, certified_name.is_some(), name);
    let options = &mut peer.options;
    options.connection_timeout = Some(upstream.connect_timeout);
    options.total_connection_timeout = Some(upstream.connect_timeout);
    options.read_timeout = Some(upstream.read_timeout);
    options.write_timeout = Some(upstream.write_timeout);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    // The defaults, written out: nothing here may ever turn them off.
    (options.verify_cert, options.verify_hostname) = (true, true);
    options.alpn = ALPN::H1;
    options.upstream_tcp_sock_tweak_hook = Some(Arc::new(|socket| {
        // Where that fails, progress is only seen more coarsely.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        Ok(())
    }));
    peer
}

/// Bytes of a request that the kernel may hold; twice that with its bookkeeping. The kernel reports
/// progress only when a third of them has gone. A larger buffer would make a slow server seem to
/// stand still. This one is enough for 25 MB/s to a server 20 ms away.
const SEND_BUFFER: u32 = 512 * 1024;
