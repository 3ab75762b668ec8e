//! The addresses that the servers of an upstream have now. Names are resolved again while the
//! gateway runs: a name may not resolve yet at the start, and an address may move.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::context::PoolContext;
use super::health_check;
use super::round_robin::RoundRobin;
use super::server::{ServerState, UpstreamServer};
use super::tls::UpstreamTls;
use crate::config::{self, Upstream};
use crate::gateway::upstream::report::ServerReport;
use crate::metrics::ServerSeries;

/// The servers of one upstream, by the addresses that they have.
pub(super) struct ServerSet {
    pub(super) upstream: Upstream,
    tls: Option<Arc<UpstreamTls>>,
    pub(super) context: PoolContext,
    pub(super) current: ArcSwap<ServerList>,
    /// Wakes the name resolution of each server.
    pub(super) resolve_now: Vec<Arc<Notify>>,
    /// Held while `current` is replaced: two names may have moved at once.
    changing: Mutex<()>,
}

/// The addresses at one time. A request keeps to those that it began with.
pub(super) struct ServerList {
    pub(super) servers: Vec<Arc<UpstreamServer>>,
    pub(super) round_robin: Mutex<RoundRobin>,
    /// Health checks, one for each of `servers`; none where the upstream has none. They end with
    /// the last list that has their server.
    checks: Vec<Arc<AbortOnDropHandle<()>>>,
    /// The addresses of each server; empty if its name does not resolve.
    pub(super) addresses: Vec<Vec<SocketAddr>>,
    /// Keeps the gauge of each unresolved server at 0.
    _unresolved: Vec<Arc<ServerSeries>>,
}

impl ServerSet {
    /// Makes a set with the addresses of the configuration. A name that did not resolve when the
    /// configuration was read keeps its addresses in `before`.
    pub(super) fn new(
        upstream: &Upstream,
        tls: Option<Arc<UpstreamTls>>,
        context: &PoolContext,
        before: Option<&ServerSet>,
    ) -> Arc<ServerSet> {
        let addresses = |server: &config::Server| match &server.addresses[..] {
            [] => before
                .and_then(|before| before.addresses(&server.authority))
                .unwrap_or_default(),
            resolved => distinct(resolved.to_vec()),
        };
        let set = ServerSet {
            resolve_now: upstream.servers.iter().map(|_| Arc::default()).collect(),
            upstream: upstream.clone(),
            tls,
            context: context.clone(),
            current: ArcSwap::from_pointee(ServerList::empty()),
            changing: Mutex::default(),
        };
        let addresses = upstream.servers.iter().map(addresses).collect();
        let listed = set.list(addresses, |server, address| {
            before?.state_of(&server.authority, address)
        });
        set.current.store(Arc::new(listed));
        Arc::new(set)
    }

    pub(super) fn current(&self) -> Arc<ServerList> {
        let listed = self.current.load_full();
        if listed.servers.is_empty() {
            self.resolve_now.iter().for_each(|nudge| nudge.notify_one());
        }
        listed
    }

    /// Closes idle connections that are no longer fit for a request.
    pub(super) fn sweep(&self, now: Duration) {
        let listed = self.current.load();
        listed.servers.iter().for_each(|it| it.idle.sweep(now));
    }

    /// The state of an address of the server of this name.
    pub(super) fn state_of(&self, server: &str, address: SocketAddr) -> Option<Arc<ServerState>> {
        let listed = self.current.load();
        let mut servers = listed.servers.iter();
        let found = servers.find(|it| it.state.is_of(&self.upstream.name, server, address))?;
        Some(Arc::clone(&found.state))
    }

    /// The addresses of the server of this name.
    pub(super) fn addresses(&self, server: &str) -> Option<Vec<SocketAddr>> {
        let mut servers = self.upstream.servers.iter();
        let index = servers.position(|other| other.authority == server)?;
        self.current.load().addresses.get(index).cloned()
    }

    pub(super) fn is_of(&self, upstream: &str) -> bool {
        self.upstream.name == upstream
    }

