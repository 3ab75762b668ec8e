//! The rules on which all gateways of one store must agree, and by which the store's answer to a
//! claim counts. Pure: the store's clock and its answers are arguments.
//!
//! No gateway's clock takes part. A claim counts only if its timestamp lies in the window, widened
//! by the margin, by the store's clock in the very transaction that set the key. The key stays for
//! the whole length of that widened window. So a second claim either finds it, or comes when the
//! timestamp is no longer in the window.

use countersign_core::message::Timestamp;
use countersign_core::replay::Window;

/// The window, and the allowed difference between a gateway's clock and the store's, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nonces) struct Rules {
    pub(in crate::nonces) window: Window,
    pub(in crate::nonces) margin: u64,
}

impl Rules {
    /// Milliseconds for which the store keeps a nonce: from the earliest moment at which its
    /// timestamp counts to the latest, plus two seconds. The store's time is rounded down, and the
    /// second may change within a transaction, between the key and the reading of the clock.
    pub(super) fn keep_ms(self) -> u64 {
        (self.window.past + self.window.future + 2 * self.margin + 2) * 1000
    }

    /// The greatest timestamp that any gateway can have accepted by `now` (the store's Unix
    /// seconds).
    pub(super) fn ceiling(self, now: u64) -> u64 {
        now.saturating_add(self.window.future + self.margin)
    }

    fn counts(self, now: u64, timestamp: Timestamp) -> bool {
        let widened = Window {
            past: self.window.past + self.margin,
            future: self.window.future + self.margin,
        };
        widened.contains(now, timestamp)
    }

    /// The rules as the text of an epoch. Gateways with different rules would keep nonces for too
    /// short a time for each other.
    pub(super) fn words(self) -> String {
        let Rules { window, margin } = self;
        format!(
            "past={} future={} margin={margin}",
            window.past, window.future
        )
    }
}

/// The epoch of the store's contents, from their creation until they are lost: the text at the
/// epoch key, `<floor> past=300 future=300 margin=5 <random>`. A gateway that finds no epoch writes
/// a new one. Every timestamp accepted before an epoch is at or below its floor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) text: String,
    pub(super) floor: u64,
}

impl Epoch {
    /// # Errors
    ///
    /// The rules that the text names, if they are not `rules`.
    pub(super) fn parse(text: String, rules: Rules) -> Result<Epoch, String> {
        let (floor, rest) = text.split_once(' ').unwrap_or(("", &text));
        let theirs = rest.rsplit_once(' ').map_or(rest, |(words, _)| words);
        match floor.parse() {
            Ok(floor) if theirs == rules.words() => Ok(Epoch { floor, text }),
            _ => Err(theirs.chars().take(80).collect()),
        }
    }
}

/// The answer to the transaction of one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoreReply {
    /// Whether the transaction created the key.
    pub(super) fresh: bool,
    /// The text at the epoch key, in the same transaction.
    pub(super) epoch: Option<String>,
    /// The store's clock in the same transaction, in Unix seconds.
    pub(super) now: u64,
}

/// The outcome of a claim at the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimOutcome {
    /// The nonce is new.
    Fresh,
    /// The nonce was spent before.
    Spent,
    /// The store has lost its contents since the epoch was read.
    Forgot,
    /// The timestamp is outside the window by the store's clock: this gateway's clock is off by
    /// more than the margin, or the claim was delayed.
    OutOfTime,
}

