//! The gateway as a server: everything is opened and bound first, then served until a shutdown.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::admin::{Admin, MOST_CONNECTIONS, TIMEOUTS};
use super::audit_log;
use super::clock_watch::ClockWatch;
use super::listen::accept::AcceptLoop;
use super::listen::bind::{self, BoundListeners};
use super::listen::connection_timeouts::ConnectionTimeouts;
use super::listen::descriptors;
use super::listen::sources::Sources;
use super::migration_routes::MigrationRoutes;
use super::opened_registry::OpenedRegistry;
use super::reload::{ReloadedParts, Reloader};
use super::replay_cache::ReplayCache;
use super::start_error::StartError;
use super::status::{Activity, ExpiryCache, ListenerStatus, StatusBoard, shown};
use crate::audit::AuditLog;
use crate::config::{Config, Shutdown, TrustedProxies};
use crate::gateway::{Edge, Gateway, Parts};
use crate::metrics::{Metrics, curve25519_backend};
use crate::registry::Operators;
use countersign_client::clock::Clock;
use countersign_core::replay::NonceStore;

/// A gateway whose listeners are bound and which has not begun to accept.
pub struct GatewayServer {
    bound: BoundListeners,
    gateway: Arc<Gateway>,
    admin: Arc<Admin>,
    activity: Arc<Activity>,
    started: StartLine,
    reloader: Arc<Reloader>,
    replay: Arc<ReplayCache>,
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Most connections of the data listeners.
    connections: usize,
    sources: Arc<Sources>,
    trusted: TrustedProxies,
    timeouts: ConnectionTimeouts,
    shutdown: Shutdown,
}

/// The log line of a start.
struct StartLine {
    configuration: PathBuf,
    listeners: String,
    admin: SocketAddr,
    routes: usize,
    machines: usize,
    state_dir: Option<PathBuf>,
}

impl StartLine {
    fn of(config: &Config, bound: &BoundListeners, machines: usize) -> StartLine {
        let addresses: Vec<_> = bound.addresses.iter().map(ToString::to_string).collect();
        StartLine {
            configuration: config.file.clone(),
            listeners: addresses.join(", "),
            admin: bound.admin_address,
            routes: config.routes.iter().count(),
            machines,
            state_dir: config.replay.state_dir.clone(),
        }
    }

    fn say(&self) {
        let state_dir = self.state_dir.as_deref().unwrap_or(Path::new("none"));
        info!(
            version = env!("CARGO_PKG_VERSION"),
            configuration = %self.configuration.display(),
            listeners = self.listeners,
            admin = %self.admin,
            routes = self.routes,
            machines = self.machines,
            state_dir = %state_dir.display(),
            "the gateway has started"
        );
    }
}

/// Longest wait at the end for records that are still queued.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);

/// Longest wait for refusals to reach the clients whose requests did not arrive in the grace
/// period.
const LAST_REFUSALS: Duration = Duration::from_millis(500);

/// Bounds of the wait for the revocation of machines' tokens: it takes the rest of the grace period.
const LAST_REVOCATIONS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

