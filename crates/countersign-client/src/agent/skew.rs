//! A machine whose clock is wrong signs requests that no gateway takes. The gateway then says its own
//! time (`server_time` of a `clock_skew` refusal), and the agent signs by that.
//!
//! Is that safe? A timestamp says until when a signature is good. Whoever could tell the agent a time
//! would have it sign requests that become good later: they could be kept and sent then. So the time
//! is believed only from the gateway itself, that is over TLS, or on this host, where whoever can
//! pose as the gateway can read the key's memory as well. Over plain HTTP to another host it is not
//! believed. And it is bounded: a gateway that is itself wrong, or in other hands, gets no signature for
//! a time further off than [`MOST`]. A replay is ruled out by the nonce in any case, whatever the
//! clocks say.

use std::sync::atomic::{AtomicI64, Ordering};

/// Furthest correction, in seconds: a day. More than any mistaken time zone; a clock that is further
/// off fails at the certificate's dates, and is for somebody to set.
pub const MOST: i64 = 24 * 3600;

/// What is added to the machine's clock, in seconds.
pub(super) struct Skew {
    offset: AtomicI64,
    /// Whether the gateway's word is its own.
    believes: bool,
}

/// What became of a gateway's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockCorrection {
    /// The clock is corrected by so many seconds from now on.
    Corrected(i64),
    /// Somebody on the way could have said it.
    NotBelieved,
    /// Further off than [`MOST`].
    TooFar(i64),
}

impl Skew {
    pub(super) fn new(believes: bool) -> Skew {
        Skew {
            offset: AtomicI64::new(0),
            believes,
        }
    }

    /// The time to sign by, in Unix seconds, where the machine's clock says `now`.
    pub(super) fn correct(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.offset.load(Ordering::Relaxed))
    }

    /// Takes the gateway's time where the machine's clock says `now`. It fails closed: what is not
    /// believed changes nothing.
    pub(super) fn hear(&self, server_time: u64, now: u64) -> ClockCorrection {
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
        assert_eq!(skew.hear(NOW + 600, NOW), ClockCorrection::Corrected(600));
        assert_eq!(skew.correct(NOW + 7), NOW + 607);
        assert_eq!(skew.hear(NOW - 600, NOW), ClockCorrection::Corrected(-600));
        assert_eq!(skew.correct(NOW), NOW - 600);
    }

    #[test]
    fn a_clock_that_is_set_right_later_is_corrected_back() {
        let skew = Skew::new(true);
        skew.hear(NOW + 600, NOW);
        assert_eq!(
            skew.hear(NOW + 600, NOW + 600),
            ClockCorrection::Corrected(0)
        );
        assert_eq!(skew.correct(NOW + 600), NOW + 600);
    }

    #[test]
    fn a_word_that_somebody_on_the_way_could_have_said_changes_nothing() {
        let skew = Skew::new(false);
        assert_eq!(skew.hear(NOW + 600, NOW), ClockCorrection::NotBelieved);
        assert_eq!(skew.correct(NOW), NOW);
    }

    #[test]
    fn the_bound_is_inclusive_and_beyond_it_nothing_changes() {
        let day = MOST.unsigned_abs();
        let skew = Skew::new(true);
        assert_eq!(
            skew.hear(NOW + day + 1, NOW),
            ClockCorrection::TooFar(MOST + 1)
        );
        assert_eq!(
            skew.hear(NOW - day - 1, NOW),
            ClockCorrection::TooFar(-MOST - 1)
        );
        assert_eq!(skew.hear(u64::MAX, 0), ClockCorrection::TooFar(i64::MAX));
        assert_eq!(skew.correct(NOW), NOW);
        assert_eq!(skew.hear(NOW + day, NOW), ClockCorrection::Corrected(MOST));
    }
}
