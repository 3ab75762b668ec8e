//! Whose turn it is to read files of one kind: two at once could leave the older of two contents in force.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::metrics::Files;
use crate::watch::Complaint;

/// One turn for each kind of files, so that none waits for another.
#[derive(Default)]
pub(crate) struct Turns([Kind; Files::ALL.len()]);

#[derive(Default)]
struct Kind {
    turn: Arc<Turn>,
    complaint: Complaint,
}

#[derive(Default)]
struct Turn {
    is_taken: Mutex<bool>,
    ended: Condvar,
}

/// The turn, until it is dropped.
pub(super) struct Taken(Arc<Turn>);

impl Turns {
    /// Waits for the turn, at most so long; `None` where whoever has it does not come to an end.
    pub(super) fn take(&self, files: Files, patience: Duration) -> Option<Taken> {
        let turn = &self.0[files as usize].turn;
        let is_taken = turn.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = (turn.ended).wait_timeout_while(is_taken, patience, |is_taken| *is_taken);
        let (mut is_taken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        *is_taken = true;
        Some(Taken(Arc::clone(turn)))
    }

    /// What the last attempt complained of.
    pub(super) fn complaint(&self, files: Files) -> &Complaint {
        &self.0[files as usize].complaint
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self
            .0
            .is_taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = false;
        self.0.ended.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_kind_of_files_is_read_by_one_at_a_time_and_no_other_kind_waits_for_it() {
        let turns = Turns::default();
        let stuck = turns.take(Files::Credentials, SHORT).unwrap();
        assert!(turns.take(Files::Credentials, SHORT).is_none());
        assert!(turns.take(Files::Registry, SHORT).is_some());
        drop(stuck);
        assert!(turns.take(Files::Credentials, SHORT).is_some());
    }

    #[test]
    fn whoever_waits_gets_the_turn_when_it_is_free() {
        let turns = Turns::default();
        let first = turns.take(Files::Registry, SHORT).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| turns.take(Files::Registry, Duration::from_secs(20)));
            drop(first);
            assert!(second.join().unwrap().is_some());
        });
    }
}
