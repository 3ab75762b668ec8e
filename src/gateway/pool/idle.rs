//! Connections to one server that wait for another request.
//!
//! Pingora's own pool watches each of them with a task, which every request wakes twice and spawns
//! once. Here they are looked at when one is wanted, and once a second.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use pingora::protocols::Stream;
use tokio::io::AsyncReadExt;
use tokio::task::coop::unconstrained;

/// Most connections that wait; of more, those that have waited longest are closed.
const MOST: usize = 128;

/// The connections, the one that has waited longest first.
pub(super) struct Idle {
    kept: Mutex<VecDeque<Kept>>,
    /// How long one may wait.
    timeout: Duration,
}

struct Kept {
    stream: Stream,
    /// Under which settings it was made: it is not used under others.
    settings: u64,
    /// Since when it waits, on the monotonic clock.
    since: Duration,
}

impl Idle {
    pub(super) fn new(timeout: Duration) -> Idle {
        Idle {
            kept: Mutex::default(),
            timeout,
        }
    }

    /// The connection that has waited least, if one is fit for use.
    pub(super) fn take(&self, settings: u64, now: Duration) -> Option<Stream> {
        loop {
            let mut last = self.kept().pop_back()?;
            if last.settings == settings && self.is_fit(&mut last, now) {
                return Some(last.stream);
            }
        }
    }

    /// Keeps one, whose last answer was read to its end.
    pub(super) fn keep(&self, stream: Stream, settings: u64, since: Duration) {
        let mut new = Kept {
            stream,
            settings,
            since,
        };
        if !self.is_fit(&mut new, since) {
            return;
        }
        let oldest = {
            let mut kept = self.kept();
            kept.push_back(new);
            (kept.len() > MOST).then(|| kept.pop_front())
        };
        // Closed outside the lock.
        drop(oldest);
    }

    /// Closes what is not fit for use any more.
    pub(super) fn sweep(&self, now: Duration) {
        self.kept().retain_mut(|one| self.is_fit(one, now));
    }

    /// Whether it has not waited too long, and the server has neither closed it nor said anything
    /// unasked, as far as that has been noticed.
    fn is_fit(&self, one: &mut Kept, now: Duration) -> bool {
        if now.saturating_sub(one.since) >= self.timeout {
            return false;
        }
        let mut byte = [0];
        // Not within the budget of the task, or it would seem quiet.
        let said = unconstrained(one.stream.read(&mut byte)).now_or_never();
        said.is_none()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Idle({})", self.kept().len())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const SETTINGS: u64 = 1;
    const TIMEOUT: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Keeps a connection, and gives its server's end.
    fn keep(idle: &Idle, since: u64) -> DuplexStream {
        let (ours, theirs) = duplex(64);
        idle.keep(Box::new(ours), SETTINGS, at(since));
        theirs
    }

    /// Whether a connection is to be had, and leads to this server's end.
    async fn leads_to(idle: &Idle, server: &mut DuplexStream) -> bool {
        let Some(mut stream) = idle.take(SETTINGS, at(10)) else {
            return false;
        };
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok()
            && unconstrained(server.read(&mut byte))
                .now_or_never()
                .is_some()
    }

    #[tokio::test]
    async fn the_one_that_has_waited_least_comes_first_and_each_once() {
        let idle = Idle::new(TIMEOUT);
        let (mut first, mut second) = (keep(&idle, 1), keep(&idle, 2));
        assert!(leads_to(&idle, &mut second).await);
        assert!(leads_to(&idle, &mut first).await);
        assert!(idle.take(SETTINGS, at(10)).is_none());
    }

    #[tokio::test]
    async fn one_that_the_server_has_closed_is_not_used() {
        let idle = Idle::new(TIMEOUT);
        let mut open = keep(&idle, 1);
        drop(keep(&idle, 2));
        assert!(leads_to(&idle, &mut open).await);
    }

    #[tokio::test]
    async fn one_on_which_the_server_spoke_unasked_is_not_used() {
        let idle = Idle::new(TIMEOUT);
        let mut server = keep(&idle, 1);
        let _ = server.write_all(b"HTTP/1.1 200 OK\r\n").await;
        assert!(idle.take(SETTINGS, at(2)).is_none());
    }

    #[tokio::test]
    async fn one_that_was_closed_while_it_was_in_use_is_not_kept() {
        let idle = Idle::new(TIMEOUT);
        let (ours, theirs) = duplex(64);
        drop(theirs);
        idle.keep(Box::new(ours), SETTINGS, at(1));
        assert_eq!(idle.kept().len(), 0);
    }

    #[tokio::test]
    async fn one_that_has_waited_too_long_is_not_used() {
        let idle = Idle::new(TIMEOUT);
        let _server = keep(&idle, 1);
        assert!(idle.take(SETTINGS, at(61)).is_none());
    }

    #[tokio::test]
    async fn one_that_was_made_under_other_settings_is_not_used() {
        let idle = Idle::new(TIMEOUT);
        let _server = keep(&idle, 1);
        assert!(idle.take(SETTINGS + 1, at(2)).is_none());
    }

    #[tokio::test]
    async fn what_is_not_fit_any_more_is_swept_away() {
        let idle = Idle::new(TIMEOUT);
        let _old = keep(&idle, 1);
        drop(keep(&idle, 30));
        let _young = keep(&idle, 31);
        idle.sweep(at(61));
        assert_eq!(idle.kept().len(), 1);
    }

    #[tokio::test]
    async fn of_too_many_those_are_closed_that_have_waited_longest() {
        let idle = Idle::new(TIMEOUT);
        let mut servers: Vec<_> = (0..=MOST as u64).map(|_| keep(&idle, 1)).collect();
        assert_eq!(idle.kept().len(), MOST);
        let mut byte = [0];
        let read = servers[0].read(&mut byte).await;
        assert!(matches!(read, Ok(0)), "{read:?}");
    }
}
