//! Reads clocks; no other module does. All other code takes the time as an argument, so that tests
//! can check each rule at its exact edges.

mod now;
mod release;
mod steps;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use now::Now;
pub use release::{BeforeRelease, check_after_release};
pub use steps::{ClockStep, ClockSteps, LOOK_EVERY};

/// A source of [`Now`]. Clones read the same clock and share the zero of `mono`.
#[derive(Clone)]
pub struct Clock(ClockSource);

#[derive(Clone)]
enum ClockSource {
    // On Linux an `Instant` is CLOCK_MONOTONIC, which stops while the machine is suspended, unlike
    // CLOCK_BOOTTIME. That is safe against replays, because the replay cache keeps nonces longer.
    System { start: Instant },
    Manual(Arc<Mutex<Now>>),
}

impl Clock {
    /// The clocks of the operating system.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the file that reads clocks"
    )]
    pub fn system() -> Clock {
        Clock(ClockSource::System {
            start: Instant::now(),
        })
    }

    /// For tests: a clock that stays at `wall_ms` (Unix milliseconds) and `mono` zero until its
    /// [`Hands`] move it.
    pub fn manual(wall_ms: u64) -> (Clock, Hands) {
        let now = Arc::new(Mutex::new(Now {
            wall_ms,
            mono: Duration::ZERO,
        }));
        (Clock(ClockSource::Manual(Arc::clone(&now))), Hands(now))
    }

    /// Reads the clock.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the file that reads clocks"
    )]
    pub fn now(&self) -> Now {
        match &self.0 {
            ClockSource::System { start } => Now {
                wall_ms: unix_ms(SystemTime::now()),
                mono: start.elapsed(),
            },
            ClockSource::Manual(now) => *lock(now),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ClockSource::System { .. } => "Clock::system",
            ClockSource::Manual(_) => "Clock::manual",
        })
    }
}

/// For tests: moves a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct Hands(Arc<Mutex<Now>>);

impl Hands {
    /// Steps the calendar to `wall_ms`, forwards or back, as an operator or NTP does; `mono`
    /// does not notice.
    pub fn set(&self, wall_ms: u64) {
        lock(&self.0).wall_ms = wall_ms;
    }

    /// Lets time pass: both readings move on by `by`.
    pub fn advance(&self, by: Duration) {
        let mut now = lock(&self.0);
        now.wall_ms = now.wall_ms.saturating_add(millis(by));
        now.mono = now.mono.saturating_add(by);
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock(now: &Mutex<Now>) -> MutexGuard<'_, Now> {
    now.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_before_1970_reads_as_zero() {
        assert_eq!(unix_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }

    #[test]
    fn the_wall_clock_is_read_in_milliseconds() {
        assert_eq!(unix_ms(UNIX_EPOCH + Duration::from_micros(1_234_999)), 1234);
    }

    #[test]
    fn a_duration_too_long_for_milliseconds_saturates() {
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }

    #[test]
    fn seconds_are_rounded_down() {
        let (clock, hands) = Clock::manual(1_999);
        assert_eq!(clock.now().unix_seconds(), 1);
        hands.set(2_000);
        assert_eq!(clock.now().unix_seconds(), 2);
    }

    #[test]
    fn the_system_clock_stands_after_this_code_was_written() {
        assert!(Clock::system().now().unix_seconds() > 1_700_000_000);
    }

    #[test]
    fn the_system_clock_never_runs_back() {
        let clock = Clock::system();
        let first = clock.now().mono;
        assert!(clock.now().mono >= first);
    }

    #[test]
    fn clones_share_the_zero_of_mono() {
        let (clock, hands) = Clock::manual(0);
        let clone = clock.clone();
        hands.advance(Duration::from_secs(3));
        assert_eq!(clone.now(), clock.now());
    }

    #[test]
    fn a_manual_clock_stands_still() {
        let (clock, _hands) = Clock::manual(5);
        assert_eq!(clock.now(), clock.now());
    }

    #[test]
    fn advancing_moves_both_readings() {
        let (clock, hands) = Clock::manual(1_000);
        hands.advance(Duration::from_millis(1_500));
        let expected = Now {
            wall_ms: 2_500,
            mono: Duration::from_millis(1_500),
        };
        assert_eq!(clock.now(), expected);
    }

    #[test]
    fn setting_the_calendar_back_leaves_mono_alone() {
        let (clock, hands) = Clock::manual(10_000);
        hands.advance(Duration::from_secs(1));
        hands.set(1);
        let expected = Now {
            wall_ms: 1,
            mono: Duration::from_secs(1),
        };
        assert_eq!(clock.now(), expected);
    }

    #[test]
    fn advancing_past_the_end_of_time_saturates() {
        let (clock, hands) = Clock::manual(u64::MAX);
        hands.advance(Duration::MAX);
        hands.advance(Duration::MAX);
        assert_eq!(clock.now().wall_ms, u64::MAX);
    }
}
