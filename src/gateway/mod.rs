//! The gateway: Pingora on both sides of the decision.
//!
//! Rooms: `receive` <- `upstream` <- `decide` <- `record` <- `forward` <- `edge`
//!
//! A room imports only from the rooms to its left. They stand in the order in which a request meets
//! them, but for `upstream`, which stands left of the two that choose from it.

mod decide;
mod edge;
mod forward;
mod receive;
mod record;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use self::decide::explain::{
    Explanation, MachineFacts, PolicyFacts, Question, RouteFacts, Verdict, explain,
};
pub(crate) use self::decide::plan::{Plan, window};
pub(crate) use self::edge::Edge;
pub(crate) use self::forward::client::ResetOnClose;
pub(crate) use self::receive::framing::Trailers;
pub(crate) use self::receive::origin::{Origin, SourceKey};

use self::decide::quotas::Quotas;
use self::decide::throttle::Throttle;
use self::forward::forwarder::Forward;
use self::receive::body::Budget;
use self::upstream::pool::Site;
use crate::audit::{AuditLog, TokenNames};
use crate::auth::decision;
use crate::auth::replay::NonceStore;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::registry::RegistryStore;

/// Everything a decision needs, shared by all requests.
pub struct Gateway {
    plan: ArcSwap<Plan>,
    site: Site,
    registry: Arc<RegistryStore>,
    nonces: Arc<dyn NonceStore>,
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    clock: Clock,
    budget: Budget,
    throttle: Throttle,
    quotas: Quotas,
    token_names: TokenNames,
    leaving: Leaving,
}

/// Set, once and for good, when the gateway begins to shut down. Requests are still served; every
/// answer says that it is the last on its connection. At the end, those that are still being sent
/// are told so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaving {
    begun: Arc<AtomicBool>,
    over: CancellationToken,
}

impl Leaving {
    pub(crate) fn set(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Gives up the requests that are not read yet.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    /// Waits for that.
    async fn ended(&self) {
        self.over.cancelled().await;
    }
}

/// What a [`Gateway`] is made of. Every part is handed in, so that a test can hand in its own.
pub struct Parts {
    /// The checked configuration.
    pub config: Config,
    /// The machines.
    pub registry: Arc<RegistryStore>,
    /// The spent nonces.
    pub nonces: Arc<dyn NonceStore>,
    /// The audit trail.
    pub audit: Arc<AuditLog>,
    /// How bearer tokens are named in it.
    pub token_names: TokenNames,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Clock,
}

impl Gateway {
    /// Puts a gateway together. It opens no listener; where upstreams have health checks, those
    /// begin.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn new(parts: Parts) -> Arc<Gateway> {
        let Parts {
            config,
            registry,
            nonces,
            audit,
            token_names,
            metrics,
            clock,
        } = parts;
        decision::prepare();
        let site = Site {
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            runtime: Handle::current(),
        };
        let gateway = Arc::new(Gateway {
            throttle: Throttle::new(Arc::clone(&metrics)),
            quotas: Quotas::new(),
            budget: Budget::new(config.limits.body_budget as usize, Arc::clone(&metrics)),
            plan: ArcSwap::from_pointee(Plan::new(config, &site, None)),
            site,
            registry,
            nonces,
            audit,
            metrics,
            clock,
            token_names,
            leaving: Leaving::default(),
        });
        gateway.show_what_is_open(&gateway.plan());
        gateway
    }

    /// Whether the gateway is shutting down; whoever holds it may say so.
    pub(crate) fn leaving(&self) -> Leaving {
        self.leaving.clone()
    }

    /// The application for the data listeners.
    pub(crate) fn edge(self: &Arc<Gateway>) -> Arc<Edge> {
        let forward = Forward::new(Arc::clone(self));
        Arc::new(Edge::new(Arc::clone(self), Arc::new(forward)))
    }

    /// Puts another configuration in force, for requests that begin from now on.
    pub(crate) fn replace_plan(&self, config: Config) {
        let plan = Arc::new(Plan::new(config, &self.site, Some(&self.plan())));
        self.show_what_is_open(&plan);
        self.plan.store(plan);
    }

    /// Shows which routes let requests pass that nobody signed, and gets ready to name their tokens.
    fn show_what_is_open(&self, plan: &Plan) {
        let open = || {
            plan.open_until()
                .map(|(route, mode, until)| (&*route.path, mode, until))
        };
        self.metrics.open_until(open());
        if open().next().is_some() {
            self.token_names.prepare();
        }
    }

    /// What a request that begins now is judged by. Whoever asks keeps what it got: two questions
    /// may get two answers.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }
}