/// Weighs an answer. It fails closed: only a new key, in the known epoch and in time, is fresh.
pub(super) fn weigh(
    evidence: &StoreReply,
    timestamp: Timestamp,
    epoch: &Epoch,
    rules: Rules,
) -> ClaimOutcome {
    if !evidence.fresh {
        ClaimOutcome::Spent
    } else if evidence.epoch.as_deref() != Some(epoch.text.as_str()) {
        ClaimOutcome::Forgot
    } else if !rules.counts(evidence.now, timestamp) {
        ClaimOutcome::OutOfTime
    } else {
        ClaimOutcome::Fresh
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000;
    const RULES: Rules = Rules {
        window: Window {
            past: 300,
            future: 60,
        },
        margin: 5,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::parse(seconds.to_string().as_bytes()).unwrap()
    }

    fn epoch() -> Epoch {
        Epoch::parse("1700 past=300 future=60 margin=5 abc".into(), RULES).unwrap()
    }

    fn fresh(now: u64) -> StoreReply {
        StoreReply {
            fresh: true,
            epoch: Some(epoch().text),
            now,
        }
    }

    #[test]
    fn a_fresh_key_in_the_known_epoch_and_in_time_is_fresh() {
        assert_eq!(
            weigh(&fresh(NOW), at(NOW), &epoch(), RULES),
            ClaimOutcome::Fresh
        );
    }

    #[test]
    fn a_key_that_was_there_is_spent_whatever_else_is_said() {
        let evidence = StoreReply {
            fresh: false,
            epoch: None,
            now: 0,
        };
        assert_eq!(
            weigh(&evidence, at(NOW), &epoch(), RULES),
            ClaimOutcome::Spent
        );
    }

    #[test]
    fn a_fresh_key_beside_a_missing_or_another_epoch_does_not_count() {
        for other in [
            None,
            Some("1700 past=300 future=60 margin=5 abd".to_owned()),
        ] {
            let evidence = StoreReply {
                epoch: other,
                ..fresh(NOW)
            };
            assert_eq!(
                weigh(&evidence, at(NOW), &epoch(), RULES),
                ClaimOutcome::Forgot
            );
        }
    }

    #[test]
    fn a_timestamp_counts_up_to_the_margin_beyond_the_window_and_no_further() {
        let weigh = |t| weigh(&fresh(NOW), at(t), &epoch(), RULES);
        assert_eq!(weigh(NOW - 305), ClaimOutcome::Fresh);
        assert_eq!(weigh(NOW - 306), ClaimOutcome::OutOfTime);
        assert_eq!(weigh(NOW + 65), ClaimOutcome::Fresh);
        assert_eq!(weigh(NOW + 66), ClaimOutcome::OutOfTime);
    }

    #[test]
    fn an_epoch_tells_its_floor() {
        assert_eq!(epoch().floor, 1700);
    }

    #[test]
    fn an_epoch_of_other_rules_is_refused_and_they_are_named() {
        let text = "1700 past=300 future=61 margin=5 abc";
        let theirs = Epoch::parse(text.into(), RULES).unwrap_err();
        assert_eq!(theirs, "past=300 future=61 margin=5");
    }

    #[test]
    fn what_is_not_an_epoch_is_refused() {
        for text in [
            "",
            "1700",
            "x past=300 future=60 margin=5 abc",
            "hello world",
        ] {
            assert!(Epoch::parse(text.into(), RULES).is_err(), "{text}");
        }
    }

    proptest! {
        /// For any times of two claims by the store's clock: the key of the first still exists at
        /// any moment at which the second would count. (The key may be a second older than the time
        /// of the first says, and the second a second later than its own says.)
        #[test]
        fn a_nonce_is_kept_for_as_long_as_its_timestamp_counts(
            first in 0u64..1000, t in 0u64..2000, later in 0u64..2000
        ) {
            let (first, t) = (NOW + first, at(NOW + t));
            let second = first + later;
            if RULES.counts(first, t) && RULES.counts(second, t) {
                prop_assert!((second + 2) * 1000 <= first * 1000 + RULES.keep_ms());
            }
        }

        #[test]
        fn whatever_counted_by_a_moment_is_at_or_below_its_ceiling(
            now in 0u64..1000, t in 0u64..2000
        ) {
            let (now, t) = (NOW + now, NOW + t);
            if RULES.counts(now, at(t)) {
                prop_assert!(t <= RULES.ceiling(now));
            }
        }
    }
}
