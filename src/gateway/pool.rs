//! The servers of one upstream, in turn.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use crate::config::Upstream;

/// The servers of an upstream, each with every timeout set: Pingora's own defaults are none.
#[derive(Debug)]
pub(super) struct Pool {
    servers: Vec<Server>,
    next: AtomicUsize,
}

/// One address of the upstream, ready to be connected to.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) peer: HttpPeer,
    /// The `Host` it is told.
    pub(super) host: HeaderValue,
}

/// One request's walk over the servers: each at most once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    start: usize,
    tried: usize,
}

impl Pool {
    pub(super) fn new(upstream: &Upstream) -> Pool {
        let servers = upstream
            .servers
            .iter()
            .flat_map(|server| {
                server
                    .addresses
                    .iter()
                    .map(move |address| (server, address))
            })
            .map(|(server, &address)| Server {
                peer: peer(address, upstream),
                host: server.host.clone(),
            })
            .collect();
        Pool {
            servers,
            next: AtomicUsize::new(0),
        }
    }

    /// Starts a walk at the server whose turn it is.
    pub(super) fn walk(&self) -> Walk {
        Walk {
            start: self.next.fetch_add(1, Ordering::Relaxed),
            tried: 0,
        }
    }

    /// The next server of the walk that has not been tried; `None` when all have.
    pub(super) fn step(&self, walk: &mut Walk) -> Option<&Server> {
        if !self.has_more(walk) {
            return None;
        }
        let index = walk.start.wrapping_add(walk.tried) % self.servers.len();
        walk.tried += 1;
        Some(&self.servers[index])
    }

    /// Whether the walk has servers left.
    pub(super) fn has_more(&self, walk: &Walk) -> bool {
        walk.tried < self.servers.len()
    }
}

fn peer(address: SocketAddr, upstream: &Upstream) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    let options = &mut peer.options;
    options.connection_timeout = Some(upstream.connect_timeout);
    options.total_connection_timeout = Some(upstream.connect_timeout);
    options.read_timeout = Some(upstream.read_timeout);
    options.write_timeout = Some(upstream.write_timeout);
    options.idle_timeout = Some(upstream.idle_timeout);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    peer
}
