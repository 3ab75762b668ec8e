//! The replay cache: the claimed nonces that a replay may still carry.
//!
//! A moka cache in which only the time to live removes an entry. It has no capacity, so it never
//! evicts by size: a full store refuses instead ([`super::quota`]). An eviction listener keeps the
//! counts, so the quotas need no second copy of the nonces.
//!
//! An entry counts as absent once its time to live is over, although moka removes it later. The
//! [floor](super::floor) has risen to its timestamp before.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use rayon::prelude::*;

use super::quota::{LiveCounts, NonceQuotas};
use countersign_core::replay::{Claim, ClaimError, NonceKey, Owner};

/// Spent nonces, each for the time to live, and their counts.
///
/// moka hashes the keys with SipHash under random keys. A machine can grind nonces until the bits
/// of their SHA-256 collide, but cannot predict these hashes, so it cannot slow the table down.
pub(super) struct NonceCache {
    spent: Cache<NonceKey, SpentNonce>,
    counts: Arc<LiveCounts>,
}

/// The owner of the claim that spent the nonce, and its signed timestamp in Unix seconds.
#[derive(Clone, Copy, Debug)]
struct SpentNonce {
    owner: Owner,
    timestamp: u64,
}

/// Longest time to live that moka takes: 1000 years.
const LONGEST: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// Entries that moka removes between two readings of its clock. A round that removed fewer has left
/// no expired entry.
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
            // Released for every cause: each insertion was counted once.
            .eviction_listener(move |_, entry: SpentNonce, _| removed.release(entry.owner))
            .build();
        NonceCache { spent, counts }
    }

    /// Spends a nonce. Of concurrent calls for one nonce, exactly one succeeds.
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

    /// Restores claims that an earlier process accepted, beyond the quotas if need be, for a full
    /// time to live.
    ///
    /// A nonce may occur under two timestamps, if the first was forgotten in between. The greater
    /// one stays, because the floor has to pass it.
    pub(super) fn restore(&self, mut claims: Vec<Claim>) {
        claims.par_sort_unstable_by_key(|claim| (*claim.nonce.as_bytes(), claim.unix_seconds()));
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

    /// Restarts the time to live of each entry with a timestamp after `above`. The entry stays in
    /// the cache meanwhile. The scan takes about a second for a million entries, and blocks no
    /// request.
    pub(super) fn renew(&self, above: u64) {
        for (nonce, entry) in &self.spent {
            if entry.timestamp > above {
                // The eviction listener releases the replaced entry.
                self.counts.add(entry.owner);
                self.spent.insert(*nonce, entry);
            }
        }
    }

    /// Removes the expired entries, which updates the counts.
    pub(super) fn run_pending_tasks(&self) {
        for _ in 0..ROUNDS {
            let before = self.live();
            self.spent.run_pending_tasks();
            if before.saturating_sub(self.live()) < EVICTION_BATCH {
                return;
            }
        }
    }

    /// The number of live nonces. Expired ones count until moka has removed them.
    pub(super) fn live(&self) -> u64 {
        self.counts.live()
    }
}

impl SpentNonce {
    fn of(claim: &Claim) -> SpentNonce {
        SpentNonce {
            owner: claim.owner,
            timestamp: claim.unix_seconds(),
        }
    }
}

/// Prints the number and not the nonces: there may be millions.
impl fmt::Debug for NonceCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceCache")
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
