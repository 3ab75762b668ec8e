//! Nonces in memory: exact within one process, from its start to its end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use rayon::prelude::*;

use super::floor::Floor;
use crate::auth::replay::{Claim, ClaimError, NonceKey, NonceStore, Window};
use crate::clock::Clock;

/// A [`NonceStore`] in memory. It forgets nothing early: the cache has no capacity and evicts
/// nothing by size; a full store refuses.
#[derive(Debug)]
pub struct MemoryNonces {
    spent: Cache<NonceKey, ()>,
    floor: Mutex<Floor>,
    quotas: Quotas,
    /// The window's `past`, in seconds.
    past: u64,
    clock: Clock,
}

/// How many live nonces there may be.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Of all machines together; beyond it, [`ClaimError::Unavailable`].
    pub all: u64,
    /// Of one machine; beyond it, [`ClaimError::OverQuota`].
    pub per_machine: u32,
}

/// Seconds a client is told to wait when there is no room: room comes with the next bucket.
const RETRY_WHEN_FULL: u32 = 10;

/// Most seconds a client is told to wait when its timestamp is at or below the floor, however far
/// ahead of the clock that is: the clock may be set right at any moment.
const RETRY_BELOW_FLOOR: u64 = 3600;

impl MemoryNonces {
    /// An empty store.
    ///
    /// Whatever is stamped with the current second or an earlier one is refused: an earlier
    /// process may have accepted it. What remains open across a restart is a request stamped
    /// ahead of the gateway's clock at that moment.
    pub fn new(window: Window, quotas: Quotas, clock: Clock) -> MemoryNonces {
        let floor = clock.now().unix_seconds();
        MemoryNonces::above(floor, window, quotas, clock)
    }

    /// An empty store with its floor at `level`, in Unix seconds.
    pub(super) fn above(level: u64, window: Window, quotas: Quotas, clock: Clock) -> MemoryNonces {
        let retention = Duration::from_secs(window.past + window.future) + Floor::SLACK;
        MemoryNonces {
            spent: Cache::builder().time_to_live(retention).build(),
            floor: Mutex::new(Floor::new(level, retention)),
            quotas,
            past: window.past,
            clock,
        }
    }

    /// Remembers what an earlier process accepted, whatever the quotas. Nobody may claim anything
    /// before this has returned.
    pub(super) fn restore(&self, claims: &[Claim]) {
        {
            let (mut floor, now) = self.floor();
            for claim in claims {
                let cover = floor.cover(now, claim.timestamp);
                // Under one lock nothing can have come between the two.
                let _ = floor.count(cover, claim);
            }
        }
        claims
            .par_iter()
            .for_each(|claim| self.spent.insert(claim.nonce, ()));
    }

    /// The floor, in Unix seconds.
    pub(super) fn level(&self) -> u64 {
        let (floor, _) = self.floor();
        floor.level()
    }

    /// How many nonces are remembered.
    pub fn live(&self) -> u64 {
        let (floor, _) = self.floor();
        floor.live()
    }

    /// The floor as of this instant: the clock is read under the lock, after any pause of this
    /// task, and the floor is brought up to it before anyone looks.
    fn floor(&self) -> (MutexGuard<'_, Floor>, Duration) {
        // A panic while the lock is held cannot leave the floor lower than it was.
        let mut floor = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let passed = now.unix_seconds().saturating_sub(self.past + 1);
        for nonce in floor.advance(now.mono, passed) {
            self.spent.insert(nonce, ());
        }
        (floor, now.mono)
    }

    pub(super) fn claim_now(&self, claim: Claim) -> Result<(), ClaimError> {
        let Claim {
            nonce,
            owner,
            timestamp,
        } = claim;
        let cover = {
            let (mut floor, now) = self.floor();
            if !floor.admits(timestamp) {
                return Err(self.below(floor.level()));
            }
            if floor.live() >= self.quotas.all {
                return Err(FULL);
            }
            if floor.live_of(owner) >= self.quotas.per_machine {
                return Err(OVER_QUOTA);
            }
            floor.cover(now, timestamp)
        };
        // `or_insert_with` runs its closure for one of several callers at once; `or_insert` is
        // not atomic.
        let fresh = self.spent.entry(nonce).or_insert_with(|| ()).is_fresh();
        if !fresh {
            return Err(ClaimError::Replayed);
        }
        let (mut floor, _) = self.floor();
        // Between the first look and the insertion this task may have slept for longer than the
        // store remembers.
        if !floor.count(cover, &claim) {
            return Err(INTERRUPTED);
        }
        if floor.admits(timestamp) {
            Ok(())
        } else {
            Err(self.below(floor.level()))
        }
    }

