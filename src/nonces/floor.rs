//! The floor: the timestamp at and below which nothing is accepted any more.
//!
//! It follows what was accepted and is about to be forgotten, by the monotonic clock, and never
//! the wall clock. A wall clock that steps back therefore reopens nothing, and one that jumps
//! ahead and returns locks no honest machine out for longer than it was wrong.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::auth::headers::Timestamp;
use crate::auth::replay::Owner;

/// The floor, and the ring of buckets that raises it.
#[derive(Debug)]
pub(super) struct Floor {
    level: u64,
    keep: Duration,
    /// Oldest first; starts are distinct multiples of [`BUCKET`].
    buckets: VecDeque<Bucket>,
    live: u64,
    live_of: HashMap<Owner, u32>,
}

#[derive(Debug)]
struct Bucket {
    start: Duration,
    greatest: u64,
    nonces: HashMap<Owner, u32>,
}

/// Width of a bucket. Ten seconds make some seventy buckets for the default window; a wider one
/// would only hold the floor back for longer.
const BUCKET: Duration = Duration::from_secs(10);

impl Floor {
    /// How much longer than the window a nonce has to be remembered, so that the floor, which
    /// moves in steps of a bucket and rises [`Floor::HEAD_START`] before anything is forgotten,
    /// does not reach into the window of an honest machine.
    pub(super) const SLACK: Duration = Duration::from_secs(60);

    /// How long before the store may forget an entry the floor passes it.
    const HEAD_START: Duration = Duration::from_secs(20);

    /// A floor at `level` (Unix seconds), for a store that forgets an entry no sooner than
    /// `retention` after its insertion.
    pub(super) fn new(level: u64, retention: Duration) -> Floor {
        Floor {
            level,
            keep: retention.saturating_sub(Self::HEAD_START),
            buckets: VecDeque::new(),
            live: 0,
            live_of: HashMap::new(),
        }
    }

    /// Raises the floor past everything that the store may forget soon after `now` (monotonic).
    /// Must be called before each look at the floor: that is what makes the look count.
    pub(super) fn advance(&mut self, now: Duration) {
        while let Some(oldest) = self.buckets.front() {
            if oldest.start + self.keep > now {
                break;
            }
            self.level = self.level.max(oldest.greatest);
            if let Some(oldest) = self.buckets.pop_front() {
                self.discount(oldest.nonces);
            }
        }
    }

    /// The floor itself, in Unix seconds.
    pub(super) fn level(&self) -> u64 {
        self.level
    }

    /// Whether a claim with this timestamp is above the floor.
    pub(super) fn admits(&self, timestamp: Timestamp) -> bool {
        timestamp.unix_seconds() > self.level
    }

    /// Makes sure that the floor will pass `timestamp` before an entry that is inserted from
    /// `now` on can be forgotten. Must come before the insertion.
    pub(super) fn cover(&mut self, now: Duration, timestamp: Timestamp) {
        let bucket = self.bucket(now);
        bucket.greatest = bucket.greatest.max(timestamp.unix_seconds());
    }

    /// Counts an entry that was inserted for `owner`.
    pub(super) fn count(&mut self, now: Duration, owner: Owner) {
        *self.bucket(now).nonces.entry(owner).or_default() += 1;
        *self.live_of.entry(owner).or_default() += 1;
        self.live += 1;
    }

    /// How many entries the store remembers, at least.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    /// How many of them are `owner`'s.
    pub(super) fn live_of(&self, owner: Owner) -> u32 {
        self.live_of.get(&owner).copied().unwrap_or(0)
    }

    fn discount(&mut self, nonces: HashMap<Owner, u32>) {
        for (owner, count) in nonces {
            self.live -= u64::from(count);
            if let Some(live) = self.live_of.get_mut(&owner) {
                *live -= count;
                if *live == 0 {
                    self.live_of.remove(&owner);
                }
            }
        }
    }

    fn bucket(&mut self, now: Duration) -> &mut Bucket {
        let start = Duration::from_secs(now.as_secs() - now.as_secs() % BUCKET.as_secs());
        // A clock reading that is older than the newest bucket goes into that one: the insertion
        // that it announces still lies after the bucket's start.
        if self
            .buckets
            .back()
            .is_none_or(|newest| newest.start < start)
        {
            self.buckets.push_back(Bucket {
                start,
                greatest: 0,
                nonces: HashMap::new(),
            });
        }
        let newest = self.buckets.len() - 1;
        &mut self.buckets[newest]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::auth::identity::PublicKey;
    use crate::auth::replay::Claim;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const RETENTION: Duration = Duration::from_secs(660);
    const START: u64 = 1_700_000_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::parse(seconds.to_string().as_bytes()).unwrap()
    }

