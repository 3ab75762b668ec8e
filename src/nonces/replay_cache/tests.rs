#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;

use super::*;
use crate::nonces::quota::{FULL, OVER_QUOTA};
use countersign_client::clock::Clock;
use countersign_core::message::Timestamp;

const LONG: Duration = Duration::from_secs(660);
const SHORT: Duration = Duration::from_millis(300);
const T: u64 = 1_700_000_000;

impl NonceCache {
    /// Does what the end of their time to live does: moka's clock cannot be moved.
    pub(in crate::nonces) fn expire(&self, claims: &[Claim]) {
        for claim in claims {
            self.spent.invalidate(&claim.nonce);
        }
    }

    /// The same for everything. What is absent then is counted until it is removed.
    pub(in crate::nonces) fn expire_all(&self) {
        self.spent.invalidate_all();
    }
}

fn cache(time_to_live: Duration, all: u64, per_machine: u32) -> NonceCache {
    NonceCache::new(time_to_live, NonceQuotas { all, per_machine })
}

fn nonce(n: u32) -> NonceKey {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    NonceKey::from_bytes(bytes)
}

fn claim_of(owner: u64, n: u32, t: u64) -> Claim {
    Claim {
        nonce: nonce(n),
        owner: Owner::from_number(owner),
        timestamp: Timestamp::parse(t.to_string().as_bytes()).unwrap(),
    }
}

fn claim(n: u32, t: u64) -> Claim {
    claim_of(1, n, t)
}

fn stamp_of(cache: &NonceCache, n: u32) -> Option<u64> {
    cache.spent.get(&nonce(n)).map(|entry| entry.timestamp)
}

/// Waits until the time to live of everything that is in the cache now is over.
fn expired() {
    sleep(SHORT + Duration::from_millis(20));
}

#[test]
fn a_nonce_is_inserted_once() {
    let cache = cache(LONG, 10, 10);
    assert_eq!(cache.insert(&claim(0, T)), Ok(()));
    assert_eq!(cache.insert(&claim(0, T)), Err(ClaimError::Replayed));
    assert_eq!(cache.insert(&claim(1, T)), Ok(()));
    assert_eq!(cache.live(), 2);
}

#[test]
fn nothing_evicts_by_size_or_by_rest() {
    let policy = cache(LONG, 10, 10).spent.policy();
    assert_eq!(policy.max_capacity(), None);
    assert_eq!(policy.time_to_live(), Some(LONG));
    assert_eq!(policy.time_to_idle(), None);
}

#[test]
fn a_time_to_live_without_an_end_is_taken() {
    let cache = cache(Duration::MAX, 10, 10);
    assert_eq!(cache.insert(&claim(0, T)), Ok(()));
    assert_eq!(cache.insert(&claim(0, T)), Err(ClaimError::Replayed));
}