    /// For a claim at or below the floor: a fresh one lies above it once the clock does.
    fn below(&self, level: u64) -> ClaimError {
        let wait = level
            .saturating_add(1)
            .saturating_sub(self.clock.now().unix_seconds());
        ClaimError::Unavailable {
            retry_after: u32::try_from(wait.clamp(1, RETRY_BELOW_FLOOR)).unwrap_or(1),
        }
    }
}

const FULL: ClaimError = ClaimError::Unavailable {
    retry_after: RETRY_WHEN_FULL,
};

/// Nothing is wrong with the next one.
const INTERRUPTED: ClaimError = ClaimError::Unavailable { retry_after: 1 };

const OVER_QUOTA: ClaimError = ClaimError::OverQuota {
    retry_after: RETRY_WHEN_FULL,
};

#[async_trait::async_trait]
impl NonceStore for MemoryNonces {
    async fn claim(&self, claim: Claim) -> Result<(), ClaimError> {
        self.claim_now(claim)
    }

    fn ready(&self) -> Result<(), String> {
        let level = self.level();
        if self.clock.now().unix_seconds() > level {
            return Ok(());
        }
        Err(format!(
            "quarantine until the clock is past Unix time {level}: an earlier process may have \
             accepted what is stamped until then"
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::auth::headers::Timestamp;
    use crate::auth::identity::PublicKey;
    use crate::clock::Hands;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const NOW: u64 = 1_700_000_000;
    const WINDOW: Window = Window {
        past: 300,
        future: 300,
    };

    fn store(quota: u64) -> (MemoryNonces, Hands) {
        let (clock, hands) = Clock::manual(NOW * 1000);
        let quotas = Quotas {
            all: quota,
            per_machine: 1000,
        };
        (MemoryNonces::new(WINDOW, quotas, clock), hands)
    }

    const BELOW_FLOOR: ClaimError = ClaimError::Unavailable { retry_after: 1 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::parse(seconds.to_string().as_bytes()).unwrap()
    }

    fn claim(n: u32, t: u64) -> Claim {
        claim_of(1, n, t)
    }

    fn claim_of(machine: u8, n: u32, t: u64) -> Claim {
        let signing = ed25519_dalek::SigningKey::from_bytes(&[machine; 32]);
        let public = PublicKey::from_bytes(signing.verifying_key().as_bytes()).unwrap();
        Claim::new(&public, &format!("nonce-{n:020}"), at(t))
    }

    #[test]
    fn a_nonce_passes_once() {
        let (store, _) = store(10);
        assert_eq!(store.claim_now(claim(1, NOW + 1)), Ok(()));
        assert_eq!(
            store.claim_now(claim(1, NOW + 1)),
            Err(ClaimError::Replayed)
        );
        assert_eq!(store.claim_now(claim(2, NOW + 1)), Ok(()));
    }

    #[test]
    fn a_nonce_stays_spent_under_another_timestamp() {
        let (store, _) = store(10);
        assert_eq!(store.claim_now(claim(1, NOW + 1)), Ok(()));
        assert_eq!(
            store.claim_now(claim(1, NOW + 2)),
            Err(ClaimError::Replayed)
        );
    }

    #[test]
    fn of_64_copies_at_once_one_passes_and_63_are_replays() {
        const COPIES: usize = 64;
        for round in 0..20 {
            let (store, _) = store(1000);
            let (passed, replayed) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let start = Barrier::new(COPIES);
            std::thread::scope(|scope| {
                for _ in 0..COPIES {
                    scope.spawn(|| {
                        start.wait();
                        match store.claim_now(claim(round, NOW + 1)) {
                            Ok(()) => passed.fetch_add(1, Ordering::SeqCst),
                            Err(ClaimError::Replayed) => replayed.fetch_add(1, Ordering::SeqCst),
                            Err(_) => 0,
                        };
                    });
                }
            });
            assert_eq!(
                (passed.into_inner(), replayed.into_inner()),
                (1, COPIES - 1)
            );
        }
    }

    #[test]
    fn what_an_earlier_process_may_have_accepted_is_unavailable() {
        let (store, _) = store(10);
        for t in [NOW - 300, NOW - 1, NOW] {
            assert_eq!(store.claim_now(claim(1, t)), Err(BELOW_FLOOR));
        }
        assert_eq!(store.claim_now(claim(1, NOW + 1)), Ok(()));
    }

    #[test]
    fn it_is_ready_once_the_clock_is_past_the_floor() {
        let (store, hands) = store(10);
        assert!(store.ready().unwrap_err().contains(&NOW.to_string()));
        hands.advance(Duration::from_secs(1));
        assert_eq!(store.ready(), Ok(()));
    }

    #[test]
    fn under_a_floor_ahead_of_the_clock_the_client_is_told_how_long_to_wait() {
        let (clock, hands) = Clock::manual(NOW * 1000);
        let quotas = Quotas {
            all: 10,
            per_machine: 10,
        };
        let store = MemoryNonces::above(NOW + 15, WINDOW, quotas, clock);
        let wait = |retry_after| Err(ClaimError::Unavailable { retry_after });
        assert_eq!(store.claim_now(claim(1, NOW)), wait(16));
        assert_eq!(store.claim_now(claim(1, NOW + 15)), wait(16));
        hands.advance(Duration::from_secs(16));
        assert_eq!(store.claim_now(claim(1, NOW + 16)), Ok(()));
        hands.set(1_000_000_000_000);
        assert_eq!(store.claim_now(claim(2, NOW)), wait(3600));
    }

    #[test]
    fn what_was_restored_is_spent_and_counts() {
        let (store, _) = store(2);
        store.restore(&[1, 2, 3].map(|n| claim(n, NOW + 1)));
        assert_eq!(store.live(), 3);
        for n in [1, 2, 3] {
            store.claim_now(claim(n, NOW + 1)).unwrap_err();
        }
        assert_eq!(store.claim_now(claim(4, NOW + 1)), Err(FULL));
    }

    #[test]
    fn the_floor_passes_what_was_restored_before_it_is_forgotten() {
        let (store, hands) = store(10);
        store.restore(&[claim(1, NOW + 100)]);
        assert_eq!(
            store.claim_now(claim(1, NOW + 100)),
            Err(ClaimError::Replayed)
        );
        hands.advance(Duration::from_secs(650));
        assert!(store.level() >= NOW + 100);
    }

    #[test]
    fn a_full_store_refuses_and_has_room_again_when_time_has_passed() {
        let (store, hands) = store(2);
        assert_eq!(store.claim_now(claim(1, NOW + 1)), Ok(()));
        assert_eq!(store.claim_now(claim(2, NOW + 1)), Ok(()));
        assert_eq!(store.claim_now(claim(3, NOW + 1)), Err(FULL));
        hands.advance(Duration::from_secs(700));
        assert_eq!(store.claim_now(claim(3, NOW + 700)), Ok(()));
    }

    #[test]
    fn a_machine_over_its_quota_leaves_room_for_the_others() {
        let (clock, _) = Clock::manual(NOW * 1000);
        let quotas = Quotas {
            all: 10,
            per_machine: 2,
        };
        let store = MemoryNonces::new(WINDOW, quotas, clock);
        assert_eq!(store.claim_now(claim_of(1, 1, NOW + 1)), Ok(()));
        assert_eq!(store.claim_now(claim_of(1, 2, NOW + 1)), Ok(()));
        assert_eq!(store.claim_now(claim_of(1, 3, NOW + 1)), Err(OVER_QUOTA));
        assert_eq!(store.claim_now(claim_of(2, 3, NOW + 1)), Ok(()));
    }

    #[test]
    fn a_replay_takes_no_room() {
        let (store, _) = store(2);
        assert_eq!(store.claim_now(claim(1, NOW + 1)), Ok(()));
        for _ in 0..10 {
            assert_eq!(
                store.claim_now(claim(1, NOW + 1)),
                Err(ClaimError::Replayed)
            );
        }
        assert_eq!(store.live(), 1);
        assert_eq!(store.claim_now(claim(2, NOW + 1)), Ok(()));
    }

    #[test]
    fn a_wall_clock_that_steps_back_reopens_nothing() {
        let (store, hands) = store(10);
        assert_eq!(store.claim_now(claim(1, NOW + 1)), Ok(()));
        hands.advance(Duration::from_secs(700));
        hands.set((NOW + 1) * 1000);
        assert_eq!(
            store.claim_now(claim(1, NOW + 1)),
            Err(ClaimError::Replayed)
        );
        hands.advance(Duration::from_secs(700));
        assert!(store.level() > NOW);
        hands.set((NOW + 1) * 1000);
        assert_eq!(store.claim_now(claim(1, NOW + 1)), Err(BELOW_FLOOR));
    }

    #[test]
    fn a_wall_clock_that_was_ahead_and_is_set_right_shuts_nobody_out_later_either() {
        let (store, hands) = store(10);
        hands.set((NOW + 3600) * 1000);
        let early = claim(1, NOW + 3600);
        assert_eq!(store.claim_now(early), Ok(()));
        hands.set(NOW * 1000);
        for _ in 0..10 {
            hands.advance(Duration::from_secs(350));
            let right = store.clock.now().unix_seconds();
            let honest = u32::try_from(right - NOW).unwrap();
            assert_eq!(store.claim_now(claim(honest, right)), Ok(()));
            assert_eq!(store.claim_now(early), Err(ClaimError::Replayed));
        }
    }

    #[test]
    fn the_cache_has_no_capacity_that_could_evict() {
        let (store, _) = store(10);
        assert_eq!(store.spent.policy().max_capacity(), None);
        assert!(store.spent.policy().time_to_live() >= Some(Duration::from_secs(660)));
        assert_eq!(store.spent.policy().time_to_idle(), None);
    }
}