    fn owner(seed: u8) -> Owner {
        let signing = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        let key = PublicKey::from_bytes(signing.verifying_key().as_bytes()).unwrap();
        Claim::new(&key, "", at(START)).owner
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn what_was_stamped_at_or_before_the_start_is_below_the_floor() {
        let floor = Floor::new(START, RETENTION);
        assert!(!floor.admits(at(START - 1)));
        assert!(!floor.admits(at(START)));
        assert!(floor.admits(at(START + 1)));
    }

    #[test]
    fn the_floor_passes_an_entry_before_the_store_may_forget_it() {
        let mut floor = Floor::new(0, RETENTION);
        floor.cover(secs(9), at(START));
        floor.advance(secs(639));
        assert!(floor.admits(at(START)));
        floor.advance(secs(640));
        assert!(!floor.admits(at(START)) && floor.admits(at(START + 1)));
    }

    #[test]
    fn the_floor_never_falls() {
        let mut floor = Floor::new(START + 500, RETENTION);
        floor.cover(secs(0), at(START));
        floor.advance(secs(10_000));
        assert!(!floor.admits(at(START + 500)));
    }

    #[test]
    fn a_wall_clock_that_jumps_ahead_and_returns_does_not_raise_it_at_once() {
        let mut floor = Floor::new(START, RETENTION);
        floor.cover(secs(5), at(START + 1_000_000));
        floor.advance(secs(6));
        assert!(floor.admits(at(START + 6)));
    }

    #[test]
    fn live_entries_are_counted_until_the_floor_passes_them() {
        let mut floor = Floor::new(0, RETENTION);
        for second in 0..30 {
            floor.cover(secs(second), at(START));
            floor.count(secs(second), owner(1));
        }
        assert_eq!(floor.live(), 30);
        floor.advance(secs(655));
        assert_eq!(floor.live(), 10);
        floor.advance(secs(2000));
        assert_eq!(floor.live(), 0);
    }

    #[test]
    fn each_owners_entries_are_counted_apart() {
        let mut floor = Floor::new(0, RETENTION);
        floor.count(secs(0), owner(1));
        floor.count(secs(15), owner(1));
        floor.count(secs(15), owner(2));
        assert_eq!((floor.live_of(owner(1)), floor.live_of(owner(2))), (2, 1));
        floor.advance(secs(640));
        assert_eq!((floor.live_of(owner(1)), floor.live_of(owner(2))), (1, 1));
        floor.advance(secs(2000));
        assert_eq!(floor.live_of(owner(1)), 0);
        assert!(floor.live_of.is_empty());
    }

    #[test]
    fn the_ring_stays_as_short_as_the_retention() {
        let mut floor = Floor::new(0, RETENTION);
        for second in 0..100_000 {
            floor.advance(secs(second));
            floor.cover(secs(second), at(START));
        }
        assert!(floor.buckets.len() <= 65);
    }

    proptest! {
        /// A store that forgets as early as it may, a wall clock that jumps at will, and requests
        /// that are repeated at will: no (nonce, timestamp) passes twice.
        #[test]
        fn nothing_passes_twice_whatever_the_wall_clock_does(
            steps in proptest::collection::vec((0u64..200, 0u8..6, -1000i64..1000), 1..200)
        ) {
            let mut floor = Floor::new(START, RETENTION);
            let mut remembered: HashMap<(u8, u64), Duration> = HashMap::new();
            let mut accepted: Vec<(u8, u64)> = Vec::new();
            let mut now = Duration::ZERO;
            for (pause, nonce, skew) in steps {
                now += secs(pause);
                remembered.retain(|_, inserted| now < *inserted + RETENTION);
                let t = (START + now.as_secs()).saturating_add_signed(skew);
                // Half of the steps repeat an earlier request.
                let (nonce, t) = match accepted.get(usize::from(nonce)) {
                    Some(earlier) if skew % 2 == 0 => *earlier,
                    _ => (nonce, t),
                };
                floor.advance(now);
                if !floor.admits(at(t)) {
                    continue;
                }
                floor.cover(now, at(t));
                if remembered.contains_key(&(nonce, t)) {
                    continue;
                }
                remembered.insert((nonce, t), now);
                floor.advance(now);
                if floor.admits(at(t)) {
                    prop_assert!(!accepted.contains(&(nonce, t)), "passed twice");
                    accepted.push((nonce, t));
                }
            }
        }

        #[test]
        fn an_honest_machine_is_never_below_the_floor(
            pauses in proptest::collection::vec(0u64..120, 1..200), skew in -300i64..=300
        ) {
            // Window of 300 s both ways, and a wall clock that keeps time.
            let mut floor = Floor::new(START - 300, RETENTION);
            let mut now = Duration::ZERO;
            for pause in pauses {
                now += secs(pause);
                let t = at((START + now.as_secs() + 1).saturating_add_signed(skew));
                floor.advance(now);
                prop_assert!(floor.admits(t));
                floor.cover(now, at(START + now.as_secs() + 300));
            }
        }
    }
}