impl GatewayServer {
    /// Opens the replay cache, the registry and the audit log, and binds every listener.
    ///
    /// # Errors
    ///
    /// [`StartError`]. No request has been served.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn bind(config: Config, clock: Clock) -> Result<GatewayServer, StartError> {
        let metrics = metrics()?;
        let replay = ReplayCache::open(&config, &clock, &metrics)?;
        GatewayServer::assemble(config, clock, metrics, replay).await
    }

    /// Like [`GatewayServer::bind`], with another replay cache.
    ///
    /// # Errors
    ///
    /// As [`GatewayServer::bind`].
    pub async fn bind_with_nonces(
        config: Config,
        clock: Clock,
        nonces: Arc<dyn NonceStore>,
    ) -> Result<GatewayServer, StartError> {
        GatewayServer::assemble(config, clock, metrics()?, ReplayCache::Other(nonces)).await
    }

    async fn assemble(
        config: Config,
        clock: Clock,
        metrics: Arc<Metrics>,
        replay: ReplayCache,
    ) -> Result<GatewayServer, StartError> {
        let replay = Arc::new(replay);
        let opened = OpenedRegistry::open(&config, &clock).await?;
        let registry = opened.store;
        let operators = (config.registry.operators.as_ref())
            .map(|file| Operators::open(file, &registry.current()))
            .transpose()
            .map_err(|mistakes| StartError::Configuration(mistakes.to_string()))?;
        let (operators, first_operators) = operators.unzip();
        let operators = operators.map(Arc::new);
        let audit = Arc::new(audit_log::open(&config.audit, &clock, &metrics)?);

        // All files first: a bad one must not leave another listener bound.
        let tls = bind::load_tls(&config, &metrics)?;
        let bound = bind::bind_all(&config, &tls)?;

        let listeners = status_of(&config, &bound);
        let started = StartLine::of(&config, &bound, registry.current().len());
        let tls = tls.all();

        let connections = descriptors::provide(config.limits.connections);
        let sources = Sources::new(config.limits.connections_per_source);
        let trusted = config.trusted_proxies.clone();
        let admin_hosts = config.admin_hosts.clone();
        let timeouts = ConnectionTimeouts {
            handshake: config.limits.header_timeout,
            idle: config.limits.keepalive,
        };
        let shutdown = config.shutdown.clone();
        let gateway = Gateway::new(Parts {
            token_names: audit_log::token_names(&config),
            config,
            registry: Arc::clone(&registry),
            operators: operators.clone(),
            nonces: replay.store(),
            audit: Arc::clone(&audit),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
        });
        let reloaded = ReloadedParts {
            gateway: Arc::clone(&gateway),
            registry: Arc::clone(&registry),
            operators,
            metrics: Arc::clone(&metrics),
            audit: Arc::clone(&audit),
            clock: clock.clone(),
            tls: tls.clone(),
        };
        let reloader = Arc::new(Reloader::new(reloaded, opened.follower));
        reloader.report_start(&opened.first);
        if let Some(first) = &first_operators {
            reloader.report_operators(first);
        }
        let activity = Activity::new(Arc::clone(&gateway), Arc::clone(&metrics));
        let board = StatusBoard {
            gateway: Arc::clone(&gateway),
            reloader: Arc::clone(&reloader),
            registry,
            replay: Arc::clone(&replay),
            metrics: Arc::clone(&metrics),
            activity: Arc::clone(&activity),
            started: clock.now(),
            clock: clock.clone(),
            listeners,
            tls,
            expiry: ExpiryCache::default(),
        };
        Ok(GatewayServer {
            bound,
            admin: Arc::new(Admin::new(Arc::new(board), admin_hosts)),
            activity,
            started,
            gateway,
            reloader,
            replay,
            audit,
            metrics,
            clock,
            connections,
            sources,
            trusted,
            timeouts,
            shutdown,
        })
    }

    /// The addresses of the data listeners, with the ports that the system chose for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.bound.addresses
    }

    /// The address of the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.bound.admin_address
    }

    /// Serves until `stop` resolves, then shuts down in order: not ready, the configured delay, no
    /// more connections, in-flight requests finish within the grace period. An idle gateway returns
    /// as soon as the delay is over.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        // Before the first answer: a SIGHUP may follow readiness, and without a handler it kills.
        let watching = (
            self.reloader.start(),
            ClockWatch::new(self.clock.clone(), Arc::clone(&self.metrics)).start(),
            MigrationRoutes::new(Arc::clone(&self.gateway), self.clock.clone()).start(),
            self.activity.start(),
        );
        let (stop_serving, shutdown) = watch::channel(false);
        let (stop_admin, admin_shutdown) = watch::channel(false);
        let tasks = TaskTracker::new();

        let edge = Arc::new(Edge::new(Arc::clone(&self.gateway)));
        let data = Arc::new(AcceptLoop {
            metrics: Some(self.metrics),
            sources: Some((self.sources, self.trusted)),
            tasks: tasks.clone(),
            ..AcceptLoop::new(edge, self.connections, self.timeouts, shutdown)
        });
        for listener in self.bound.listeners {
            tokio::spawn(Arc::clone(&data).run(listener));
        }
        let admin = Arc::new(AcceptLoop {
            waits_for_room: true,
            ..AcceptLoop::new(self.admin, MOST_CONNECTIONS, TIMEOUTS, admin_shutdown)
        });
        tokio::spawn(admin.run(self.bound.admin));
        self.started.say();

        stop.await;
        info!(delay = ?self.shutdown.delay, "shutting down: no longer ready");
        let draining = self.gateway.draining();
        draining.begin();
        tokio::time::sleep(self.shutdown.delay).await;
        info!(grace = ?self.shutdown.grace, "no longer accepting; in-flight requests finish");
        let _ = stop_serving.send(true);
        let grace_ends = self.clock.now().mono + self.shutdown.grace;
        tasks.close();
        match tokio::time::timeout(self.shutdown.grace, tasks.wait()).await {
            Ok(()) => info!("every request has finished"),
            Err(_) => {
                info!(left = tasks.len(), "the grace period is over");
                draining.end_grace();
                let _ = tokio::time::timeout(LAST_REFUSALS, tasks.wait()).await;
            }
        }
        let left = grace_ends.saturating_sub(self.clock.now().mono);
        let limit = left.clamp(LAST_REVOCATIONS.0, LAST_REVOCATIONS.1);
        let not_revoked = self.gateway.revoke_tokens(limit).await;
        if not_revoked > 0 {
            warn!(
                tokens = not_revoked,
                "tokens of machines could not be revoked in time: they are valid until their lease ends"
            );
        }
        let _ = stop_admin.send(true);
        self.replay.close();
        if let Err(error) = self.audit.close(AUDIT_PATIENCE) {
            error!(%error, "audit records may be missing");
        }
        drop(watching);
    }
}

/// The listeners as they are bound, the admin listener last.
fn status_of(config: &Config, bound: &BoundListeners) -> Vec<ListenerStatus> {
    let data = config.listeners.iter().zip(&bound.addresses);
    let data = data.map(|(listener, address)| ListenerStatus {
        address: address.to_string(),
        admin: false,
        tls: listener.tls.is_some(),
        client_certificates: (listener.tls.as_ref()).is_some_and(|tls| tls.client_ca.is_some()),
        proxy_protocol: listener.proxy_protocol,
        health: listener.health.as_deref().map(shown),
    });
    let admin = ListenerStatus {
        address: bound.admin_address.to_string(),
        admin: true,
        tls: config.admin_tls.is_some(),
        client_certificates: (config.admin_tls.as_ref())
            .is_some_and(|tls| tls.files.client_ca.is_some()),
        proxy_protocol: false,
        health: None,
    };
    data.chain([admin]).collect()
}

fn metrics() -> Result<Arc<Metrics>, StartError> {
    Metrics::new(env!("CARGO_PKG_VERSION"), curve25519_backend())
        .map(Arc::new)
        .map_err(|error| StartError::System(error.to_string()))
}
