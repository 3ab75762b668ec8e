//! The running gateway: everything is made and bound here, and nothing serves before all of it
//! stands.

mod admin;
mod clock_watch;
mod examine;
mod listen;
mod open_routes;
mod parts;
mod reload;
mod shutdown;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::admin::readiness::Readiness;
use self::admin::waiting::Waiting;
use self::admin::{Admin, MOST_ANSWERS, MOST_WAITING};
use self::clock_watch::ClockWatch;
use self::listen::accept::{AcceptLoop, Listener};
use self::listen::descriptors;
use self::listen::sources::Sources;
use self::open_routes::OpenRoutes;
use self::parts::{Bound, metrics, open_audit, token_names};
use self::reload::{Reloading, Turns};
use crate::audit::AuditLog;
use crate::auth::replay::NonceStore;
use crate::clock::Clock;
use crate::config::{Config, Shutdown, TrustedProxies};
use crate::gateway::{Edge, Gateway, Leaving, Parts, window};
use crate::metrics::Metrics;
use crate::nonces::{JournaledNonces, MemoryNonces, NonceQuotas, SharedNonces};
use crate::registry::RegistryStore;

pub(crate) use self::admin::order;
pub use self::examine::{Findings, examine};
pub use self::shutdown::signals;
pub use crate::gateway::{
    Explanation, MachineFacts, PolicyFacts, Question, RouteFacts, Verdict, explain,
};

/// Why a gateway did not start. Nothing is bound, or nothing is any more.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The registry, or a TLS file, is not as it should be; the text names the file and the
    /// mistake.
    #[error("{0}")]
    Configuration(String),
    /// The system refused something (an address, a file); the text names it.
    #[error("{0}")]
    System(String),
}

/// A gateway whose listeners are bound and which has not begun to accept.
pub struct Server {
    bound: Bound,
    admin: Admin,
    edge: Arc<Edge>,
    leaving: Leaving,
    readiness: Arc<Readiness>,
    reloading: Arc<Reloading>,
    metrics: Arc<Metrics>,
    clock_watch: ClockWatch,
    open_routes: OpenRoutes,
    audit: Arc<AuditLog>,
    /// To be closed when nothing is in flight any more.
    journal: Option<Arc<JournaledNonces>>,
    permits: Arc<Semaphore>,
    sources: Arc<Sources>,
    trusted: TrustedProxies,
    handshake: Duration,
    idle: Duration,
    shutdown: Shutdown,
}

/// Longest wait at the end for records that are still queued.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);

/// Longest wait for refusals to reach the clients whose requests did not arrive in the grace period.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Most connections to the admin listener at once: those that wait, those that are answered, and room
/// for probes and for those that are just being closed.
const ADMIN_CONNECTIONS: usize = 4 * (MOST_WAITING + MOST_ANSWERS);

