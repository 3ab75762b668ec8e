//! The rate limit of a machine. Pure: time is an argument.
//!
//! The algorithm is the generic cell rate algorithm (ITU-T I.371, annex A.1) with a burst of one
//! minute's requests. It stores one number per machine: the instant at which the whole burst is
//! free.

use core::num::NonZeroU32;
use core::time::Duration;

/// A rate limit, in requests per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate(NonZeroU32);

/// The used part of a machine's burst. The default is an unused burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// When the whole burst is free, on the clock of [`Meter::take`]'s `now`.
    free_at: Duration,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Rate {
    /// Highest rate: ten times the throughput of a gateway. Above it, the interval between two
    /// requests is too short to measure.
    pub const MAX: u32 = 1_000_000;

    /// A rate of `per_minute` requests. `None` for 0 and above [`Rate::MAX`].
    pub fn new(per_minute: u64) -> Option<Rate> {
        let count = u32::try_from(per_minute).ok().filter(|n| *n <= Self::MAX)?;
        NonZeroU32::new(count).map(Rate)
    }

    /// Requests per minute.
    pub fn per_minute(self) -> u32 {
        self.0.get()
    }

    /// The time that refills the burst by one request.
    fn share(self) -> Duration {
        MINUTE / self.0.get()
    }
}

impl Meter {
    /// Takes one request from the burst, which refills evenly over a minute. `now` is on a
    /// monotonic clock. A meter stays valid when the rate changes.
    ///
    /// # Errors
    ///
    /// The seconds, rounded up, until the burst has one request free. The burst does not change.
    pub fn take(&mut self, rate: Rate, now: Duration) -> Result<(), u32> {
        let free_at = self.free_at.max(now).saturating_add(rate.share());
        match free_at.checked_sub(now.saturating_add(MINUTE)) {
            Some(wait) if !wait.is_zero() => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Err(u32::try_from(seconds).unwrap_or(u32::MAX))
            }
            _ => {
                self.free_at = free_at;
                Ok(())
            }
        }
    }

    /// Whether the whole burst is free, so that the meter equals a new one and can be dropped.
    pub fn is_idle(&self, now: Duration) -> bool {
        self.free_at <= now
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    fn rate(per_minute: u64) -> Rate {
        Rate::new(per_minute).unwrap()
    }

    /// How many of a hundred requests at `now` find room.
    fn room(meter: &mut Meter, rate: Rate, now: Duration) -> usize {
        (0..100).filter(|_| meter.take(rate, now).is_ok()).count()
    }

    #[test]
    fn a_rate_is_a_number_from_one_to_a_million() {
        assert_eq!(Rate::new(0), None);
        assert_eq!(Rate::new(1_000_001), None);
        assert_eq!(Rate::new(u64::MAX), None);
        assert_eq!(rate(1_000_000).per_minute(), 1_000_000);
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_no_more() {
        let mut meter = Meter::default();
        assert_eq!(room(&mut meter, rate(6), S), 6);
        assert_eq!(meter.take(rate(6), S), Err(10));
    }

    #[test]
    fn the_wait_that_is_told_is_enough() {
        let mut meter = Meter::default();
        room(&mut meter, rate(7), S);
        let wait = meter.take(rate(7), S).unwrap_err();
        assert!(meter.take(rate(7), S + wait * S).is_ok());
    }

    #[test]
    fn room_comes_back_evenly() {
        let mut meter = Meter::default();
        room(&mut meter, rate(6), S);
        assert_eq!(room(&mut meter, rate(6), 21 * S), 2);
        assert_eq!(room(&mut meter, rate(6), 81 * S), 6);
    }

    #[test]
    fn a_pace_within_the_rate_is_never_stopped() {
        let mut meter = Meter::default();
        for n in 0..1000 {
            assert_eq!(meter.take(rate(6), n * 10 * S), Ok(()), "{n}");
        }
    }

    #[test]
    fn a_refused_request_takes_nothing() {
        let mut meter = Meter::default();
        room(&mut meter, rate(6), S);
        let before = meter;
        assert!(meter.take(rate(6), 2 * S).is_err());
        assert_eq!(meter, before);
    }

    #[test]
    fn a_meter_goes_on_when_the_rate_is_changed() {
        let mut meter = Meter::default();
        room(&mut meter, rate(6), S);
        assert!(meter.take(rate(12), S).is_err());
        assert_eq!(room(&mut meter, rate(12), 31 * S), 6);
    }

    #[test]
    fn it_is_idle_when_all_has_come_back() {
        let mut meter = Meter::default();
        room(&mut meter, rate(6), S);
        assert!(!meter.is_idle(60 * S));
        assert!(meter.is_idle(61 * S));
    }

    proptest! {
        /// Over any stretch, no more than a minute's worth and what the stretch gives back.
        #[test]
        fn no_stretch_has_more_than_it_may(per_minute in 1u64..200, steps in prop::collection::vec(0u64..3000, 1..300)) {
            let (mut meter, mut now, mut taken) = (Meter::default(), Duration::ZERO, 0u64);
            for step in steps {
                now += Duration::from_millis(step);
                taken += u64::from(meter.take(rate(per_minute), now).is_ok());
                let most = per_minute + 1 + per_minute * u64::try_from(now.as_millis()).unwrap() / 60_000;
                prop_assert!(taken <= most, "{taken} of {most}");
            }
        }
    }
}