#[test]
fn of_many_copies_at_once_one_is_inserted_and_counted() {
    const COPIES: usize = 32;
    let cache = cache(LONG, u64::MAX, u32::MAX);
    let inserted: Vec<_> = (0..500).map(|_| AtomicUsize::new(0)).collect();
    let start = Barrier::new(COPIES);
    std::thread::scope(|scope| {
        for _ in 0..COPIES {
            scope.spawn(|| {
                start.wait();
                for (n, inserted) in (0..).zip(&inserted) {
                    if cache.insert(&claim(n, T)).is_ok() {
                        inserted.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert!(inserted.iter().all(|n| n.load(Ordering::SeqCst) == 1));
    assert_eq!(cache.live(), 500);
}

#[test]
fn what_has_expired_is_absent_at_once_and_counts_until_it_is_removed() {
    let cache = cache(SHORT, u64::MAX, u32::MAX);
    for n in 0..1000 {
        assert_eq!(cache.insert(&claim(n, T)), Ok(()));
    }
    expired();
    // As many as moka removes in passing, and more.
    for n in 0..1000 {
        assert_eq!(cache.insert(&claim(n, T + 1)), Ok(()), "{n}");
    }
    cache.run_pending_tasks();
    assert_eq!(cache.live(), 1000, "each removal was counted once");
    expired();
    cache.run_pending_tasks();
    assert_eq!((cache.live(), cache.counts.owners()), (0, 0));
}

#[test]
fn more_than_a_batch_expires_in_one_go() {
    let cache = cache(SHORT, u64::MAX, u32::MAX);
    cache.restore((0..5000).map(|n| claim(n, T)).collect());
    expired();
    cache.run_pending_tasks();
    assert_eq!(cache.live(), 0);
}

#[test]
fn a_refusal_takes_no_room() {
    let cache = cache(LONG, 3, 2);
    assert_eq!(cache.insert(&claim_of(1, 0, T)), Ok(()));
    for _ in 0..10 {
        assert_eq!(cache.insert(&claim_of(1, 0, T)), Err(ClaimError::Replayed));
    }
    assert_eq!(cache.insert(&claim_of(1, 1, T)), Ok(()));
    assert_eq!(cache.insert(&claim_of(1, 2, T)), Err(OVER_QUOTA));
    assert_eq!(cache.insert(&claim_of(2, 2, T)), Ok(()));
    assert_eq!(cache.insert(&claim_of(3, 3, T)), Err(FULL));
    assert_eq!(cache.live(), 3);
    cache.expire_all();
    cache.run_pending_tasks();
    assert_eq!((cache.live(), cache.counts.owners()), (0, 0));
    assert_eq!(cache.insert(&claim_of(3, 3, T)), Ok(()));
}

#[test]
fn what_is_renewed_lives_on_and_counts_once() {
    let clock = Clock::system();
    let mono = || clock.now().mono;
    loop {
        let cache = cache(SHORT, u64::MAX, u32::MAX);
        let inserting = mono();
        for n in 0..10 {
            assert_eq!(cache.insert(&claim(n, T + u64::from(n))), Ok(()));
        }
        sleep(SHORT / 2);
        let renewing = mono();
        cache.renew(T + 4);
        let renewed = mono();
        sleep(SHORT / 2 + Duration::from_millis(20));
        cache.run_pending_tasks();
        let left: Vec<u32> = (0..10).filter(|n| stamp_of(&cache, *n).is_some()).collect();
        let live = cache.live();
        if renewed - inserting >= SHORT || mono() - renewing >= SHORT {
            // The machine was too slow for this to show anything.
            continue;
        }
        assert_eq!((left, live), ((5..10).collect(), 5));
        expired();
        cache.run_pending_tasks();
        assert_eq!((cache.live(), cache.counts.owners()), (0, 0));
        return;
    }
}

#[test]
fn a_nonce_that_is_renewed_is_never_absent_meanwhile() {
    let cache = cache(LONG, u64::MAX, u32::MAX);
    cache.restore((0..2000).map(|n| claim(n, T)).collect());
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                cache.renew(0);
            }
            done.store(1, Ordering::SeqCst);
        });
        while done.load(Ordering::SeqCst) == 0 {
            for n in (0..2000).step_by(7) {
                assert_eq!(cache.insert(&claim(n, T)), Err(ClaimError::Replayed));
            }
        }
    });
    assert_eq!(cache.live(), 2000);
}

#[test]
fn a_nonce_that_is_restored_twice_keeps_its_later_timestamp() {
    for stamps in [[T, T + 9], [T + 9, T]] {
        let cache = cache(LONG, 10, 10);
        cache.restore(stamps.map(|t| claim(1, t)).into());
        assert_eq!(stamp_of(&cache, 1), Some(T + 9));
        assert_eq!(cache.live(), 1);
    }
}

#[test]
fn it_prints_how_many_there_are_and_not_which() {
    let cache = cache(LONG, 10, 10);
    cache.restore(vec![claim(1, T), claim(2, T)]);
    assert_eq!(format!("{cache:?}"), "NonceCache { live: 2, .. }");
}
