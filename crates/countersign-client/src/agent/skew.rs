//! Corrects clock skew. A gateway refuses the requests of a machine with a wrong clock. Its
//! `clock_skew` refusal has its own time (`server_time`), and the agent signs by that.
//!
//! A timestamp limits the lifetime of a signature. An attacker that controls the agent's time could
//! collect signatures that become valid later. Two rules prevent that:
//!
//! - The agent accepts the time only over TLS or from this host. An attacker that can impersonate
//!   the gateway on this host can also read the key from memory. Over plain HTTP to another host,
//!   the agent ignores the time.
//! - The correction is at most [`MOST`], in case the gateway's clock is wrong or the gateway is
//!   compromised.
//!
//! The nonce prevents replays, independent of the clocks.

use std::sync::atomic::{AtomicI64, Ordering};

/// Largest correction, in seconds: one day, more than any wrong time zone. A larger skew would fail
/// at the certificate's dates anyway, and an operator must set the clock.
pub const MOST: i64 = 24 * 3600;

/// The correction of the machine's clock, in seconds.
pub(super) struct Skew {
    offset: AtomicI64,
    /// Whether the connection authenticates the gateway.
    believes: bool,
}

/// The result of a gateway's `server_time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockCorrection {
    /// The clock is corrected by this many seconds from now on.
    Corrected(i64),
    /// The connection does not authenticate the gateway.
    NotBelieved,
    /// The skew exceeds [`MOST`].
    TooFar(i64),
}

impl Skew {
    pub(super) fn new(believes: bool) -> Skew {
        Skew {
            offset: AtomicI64::new(0),
            believes,
        }
    }

    /// The corrected time for a reading `now` of the machine's clock, in Unix seconds.
    pub(super) fn correct(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.offset.load(Ordering::Relaxed))
    }

    /// Corrects the clock by the gateway's time; `now` is the machine's. It fails closed: an
    /// ignored time changes nothing.
    pub(super) fn update(&self, server_time: u64, now: u64) -> ClockCorrection {
        let offset = offset(server_time, now);
        if !self.believes {
            return ClockCorrection::NotBelieved;
        }
        if offset.abs() > MOST {
            return ClockCorrection::TooFar(offset);
        }
        self.offset.store(offset, Ordering::Relaxed);
        ClockCorrection::Corrected(offset)
    }
}

/// How far the gateway's clock is ahead of the machine's, in seconds; negative: behind.
pub fn offset(server_time: u64, now: u64) -> i64 {
    let wide = i128::from(server_time) - i128::from(now);
    i64::try_from(wide).unwrap_or(if wide < 0 { -i64::MAX } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn the_gateways_time_is_signed_by_and_goes_on_with_the_machines_clock() {
        let skew = Skew::new(true);
        assert_eq!(skew.update(NOW + 600, NOW), ClockCorrection::Corrected(600));
        assert_eq!(skew.correct(NOW + 7), NOW + 607);
        assert_eq!(
            skew.update(NOW - 600, NOW),
            ClockCorrection::Corrected(-600)
        );
        assert_eq!(skew.correct(NOW), NOW - 600);
    }

    #[test]
    fn a_clock_that_is_set_right_later_is_corrected_back() {
        let skew = Skew::new(true);
        skew.update(NOW + 600, NOW);
        assert_eq!(
            skew.update(NOW + 600, NOW + 600),
            ClockCorrection::Corrected(0)
        );
        assert_eq!(skew.correct(NOW + 600), NOW + 600);
    }

    #[test]
    fn a_word_that_somebody_on_the_way_could_have_said_changes_nothing() {
        let skew = Skew::new(false);
        assert_eq!(skew.update(NOW + 600, NOW), ClockCorrection::NotBelieved);
        assert_eq!(skew.correct(NOW), NOW);
    }

    #[test]
    fn the_bound_is_inclusive_and_beyond_it_nothing_changes() {
        let day = MOST.unsigned_abs();
        let skew = Skew::new(true);
        assert_eq!(
            skew.update(NOW + day + 1, NOW),
            ClockCorrection::TooFar(MOST + 1)
        );
        assert_eq!(
            skew.update(NOW - day - 1, NOW),
            ClockCorrection::TooFar(-MOST - 1)
        );
        assert_eq!(skew.update(u64::MAX, 0), ClockCorrection::TooFar(i64::MAX));
        assert_eq!(skew.correct(NOW), NOW);
        assert_eq!(
            skew.update(NOW + day, NOW),
            ClockCorrection::Corrected(MOST)
        );
    }
}
