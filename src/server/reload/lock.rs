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
    is_taken: Mutex<bool>,
    released: Condvar,
}

/// Holds the lock until it is dropped.
pub(super) struct ReloadGuard(Arc<ReloadLock>);

impl ReloadLocks {
    /// Waits for the lock, for at most `patience`; `None` if its holder does not release it in
    /// time.
    pub(super) fn take(&self, files: Files, patience: Duration) -> Option<ReloadGuard> {
        let lock = &self.0[files as usize].lock;
        let is_taken = lock.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = (lock.released).wait_timeout_while(is_taken, patience, |is_taken| *is_taken);
        let (mut is_taken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        *is_taken = true;
        Some(ReloadGuard(Arc::clone(lock)))
    }

    /// The last failure that was logged.
    pub(super) fn complaint(&self, files: Files) -> &Complaint {
        &self.0[files as usize].complaint
    }
}

impl Drop for ReloadGuard {
    fn drop(&mut self) {
        *self
            .0
            .is_taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = false;
        self.0.released.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_kind_of_files_is_read_by_one_at_a_time_and_no_other_kind_waits_for_it() {
        let locks = ReloadLocks::default();
        let stuck = locks.take(Files::Credentials, SHORT).unwrap();
        assert!(locks.take(Files::Credentials, SHORT).is_none());
        assert!(locks.take(Files::Registry, SHORT).is_some());
        drop(stuck);
        assert!(locks.take(Files::Credentials, SHORT).is_some());
    }

    #[test]
    fn a_waiting_reload_gets_the_lock_when_it_is_free() {
        let locks = ReloadLocks::default();
        let first = locks.take(Files::Registry, SHORT).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| locks.take(Files::Registry, Duration::from_secs(20)));
            drop(first);
            assert!(second.join().unwrap().is_some());
        });
    }
}
