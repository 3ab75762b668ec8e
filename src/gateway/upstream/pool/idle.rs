//! Idle connections to one server, kept for another request.
//!
//! Pingora's own pool shares connections among all clients. It watches each connection with a task,
//! which every request wakes twice and spawns once. Here connections are checked when one is
//! wanted, and once a second. Each serves the requests of one owner only, so a backend that sends
//! more than its response can confuse only the machine that asked.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::reuse::Reuse;
use super::stream::{Silence, UpstreamStream};
use crate::audit::TokenHash;

/// Most idle connections to one server. Beyond it the oldest are closed.
const MOST: usize = 1024;

/// Time that a connection rests (is kept unused) after a response, if unsolicited bytes may still
/// come. On a local network they come within two milliseconds.
const REST: Duration = Duration::from_millis(50);

/// After this many quiet rests (without unsolicited bytes) the server is trusted. Its connections
/// then rest only after HEAD, 204 and 304.
const TRUSTED_AFTER: u32 = 16;

/// Unsolicited bytes within this time of an answer belong to it. Later ones do not make a server
/// suspect: some announce in this way that they close an idle connection.
const LATE: Duration = Duration::from_secs(1);

/// The owner of a connection: only its requests may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ConnectionOwner {
    /// The machine with this public key.
    Machine([u8; 32]),
    /// The holder of a bearer token.
    Token(TokenHash),
    /// The unknown clients of open routes.
    Open,
    /// All clients: the upstream says `reuse: shared`.
    Everybody,
}

/// The idle connections.
pub(super) struct Idle {
    queues: Mutex<IdleQueues>,
    /// Longest time that a connection is kept.
    timeout: Duration,
    /// The server's address, for the log.
    address: SocketAddr,
    /// Number of quiet rests, up to [`TRUSTED_AFTER`].
    quiet: AtomicU32,
    /// Whether the server has sent unsolicited bytes behind a response that had a body.
    suspect: AtomicBool,
}

#[derive(Default)]
struct IdleQueues {
    /// The connections of each owner, the oldest first.
    of: HashMap<ConnectionOwner, VecDeque<IdleConnection>>,
    count: usize,
}

struct IdleConnection {
    stream: UpstreamStream,
    /// Generation of the TLS settings that the connection was made with. It is not used with
    /// others.
    settings: u64,
    /// Beginning of the wait, on the monotonic clock.
    since: Duration,
    /// Earliest time of reuse.
    ready: Duration,
    /// Whether its rest counts for [`TRUSTED_AFTER`].
    is_probation: bool,
}

impl Idle {
    pub(super) fn new(timeout: Duration, address: SocketAddr) -> Idle {
        Idle {
            queues: Mutex::default(),
            timeout,
            address,
            quiet: AtomicU32::new(0),
            suspect: AtomicBool::new(false),
        }
    }

    /// The owner's connection that has waited least, of those that have rested, if one is fit for
    /// use.
    pub(super) fn take(
        &self,
        owner: ConnectionOwner,
        settings: u64,
        now: Duration,
    ) -> Option<UpstreamStream> {
        let mut queues = self.queues();
        let IdleQueues { of, count } = &mut *queues;
        let queue = of.get_mut(&owner)?;
        let mut found = None;
        let mut at = queue.len();
        while at > 0 && found.is_none() {
            at -= 1;
            if queue[at].ready > now {
                continue;
            }
            if let Some(mut waiting) = queue.remove(at) {
                *count -= 1;
                let fit = waiting.settings == settings && self.is_fit(&mut waiting, now);
                found = fit.then_some(waiting.stream);
            }
        }
        if queue.is_empty() {
            of.remove(&owner);
        }
        found
    }

    /// Keeps one of the owner's, as far as its last answer allows.
    pub(super) fn keep(
        &self,
        stream: UpstreamStream,
        owner: ConnectionOwner,
        settings: u64,
        since: Duration,
        reuse: Reuse,
    ) {
        let is_probation = reuse == Reuse::AtOnce && !self.is_trusted();
        let rest = match reuse {
            Reuse::Never => return,
            Reuse::AtOnce if !is_probation => Duration::ZERO,
            Reuse::AtOnce | Reuse::AfterRest => REST,
        };
        let mut waiting = IdleConnection {
            stream,
            settings,
            since,
            ready: since + rest,
            is_probation,
        };
        if !self.is_fit(&mut waiting, since) {
            return;
        }
        let mut queues = self.queues();
        queues.of.entry(owner).or_default().push_back(waiting);
        queues.count += 1;
        let oldest = (queues.count > MOST)
            .then(|| queues.take_oldest())
            .flatten();
        drop(queues);
        // Closed outside the lock.
        drop(oldest);
    }

    /// Closes what is not fit for use any more.
    pub(super) fn sweep(&self, now: Duration) {
        let mut queues = self.queues();
        queues.of.retain(|_, queue| {
            queue.retain_mut(|waiting| self.is_fit(waiting, now));
            !queue.is_empty()
        });
        queues.count = queues.of.values().map(VecDeque::len).sum();
    }

    /// Whether connections of this server need no rest. Enough rests were quiet, and no connection
    /// received unsolicited bytes behind a response that had a body.
    fn is_trusted(&self) -> bool {
        self.quiet.load(Ordering::Relaxed) >= TRUSTED_AFTER && !self.suspect.load(Ordering::Relaxed)
    }

    /// Whether a connection has not waited too long, and the server has neither closed it nor sent
    /// anything unsolicited, as far as that has been noticed.
    fn is_fit(&self, waiting: &mut IdleConnection, now: Duration) -> bool {
        let waited = now.saturating_sub(waiting.since);
        if waited >= self.timeout {
            return false;
        }
        match waiting.stream.silence() {
            Silence::Quiet => {
                if waiting.is_probation && now >= waiting.ready {
                    waiting.is_probation = false;
                    let more = |quiet: u32| Some((quiet + 1).min(TRUSTED_AFTER));
                    let _ = (self.quiet).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
                }
                true
            }
            Silence::Unsolicited => {
                if waiting.ready == waiting.since || waiting.is_probation {
                    self.suspect(waited);
                }
                false
            }
            Silence::Closed => false,
        }
    }

    fn suspect(&self, waited: Duration) {
        if waited < LATE && !self.suspect.swap(true, Ordering::Relaxed) {
            warn!(
                server = %self.address,
                "the server sends bytes behind its answers that no request asked for; its \
                 connections rest {} ms before each use from now on",
                REST.as_millis()
            );
        }
    }

    fn queues(&self) -> MutexGuard<'_, IdleQueues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleQueues {
    /// Takes out the connection that has waited longest. The search goes over all owners; it is
    /// made only where another connection was just opened, which costs more.
    fn take_oldest(&mut self) -> Option<IdleConnection> {
        let since = |queue: &VecDeque<IdleConnection>| queue.front().map(|waiting| waiting.since);
        let (owner, _) = (self.of.iter()).min_by_key(|(_, queue)| since(queue))?;
        let owner = *owner;
        let queue = self.of.get_mut(&owner)?;
        let oldest = queue.pop_front();
        if queue.is_empty() {
            self.of.remove(&owner);
        }
        self.count -= 1;
        oldest
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Idle({})", self.queues().count)
    }
}

#[cfg(test)]
mod tests;
