//! The floor: the timestamp at and below which nothing is accepted any more.
//!
//! It follows what was accepted and is about to be forgotten, by the monotonic clock. A wall clock
//! that steps back therefore reopens nothing.
//!
//! The wall clock has a say in one thing, and only to the good of honest machines: where it has
//! been set back since a claim was accepted, the claim's timestamp may still lie in the window, or
//! ahead of it. A floor that rose to it would shut out whoever has the right time, so the claim is
//! remembered for another while instead. Whatever the wall clock says, a claim is either
//! remembered or at or below the floor.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::auth::headers::Timestamp;
use crate::auth::replay::{Claim, NonceKey, Owner};

/// The floor, and the ring of buckets that raises it.
#[derive(Debug)]
pub(super) struct Floor {
    level: u64,
    keep: Duration,
    /// Oldest first; starts are distinct multiples of [`BUCKET`].
    buckets: VecDeque<Bucket>,
    live: u64,
    live_of: HashMap<Owner, u32>,
    /// How often a bucket has ended without raising the floor to its greatest timestamp.
    renewals: u64,
}

#[derive(Debug)]
struct Bucket {
    start: Duration,
    /// At or above the timestamp of every claim that was covered here, remembered or not.
    greatest: u64,
    /// The claims that are remembered: for the day on which the clock has been set back.
    claims: Vec<Claim>,
    owners: HashMap<Owner, u32>,
}

/// What a claim holds between its two looks at the floor: the bucket that will raise the floor
/// past it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cover {
    bucket: Duration,
    renewals: u64,
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
            renewals: 0,
        }
    }

    /// Raises the floor past everything that the store may forget soon after `now` (monotonic).
    /// Must be called before each look at the floor: that is what makes the look count.
    ///
    /// What is stamped at or below `passed` has left the window, by the wall clock of this moment.
    /// Gives the nonces that have not, which the store must insert anew before anybody else looks.
    #[must_use = "what is not inserted anew is forgotten above the floor"]
    pub(super) fn advance(&mut self, now: Duration, passed: u64) -> Vec<NonceKey> {
        let mut renewed = Vec::new();
        while let Some(oldest) = self.buckets.front() {
            if oldest.start + self.keep > now {
                break;
            }
            let Some(oldest) = self.buckets.pop_front() else {
                break;
            };
            if oldest.greatest <= passed {
                self.level = self.level.max(oldest.greatest);
                self.discount(oldest.owners);
            } else {
                self.renew(oldest, now, passed, &mut renewed);
            }
        }
        renewed
    }

    /// Puts what has not left the window into the bucket of `now`. Claims that were covered and
    /// are not remembered yet are refused by [`Floor::count`].
    fn renew(&mut self, old: Bucket, now: Duration, passed: u64, renewed: &mut Vec<NonceKey>) {
        self.renewals += 1;
        self.discount(old.owners);
        for claim in old.claims {
            let stamp = claim.timestamp.unix_seconds();
            if stamp > passed {
                let bucket = self.bucket(now);
                bucket.greatest = bucket.greatest.max(stamp);
                let bucket = bucket.start;
                self.remember(bucket, &claim);
                renewed.push(claim.nonce);
            } else {
                self.level = self.level.max(stamp);
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
    pub(super) fn cover(&mut self, now: Duration, timestamp: Timestamp) -> Cover {
        let renewals = self.renewals;
        let bucket = self.bucket(now);
        bucket.greatest = bucket.greatest.max(timestamp.unix_seconds());
        Cover {
            bucket: bucket.start,
            renewals,
        }
    }

    /// Remembers a claim that was inserted under `cover`, and counts it. `false`, and the claim
    /// must not succeed, if since then something happened that could have hidden an earlier one:
    /// the bucket has ended, or claims were renewed.
    #[must_use = "a claim that is not counted must not succeed"]
    pub(super) fn count(&mut self, cover: Cover, claim: &Claim) -> bool {
        if cover.renewals != self.renewals {
            return false;
        }
        self.remember(cover.bucket, claim)
    }

    /// `false` if there is no bucket of this start.
    fn remember(&mut self, start: Duration, claim: &Claim) -> bool {
        // Nearly always the newest.
        let mut buckets = self.buckets.iter_mut().rev();
        let Some(bucket) = buckets.find(|bucket| bucket.start == start) else {
            return false;
        };
        bucket.claims.push(*claim);
        *bucket.owners.entry(claim.owner).or_default() += 1;
        *self.live_of.entry(claim.owner).or_default() += 1;
        self.live += 1;
        true
    }

    /// How many entries the store remembers, at least.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    /// How many of them are `owner`'s.
    pub(super) fn live_of(&self, owner: Owner) -> u32 {
        self.live_of.get(&owner).copied().unwrap_or(0)
    }

    fn discount(&mut self, owners: HashMap<Owner, u32>) {
        for (owner, count) in owners {
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
            if let Some(done) = self.buckets.back_mut() {
                done.claims.shrink_to_fit();
            }
            self.buckets.push_back(Bucket {
                start,
                greatest: 0,
                claims: Vec::new(),
                owners: HashMap::new(),
            });
        }
        let newest = self.buckets.len() - 1;
        &mut self.buckets[newest]
    }
}

#[cfg(test)]
mod tests;
