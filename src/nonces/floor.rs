//! The floor: the timestamp at and below which nothing is accepted any more.
//!
//! It follows what was accepted and is about to expire in the [replay cache](super::replay_cache),
//! by the monotonic clock. A wall clock that steps back therefore reopens nothing. A ring of coarse
//! buckets holds the greatest timestamp that was claimed in each; before the cache may forget
//! anything of a bucket, the floor rises to that timestamp.
//!
//! The wall clock has a say in one thing, and only to the good of honest machines. Where it has
//! been set back since a claim was accepted, the claim's timestamp may still lie in the window, or
//! ahead of it. A floor that rose to it would shut out every machine that has the right time.
//! Such entries begin their time to live anew instead, which takes three steps:
//! [`Floor::begin_renewal`], a scan of the cache, [`Floor::end_renewal`]. Where the scan comes too
//! late, the floor rises after all.

use std::collections::VecDeque;
use std::time::Duration;

use countersign_core::message::Timestamp;

/// The floor, and the ring of buckets that raises it.
#[derive(Debug)]
pub(super) struct Floor {
    level: u64,
    /// Age at which a bucket raises the floor to what has left the window.
    due: Duration,
    /// Age at which it raises the floor to everything.
    limit: Duration,
    /// Oldest first; starts are distinct multiples of [`BUCKET`].
    buckets: VecDeque<FloorBucket>,
}

#[derive(Debug)]
struct FloorBucket {
    /// No claim that the bucket covers was inserted earlier.
    start: Duration,
    /// At or above the timestamp of each of them.
    greatest: u64,
}

/// A renewal under way.
#[derive(Debug)]
pub(super) struct Renewal {
    /// Entries that are stamped after it are to be renewed.
    pub(super) above: u64,
    /// The start of the bucket that covers them from now on.
    into: Duration,
    /// The start of the oldest bucket when the renewal began.
    oldest: Duration,
}

/// Width of a bucket. Ten seconds make some seventy buckets for the default window; a wider one
/// would only hold the floor back for longer.
const BUCKET: Duration = Duration::from_secs(10);

/// How long before the cache may forget an entry the floor has passed it in any case. Both go by
/// the same monotonic clock; this is for what no argument has thought of.
const MARGIN: Duration = Duration::from_secs(10);

/// Time for a renewal, which takes a second, between a bucket's [due](Floor::due) age and its
/// limit.
const RENEWAL: Duration = Duration::from_secs(30);

impl Floor {
    /// How much longer than the window a nonce has to be remembered. It holds a bucket's width, the
    /// margin and the time for a renewal. So what is due has left the window, unless the wall clock
    /// was set back, and the floor stays out of the window of honest machines.
    pub(super) const SLACK: Duration = Duration::from_secs(60);

    /// A floor at `level` (Unix seconds), for a cache that forgets an entry no sooner than
    /// `time_to_live` after its insertion.
    pub(super) fn new(level: u64, time_to_live: Duration) -> Floor {
        let limit = time_to_live.saturating_sub(MARGIN);
        Floor {
            level,
            due: limit.saturating_sub(RENEWAL),
            limit,
            buckets: VecDeque::new(),
        }
    }

    /// Raises the floor to everything that the cache may forget soon after `now` (monotonic). It
    /// must come before each look at the floor: only then does the look count.
    ///
    /// What is stamped at or below `passed` has left the window, by the wall clock of this moment.
    pub(super) fn advance(&mut self, now: Duration, passed: u64) {
        while let Some(oldest) = self.buckets.front() {
            let age = now.saturating_sub(oldest.start);
            let harmless = oldest.greatest <= passed.max(self.level);
            if age < self.due || (age < self.limit && !harmless) {
                return;
            }
            self.level = self.level.max(oldest.greatest);
            self.buckets.pop_front();
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

    /// Makes sure that the floor passes `timestamp` before an entry that is inserted from `now` on
    /// can be forgotten. It must come before the insertion.
    pub(super) fn cover(&mut self, now: Duration, timestamp: u64) {
        let bucket = self.bucket(now);
        bucket.greatest = bucket.greatest.max(timestamp);
    }

    /// Begins to renew the entries that are due at `now` and have not left the window by the wall
    /// clock, as `passed` tells; nothing if there are none.
    #[must_use = "entries that are not renewed raise the floor when their limit comes"]
    pub(super) fn begin_renewal(&mut self, now: Duration, passed: u64) -> Option<Renewal> {
        self.advance(now, passed);
        let oldest = self.buckets.front().map(|oldest| oldest.start)?;
        if now.saturating_sub(oldest) < self.due {
            return None;
        }
        // First the cover, then the scan: an entry that is renewed from now on, or inserted after
        // the scan has gone by, lies in this bucket or a later one.
        let greatest = self.greatest();
        let bucket = self.bucket(now);
        bucket.greatest = greatest;
        let into = bucket.start;
        Some(Renewal {
            above: passed.max(self.level),
            into,
            oldest,
        })
    }

    /// Ends a renewal at `now`, when the scan has renewed what it had to. If an entry may have
    /// expired under the scan, the floor rises to all that was ever covered instead.
    pub(super) fn end_renewal(&mut self, renewal: &Renewal, now: Duration) {
        if now.saturating_sub(renewal.oldest) >= self.limit {
            self.level = self.level.max(self.greatest());
            return;
        }
        for bucket in &mut self.buckets {
            if bucket.start < renewal.into {
                bucket.greatest = bucket.greatest.min(renewal.above);
            }
        }
    }

    fn greatest(&self) -> u64 {
        let greatest = self.buckets.iter().map(|bucket| bucket.greatest);
        greatest.max().unwrap_or(0)
    }

    fn bucket(&mut self, now: Duration) -> &mut FloorBucket {
        let start = Duration::from_secs(now.as_secs() - now.as_secs() % BUCKET.as_secs());
        // A reading that is older than the newest bucket goes into that one: the insertion that it
        // announces still lies after the bucket's start.
        if (self.buckets.back()).is_none_or(|newest| newest.start < start) {
            self.buckets.push_back(FloorBucket { start, greatest: 0 });
        }
        let newest = self.buckets.len() - 1;
        &mut self.buckets[newest]
    }
}

#[cfg(test)]
mod tests;
