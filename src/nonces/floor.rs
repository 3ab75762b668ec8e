//! The floor: no timestamp at or below it is accepted any more.
//!
//! It rises to the timestamps of entries that are about to expire in the
//! [replay cache](super::replay_cache), by the monotonic clock. A wall clock that steps back
//! therefore lets no replay pass. A ring of buckets, each ten seconds wide, holds the greatest
//! timestamp that was claimed in each. Before the cache may forget an entry of a bucket, the floor
//! rises to that timestamp.
//!
//! The wall clock matters in one case only, for the sake of honest machines. If it was set back
//! after a claim was accepted, the claim's timestamp may still lie in the window, or ahead of it. A
//! floor at that timestamp would refuse every machine with the right time. The time to live of such
//! entries is therefore renewed, in three steps: [`Floor::begin_renewal`], a scan of the cache,
//! [`Floor::end_renewal`]. If the scan comes too late, the floor rises after all.

use std::collections::VecDeque;
use std::time::Duration;

use countersign_core::message::Timestamp;

/// The floor, and the ring of buckets that raises it.
#[derive(Debug)]
pub(super) struct Floor {
    level: u64,
    /// Age at which a bucket raises the floor to timestamps that have left the window.
    due: Duration,
    /// Age at which a bucket raises the floor to all its timestamps.
    limit: Duration,
    /// Oldest first; starts are distinct multiples of [`BUCKET`].
    buckets: VecDeque<FloorBucket>,
}

#[derive(Debug)]
struct FloorBucket {
    /// No claim of the bucket was inserted earlier.
    start: Duration,
    /// At or above the timestamp of each claim of the bucket.
    greatest: u64,
}

/// A renewal in progress.
#[derive(Debug)]
pub(super) struct Renewal {
    /// Entries with a timestamp after it are to be renewed.
    pub(super) above: u64,
    /// The start of the bucket that covers the renewed entries.
    into: Duration,
    /// The start of the oldest bucket when the renewal began.
    oldest: Duration,
}

/// Width of a bucket. Ten seconds make about seventy buckets for the default window. Wider buckets
/// would delay the floor.
const BUCKET: Duration = Duration::from_secs(10);

/// The time between the floor's rise past an entry and the earliest moment at which the cache may
/// forget it. Both use the same monotonic clock. A claim may stall for less than this while its
/// entry is inserted; see [`Floor::was_covered`].
const MARGIN: Duration = Duration::from_secs(10);

/// A renewal has this long, from the [due](Floor::due) age of a bucket to its limit. The scan takes
/// a second.
const RENEWAL: Duration = Duration::from_secs(30);

impl Floor {
    /// The time for which a nonce is remembered beyond the window: a bucket's width, the margin and
    /// the time for a renewal, rounded up. A due timestamp has therefore left the window, unless
    /// the wall clock was set back, and the floor stays below the window of honest machines.
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

    /// Raises the floor to every timestamp that the cache may forget soon after `now` (monotonic).
    /// The caller must do so before each check of the floor, or the check proves nothing.
    ///
    /// Timestamps at or below `passed` have left the window by the wall clock of this moment.
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

    /// The floor, in Unix seconds.
    pub(super) fn level(&self) -> u64 {
        self.level
    }

    /// Whether a timestamp is above the floor.
    pub(super) fn admits(&self, timestamp: Timestamp) -> bool {
        timestamp.unix_seconds() > self.level
    }

    /// Covers an entry with `timestamp` that is inserted after `now`: the floor rises to the
    /// timestamp before the cache can forget the entry. The caller must do so before the insertion,
    /// and ask [`Floor::was_covered`] after it.
    pub(super) fn cover(&mut self, now: Duration, timestamp: u64) {
        let bucket = self.bucket(now);
        bucket.greatest = bucket.greatest.max(timestamp);
    }

    /// Whether an entry that was covered at `before` and is in the cache at `now` is covered still.
    /// If not, the claim must be refused.
    ///
    /// The cache reads its clock before other threads can see the entry. The scan of a renewal that
    /// begins in between misses the entry, and the renewal's bucket starts after that reading. The
    /// bucket covers the entry only if it starts less than the margin later.
    pub(super) fn was_covered(before: Duration, now: Duration) -> bool {
        now.saturating_sub(before) < MARGIN
    }

    /// Begins to renew the entries that are due at `now` and whose timestamps are after `passed`,
    /// still in the window by the wall clock. `None` if there are no such entries.
    #[must_use = "entries that are not renewed raise the floor when their limit comes"]
    pub(super) fn begin_renewal(&mut self, now: Duration, passed: u64) -> Option<Renewal> {
        self.advance(now, passed);
        let oldest = self.buckets.front().map(|oldest| oldest.start)?;
        if now.saturating_sub(oldest) < self.due {
            return None;
        }
        // This bucket covers the entries before the scan begins: an entry that the scan renews, or
        // that is inserted behind the scan, belongs to this bucket or a later one.
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

    /// Ends a renewal at `now`, after the scan. If an entry may have expired during the scan, the
    /// floor rises to the greatest covered timestamp instead.
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
        // A time before the newest bucket counts for the newest: the insertion follows, so it is
        // still after that bucket's start.
        if (self.buckets.back()).is_none_or(|newest| newest.start < start) {
            self.buckets.push_back(FloorBucket { start, greatest: 0 });
        }
        let newest = self.buckets.len() - 1;
        &mut self.buckets[newest]
    }
}

#[cfg(test)]
mod tests;
