//! The assembly of a gateway: what decides, what records and what forwards, wired once.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::audit::{AuditLog, TokenNames};
use crate::config::Config;
use crate::gateway::decide::decider::{Decider, KnownSigners};
use crate::gateway::enrol::enrolments::Enrolments;
use crate::gateway::forward::forwarder::Forwarder;
use crate::gateway::manage::manager::Manager;
use crate::gateway::plan::Plan;
use crate::gateway::plan::in_force::PlanInForce;
use crate::gateway::receive::body::BodyBudget;
use crate::gateway::receive::draining::Draining;
use crate::gateway::receive::readiness::Readiness;
use crate::gateway::record::recorder::Recorder;
use crate::gateway::upstream::pool::context::PoolContext;
use crate::metrics::Metrics;
use crate::registry::{Operators, RegistryStore};
use countersign_client::clock::Clock;
use countersign_core::decision;
use countersign_core::replay::NonceStore;

/// A gateway, shared by all its connections.
pub struct Gateway {
    plan: PlanInForce,
    pub(crate) decider: Decider,
    pub(crate) recorder: Recorder,
    pub(crate) forwarder: Forwarder,
    pub(crate) enrolments: Enrolments,
    pub(crate) manager: Manager,
    readiness: Arc<Readiness>,
    draining: Draining,
}

/// The parts of a [`Gateway`]. Every part is handed in, so that a test can hand in its own.
pub struct Parts {
    /// The checked configuration.
    pub config: Config,
    /// The machines.
    pub registry: Arc<RegistryStore>,
    /// The operators, if the configuration names any.
    pub operators: Option<Arc<Operators>>,
    /// The replay cache.
    pub nonces: Arc<dyn NonceStore>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// The names of bearer tokens in the audit log.
    pub token_names: TokenNames,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Clock,
}

impl Gateway {
    /// Assembles a gateway. It opens no listener; where upstreams have health checks, those begin.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn new(parts: Parts) -> Arc<Gateway> {
        let Parts {
            config,
            registry,
            operators,
            nonces,
            audit,
            token_names,
            metrics,
            clock,
        } = parts;
        decision::prepare();
        let token_names = Arc::new(token_names);
        let draining = Draining::default();
        let budget = BodyBudget::new(config.limits.body_budget as usize, Arc::clone(&metrics));
        let context = PoolContext {
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            runtime: Handle::current(),
            revocations: TaskTracker::new(),
        };
        Arc::new(Gateway {
            plan: PlanInForce::new(config, context, Arc::clone(&token_names)),
            readiness: Arc::new(Readiness::new(
                Arc::clone(&nonces),
                Arc::clone(&audit),
                draining.clone(),
                Arc::clone(&registry),
                clock.clone(),
            )),
            decider: Decider::new(
                KnownSigners {
                    machines: Arc::clone(&registry),
                    operators: operators.clone(),
                },
                nonces,
                token_names,
                budget.clone(),
                draining.clone(),
                Arc::clone(&metrics),
                clock.clone(),
            ),
            enrolments: Enrolments::new(Arc::clone(&registry), operators.clone(), clock.clone()),
            manager: Manager::new(
                Arc::clone(&registry),
                operators,
                Arc::clone(&metrics),
                clock.clone(),
            ),
            recorder: Recorder::new(audit, metrics, clock.clone()),
            forwarder: Forwarder::new(budget, registry, clock),
            draining,
        })
    }

    /// The switch that begins a graceful shutdown.
    pub(crate) fn draining(&self) -> &Draining {
        &self.draining
    }

    /// Whether a load balancer should send requests here.
    pub(crate) fn readiness(&self) -> &Arc<Readiness> {
        &self.readiness
    }

    /// The plan for a request that begins now. The caller keeps what it got: two calls may return
    /// two plans.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.current()
    }

    /// Puts another configuration in force, for requests that begin from now on.
    pub(crate) fn replace_plan(&self, config: Config) {
        self.plan.replace(config);
    }

    /// Has all tokens of machines revoked, within `limit`: the gateway shuts down. Returns the number
    /// of tokens that are not revoked by then.
    pub(crate) async fn revoke_tokens(&self, limit: Duration) -> usize {
        self.plan.revoke_tokens(limit).await
    }
}
