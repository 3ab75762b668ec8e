//! One lock for each kind of file: two concurrent reloads could leave the older content in force.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::metrics::Files;
use countersign_client::watch::Complaint;

/// The locks. No kind of file waits for another.
#[derive(Default)]
pub(super) struct ReloadLocks([FileKind; Files::ALL.len()]);

#[derive(Default)]
struct FileKind {
    lock: Arc<ReloadLock>,
    complaint: Complaint,
}

#[derive(Default)]
struct ReloadLock {
    /// When its holder took it, on the monotonic clock.
    taken: Mutex<Option<Duration>>,
    released: Condvar,
}

/// Holds the lock until it is dropped.
pub(super) struct ReloadGuard(Arc<ReloadLock>);

impl ReloadLocks {
    /// Waits for the lock, for at most `patience`, and takes it at `now` on the monotonic clock;
    /// `None` if its holder does not release it in time.
    pub(super) fn take(
        &self,
        files: Files,
        patience: Duration,
        now: Duration,
    ) -> Option<ReloadGuard> {
        let lock = &self.0[files as usize].lock;
        let taken = lock.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = (lock.released).wait_timeout_while(taken, patience, |taken| taken.is_some());
        let (mut taken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        *taken = Some(now);
        Some(ReloadGuard(Arc::clone(lock)))
    }

    /// How long the longest of the reloads has been running at `now`, on the monotonic clock.
    pub(super) fn running(&self, now: Duration) -> Duration {
        let taken =
            |kind: &FileKind| *(kind.lock.taken.lock()).unwrap_or_else(PoisonError::into_inner);
        let running = self.0.iter().filter_map(taken);
        running
            .map(|taken| now.saturating_sub(taken))
            .max()
            .unwrap_or_default()
    }

    /// The last failure that was logged.
    pub(super) fn complaint(&self, files: Files) -> &Complaint {
        &self.0[files as usize].complaint
    }
}

impl Drop for ReloadGuard {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.released.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const AT: Duration = Duration::from_secs(100);

    #[test]
    fn a_reload_runs_from_when_its_lock_is_taken_until_it_is_released() {
        let locks = ReloadLocks::default();
        let at = Duration::from_secs;
        let first = locks.take(Files::Registry, SHORT, AT).unwrap();
        let second = locks.take(Files::Tls, SHORT, at(105)).unwrap();
        assert_eq!(locks.running(at(107)), at(7));
        drop(first);
        assert_eq!(locks.running(at(107)), at(2));
        drop(second);
        assert_eq!(locks.running(at(107)), Duration::ZERO);
    }

    #[test]
    fn a_kind_of_files_is_read_by_one_at_a_time_and_no_other_kind_waits_for_it() {
        let locks = ReloadLocks::default();
        let stuck = locks.take(Files::Credentials, SHORT, AT).unwrap();
        assert!(locks.take(Files::Credentials, SHORT, AT).is_none());
        assert!(locks.take(Files::Registry, SHORT, AT).is_some());
        drop(stuck);
        assert!(locks.take(Files::Credentials, SHORT, AT).is_some());
    }

    #[test]
    fn a_waiting_reload_gets_the_lock_when_it_is_free() {
        let locks = ReloadLocks::default();
        let first = locks.take(Files::Registry, SHORT, AT).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| locks.take(Files::Registry, Duration::from_secs(20), AT));
            drop(first);
            assert!(second.join().unwrap().is_some());
        });
    }
}
