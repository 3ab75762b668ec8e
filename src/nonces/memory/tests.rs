#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use super::*;
use crate::nonces::quota::{FULL, OVER_QUOTA};
use countersign_client::clock::Hands;
use countersign_core::identity::PublicKey;
use countersign_core::message::Timestamp;
use countersign_core::replay::Owner;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

const NOW: u64 = 1_700_000_000;
const WINDOW: Window = Window {
    past: 300,
    future: 300,
};

fn store(quota: u64) -> (MemoryNonces, Hands) {
    let (clock, hands) = Clock::manual(NOW * 1000);
    let quotas = NonceQuotas {
        all: quota,
        per_machine: 1000,
    };
    (without_timer(NOW, quotas, clock), hands)
}

/// Its rounds are made by the tests, which move the clock between them.
fn without_timer(level: u64, quotas: NonceQuotas, clock: Clock) -> MemoryNonces {
    let (timer_end, dropped) = sync_channel(0);
    MemoryNonces {
        local: Arc::new(LocalNonces::above(level, WINDOW, quotas, clock)),
        timer: thread::spawn(move || {
            let _ = dropped.recv();
        }),
        _timer_end: timer_end,
    }
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
fn each_of_many_passes_once_while_others_are_forgotten_and_looked_at() {
    const THREADS: usize = 8;
    let (store, _, due) = with_many_due(2 * MANY);
    let passed: Vec<_> = (0..MANY / 2).map(|_| AtomicUsize::new(0)).collect();
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for (n, passed) in (MANY..).zip(&passed) {
                    if n % 100 == 0 {
                        store.local.cache.expire(&due);
                        store.local.maintain();
                    }
                    if store.claim_now(claim(n, NOW + 700)).is_ok() {
                        passed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert!(passed.iter().all(|n| n.load(Ordering::SeqCst) == 1));
    assert_eq!(store.live(), u64::from(MANY / 2));
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
    let until = instant::to_text(NOW);
    assert!(store.ready().unwrap_err().contains(&until));
    hands.advance(Duration::from_secs(1));
    assert_eq!(store.ready(), Ok(()));
}

#[test]
fn under_a_floor_ahead_of_the_clock_the_client_is_told_how_long_to_wait() {
    let (clock, hands) = Clock::manual(NOW * 1000);
    let quotas = NonceQuotas {
        all: 10,
        per_machine: 10,
    };
    let store = without_timer(NOW + 15, quotas, clock);
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
    store.restore([1, 2, 3].map(|n| claim(n, NOW + 1)).into());
    assert_eq!(store.live(), 3);
    for n in [1, 2, 3] {
        store.claim_now(claim(n, NOW + 1)).unwrap_err();
    }
    assert_eq!(store.claim_now(claim(4, NOW + 1)), Err(FULL));
}

#[test]
fn the_floor_passes_what_was_restored_before_it_is_forgotten() {
    let (store, hands) = store(10);
    store.restore(vec![claim(1, NOW + 100)]);
    assert_eq!(
        store.claim_now(claim(1, NOW + 100)),
        Err(ClaimError::Replayed)
    );
    hands.advance(Duration::from_secs(660));
    assert!(store.level() >= NOW + 100);
}

#[test]
fn a_full_store_refuses_and_has_room_again_when_time_has_passed() {
    let (store, hands) = store(2);
    assert_eq!(store.claim_now(claim(1, NOW + 1)), Ok(()));
    assert_eq!(store.claim_now(claim(2, NOW + 1)), Ok(()));
    assert_eq!(store.claim_now(claim(3, NOW + 1)), Err(FULL));
    hands.advance(Duration::from_secs(700));
    store.local.cache.expire_all();
    store.local.maintain();
    assert_eq!(store.claim_now(claim(3, NOW + 700)), Ok(()));
}

/// More nonces than moka removes in one batch.
const MANY: u32 = 1000;

/// A store with so many nonces, which the floor has passed and the cache may forget any moment.
fn with_many_due(quota: u32) -> (MemoryNonces, Hands, Vec<Claim>) {
    let (clock, hands) = Clock::manual(NOW * 1000);
    let quotas = NonceQuotas {
        all: quota.into(),
        per_machine: quota,
    };
    let store = without_timer(NOW, quotas, clock);
    let due: Vec<Claim> = (0..MANY).map(|n| claim(n, NOW + 1)).collect();
    store.restore(due.clone());
    hands.advance(Duration::from_secs(700));
    (store, hands, due)
}

#[test]
fn what_is_due_cannot_be_replayed_before_it_is_forgotten_nor_after() {
    let (store, hands, due) = with_many_due(MANY);
    // The window would let it in again.
    hands.set((NOW + 1) * 1000);
    for claim in due.iter().chain(&due) {
        store.claim_now(*claim).unwrap_err();
    }
    store.local.cache.expire(&due);
    for claim in due.iter().chain(&due) {
        store.claim_now(*claim).unwrap_err();
    }
    assert_eq!(store.live(), 0);
}

#[test]
fn the_quota_of_a_machine_counts_nothing_that_has_expired() {
    let (store, hands, due) = with_many_due(MANY);
    store.local.cache.expire(&due);
    for n in 0..MANY {
        assert_eq!(store.claim_now(claim(MANY + n, NOW + 700)), Ok(()));
    }
    let over = store.claim_now(claim(2 * MANY, NOW + 700));
    assert_eq!(over, Err(FULL));
    hands.advance(Duration::from_secs(700));
    store.local.cache.expire_all();
    store.local.maintain();
    assert_eq!(store.claim_now(claim(0, NOW + 1400)), Ok(()));
}

#[test]
fn the_timer_removes_what_has_expired_without_a_request() {
    let quotas = NonceQuotas {
        all: 10,
        per_machine: 10,
    };
    let store = MemoryNonces::new(WINDOW, quotas, Clock::manual(NOW * 1000).0).unwrap();
    store.restore(vec![claim(1, NOW + 1), claim(2, NOW + 1)]);
    assert_eq!(store.live(), 2);
    store.local.cache.expire_all();
    until(|| store.live() == 0);
    // And it ends with its store.
    let local = Arc::downgrade(&store.local);
    drop(store);
    until(|| local.strong_count() == 0);
}

fn until(is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain");
}

/// The nonces of others expire before its own.
#[test]
fn a_machine_at_its_quota_does_not_wait_for_others_to_make_room() {
    let (clock, hands) = Clock::manual(NOW * 1000);
    let quotas = NonceQuotas {
        all: u64::MAX,
        per_machine: 1,
    };
    let store = without_timer(NOW, quotas, clock);
    let machine = |n: u32, t: u64| Claim {
        nonce: claim(n, t).nonce,
        owner: Owner::from_number(n.into()),
        timestamp: at(t),
    };
    let restored: Vec<Claim> = (0..MANY).map(|n| machine(n, NOW + 1)).collect();
    store.restore(restored.clone());
    let (own, others) = restored.split_last().unwrap();
    let mut last = machine(MANY - 1, NOW + 700);
    last.nonce = claim(MANY, NOW + 700).nonce;
    hands.advance(Duration::from_secs(700));
    store.local.cache.expire(others);
    assert_eq!(store.claim_now(last), Err(OVER_QUOTA));
    store.local.cache.expire(&[*own]);
    assert_eq!(store.claim_now(last), Ok(()));
}

#[test]
fn a_store_that_a_bug_has_damaged_lets_nothing_in_and_says_so() {
    let (store, _) = store(10);
    std::thread::scope(|scope| {
        let bug = scope.spawn(|| {
            let _floor = store.local.floor.lock().unwrap();
            panic!("a bug, for once on purpose");
        });
        bug.join().unwrap_err();
    });
    assert_eq!(store.claim_now(claim(1, NOW + 1)), Err(BROKEN));
    assert!(store.ready().unwrap_err().contains("restart the gateway"));
}

#[test]
fn it_is_not_ready_once_the_thread_of_the_timer_has_ended() {
    let (mut store, hands) = store(10);
    hands.advance(Duration::from_secs(1));
    assert_eq!(store.ready(), Ok(()));
    store.timer = thread::spawn(|| ());
    while !store.timer.is_finished() {
        thread::yield_now();
    }
    assert!(store.ready().unwrap_err().contains("restart the gateway"));
}

#[test]
fn a_machine_over_its_quota_leaves_room_for_the_others() {
    let (clock, _) = Clock::manual(NOW * 1000);
    let quotas = NonceQuotas {
        all: 10,
        per_machine: 2,
    };
    let store = without_timer(NOW, quotas, clock);
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
    hands.advance(Duration::from_secs(630));
    hands.set((NOW + 1) * 1000);
    // It is due, and may come again. Then it begins anew.
    for _ in 0..2 {
        assert_eq!(
            store.claim_now(claim(1, NOW + 1)),
            Err(ClaimError::Replayed)
        );
        store.local.maintain();
    }
    hands.advance(Duration::from_secs(700));
    assert!(store.level() > NOW);
    hands.set((NOW + 1) * 1000);
    assert_eq!(store.claim_now(claim(1, NOW + 1)), Err(BELOW_FLOOR));
}

#[test]
fn a_wall_clock_that_was_ahead_and_is_set_right_shuts_nobody_out_later_either() {
    let (store, hands) = store(100);
    hands.set((NOW + 3600) * 1000);
    let early = claim(1, NOW + 3600);
    assert_eq!(store.claim_now(early), Ok(()));
    hands.set(NOW * 1000);
    for _ in 0..10 {
        for _ in 0..35 {
            hands.advance(Duration::from_secs(10));
            store.local.maintain();
        }
        let right = store.local.clock.now().unix_seconds();
        let honest = u32::try_from(right - NOW).unwrap();
        assert_eq!(store.claim_now(claim(honest, right)), Ok(()));
        assert_eq!(store.claim_now(early), Err(ClaimError::Replayed));
    }
}
