//! The servers of each upstream, and which of them gets the next request.

mod connection;
mod idle;
mod probe;
mod server;
mod standing;
mod tls;
mod turns;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pingora::{Error, ErrorType};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

pub(super) use self::connection::Connection;
pub(super) use self::server::Server;

use self::server::Known;
use self::tls::UpstreamTls;
use self::turns::Turns;
use crate::clock::Clock;
use crate::config::{self, Upstream};
use crate::metrics::Metrics;
use crate::watch::Watch;

/// The pools of one configuration, in the order of its upstreams. They can be replaced by those of
/// another at any time; health checks and watches end with them.
pub(super) struct Pools(Vec<Pool>);

/// What pools live on.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// Where health checks run. Handed in, because a reload may come from a thread that is not of
    /// the runtime.
    pub(super) runtime: Handle,
}

/// The servers of one upstream.
pub(super) struct Pool {
    servers: Vec<Arc<Server>>,
    turns: Mutex<Turns>,
    _sweeper: AbortOnDropHandle<()>,
    _checks: Vec<AbortOnDropHandle<()>>,
    _watch: Option<Watch>,
}

/// One request's walk over the servers: each at most once.
#[derive(Debug, Default)]
pub(super) struct Walk {
    tried: Vec<usize>,
}

impl Pools {
    /// Makes them, and starts their health checks. What `before` knows of a server that is here
    /// too is kept.
    pub(super) fn new(upstreams: &[Upstream], site: &Site, before: Option<&Pools>) -> Pools {
        let pool = |upstream| Pool::new(upstream, site, before);
        Pools(upstreams.iter().map(pool).collect())
    }

    /// Those of the upstream of this index.
    pub(super) fn of(&self, upstream: usize) -> &Pool {
        &self.0[upstream]
    }

    fn known(&self, upstream: &str, server: &str, address: SocketAddr) -> Option<Arc<Known>> {
        let mut all = self.0.iter().flat_map(|pool| &pool.servers);
        let found = all.find(|other| other.known.is_of(upstream, server, address))?;
        Some(Arc::clone(&found.known))
    }
}

impl Pool {
    fn new(upstream: &Upstream, site: &Site, before: Option<&Pools>) -> Pool {
        let tls = upstream.tls.as_ref().map(UpstreamTls::new).map(Arc::new);
        let known = |server: &config::Server, address| {
            let (upstream, server) = (&upstream.name, &server.authority);
            before
                .and_then(|before| before.known(upstream, server, address))
                .unwrap_or_else(|| Known::new(upstream, server, address, &site.metrics))
        };
        let addresses = |server: &config::Server| server.addresses.clone();
        let servers: Vec<_> = (upstream.servers.iter())
            .flat_map(|server| addresses(server).into_iter().map(move |it| (server, it)))
            .map(|(server, address)| {
                let known = known(server, address);
                Arc::new(Server::new(upstream, server, tls.as_ref(), known))
            })
            .collect();
        let checks = match &upstream.health {
            Some(health) => (servers.iter())
                .map(|server| probe::start(server, health, &site.clock, &site.runtime))
                .collect(),
            None => {
                servers.iter().for_each(|server| server.known.unchecked());
                Vec::new()
            }
        };
        let watch = tls.and_then(|tls| tls.watch(&upstream.name, &site.metrics));
        Pool {
            turns: Mutex::new(Turns::new(servers.len())),
            _sweeper: sweep(&servers, site),
            servers,
            _checks: checks,
            _watch: watch,
        }
    }

    /// The next server of the walk, at `now` on the monotonic clock: of those that have not been
    /// tried, one of the fittest, by weight; `None` when all have been tried.
    ///
    /// It fails open. Where no server is fit, the others are tried all the same: a server is only
    /// thought to be down, and a 502 is better than a refusal for lack of trying. What keeps a
    /// request from a server that must not have it is never its health.
    pub(super) fn step(&self, walk: &mut Walk, now: Duration) -> Option<&Arc<Server>> {
        // Held over the whole choice, so that two requests do not both become the one trial.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let untried = (0..).zip(&self.servers);
        let untried = untried.filter(|(index, _)| !walk.tried.contains(index));
        let ranked: Vec<_> = untried
            .map(|(index, server)| (server.fitness(now), index, server.weight))
            .collect();
        let best = ranked.iter().map(|(fitness, ..)| *fitness).min()?;
        let fittest = ranked.iter().filter(|(fitness, ..)| *fitness == best);
        let index = turns.choose(fittest.map(|&(_, index, weight)| (index, weight)))?;
        let server = &self.servers[index];
        server.chosen(now);
        walk.tried.push(index);
        Some(server)
    }

    /// Whether the walk has servers left.
    pub(super) fn has_more(&self, walk: &Walk) -> bool {
        walk.tried.len() < self.servers.len()
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.0.iter().map(|pool| &pool.servers);
        f.debug_list().entries(servers).finish()
    }
}

/// Closes connections that have waited too long, or that their server has closed, once a second.
fn sweep(servers: &[Arc<Server>], site: &Site) -> AbortOnDropHandle<()> {
    // Weak: what a task holds that was told to end goes only when the runtime comes to it.
    let servers: Vec<_> = servers.iter().map(Arc::downgrade).collect();
    let clock = site.clock.clone();
    AbortOnDropHandle::new(site.runtime.spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = clock.now().mono;
            let all = servers.iter().filter_map(Weak::upgrade);
            all.for_each(|server| server.idle.sweep(now));
        }
    }))
}

const SWEEP: Duration = Duration::from_secs(1);

/// Why a connection could not be made, in words for the log: what failed, and for TLS how. Of what
/// the server sends nothing gets in but the names in its certificate, without controls.
pub(super) fn reason(error: &Error) -> String {
    let etype = error.etype().as_str();
    let is_tls = matches!(
        error.etype(),
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert
    );
    match &error.context {
        Some(context) if is_tls => {
            let text = context.as_str();
            // What Pingora adds around the words of rustls.
            let text = text.rsplit_once("cause: ").map_or(text, |(_, cause)| cause);
            let text = text.rsplit_once(", SNI: ").map_or(text, |(text, _)| text);
            let shown = text.chars().filter(|c| !c.is_control());
            let shown: String = shown.take(LONGEST_REASON).collect();
            let hint = HINTS.iter().find(|(name, _)| text.contains(name));
            format!("{etype}: {shown}{}", hint.map_or("", |(_, hint)| *hint))
        }
        _ => etype.to_owned(),
    }
/// What the names that rustls has for two common mix-ups do not tell.
const HINTS: [(&str, &str); 2] = [
    (
        "CaUsedAsEndEntity",
        " (its certificate is marked as an authority's, CA:TRUE, as `openssl req -x509` makes it; make \
         one with -addext basicConstraints=critical,CA:FALSE)",
    ),
    (
        "InvalidContentType",
        " (it does not speak TLS: write http:// in `servers` if that is meant)",
    ),
];

}

/// In characters. A certificate may hold any number of names.
const LONGEST_REASON: usize = 400;

#[cfg(test)]
mod tests;
