//! The plan that requests are judged by: a configuration with its pools, credentials and counters.
//! A reload replaces it.

pub(crate) mod in_force;

use std::path::Path;
use std::sync::Arc;

use http::HeaderName;
use tracing::error;

use crate::config::{Config, Limits, Route, Upstream};
use crate::gateway::upstream::assertion::{Assertions, NoAssertion};
use crate::gateway::upstream::credentials::state::CredentialState;
use crate::gateway::upstream::credentials::{Choice, Credentials};
use crate::gateway::upstream::login::BackendLogin;
use crate::gateway::upstream::pool::context::PoolContext;
use crate::gateway::upstream::pool::{Pool, Pools};
use crate::metrics::{EchoCounts, RouteCounts, UpstreamTimes};
use countersign_core::identity::Machine;
use countersign_core::replay::Window;

/// One configuration as requests meet it. A plan never changes. A request takes the plan in force
/// when its head is complete, and keeps it to its end. So an index into the plan keeps its meaning.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) window: Window,
    pools: Pools,
    credentials: Credentials,
    assertions: Option<Arc<Assertions>>,
    route_counts: Vec<RouteCounts>,
    no_route: RouteCounts,
    upstream_times: Vec<UpstreamTimes>,
    echo_counts: Vec<EchoCounts>,
}

impl Plan {
    /// Makes a plan, with series for all its routes and upstreams. Servers that are also in
    /// `before` keep their health.
    pub(crate) fn new(config: Config, pool_context: &PoolContext, before: Option<&Plan>) -> Plan {
        let metrics = &*pool_context.metrics;
        let routes = config.routes.iter();
        let before_credentials = before.map(|plan| &plan.credentials);
        let credentials = Credentials::new(&config, metrics, before_credentials);
        let before_pools = before.map(|plan| &plan.pools);
        let pools = Pools::new(&config.upstreams, pool_context, before_pools);
        for (upstream, login) in credentials.logins() {
            login.start(pool_context, pools.of(upstream));
        }
        let assertions = config.assertion.as_ref().and_then(|assertion| {
            let made = Assertions::new(assertion);
            // Never seen; then logins fail, and say so.
            made.map_err(|NoAssertion| error!("the keys of `assertion` cannot be encoded"))
                .ok()
        });
        let assertions = assertions.map(Arc::new);
        Plan {
            window: window(&config),
            pools,
            credentials,
            assertions,
            route_counts: routes.map(|route| metrics.route(&route.path)).collect(),
            no_route: metrics.no_route(),
            upstream_times: (config.upstreams.iter())
                .map(|upstream| metrics.upstream(&upstream.name))
                .collect(),
            echo_counts: (config.upstreams.iter())
                .map(|upstream| metrics.echoes(&upstream.name))
                .collect(),
            config,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    pub(crate) fn route(&self, index: usize) -> &Route {
        &self.config.routes[index]
    }

    /// The upstream of a route.
    pub(crate) fn upstream(&self, route: usize) -> &Upstream {
        &self.config.upstreams[self.route(route).upstream]
    }

    /// The servers of the upstream of a route.
    pub(crate) fn pool(&self, route: usize) -> &Arc<Pool> {
        self.pools.of(self.route(route).upstream)
    }

    /// The credential that a machine's request on a route carries.
    pub(crate) fn credential(&self, machine: &Machine, route: usize) -> Choice {
        let name = &self.upstream(route).name;
        (self.credentials).choose(machine, self.route(route).upstream, name)
    }

    /// Whether requests on a route may carry a credential or a token.
    pub(crate) fn may_carry(&self, route: usize) -> bool {
        self.credentials.may_carry(self.route(route).upstream)
    }

    /// Whether the gateway sends a credential under exactly this name. A client may send its own
    /// there.
    pub(crate) fn is_credential_header(&self, name: &HeaderName) -> bool {
        self.credentials.is_header(name)
    }

    /// Whether a backend that folds names may take this one for a credential's.
    pub(crate) fn resembles_credential_header(&self, name: &HeaderName) -> bool {
        self.credentials.resembles_header(name)
    }

    /// Whether a credential of this name is configured for machines.
    pub(crate) fn has_credential(&self, name: &str) -> bool {
        self.credentials.has(name)
    }

    /// The parts of the backends that are out of service, in words: servers, names, credentials.
    pub(crate) fn out_of_service(&self) -> Vec<String> {
        let unusable = self
            .credentials()
            .filter(|credential| !credential.is_usable());
        let unusable = unusable.map(|credential| {
            let from = credential.file().unwrap_or(Path::new("its source"));
            format!(
                "credential {}: no secret in {}",
                credential.name(),
                from.display()
            )
        });
        self.pools
            .out_of_service()
            .into_iter()
            .chain(unusable)
            .chain(self.logins().filter_map(|login| login.out_of_service()))
            .collect()
    }

    /// The gateway's assertions about machines, if it makes any.
    pub(crate) fn assertions(&self) -> Option<&Arc<Assertions>> {
        self.assertions.as_ref()
    }

    /// The logins of machines at backends.
    pub(crate) fn logins(&self) -> impl Iterator<Item = &Arc<BackendLogin>> {
        self.credentials.logins().map(|(_, login)| login)
    }

    /// All credentials, to be read again.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = &Arc<CredentialState>> {
        self.credentials.iter()
    }

    /// The forwarding times of the upstream of a route.
    pub(crate) fn upstream_times(&self, route: usize) -> &UpstreamTimes {
        &self.upstream_times[self.route(route).upstream]
    }

    /// The counters of the echo check of the upstream of a route.
    pub(crate) fn echo_counts(&self, route: usize) -> &EchoCounts {
        &self.echo_counts[self.route(route).upstream]
    }

    /// The migration routes, which let unsigned requests pass until a date. Each comes with the
    /// name of its mode and the date, in Unix seconds.
    pub(crate) fn unsigned_until(&self) -> impl Iterator<Item = (&Route, &'static str, u64)> {
        let open = |route: &'_ Route| route.mode.open_until();
        (self.config.routes.iter())
            .filter_map(move |route| open(route).map(|(until, mode)| (route, mode, until)))
    }

    /// The number of unsigned requests that have passed so far, by the name of the route.
    pub(crate) fn unsigned(&self, route: &str) -> u64 {
        let routes = self.config.routes.iter();
        let counts = routes.zip(&self.route_counts);
        (counts
            .filter(|(known, _)| known.path == route)
            .map(|(_, counts)| counts.unsigned()))
        .sum()
    }

    /// The counters of a route, or of requests that matched none.
    pub(crate) fn counts(&self, route: Option<usize>) -> &RouteCounts {
        match route {
            Some(index) => &self.route_counts[index],
            None => &self.no_route,
        }
    }
}

/// Returns the time window of a configuration.
pub(crate) fn window(config: &Config) -> Window {
    Window {
        past: config.replay.past,
        future: config.replay.future,
    }
}
