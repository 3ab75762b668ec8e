//! The gateway: Pingora on both sides of the decision.
//!
//! A request meets these in order: `edge` reads it from its `request_stream`, beginning with
//! `first_line`; `framing` refuses what has two readings, as `chunks` does in a chunked body;
//! `plan` is what it is judged by; `decide` runs the checks, with `asked` for its route, with `throttle` for sources that fail too often, `body`
//! for the body and `policy`, with its `quotas`, last; `recorded` is the permit that comes out, with what it carries of the `credentials`, and
//! `open` the bare way of routes that ask for no signature, and `unsigned` that of routes which do not ask for
//! one yet, where `bearer` finds the client's own credential;
//! `forward` takes it to a server that `pool` chooses; on the connection there `exchange` sends what `stamp` has
//! built and hands what comes back, by way of `answer`, to the `client`. `refuse` answers whoever does not
//! get that far, and `account` writes down and counts what became of each request. `explain` asks the same
//! questions without a request.

mod account;
mod answer;
mod asked;
mod bearer;
mod body;
mod chunks;
mod client;
mod client_address;
mod credentials;
mod decide;
mod edge;
mod exchange;
mod explain;
mod first_line;
mod forward;
mod framing;
mod health;
mod open;
mod origin;
mod plan;
mod policy;
mod pool;
mod quotas;
mod recorded;
mod refuse;
mod request_id;
mod request_stream;
mod stamp;
mod throttle;
mod unsigned;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub(crate) use self::client::ResetOnClose;
pub(crate) use self::edge::Edge;
pub use self::explain::{
    Explanation, MachineFacts, PolicyFacts, Question, RouteFacts, Verdict, explain,
};
pub(crate) use self::framing::Trailers;
pub(crate) use self::origin::{Origin, SourceKey};
pub(crate) use self::plan::{Plan, window};

use self::body::Budget;
use self::forward::Forward;
use self::pool::Site;
use self::quotas::Quotas;
use self::throttle::Throttle;
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