impl Server {
    /// Loads the registry, opens the audit log, and binds every listener.
    ///
    /// # Errors
    ///
    /// [`StartError`]. Nothing has been served.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn bind(config: Config, clock: Clock) -> Result<Server, StartError> {
        let (window, quotas) = (
            window(&config),
            NonceQuotas {
                all: config.replay.quota,
                per_machine: config.replay.quota_per_machine,
            },
        );
        let metrics = metrics()?;
        if let Some(redis) = &config.replay.redis {
            let counts = Arc::clone(&metrics);
            let nonces = SharedNonces::start(redis, window, quotas, clock.clone(), counts)
                .map(Arc::new)
                .map_err(StartError::Configuration)?;
            let live = Arc::clone(&nonces);
            let refresh = move |metrics: &Metrics| metrics.nonces(live.live());
            return Server::assemble(config, clock, metrics, nonces, Box::new(refresh)).await;
        }
        let Some(state_dir) = &config.replay.state_dir else {
            warn!(
                "replay.state_dir is none: a restart forgets which nonces are spent. What is \
                 stamped before it is refused; what is stamped ahead of this clock could be replayed"
            );
            let nonces = Arc::new(MemoryNonces::new(window, quotas, clock.clone()));
            let live = Arc::clone(&nonces);
            let refresh = move |metrics: &Metrics| metrics.nonces(live.live());
            return Server::assemble(config, clock, metrics, nonces, Box::new(refresh)).await;
        };
        let nonces = JournaledNonces::start(state_dir, window, quotas, clock.clone())
            .map(Arc::new)
            .map_err(|error| {
                StartError::System(format!(
                    "replay.state_dir: {error}; name a directory that this user may write to, or \
                     write none and accept that a restart forgets"
                ))
            })?;
        let live = Arc::clone(&nonces);
        let refresh = move |metrics: &Metrics| metrics.nonces(live.live());
        let store: Arc<dyn NonceStore> = Arc::<JournaledNonces>::clone(&nonces);
        let mut server = Server::assemble(config, clock, metrics, store, Box::new(refresh)).await?;
        server.journal = Some(nonces);
        Ok(server)
    }

    /// Like [`Server::bind`], with another store of nonces.
    ///
    /// # Errors
    ///
    /// As [`Server::bind`].
    pub async fn bind_with_nonces(
        config: Config,
        clock: Clock,
        nonces: Arc<dyn NonceStore>,
    ) -> Result<Server, StartError> {
        let metrics = metrics()?;
        Server::assemble(config, clock, metrics, nonces, Box::new(|_| {})).await
    }

    async fn assemble(
        config: Config,
        clock: Clock,
        metrics: Arc<Metrics>,
        nonces: Arc<dyn NonceStore>,
        refresh: Box<dyn Fn(&Metrics) + Send + Sync>,
    ) -> Result<Server, StartError> {
        let (registry, first) = RegistryStore::open(&config.registry)
            .map_err(|mistakes| StartError::Configuration(mistakes.to_string()))?;
        let registry = Arc::new(registry);
        let audit = Arc::new(open_audit(&config.audit, &clock, &metrics)?);
        let readiness = Arc::new(Readiness::new(Arc::clone(&nonces), Arc::clone(&audit)));

        // All files first: a bad one must not leave another listener bound.
        let tls = parts::tls(&config, &metrics)?;
        let bound = parts::listen(&config, &tls)?;

        let permits = Arc::new(Semaphore::new(descriptors::provide(
            config.limits.connections,
        )));
        let sources = Sources::new(config.limits.connections_per_source);
        let trusted = config.trusted_proxies.clone();
        let admin_hosts = config.admin_hosts.clone();
        let handshake = config.limits.header_timeout;
        let idle = config.limits.keepalive;
        let shutdown = config.shutdown.clone();
        let clock_watch = ClockWatch::new(clock.clone(), Arc::clone(&metrics));
        let gateway = Gateway::new(Parts {
            token_names: token_names(&config),
            config,
            registry: Arc::clone(&registry),
            nonces,
            audit: Arc::clone(&audit),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
        });
        let open_routes = OpenRoutes::new(Arc::clone(&gateway), clock.clone());
        let reloading = Arc::new(Reloading {
            gateway: Arc::clone(&gateway),
            registry,
            metrics: Arc::clone(&metrics),
            audit: Arc::clone(&audit),
            clock,
            tls: tls.into_iter().flatten().collect(),
            turns: Turns::default(),
        });
        reloading.report(&first);
        reloading.warn_of_missing_credentials();
        Ok(Server {
            bound,
            admin: Admin {
                metrics: Arc::clone(&metrics),
                readiness: Arc::clone(&readiness),
                reloading: Arc::clone(&reloading),
                hosts: admin_hosts,
                refresh,
                waiting: Waiting::new(MOST_WAITING),
                answers: Semaphore::new(MOST_ANSWERS),
            },
            edge: gateway.edge(),
            leaving: gateway.leaving(),
            readiness,
            reloading,
            metrics,
            clock_watch,
            open_routes,
            audit,
            journal: None,
            permits,
            sources,
            trusted,
            handshake,
            idle,
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

    /// Serves until `stop` resolves, then stops in order: not ready, the configured delay, no
    /// more connections, requests in flight finish within the grace period. Idle, it returns as
    /// soon as the delay is over.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        // Before anybody is answered: to whom is ready a SIGHUP may come, and unheard it kills.
        let watching = (
            self.reloading.start(),
            self.clock_watch.start(),
            self.open_routes.start(),
        );
        let (stop_serving, shutdown) = watch::channel(false);
        let (stop_admin, admin_shutdown) = watch::channel(false);
        let tasks = TaskTracker::new();

        let data = Arc::new(AcceptLoop {
            app: self.edge,
            metrics: Some(self.metrics),
            permits: self.permits,
            sources: Some((self.sources, self.trusted)),
            full: AtomicBool::new(false),
            turned_away: AtomicU64::new(0),
            handshake: self.handshake,
            idle: self.idle,
            shutdown,
            tasks: tasks.clone(),
        });
        for listener in self.bound.listeners {
            tokio::spawn(Arc::clone(&data).run(listener));
        }
        let admin = Arc::new(AcceptLoop {
            app: Arc::new(self.admin),
            metrics: None,
            permits: Arc::new(Semaphore::new(ADMIN_CONNECTIONS)),
            sources: None,
            full: AtomicBool::new(false),
            turned_away: AtomicU64::new(0),
            handshake: self.handshake,
            idle: self.idle,
            shutdown: admin_shutdown,
            tasks: TaskTracker::new(),
        });
        tokio::spawn(admin.run(Listener {
            socket: self.bound.admin,
            door: Arc::default(),
        }));
        for address in &self.bound.addresses {
            info!(%address, "accepting requests");
        }
        info!(address = %self.bound.admin_address, "accepting probes and scrapes");

        stop.await;
        info!(delay = ?self.shutdown.delay, "shutting down: no longer ready");
        self.readiness.drain();
        self.leaving.set();
        tokio::time::sleep(self.shutdown.delay).await;
        info!(grace = ?self.shutdown.grace, "no longer accepting; requests in flight finish");
        let _ = stop_serving.send(true);
        tasks.close();
        match tokio::time::timeout(self.shutdown.grace, tasks.wait()).await {
            Ok(()) => info!("every request has finished"),
            Err(_) => {
                info!(left = tasks.len(), "the grace period is over");
                self.leaving.end();
                let _ = tokio::time::timeout(LAST_WORDS, tasks.wait()).await;
            }
        }
        let _ = stop_admin.send(true);
        if let Some(journal) = &self.journal {
            journal.close();
        }
        if let Err(error) = self.audit.close(AUDIT_PATIENCE) {
            error!(%error, "audit records may be missing");
        }
        drop(watching);
    }
}
