//! Which addresses the servers of an upstream have now. Names are resolved again while the gateway
//! runs: one may not resolve yet when it starts, and the address of another may move.

mod names;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::probe;
use super::server::{Known, Server};
use super::tls::UpstreamTls;
use super::turns::Turns;
use super::{Pools, Site};
use crate::config::{self, Upstream};
use crate::metrics::ServerSeries;

/// The servers of one upstream, by the addresses that they have.
pub(super) struct Roster {
    upstream: Upstream,
    tls: Option<Arc<UpstreamTls>>,
    site: Site,
    current: ArcSwap<Listed>,
    /// One for each of the upstream's servers: its name shall be looked up now.
    nudges: Vec<Arc<Notify>>,
    /// Held while `current` is replaced: two names may have moved at once.
    changing: Mutex<()>,
}

/// The addresses at one time. A request keeps to those that it began with.
pub(super) struct Listed {
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) turns: Mutex<Turns>,
    /// Health checks, one for each of `servers`; none where the upstream has none. They end with
    /// the last list that has their server.
    checks: Vec<Arc<AbortOnDropHandle<()>>>,
    /// By the upstream's servers; empty where the name does not resolve.
    addresses: Vec<Vec<SocketAddr>>,
    /// Of those servers: their gauge shows that there is nothing in service.
    _unresolved: Vec<Arc<ServerSeries>>,
}

impl Roster {
    /// With the addresses of the configuration; a name that did not resolve when that was read has
    /// those that `before` knows.
    pub(super) fn new(
        upstream: &Upstream,
        tls: Option<Arc<UpstreamTls>>,
        site: &Site,
        before: Option<&Pools>,
    ) -> Arc<Roster> {
        let addresses = |server: &config::Server| match &server.addresses[..] {
            [] => before
                .and_then(|before| before.addresses(&upstream.name, &server.authority))
                .unwrap_or_default(),
            resolved => distinct(resolved.to_vec()),
        };
        let roster = Roster {
            nudges: upstream.servers.iter().map(|_| Arc::default()).collect(),
            upstream: upstream.clone(),
            tls,
            site: site.clone(),
            current: ArcSwap::from_pointee(Listed::nobody()),
            changing: Mutex::default(),
        };
        let addresses = upstream.servers.iter().map(addresses).collect();
        let listed = roster.list(addresses, |server, address| {
            before.and_then(|before| before.known(&upstream.name, &server.authority, address))
        });
        roster.current.store(Arc::new(listed));
        Arc::new(roster)
    }

    /// Looks the names up again, until the handles are dropped. Each has a task of its own, and one
    /// lookup at a time: a resolver that hangs on one name holds up no other.
    pub(super) fn resolve(self: &Arc<Roster>) -> Vec<AbortOnDropHandle<()>> {
        let runtime = &self.site.runtime;
        let names = self.upstream.servers.iter().enumerate();
        names
            .filter_map(|(index, server)| Some((index, server.authority.clone(), server.resolve?)))
            .map(|(index, authority, resolve)| {
                let (roster, nudge) = (Arc::downgrade(self), Arc::clone(&self.nudges[index]));
                let task = names::keep_resolved(roster, index, authority, resolve, nudge);
                AbortOnDropHandle::new(runtime.spawn(task))
            })
            .collect()
    }

    pub(super) fn current(&self) -> Arc<Listed> {
        let listed = self.current.load_full();
        if listed.servers.is_empty() {
            self.nudges.iter().for_each(|nudge| nudge.notify_one());
        }
        listed
    }

    /// Closes connections that wait for a request and are not fit for one any more.
    pub(super) fn sweep(&self, now: Duration) {
        let listed = self.current.load();
        listed.servers.iter().for_each(|it| it.idle.sweep(now));
    }

    /// What is known of an address of the server of this name.
    pub(super) fn known(&self, server: &str, address: SocketAddr) -> Option<Arc<Known>> {
        let listed = self.current.load();
        let mut servers = listed.servers.iter();
        let found = servers.find(|it| it.known.is_of(&self.upstream.name, server, address))?;
        Some(Arc::clone(&found.known))
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

    /// The servers that get no requests as a matter of course, in words.
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
                server.known.name(),
                server.address()
            )
        });
        unresolved.chain(unfit).collect()
    }

    /// Puts other addresses of one server in force. Those that stay keep their connections, and
    /// what is known of them; `false` where they are the same ones.
    fn moved(&self, index: usize, found: Vec<SocketAddr>) -> bool {
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

    /// The list of these addresses. What the current one has is carried over; of the others, what
    /// `known` says.
    fn list(
        &self,
        addresses: Vec<Vec<SocketAddr>>,
        known: impl Fn(&config::Server, SocketAddr) -> Option<Arc<Known>>,
    ) -> Listed {
        let before = self.current.load_full();
        let (upstream, site) = (&self.upstream, &self.site);
        let (mut servers, mut checks, mut unresolved) = (Vec::new(), Vec::new(), Vec::new());
        for (index, server) in upstream.servers.iter().enumerate() {
            let name = &server.authority;
            if addresses[index].is_empty() {
                unresolved.push(site.metrics.server(&upstream.name, name));
            }
            for address in addresses[index].iter().copied() {
                let is_it = |it: &Arc<Server>| it.known.is_of(&upstream.name, name, address);
                if let Some(place) = before.servers.iter().position(is_it) {
                    servers.push(Arc::clone(&before.servers[place]));
                    checks.extend(before.checks.get(place).cloned());
                    continue;
                }
                let known = known(server, address)
                    .unwrap_or_else(|| Known::new(&upstream.name, name, address, &site.metrics));
                let nudge = Arc::clone(&self.nudges[index]);
                let new = Server::new(upstream, server, self.tls.as_ref(), known, nudge);
                let new = Arc::new(new);
                match &upstream.health {
                    Some(health) => {
                        let check = probe::start(&new, health, &site.clock, &site.runtime);
                        checks.push(Arc::new(check));
                    }
                    None => new.known.unchecked(),
                }
                servers.push(new);
            }
        }
        Listed {
            turns: Mutex::new(Turns::new(servers.len())),
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

/// Each address once, and no more of them than are worth a health check each: a name may have any number.
fn distinct(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    const MOST: usize = 64;
    let mut seen = HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    addresses.truncate(MOST);
    addresses
}

impl Listed {
    fn nobody() -> Listed {
        Listed {
            servers: Vec::new(),
            turns: Mutex::new(Turns::new(0)),
            checks: Vec::new(),
            addresses: Vec::new(),
            _unresolved: Vec::new(),
        }
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current.load().fmt(f)
    }
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.servers).finish()
    }
}