    /// The state of each address, and of each server whose name does not resolve.
    pub(super) fn report(&self) -> Vec<ServerReport> {
        let listed = self.current.load();
        let servers = self.upstream.servers.iter().zip(&listed.addresses);
        let unresolved = servers.filter(|(_, addresses)| addresses.is_empty());
        let unresolved = unresolved.map(|(server, _)| ServerReport {
            upstream: self.upstream.name.clone(),
            server: server.authority.clone(),
            address: None,
            trouble: Some("its name does not resolve".to_owned()),
        });
        let known = listed.servers.iter().map(|server| server.report());
        known.chain(unresolved).collect()
    }

    /// The servers that are out of service, in words.
    pub(super) fn out_of_service(&self) -> Vec<String> {
        let listed = self.current.load();
        let upstream = &self.upstream.name;
        let servers = self.upstream.servers.iter().zip(&listed.addresses);
        let unresolved = servers.filter(|(_, addresses)| addresses.is_empty());
        let unresolved = unresolved.map(|(server, _)| {
            format!("upstream {upstream}: {} does not resolve", server.authority)
        });
        let unfit = listed.servers.iter().filter(|server| !server.in_service());
        let unfit = unfit.map(|server| {
            format!(
                "upstream {upstream}: {} at {} fails",
                server.state.name(),
                server.address()
            )
        });
        unresolved.chain(unfit).collect()
    }

    /// Puts the addresses of one server in force. Known addresses keep their connections and their
    /// health. Returns `false` if nothing changed.
    pub(super) fn moved(&self, index: usize, found: Vec<SocketAddr>) -> bool {
        let (_changing, found) = (self.changing(), distinct(found));
        let before = self.current.load_full();
        let same = |a: &[SocketAddr], b: &[SocketAddr]| {
            a.len() == b.len() && a.iter().all(|address| b.contains(address))
        };
        if same(&before.addresses[index], &found) {
            return false;
        }
        let mut addresses = before.addresses.clone();
        addresses[index] = found;
        self.current
            .store(Arc::new(self.list(addresses, |_, _| None)));
        true
    }

    /// The list of these addresses. Servers of the current list are carried over; the state of the
    /// others is that of `state_before`, if any.
    fn list(
        &self,
        addresses: Vec<Vec<SocketAddr>>,
        state_before: impl Fn(&config::Server, SocketAddr) -> Option<Arc<ServerState>>,
    ) -> ServerList {
        let before = self.current.load_full();
        let (upstream, context) = (&self.upstream, &self.context);
        let (mut servers, mut checks, mut unresolved) = (Vec::new(), Vec::new(), Vec::new());
        for (index, server) in upstream.servers.iter().enumerate() {
            let name = &server.authority;
            if addresses[index].is_empty() {
                unresolved.push(context.metrics.server(&upstream.name, name));
            }
            for address in addresses[index].iter().copied() {
                let is_it =
                    |it: &Arc<UpstreamServer>| it.state.is_of(&upstream.name, name, address);
                if let Some(place) = before.servers.iter().position(is_it) {
                    servers.push(Arc::clone(&before.servers[place]));
                    checks.extend(before.checks.get(place).cloned());
                    continue;
                }
                let state = state_before(server, address).unwrap_or_else(|| {
                    ServerState::new(&upstream.name, name, address, &context.metrics)
                });
                let nudge = Arc::clone(&self.resolve_now[index]);
                let new = UpstreamServer::new(upstream, server, self.tls.as_ref(), state, nudge);
                let new = Arc::new(new);
                match &upstream.health {
                    Some(health) => {
                        let check =
                            health_check::start(&new, health, &context.clock, &context.runtime);
                        checks.push(Arc::new(check));
                    }
                    None => new.state.unchecked(),
                }
                servers.push(new);
            }
        }
        ServerList {
            round_robin: Mutex::new(RoundRobin::new(servers.len())),
            servers,
            checks,
            addresses,
            _unresolved: unresolved,
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each address once, and at most 64: a name may have any number, and each has a health check.
fn distinct(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    const MOST: usize = 64;
    let mut seen = HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    addresses.truncate(MOST);
    addresses
}

impl ServerList {
    fn empty() -> ServerList {
        ServerList {
            servers: Vec::new(),
            round_robin: Mutex::new(RoundRobin::new(0)),
            checks: Vec::new(),
            addresses: Vec::new(),
            _unresolved: Vec::new(),
        }
    }
}

impl fmt::Debug for ServerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current.load().fmt(f)
    }
}

impl fmt::Debug for ServerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.servers).finish()
    }
}
