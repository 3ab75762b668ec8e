//! The running gateway: everything is made and bound here, and nothing serves before all of it
//! stands.

mod accept;
mod admin;
mod readiness;
mod reload;
mod shutdown;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::accept::{Door, Reception};
use self::admin::Admin;
use self::readiness::Readiness;
use self::reload::Reloading;
use crate::audit::{AuditLog, Sink};
use crate::auth::replay::NonceStore;
use crate::clock::Clock;
use crate::config::{AuditSink, Config, Shutdown};
use crate::gateway::{Edge, Gateway, Parts, window};
use crate::metrics::{Metrics, curve25519_backend};
use crate::nonces::{MemoryNonces, Quotas, SharedNonces};
use crate::registry::RegistryStore;

pub use self::shutdown::signals;

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
    doors: Vec<Door>,
    addresses: Vec<SocketAddr>,
    admin_listener: TcpListener,
    admin_address: SocketAddr,
    admin: Admin,
    edge: Arc<Edge>,
    readiness: Arc<Readiness>,
    reloading: Reloading,
    metrics: Arc<Metrics>,
    audit: Arc<AuditLog>,
    places: Arc<Semaphore>,
    handshake: Duration,
    shutdown: Shutdown,
}

/// Longest wait for an accepted request's record before the request is refused.
const AUDIT_DEADLINE: Duration = Duration::from_millis(250);

/// Longest wait at the end for records that are still queued.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);

/// Most connections to the admin listener at once: scrapers and probes are few.
const ADMIN_CONNECTIONS: usize = 64;

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
        let metrics = metrics(&config)?;
        let quotas = Quotas {
            all: config.replay.quota,
            per_machine: config.replay.quota_per_machine,
        };
        if let Some(redis) = &config.replay.redis {
            let (clock_of_nonces, counts) = (clock.clone(), Arc::clone(&metrics));
            let nonces =
                SharedNonces::start(redis, window(&config), quotas, clock_of_nonces, counts)
                    .map(Arc::new)
                    .map_err(StartError::Configuration)?;
            let live = Arc::clone(&nonces);
            let refresh = move |metrics: &Metrics| metrics.nonces(live.live());
            return Server::assemble(config, clock, metrics, nonces, Box::new(refresh)).await;
        }
        let nonces = Arc::new(MemoryNonces::new(window(&config), quotas, clock.clone()));
        warn!(
            "replay.state_dir is none: a restart forgets which nonces are spent. What is stamped \
             before it is refused; what is stamped ahead of this clock could be replayed"
        );
        let live = Arc::clone(&nonces);
        let refresh = move |metrics: &Metrics| metrics.nonces(live.live());
        Server::assemble(config, clock, metrics, nonces, Box::new(refresh)).await
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
        let metrics = metrics(&config)?;
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
        let audit = open_audit(&config.audit, &clock, &metrics)
            .map(Arc::new)
            .map_err(|error| StartError::System(format!("the audit log: {error}")))?;
        let readiness = Arc::new(Readiness::new(
            clock.clone(),
            Arc::clone(&audit),
            Arc::clone(&nonces),
        ));

        let mut doors = Vec::new();
        let mut addresses = Vec::new();
        for listener in &config.listeners {
            let tls = match &listener.tls {
                Some(files) => Some(Arc::new(
                    tls::acceptor(&files.cert, &files.key).map_err(StartError::Configuration)?,
                )),
                None => None,
            };
            let (bound, address) = bind(listener.address).await?;
            addresses.push(address);
            doors.push(Door {
                listener: bound,
                tls,
            });
        }
        let (admin_listener, admin_address) = bind(config.admin).await?;

        let places = Arc::new(Semaphore::new(config.limits.connections));
        let handshake = config.limits.header_timeout;
        let shutdown = config.shutdown.clone();
        let reloading = Reloading {
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
            audit: Arc::clone(&audit),
            clock: clock.clone(),
        };
        reloading.report(&first);
        let edge = Gateway::new(Parts {
            config,
            registry,
            nonces,
            audit: Arc::clone(&audit),
            metrics: Arc::clone(&metrics),
            clock,
        })
        .edge();
        Ok(Server {
            doors,
            addresses,
            admin_listener,
            admin_address,
            admin: Admin {
                metrics: Arc::clone(&metrics),
                readiness: Arc::clone(&readiness),
                refresh,
            },
            edge,
            readiness,
            reloading,
            metrics,
            audit,
            places,
            handshake,
            shutdown,
        })
    }

    /// The addresses of the data listeners, with the ports that the system chose for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Serves until `stop` resolves, then stops in order: not ready, the configured delay, no
    /// more connections, requests in flight finish within the grace period. Idle, it returns as
    /// soon as the delay is over.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stop_serving, shutdown) = watch::channel(false);
        let (stop_admin, admin_shutdown) = watch::channel(false);
        let tasks = TaskTracker::new();

        let reception = Arc::new(Reception {
            app: self.edge,
            metrics: Arc::clone(&self.metrics),
            places: self.places,
            handshake: self.handshake,
            shutdown,
            tasks: tasks.clone(),
        });
        for door in self.doors {
            tokio::spawn(Arc::clone(&reception).run(door));
        }
        let admin_reception = Arc::new(Reception {
            app: Arc::new(self.admin),
            metrics: self.metrics,
            places: Arc::new(Semaphore::new(ADMIN_CONNECTIONS)),
            handshake: self.handshake,
            shutdown: admin_shutdown,
            tasks: TaskTracker::new(),
        });
        tokio::spawn(admin_reception.run(Door {
            listener: self.admin_listener,
            tls: None,
        }));
        let watching = self.reloading.start();
        for address in &self.addresses {
            info!(%address, "accepting requests");
        }
        info!(address = %self.admin_address, "accepting probes and scrapes");

        stop.await;
        info!(delay = ?self.shutdown.delay, "shutting down: no longer ready");
        self.readiness.drain();
        tokio::time::sleep(self.shutdown.delay).await;
        info!(grace = ?self.shutdown.grace, "no longer accepting; requests in flight finish");
        let _ = stop_serving.send(true);
        tasks.close();
        match tokio::time::timeout(self.shutdown.grace, tasks.wait()).await {
            Ok(()) => info!("every request has finished"),
            Err(_) => info!(left = tasks.len(), "the grace period is over"),
        }
        let _ = stop_admin.send(true);
        drop(watching);
        if let Err(error) = self.audit.close(AUDIT_PATIENCE) {
            error!(%error, "audit records may be missing");
        }
    }
}

fn metrics(config: &Config) -> Result<Arc<Metrics>, StartError> {
    let routes: Vec<String> = config.routes.iter().map(|r| r.path.to_string()).collect();
    let upstreams: Vec<String> = config
        .upstreams
        .iter()
        .map(|u| u.name.to_string())
        .collect();
    Metrics::new(
        &routes,
        &upstreams,
        env!("CARGO_PKG_VERSION"),
        curve25519_backend(),
    )
    .map(Arc::new)
    .map_err(|error| StartError::System(error.to_string()))
}

fn open_audit(
    sink: &AuditSink,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> std::io::Result<AuditLog> {
    let sink = match sink {
        AuditSink::Stdout => Sink::stdout()?,
        AuditSink::File(path) => Sink::file(path)?,
    };
    AuditLog::start(sink, AUDIT_DEADLINE, clock.clone(), Arc::clone(metrics))
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::System(format!("cannot listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
