//! The servers of each upstream, and which of them gets the next request.

mod connection;
mod idle;
mod probe;
mod reuse;
mod roster;
mod server;
mod standing;
mod stream;
mod tls;
mod turns;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pingora::{Error, ErrorType};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::connection::Connection;
pub(crate) use self::idle::Owner;
pub(crate) use self::reuse::Exchanged;
pub(crate) use self::server::Server;

use self::roster::{Listed, Roster};
use self::server::Known;
use self::tls::UpstreamTls;
use crate::clock::Clock;
use crate::config::Upstream;
use crate::metrics::Metrics;
use crate::watch::Watch;

/// The pools of one configuration, in the order of its upstreams. They can be replaced by those of
/// another at any time; health checks and watches end with them.
pub(crate) struct Pools(Vec<Pool>);

/// What pools live on.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// Where health checks run. Handed in, because a reload may come from a thread that is not of
    /// the runtime.
    pub(crate) runtime: Handle,
}

/// The servers of one upstream.
pub(crate) struct Pool {
    roster: Arc<Roster>,
    _sweeper: AbortOnDropHandle<()>,
    _names: Vec<AbortOnDropHandle<()>>,
    _watch: Option<Watch>,
}

/// One request's walk over the servers: each at most once.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The servers as they were when it began.
    listed: Option<Arc<Listed>>,
    tried: Vec<usize>,
}

impl Pools {
    /// Makes them, and starts their health checks. What `before` knows of a server that is here
    /// too is kept.
    pub(crate) fn new(upstreams: &[Upstream], site: &Site, before: Option<&Pools>) -> Pools {
        let pool = |upstream| Pool::new(upstream, site, before);
        Pools(upstreams.iter().map(pool).collect())
    }

    /// Those of the upstream of this index.
    pub(crate) fn of(&self, upstream: usize) -> &Pool {
        &self.0[upstream]
    }

    /// What is out of service, in words: servers that fail, names that do not resolve.
    pub(crate) fn out_of_service(&self) -> Vec<String> {
        let rosters = self.0.iter().map(|pool| &pool.roster);
        rosters.flat_map(|roster| roster.out_of_service()).collect()
    }

    fn known(&self, upstream: &str, server: &str, address: SocketAddr) -> Option<Arc<Known>> {
        self.roster(upstream)?.known(server, address)
    }

    fn addresses(&self, upstream: &str, server: &str) -> Option<Vec<SocketAddr>> {
        self.roster(upstream)?.addresses(server)
    }

    fn roster(&self, upstream: &str) -> Option<&Roster> {
        let mut rosters = self.0.iter().map(|pool| &*pool.roster);
        rosters.find(|roster| roster.is_of(upstream))
    }
}

impl Pool {
    fn new(upstream: &Upstream, site: &Site, before: Option<&Pools>) -> Pool {
        let tls = upstream.tls.as_ref().map(UpstreamTls::new).map(Arc::new);
        let roster = Roster::new(upstream, tls.clone(), site, before);
        let watch = tls.and_then(|tls| tls.watch(&upstream.name, &site.metrics));
        Pool {
            _sweeper: sweep(&roster, site),
            _names: roster.resolve(),
            roster,
            _watch: watch,
        }
    }

    /// The next server of the walk, at `now` on the monotonic clock: of those that have not been
    /// tried, one of the fittest, by weight; `None` when all have been tried.
    ///
    /// It fails open. Where no server is fit, the others are tried all the same: a server is only
    /// thought to be down, and a 502 is better than a refusal for lack of trying. What keeps a
    /// request from a server that must not have it is never its health.
    pub(crate) fn step(&self, walk: &mut Walk, now: Duration) -> Option<Arc<Server>> {
        let listed = walk.listed.get_or_insert_with(|| self.roster.current());
        // Held over the whole choice, so that two requests do not both become the one trial.
        let mut turns = listed.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let untried = (0..).zip(&listed.servers);
        let untried = untried.filter(|(index, _)| !walk.tried.contains(index));
        let ranked: Vec<_> = untried
            .map(|(index, server)| (server.fitness(now), index, server.weight))
            .collect();
        let best = ranked.iter().map(|(fitness, ..)| *fitness).min()?;
        let fittest = ranked.iter().filter(|(fitness, ..)| *fitness == best);
        let index = turns.choose(fittest.map(|&(_, index, weight)| (index, weight)))?;
        let server = &listed.servers[index];
        server.chosen(now);
        walk.tried.push(index);
        Some(Arc::clone(server))
    }

    /// Whether the walk has servers left.
    pub(crate) fn has_more(&self, walk: &Walk) -> bool {
        let servers = walk
            .listed
            .as_ref()
            .map_or(0, |listed| listed.servers.len());
        walk.tried.len() < servers
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rosters = self.0.iter().map(|pool| &pool.roster);
        f.debug_list().entries(rosters).finish()
    }
}

/// Closes connections that have waited too long, or that their server has closed, once a second.
fn sweep(roster: &Arc<Roster>, site: &Site) -> AbortOnDropHandle<()> {
    // Weak: what a task holds that was told to end goes only when the runtime comes to it.
    let roster = Arc::downgrade(roster);
    let clock = site.clock.clone();
    AbortOnDropHandle::new(site.runtime.spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            let Some(roster) = roster.upgrade() else {
                return;
            };
            roster.sweep(clock.now().mono);
        }
    }))
}

const SWEEP: Duration = Duration::from_secs(1);

/// Why a connection could not be made, in words for the log: what failed, and for TLS how. Of what
/// the server sends nothing gets in but the names in its certificate, without controls.
pub(crate) fn reason(error: &Error) -> String {
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

/// In characters. A certificate may hold any number of names.
const LONGEST_REASON: usize = 400;

#[cfg(test)]
mod tests;
