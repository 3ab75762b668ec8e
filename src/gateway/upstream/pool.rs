//! The servers of each upstream, and which of them gets the next request.

pub(crate) mod connect_error;
pub(crate) mod connection;
pub(crate) mod context;
mod health_check;
pub(crate) mod idle;
mod name_resolution;
pub(crate) mod reuse;
mod round_robin;
pub(crate) mod server;
mod server_health;
mod server_set;
mod stream;
mod tls;

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use self::context::PoolContext;
use self::server::UpstreamServer;
use self::server_set::{ServerList, ServerSet};
use self::tls::UpstreamTls;
use crate::config::Upstream;
use crate::gateway::upstream::report::ServerReport;
use crate::metrics::CertificateEnd;
use countersign_client::watch::Watch;

/// The pools of one configuration, in the order of its upstreams. They can be replaced by those of
/// another at any time; health checks and watches end with them.
pub(crate) struct Pools(Vec<Arc<Pool>>);

/// The servers of one upstream.
pub(crate) struct Pool {
    servers: Arc<ServerSet>,
    tls: Option<Arc<UpstreamTls>>,
    _sweeper: AbortOnDropHandle<()>,
    _names: Vec<AbortOnDropHandle<()>>,
    _watch: Option<Watch>,
}

/// The servers that one request has tried: each at most once.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// The servers when the request began.
    list: Option<Arc<ServerList>>,
    tried: Vec<usize>,
}

impl Pools {
    /// Makes them, and starts their health checks. A server that `before` has too keeps its health
    /// and its addresses.
    pub(crate) fn new(
        upstreams: &[Upstream],
        context: &PoolContext,
        before: Option<&Pools>,
    ) -> Pools {
        let pool = |upstream| Arc::new(Pool::new(upstream, context, before));
        Pools(upstreams.iter().map(pool).collect())
    }

    /// Those of the upstream of this index.
    pub(crate) fn of(&self, upstream: usize) -> &Arc<Pool> {
        &self.0[upstream]
    }

    /// The servers that fail and the names that do not resolve, in words.
    pub(crate) fn out_of_service(&self) -> Vec<String> {
        let sets = self.0.iter().map(|pool| &pool.servers);
        sets.flat_map(|set| set.out_of_service()).collect()
    }

    /// The state of every server.
    pub(crate) fn report(&self) -> Vec<ServerReport> {
        let sets = self.0.iter().map(|pool| &pool.servers);
        sets.flat_map(|set| set.report()).collect()
    }

    /// The certificates of the upstreams that are in force.
    pub(crate) fn certificates(&self) -> Vec<CertificateEnd> {
        let tls = self.0.iter().filter_map(|pool| pool.tls.as_deref());
        tls.flat_map(UpstreamTls::certificates).collect()
    }

    /// The upstreams whose new TLS files have a mistake, each with the mistake.
    pub(crate) fn tls_faults(&self) -> Vec<String> {
        let tls = self.0.iter().filter_map(|pool| pool.tls.as_deref());
        tls.filter_map(UpstreamTls::fault).collect()
    }

    fn of_upstream(&self, name: &str) -> Option<&ServerSet> {
        let mut sets = self.0.iter().map(|pool| &*pool.servers);
        sets.find(|set| set.is_of(name))
    }
}

impl Pool {
    fn new(upstream: &Upstream, context: &PoolContext, before: Option<&Pools>) -> Pool {
        let tls = upstream
            .tls
            .as_ref()
            .map(|tls| UpstreamTls::new(&upstream.name, tls));
        let tls = tls.map(Arc::new);
        let before = before.and_then(|before| before.of_upstream(&upstream.name));
        let servers = ServerSet::new(upstream, tls.clone(), context, before);
        let watch = (tls.as_ref()).and_then(|tls| tls.watch(&context.metrics));
        Pool {
            _sweeper: sweep(&servers, context),
            _names: name_resolution::start(&servers),
            servers,
            tls,
            _watch: watch,
        }
    }

    /// The next server to try, at `now` on the monotonic clock: of the untried ones, one of the
    /// fittest, by weight; `None` when all have been tried.
    ///
    /// It fails open. Where no server is fit, the others are tried: a server that seems down may be
    /// up. Health decides the order only, and is no access control.
    pub(crate) fn next_server(
        &self,
        attempts: &mut Attempts,
        now: Duration,
    ) -> Option<Arc<UpstreamServer>> {
        let list = attempts.list.get_or_insert_with(|| self.servers.current());
        // Held over the whole choice, so that two requests do not both become the one trial.
        let mut round_robin = list
            .round_robin
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let untried = (0..).zip(&list.servers);
        let untried = untried.filter(|(index, _)| !attempts.tried.contains(index));
        let ranked: Vec<_> = untried
            .map(|(index, server)| (server.fitness(now), index, server.weight))
            .collect();
        let best = ranked.iter().map(|(fitness, ..)| *fitness).min()?;
        let fittest = ranked.iter().filter(|(fitness, ..)| *fitness == best);
        let index = round_robin.choose(fittest.map(|&(_, index, weight)| (index, weight)))?;
        let server = &list.servers[index];
        server.chosen(now);
        attempts.tried.push(index);
        Some(Arc::clone(server))
    }

    /// Whether there are untried servers.
    pub(crate) fn has_more(&self, attempts: &Attempts) -> bool {
        let servers = attempts.list.as_ref().map_or(0, |list| list.servers.len());
        attempts.tried.len() < servers
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets = self.0.iter().map(|pool| &pool.servers);
        f.debug_list().entries(sets).finish()
    }
}

/// Closes connections that have waited too long, or that their server has closed, once a second.
fn sweep(set: &Arc<ServerSet>, context: &PoolContext) -> AbortOnDropHandle<()> {
    // Weak: an aborted task is dropped late, when the runtime comes to it.
    let set = Arc::downgrade(set);
    let clock = context.clock.clone();
    AbortOnDropHandle::new(context.runtime.spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            let Some(set) = set.upgrade() else {
                return;
            };
            set.sweep(clock.now().mono);
        }
    }))
}

const SWEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
