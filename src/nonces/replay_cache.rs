//! The replay cache: the nonces that were claimed and may still come back.
//!
//! A moka cache with a time to live, and nothing else that removes an entry. It has no capacity,
//! so it never evicts by size: a full store refuses instead ([`super::quota`]). An eviction
//! listener keeps the counts, so no nonce is remembered a second time for the quotas.
//!
//! An entry whose time to live is over counts as absent from that moment, although moka removes
//! it some time later. The [floor](super::floor) has risen to its timestamp before.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use rayon::prelude::*;

use super::quota::{LiveCounts, NonceQuotas};
use countersign_core::replay::{Claim, ClaimError, NonceKey, Owner};

/// Spent nonces, each for the time to live, and how many there are.
///
/// moka hashes the keys with SipHash under random keys. A machine can grind nonces until the bits
/// of their SHA-256 collide, but cannot predict these hashes, so it cannot slow the table down.
pub(super) struct NonceCache {
    spent: Cache<NonceKey, SpentNonce>,
    counts: Arc<LiveCounts>,
}

/// Whose claim spent the nonce, and the timestamp it was signed with, in Unix seconds.
#[derive(Clone, Copy, Debug)]
struct SpentNonce {
    owner: Owner,
    timestamp: u64,
}

/// Longest time to live that moka takes: 1000 years.
const LONGEST: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// Entries that moka removes between two looks at its own clock. A round that removed fewer has
/// left none that is due.
const EVICTION_BATCH: u64 = 384;

/// Most rounds of maintenance in one go. moka ends each after 100 ms, so these are five seconds,
/// in which ten million entries are removed.
const ROUNDS: u32 = 50;

impl NonceCache {
    /// An empty cache that holds an entry for `time_to_live`, by the monotonic clock.
    pub(super) fn new(time_to_live: Duration, quotas: NonceQuotas) -> NonceCache {
        let counts = Arc::new(LiveCounts::new(quotas));
        let removed = Arc::clone(&counts);
        let spent = Cache::builder()
            .time_to_live(time_to_live.min(LONGEST))
            // Whatever the cause: each insertion has been counted once.
            .eviction_listener(move |_, entry: SpentNonce, _| removed.release(entry.owner))
            .build();
        NonceCache { spent, counts }
    }

    /// Spends a nonce; of several calls at once for one nonce, one succeeds.
    ///
    /// # Errors
    ///
    /// The nonce is spent already, or a quota is reached.
    pub(super) fn insert(&self, claim: &Claim) -> Result<(), ClaimError> {
        self.counts.reserve(claim.owner)?;
        // `or_insert_with` runs its closure for one of several callers; `or_insert` is not atomic.
        let entry = self.spent.entry(claim.nonce);
        if entry.or_insert_with(|| SpentNonce::of(claim)).is_fresh() {
            return Ok(());
        }
        self.counts.release(claim.owner);
        Err(ClaimError::Replayed)
    }

    /// Remembers claims that an earlier process accepted, whatever the quotas, for all of a time to
    /// live.
    ///
    /// A nonce may come under two timestamps, if the first was forgotten in between. The greater
    /// one stays, because the floor has to pass it.
    pub(super) fn restore(&self, mut claims: Vec<Claim>) {
        claims.par_sort_unstable_by_key(|claim| (*claim.nonce.as_bytes(), stamp(claim)));
        claims.dedup_by(|next, kept| {
            let same = next.nonce == kept.nonce;
            if same {
                *kept = *next;
            }
            same
        });
        claims.par_iter().for_each(|claim| {
            self.counts.add(claim.owner);
            self.spent.insert(claim.nonce, SpentNonce::of(claim));
        });
    }

    /// Begins the time to live of each entry anew that is stamped after `above`. The entry stays
    /// in the cache all the while. It takes about a second for a million entries, and holds up
    /// nobody.
    pub(super) fn renew(&self, above: u64) {
        for (nonce, entry) in &self.spent {
            if entry.timestamp > above {
                // The listener hears of the entry that is replaced.
                self.counts.add(entry.owner);
                self.spent.insert(*nonce, entry);
            }
        }
    }

    /// Removes the entries whose time to live is over, and so brings the counts up to date.
    pub(super) fn run_pending_tasks(&self) {
        for _ in 0..ROUNDS {
            let before = self.live();
            self.spent.run_pending_tasks();
            if before.saturating_sub(self.live()) < EVICTION_BATCH {
                return;
            }
        }
    }

    /// How many nonces are remembered. Those that are due count until moka has removed them.
    pub(super) fn live(&self) -> u64 {
        self.counts.live()
    }
}

impl SpentNonce {
    fn of(claim: &Claim) -> SpentNonce {
        SpentNonce {
            owner: claim.owner,
            timestamp: stamp(claim),
        }
    }
}

fn stamp(claim: &Claim) -> u64 {
    claim.timestamp.unix_seconds()
}

/// How many, and not which: there may be millions.
impl fmt::Debug for NonceCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceCache")
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
