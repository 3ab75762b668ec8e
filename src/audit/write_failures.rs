//! Messages in the service log about writes that fail.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The least time between two messages that writing fails: one for each request would fill the
/// service log.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Reports in the service log that writing fails, and that it works again.
#[derive(Debug, Default)]
pub(super) struct WriteFailures {
    failing: bool,
    last: Option<Duration>,
    lost: u64,
}

impl WriteFailures {
    pub(super) fn note(
        &mut self,
        sink: &str,
        error: Option<&io::Error>,
        lost: u64,
        mono: Duration,
    ) {
        self.lost += lost;
        let Some(error) = error else {
            if std::mem::take(&mut self.failing) {
                tracing::info!(sink, lost = self.lost, "audit records are written again");
                *self = WriteFailures {
                    last: self.last,
                    ..WriteFailures::default()
                };
            }
            return;
        };
        self.failing = true;
        let quiet = self
            .last
            .is_some_and(|last| mono.saturating_sub(last) < COMPLAINT_INTERVAL);
        if !quiet {
            self.last = Some(mono);
            tracing::error!(
                sink, %error, lost = self.lost,
                "audit records cannot be written; requests are refused until they can"
            );
        }
    }
}

/// Reports in the service log that requests were refused because a write took too long: the disk is
/// busy, and nothing has failed.
#[derive(Debug, Default)]
pub(super) struct LateWrites(Mutex<LateState>);

#[derive(Debug, Default)]
struct LateState {
    last: Option<Duration>,
    /// Requests since then without a message.
    unlogged: u64,
}

impl LateWrites {
    pub(super) fn note(&self, deadline: Duration, mono: Duration) {
        if let Some(unlogged) = self.turn(mono) {
            tracing::warn!(
                ?deadline,
                unlogged,
                "a request was refused (503 audit_unavailable), because its audit record was not \
                 written in time: the disk is busy. Give the audit log a disk of its own, or raise \
                 audit.deadline"
            );
        }
    }

    /// Whether a message is due; then the number of requests that had none.
    fn turn(&self, mono: Duration) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet =
            (state.last).is_some_and(|last| mono.saturating_sub(last) < COMPLAINT_INTERVAL);
        if is_quiet {
            state.unlogged += 1;
            return None;
        }
        state.last = Some(mono);
        Some(std::mem::take(&mut state.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_late_writes_one_in_a_second_is_told_with_the_number_of_the_others() {
        let late = LateWrites::default();
        let at = Duration::from_millis;
        assert_eq!(late.turn(at(5_000)), Some(0));
        assert_eq!(late.turn(at(5_001)), None);
        assert_eq!(late.turn(at(5_999)), None);
        assert_eq!(late.turn(at(6_000)), Some(2));
    }
}
