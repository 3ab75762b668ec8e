//! The refusal limiter: records a fixed number of refusals a second, and counts the others by code.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::record_time::RecordTime;
use countersign_client::clock::Now;
use countersign_core::refusal::Code;

/// Admits `per_second` refusals in each second, and counts the others.
pub(super) struct RefusalLimiter {
    per_second: u32,
    state: Mutex<LimiterState>,
}

#[derive(Default)]
struct LimiterState {
    /// The second of the monotonic clock that is being counted.
    second: u64,
    recorded: u32,
    left_out: [u64; Code::ALL.len()],
    /// The time of the first refusal that was left out since the last summary.
    since: Option<Now>,
}

/// The number of refusals that were left out, by code, between two moments in Unix milliseconds.
#[derive(Serialize)]
pub(super) struct Summary {
    ts: RecordTime,
    decision: &'static str,
    since: RecordTime,
    left_out: BTreeMap<&'static str, u64>,
}

/// Least time between two summaries. A flood of refusals costs six lines a minute beyond its limit.
const SUMMARY: Duration = Duration::from_secs(10);

impl RefusalLimiter {
    pub(super) fn new(per_second: u32) -> RefusalLimiter {
        RefusalLimiter {
            per_second,
            state: Mutex::default(),
        }
    }

    /// Whether this refusal may be recorded; if not, it is counted.
    pub(super) fn admits(&self, code: Code, now: Now) -> bool {
        let mut state = self.lock();
        let second = now.mono.as_secs();
        if second != state.second {
            (state.second, state.recorded) = (second, 0);
        }
        if state.recorded < self.per_second {
            state.recorded += 1;
            return true;
        }
        state.left_out[code as usize] += 1;
        state.since.get_or_insert(now);
        false
    }

    /// The refusals left out since the last summary, if one is due or the log is `closing`.
    pub(super) fn summary(&self, now: Now, closing: bool) -> Option<Summary> {
        let mut state = self.lock();
        let since = state.since?;
        if !closing && now.mono.saturating_sub(since.mono) < SUMMARY {
            return None;
        }
        state.since = None;
        let counts = std::mem::replace(&mut state.left_out, [0; Code::ALL.len()]);
        Some(Summary {
            ts: RecordTime::of(now.wall_ms),
            decision: "summary",
            since: RecordTime::of(since.wall_ms),
            left_out: (Code::ALL.into_iter().zip(counts))
                .filter(|(_, count)| *count > 0)
                .map(|(code, count)| (code.as_str(), count))
                .collect(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::audit::line::encode;
    use crate::audit::testing::read_back;

    fn at(ms: u64) -> Now {
        Now {
            wall_ms: 1_750_000_000_000 + ms,
            mono: Duration::from_millis(ms),
        }
    }

    fn shown(limiter: &RefusalLimiter, now: Now, closing: bool) -> Option<serde_json::Value> {
        limiter.summary(now, closing).as_ref().map(read_back)
    }

    #[test]
    fn so_many_a_second_are_recorded_and_no_more() {
        let limiter = RefusalLimiter::new(3);
        let admitted = |ms| limiter.admits(Code::BadSignature, at(ms));
        let of = |second: u64| (0..100).filter(|n| admitted(second * 1000 + n)).count();
        assert_eq!([of(0), of(1), of(7)], [3, 3, 3]);
    }

    #[test]
    fn what_is_left_out_is_told_by_code_after_a_while_and_once() {
        let limiter = RefusalLimiter::new(1);
        for (ms, code) in [
            (0, Code::BadSignature),
            (500, Code::BadSignature),
            (600, Code::NoRoute),
        ] {
            limiter.admits(code, at(ms));
        }
        assert_eq!(shown(&limiter, at(10_499), false), None);
        let line = shown(&limiter, at(10_500), false).unwrap();
        let left_out = serde_json::json!({"bad_signature": 1, "no_route": 1});
        assert_eq!(line["left_out"], left_out);
        assert_eq!(line["since"], "2025-06-15T15:06:40.500Z");
        assert_eq!(shown(&limiter, at(99_000), false), None);
    }

    #[test]
    fn a_summary_reads_as_published() {
        let limiter = RefusalLimiter::new(0);
        limiter.admits(Code::NoRoute, at(0));
        limiter.admits(Code::BadSignature, at(1));
        let line = encode(&limiter.summary(at(2), true).unwrap(), 0).unwrap();
        let expected = concat!(
            r#"{"ts":"2025-06-15T15:06:40.002Z","decision":"summary","#,
            r#""since":"2025-06-15T15:06:40.000Z","left_out":{"bad_signature":1,"no_route":1}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn a_log_that_is_closed_tells_it_at_once() {
        let limiter = RefusalLimiter::new(1);
        limiter.admits(Code::NoRoute, at(0));
        assert_eq!(shown(&limiter, at(1), true), None);
        limiter.admits(Code::NoRoute, at(2));
        assert!(shown(&limiter, at(3), true).is_some());
    }
}
