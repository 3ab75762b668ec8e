//! The quotas of live nonces, and the counts that are compared with them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_core::replay::{ClaimError, Owner};

/// Limits on the number of live nonces.
#[derive(Clone, Copy, Debug)]
pub struct NonceQuotas {
    /// The limit of all machines together; beyond it, [`ClaimError::Unavailable`].
    pub all: u64,
    /// The limit of each machine; beyond it, [`ClaimError::OverQuota`].
    pub per_machine: u32,
}

/// `Retry-After` in seconds at a quota. Nonces expire every second, one time to live after their
/// claim.
const RETRY_WHEN_FULL: u32 = 10;

/// The store is at the quota of all machines together.
pub(super) const FULL: ClaimError = ClaimError::Unavailable {
    retry_after: RETRY_WHEN_FULL,
};

/// The machine is at its own quota.
pub(super) const OVER_QUOTA: ClaimError = ClaimError::OverQuota {
    retry_after: RETRY_WHEN_FULL,
};

/// The number of live nonces, in total and by owner. An owner without live nonces takes no memory.
pub(super) struct LiveCounts {
    quotas: NonceQuotas,
    all: AtomicU64,
    owners: [Mutex<HashMap<Owner, u32>>; SHARDS],
}

/// Locks for the counts of owners: with 64 of them, claims of different machines seldom contend.
const SHARDS: usize = 64;

impl LiveCounts {
    pub(super) fn new(quotas: NonceQuotas) -> LiveCounts {
        LiveCounts {
            quotas,
            all: AtomicU64::new(0),
            owners: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Counts one more nonce of `owner`, within the quotas.
    ///
    /// # Errors
    ///
    /// [`FULL`] or [`OVER_QUOTA`]; the counts are then unchanged.
    pub(super) fn reserve(&self, owner: Owner) -> Result<(), ClaimError> {
        let mut owners = self.shard(owner);
        if self.live() >= self.quotas.all {
            return Err(FULL);
        }
        if owners.get(&owner).copied().unwrap_or(0) >= self.quotas.per_machine {
            return Err(OVER_QUOTA);
        }
        // Owners of other shards reserve at the same time.
        let room = |live| (live < self.quotas.all).then_some(live + 1);
        let reserved = (self.all).fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        reserved.map_err(|_| FULL)?;
        *owners.entry(owner).or_default() += 1;
        Ok(())
    }

    /// Counts one more nonce of `owner`, beyond the quotas if need be.
    pub(super) fn add(&self, owner: Owner) {
        *self.shard(owner).entry(owner).or_default() += 1;
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one nonce of `owner` less.
    pub(super) fn release(&self, owner: Owner) {
        let mut owners = self.shard(owner);
        let Some(live) = owners.get_mut(&owner) else {
            return;
        };
        *live -= 1;
        if *live == 0 {
            owners.remove(&owner);
        }
        self.all.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of live nonces.
    pub(super) fn live(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    /// The shard of an owner, by the first byte of its public key. No code panics while it holds
    /// one.
    fn shard(&self, owner: Owner) -> MutexGuard<'_, HashMap<Owner, u32>> {
        let shard = (owner.number() % SHARDS as u64) as usize;
        (self.owners[shard].lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints only the total: there may be thousands of owners.
impl fmt::Debug for LiveCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveCounts")
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl LiveCounts {
    pub(super) fn live_of(&self, owner: Owner) -> u32 {
        self.shard(owner).get(&owner).copied().unwrap_or(0)
    }

    /// The number of owners with a count.
    pub(super) fn owners(&self) -> usize {
        let owners = self
            .owners
            .iter()
            .map(|shard| shard.lock().map_or(0, |s| s.len()));
        owners.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(n: u64) -> Owner {
        Owner::from_number(n)
    }

    fn counts(all: u64, per_machine: u32) -> LiveCounts {
        LiveCounts::new(NonceQuotas { all, per_machine })
    }

    #[test]
    fn each_owners_nonces_are_counted_apart() {
        let counts = counts(10, 10);
        for owner in [owner(1), owner(1), owner(2)] {
            assert_eq!(counts.reserve(owner), Ok(()));
        }
        assert_eq!(
            (
                counts.live(),
                counts.live_of(owner(1)),
                counts.live_of(owner(2))
            ),
            (3, 2, 1)
        );
        for owner in [owner(1), owner(2), owner(1)] {
            counts.release(owner);
        }
        assert_eq!((counts.live(), counts.owners()), (0, 0));
    }

    #[test]
    fn a_quota_refuses_and_counts_nothing() {
        let counts = counts(3, 2);
        for _ in 0..2 {
            assert_eq!(counts.reserve(owner(1)), Ok(()));
        }
        assert_eq!(counts.reserve(owner(1)), Err(OVER_QUOTA));
        assert_eq!(counts.reserve(owner(2)), Ok(()));
        assert_eq!(counts.reserve(owner(2)), Err(FULL));
        assert_eq!((counts.live(), counts.live_of(owner(2))), (3, 1));
        counts.release(owner(1));
        assert_eq!(counts.reserve(owner(1)), Ok(()));
    }

    #[test]
    fn what_is_added_counts_beyond_the_quotas() {
        let counts = counts(1, 1);
        for _ in 0..3 {
            counts.add(owner(1));
        }
        assert_eq!((counts.live(), counts.live_of(owner(1))), (3, 3));
        assert_eq!(counts.reserve(owner(2)), Err(FULL));
    }

    #[test]
    fn the_quota_of_all_is_exact_when_many_reserve_at_once() {
        let counts = counts(1000, u32::MAX);
        let reserved: usize = std::thread::scope(|scope| {
            let claims = |n: u64| {
                let counts = &counts;
                move || {
                    let owners = (0..1000).map(|m| Owner::from_number(n + m));
                    owners
                        .filter(|owner| counts.reserve(*owner).is_ok())
                        .count()
                }
            };
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(claims(n))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or(0)).sum()
        });
        assert_eq!((reserved, counts.live()), (1000, 1000));
    }
}
