//! A bound on the lines of one kind in the log. Time is an argument.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Pause between two lines about refused tokens of the same kind: a thousand machines may be denied
/// in the same second.
const PAUSE: Duration = Duration::from_secs(60);

/// The lines of one kind at one upstream.
#[derive(Debug, Default)]
pub(in crate::gateway::upstream) struct LineRate(Mutex<LineState>);

#[derive(Debug, Default)]
struct LineState {
    /// When the last line was written, on the monotonic clock.
    logged: Option<Duration>,
    /// Events since then without a line.
    unlogged: u64,
}

impl LineRate {
    /// Whether a line is due at `now`; then the number of events that had none.
    pub(in crate::gateway::upstream) fn turn(&self, now: Duration) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.logged.is_some_and(|logged| now < logged + PAUSE) {
            state.unlogged += 1;
            return None;
        }
        state.logged = Some(now);
        Some(std::mem::take(&mut state.unlogged))
    }
}

/// The lines about tokens that a check did not accept, by kind.
#[derive(Debug, Default)]
pub(in crate::gateway::upstream) struct CheckLines {
    pub(in crate::gateway::upstream) dropped: LineRate,
    pub(in crate::gateway::upstream) held: LineRate,
    pub(in crate::gateway::upstream) unknown: LineRate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_the_first_is_a_line_and_a_minute_later_one_with_their_number() {
        let rate = LineRate::default();
        let at = Duration::from_secs;
        assert_eq!(rate.turn(at(5)), Some(0));
        assert_eq!(rate.turn(at(6)), None);
        assert_eq!(rate.turn(at(64)), None);
        assert_eq!(rate.turn(at(65)), Some(2));
        assert_eq!(rate.turn(at(125)), Some(0));
    }
}
