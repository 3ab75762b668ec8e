//! Steps of the wall clock: an operator set it, NTP stepped it, or the machine was suspended.
//!
//! Nothing depends on noticing them: the floor of the nonces follows what was accepted. But a
//! wrong clock refuses honest machines, and the operator should read why.

use std::fmt;
use std::time::Duration;

use super::now::Now;

/// Compares the wall clock with the monotonic clock at each reading.
#[derive(Clone, Copy, Debug)]
pub struct ClockSteps {
    last: Now,
}

/// Longest interval between readings. In a short interval, a slow correction cannot add up to a
/// step.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Smallest step, in milliseconds. A smaller difference may come from the delay between the two
/// clock readings, or from NTP, which slews by half a millisecond per second.
const STEP: u64 = 2_000;

impl ClockSteps {
    /// Starts with a first reading.
    pub fn new(first: Now) -> ClockSteps {
        ClockSteps { last: first }
    }

    /// The step since the last reading, if any: the wall clock moved over two seconds more, or
    /// less, than the monotonic clock.
    pub fn look(&mut self, now: Now) -> Option<ClockStep> {
        let last = std::mem::replace(&mut self.last, now);
        let passed = now.mono.saturating_sub(last.mono).as_millis();
        let expected = i128::from(last.wall_ms) + i128::try_from(passed).unwrap_or(i128::MAX / 2);
        let by = i128::from(now.wall_ms) - expected;
        let by = i64::try_from(by).unwrap_or(if by < 0 { i64::MIN } else { i64::MAX });
        (by.unsigned_abs() > STEP).then_some(ClockStep { by_ms: by })
    }
}

/// A step of the wall clock. Prints as a sentence for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// Milliseconds; negative where the clock was set back.
    pub by_ms: i64,
}

impl fmt::Display for ClockStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.by_ms.unsigned_abs();
        let (seconds, tenths) = (ms / 1000, ms % 1000 / 100);
        if self.by_ms < 0 {
            write!(
                f,
                "the system clock was set back by {seconds}.{tenths} s. Nothing that was accepted \
                 can be accepted again. If the clock is wrong now, honest machines are refused \
                 (clock_skew) until it is right: see timedatectl or chronyc tracking"
            )
        } else {
            write!(
                f,
                "the system clock went ahead by {seconds}.{tenths} s: it was set, or the machine \
                 was suspended. Nothing that was accepted can be accepted again. If the clock is \
                 wrong now, honest machines are refused (clock_skew) until it is right: see \
                 timedatectl or chronyc tracking"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Hands};

    const START: u64 = 1_800_000_000_000;

    fn steps() -> (ClockSteps, Clock, Hands) {
        let (clock, hands) = Clock::manual(START);
        (ClockSteps::new(clock.now()), clock, hands)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn time_that_passes_is_no_step() {
        let (mut steps, clock, hands) = steps();
        for pause in [0, 1, 10, 100_000] {
            hands.advance(seconds(pause));
            assert_eq!(steps.look(clock.now()), None);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_has_made_a_step_back() {
        let (mut steps, clock, hands) = steps();
        hands.advance(seconds(1));
        hands.set(START - 9_000);
        assert_eq!(steps.look(clock.now()), Some(ClockStep { by_ms: -10_000 }));
    }

    #[test]
    fn a_clock_that_is_set_forward_has_made_a_step_ahead() {
        let (mut steps, clock, hands) = steps();
        hands.advance(seconds(1));
        hands.set(START + 11_000);
        assert_eq!(steps.look(clock.now()), Some(ClockStep { by_ms: 10_000 }));
    }

    #[test]
    fn a_step_is_seen_once() {
        let (mut steps, clock, hands) = steps();
        hands.set(START + 60_000);
        assert!(steps.look(clock.now()).is_some());
        assert_eq!(steps.look(clock.now()), None);
        hands.advance(seconds(1));
        assert_eq!(steps.look(clock.now()), None);
    }

    #[test]
    fn forward_and_back_are_two_steps() {
        let (mut steps, clock, hands) = steps();
        hands.set(START + 60_000);
        assert_eq!(steps.look(clock.now()), Some(ClockStep { by_ms: 60_000 }));
        hands.set(START);
        assert_eq!(steps.look(clock.now()), Some(ClockStep { by_ms: -60_000 }));
    }

    #[test]
    fn two_seconds_are_not_a_step_and_a_millisecond_more_is() {
        for (off, seen) in [(2_000, false), (2_001, true)] {
            for (to, by_ms) in [(START + off, off as i64), (START - off, -(off as i64))] {
                let (mut steps, clock, hands) = steps();
                hands.set(to);
                let step = seen.then_some(ClockStep { by_ms });
                assert_eq!(steps.look(clock.now()), step);
            }
        }
    }

    #[test]
    fn a_slow_correction_does_not_add_up_to_a_step() {
        let (mut steps, clock, hands) = steps();
        for _ in 0..10_000 {
            hands.advance(seconds(1));
            hands.set(clock.now().wall_ms + 1);
            assert_eq!(steps.look(clock.now()), None);
        }
    }

    #[test]
    fn a_suspended_machine_shows_as_a_step_ahead() {
        let (mut steps, clock, hands) = steps();
        // CLOCK_MONOTONIC stands still meanwhile.
        hands.set(START + 3_600_000);
        assert_eq!(
            steps.look(clock.now()),
            Some(ClockStep { by_ms: 3_600_000 })
        );
    }

    #[test]
    fn a_clock_that_falls_to_1970_is_a_step_back() {
        let (mut steps, clock, hands) = steps();
        hands.set(0);
        let by_ms = -i64::try_from(START).unwrap_or(0);
        assert_eq!(steps.look(clock.now()), Some(ClockStep { by_ms }));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let (mut steps, clock, hands) = steps();
        hands.set(u64::MAX);
        assert_eq!(steps.look(clock.now()), Some(ClockStep { by_ms: i64::MAX }));
        hands.set(0);
        hands.advance(Duration::MAX);
        assert_eq!(
            steps.look(clock.now()).map(|step| step.by_ms < 0),
            Some(true)
        );
    }

    #[test]
    fn the_operator_reads_which_way_how_far_and_what_to_do() {
        let back = ClockStep { by_ms: -12_340 }.to_string();
        assert!(back.contains("set back by 12.3 s") && back.contains("chronyc"));
        let ahead = ClockStep { by_ms: 2_050 }.to_string();
        assert!(ahead.contains("ahead by 2.0 s") && ahead.contains("suspended"));
        assert!(ahead.contains("timedatectl") && ahead.contains("clock_skew"));
    }
}
