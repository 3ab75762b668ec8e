//! The failures of one source: a token bucket, and the ban that begins when it is empty. Pure: time
//! is an argument, on the monotonic clock.

use std::time::Duration;

use crate::config::ThrottleSettings;

/// Tokens are counted in parts, so that a refill of less than one is not lost.
const PARTS: u64 = 60_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Each failure takes [`PARTS`]; a millisecond gives back as many as there are failures a
    /// minute.
    parts: u64,
    refilled: Duration,
    banned_until: Option<Duration>,
}

/// The effect of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureEffect {
    /// Nothing yet, or nothing new.
    Noted,
    /// A ban has begun.
    Banned,
}

impl Bucket {
    /// A bucket for as many failures at once as a minute may have.
    pub(super) fn full(now: Duration, settings: &ThrottleSettings) -> Bucket {
        Bucket {
            parts: capacity(settings),
            refilled: now,
            banned_until: None,
        }
    }

    /// How much of a ban is left, if there is one.
    pub(super) fn banned_for(&self, now: Duration) -> Option<Duration> {
        self.banned_until?
            .checked_sub(now)
            .filter(|left| !left.is_zero())
    }

    /// A request of the source has failed. While it is banned that changes nothing: a ban is not
    /// made longer by attempts, or an attacker who keeps trying would lock out the machines behind
    /// the same address.
    pub(super) fn fail(&mut self, now: Duration, settings: &ThrottleSettings) -> FailureEffect {
        if self.banned_for(now).is_some() {
            return FailureEffect::Noted;
        }
        let millis = now.saturating_sub(self.refilled).as_millis();
        let gained = u64::try_from(millis)
            .unwrap_or(u64::MAX)
            .saturating_mul(settings.failures_per_minute.into());
        self.parts = self.parts.saturating_add(gained).min(capacity(settings));
        self.refilled = now;
        match self.parts.checked_sub(PARTS) {
            Some(left) => {
                self.parts = left;
                FailureEffect::Noted
            }
            None => {
                self.banned_until = Some(now + settings.ban);
                FailureEffect::Banned
            }
        }
    }
}

fn capacity(settings: &ThrottleSettings) -> u64 {
    u64::from(settings.failures_per_minute) * PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ThrottleSettings = ThrottleSettings {
        failures_per_minute: 10,
        ban: Duration::from_secs(60),
    };
    const S: Duration = Duration::from_secs(1);

    fn banned_at_once() -> Bucket {
        let mut bucket = Bucket::full(S, &SETTINGS);
        for _ in 0..10 {
            assert_eq!(bucket.fail(S, &SETTINGS), FailureEffect::Noted);
        }
        assert_eq!(bucket.fail(S, &SETTINGS), FailureEffect::Banned);
        bucket
    }

    #[test]
    fn the_failure_beyond_a_minutes_worth_begins_the_ban() {
        assert_eq!(banned_at_once().banned_for(S), Some(60 * S));
    }

    #[test]
    fn failures_at_the_permitted_pace_never_lead_to_a_ban() {
        let mut bucket = Bucket::full(S, &SETTINGS);
        for n in 0..1000 {
            assert_eq!(
                bucket.fail(n * 6 * S, &SETTINGS),
                FailureEffect::Noted,
                "{n}"
            );
        }
    }

    #[test]
    fn failures_a_little_faster_do() {
        let mut bucket = Bucket::full(S, &SETTINGS);
        let mut all = (0..1000).map(|n| bucket.fail(n * 5 * S, &SETTINGS));
        assert!(all.any(|verdict| verdict == FailureEffect::Banned));
    }

    #[test]
    fn attempts_do_not_make_a_ban_longer() {
        let mut bucket = banned_at_once();
        for n in 1..=60 {
            assert_eq!(bucket.fail(n * S, &SETTINGS), FailureEffect::Noted);
        }
        assert_eq!(bucket.banned_for(60 * S), Some(S));
        assert_eq!(bucket.banned_for(61 * S), None);
    }

    #[test]
    fn after_a_ban_there_is_room_for_as_many_as_the_time_has_given_back() {
        let mut bucket = banned_at_once();
        let verdicts: Vec<_> = (0..11).map(|_| bucket.fail(61 * S, &SETTINGS)).collect();
        assert_eq!(verdicts[9..], [FailureEffect::Noted, FailureEffect::Banned]);
    }

    #[test]
    fn the_largest_settings_and_times_do_not_overflow() {
        let settings = ThrottleSettings {
            failures_per_minute: u32::MAX,
            ban: Duration::from_secs(3600),
        };
        let mut bucket = Bucket::full(Duration::ZERO, &settings);
        let late = Duration::from_secs(u64::MAX / 2);
        assert_eq!(bucket.fail(late, &settings), FailureEffect::Noted);
    }
}
