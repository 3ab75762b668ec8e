#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::auth::headers::Timestamp;
use crate::auth::replay::Owner;

fn nonce(n: u32) -> NonceKey {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    NonceKey::from_bytes(bytes)
}

fn claim(n: u32) -> Claim {
    Claim {
        nonce: nonce(n),
        owner: Owner::from_number(1),
        timestamp: Timestamp::parse(b"1700000000").unwrap(),
    }
}

fn holds(spent: &Spent, n: u32) -> bool {
    spent.find(spent.hash(&nonce(n)), &nonce(n))
}

fn of(claims: u32) -> Spent {
    let mut spent = Spent::new();
    for n in 0..claims {
        assert!(spent.insert(claim(n), n));
    }
    spent
}

#[test]
fn an_entry_takes_forty_bytes() {
    assert_eq!(size_of::<Entry>(), 40);
}

#[test]
fn a_nonce_is_inserted_once() {
    let mut spent = of(1);
    assert!(!spent.insert(claim(0), 1));
    assert!(spent.insert(claim(1), 1));
    assert_eq!(spent.len(), 2);
}

#[test]
fn the_oldest_goes_first() {
    let mut spent = of(3);
    for n in 0..3 {
        assert_eq!(spent.oldest(), Some((claim(n), n)));
        spent.forget_oldest();
        assert!(!holds(&spent, n));
    }
    assert_eq!(spent.oldest(), None);
}

#[test]
fn to_forget_nothing_does_nothing() {
    let mut spent = of(0);
    spent.forget_oldest();
    assert_eq!(spent.len(), 0);
    assert!(spent.insert(claim(1), 0));
}

#[test]
fn all_are_found_while_the_index_grows_and_shrinks_slot_by_slot() {
    let mut spent = Spent::new();
    for n in 0..10 * PAGE {
        assert!(spent.insert(claim(n), 0));
        let slots = spent.index.slots;
        assert_eq!(slots, (n + 1).max(PAGE), "as many as claims");
        assert!(holds(&spent, n) && holds(&spent, n / 2) && !holds(&spent, n + 1));
    }
    for n in 0..10 * PAGE {
        let before = spent.index.slots;
        spent.forget_oldest();
        assert!(before - spent.index.slots <= 2);
        assert!(!holds(&spent, n));
        let last = 10 * PAGE - 1;
        let middle = last - (last - n) / 2;
        assert_eq!(holds(&spent, last) && holds(&spent, middle), n < last);
    }
}

#[test]
fn the_memory_is_given_back() {
    let mut spent = of(100 * PIECE);
    assert_eq!(spent.log.len(), 100);
    assert_eq!(spent.index.pages.len(), 100);
    for _ in 0..100 * PIECE {
        spent.forget_oldest();
    }
    assert_eq!(spent.log.len(), 0);
    assert_eq!(spent.index.pages.len(), 1);
}

#[test]
fn the_memory_stays_as_it_is_where_as_many_come_as_go() {
    let mut spent = of(10 * PIECE);
    for n in 10 * PIECE..50 * PIECE {
        assert!(spent.insert(claim(n), n));
        spent.forget_oldest();
        assert!(spent.log.len() <= 11 && spent.index.pages.len() <= 11);
    }
}

/// Chosen nonces are hashed with keys that nobody knows: their like does not meet in one chain.
#[test]
fn no_chain_is_long() {
    let spent = of(100 * PAGE);
    let length = |slot: u32| {
        let (mut place, mut length) = (spent.index.first(slot), 0);
        while place != NONE {
            length += 1;
            place = spent.entry(place).next;
        }
        length
    };
    let longest = (0..spent.index.slots).map(length).max().unwrap();
    assert!(longest < 24, "{longest}");
}

#[test]
fn a_nonce_that_was_pushed_twice_is_there_until_both_are_forgotten() {
    let mut spent = of(0);
    assert!(spent.push(claim(1), 0) && spent.push(claim(1), 1));
    spent.forget_oldest();
    assert!(holds(&spent, 1));
    spent.forget_oldest();
    assert!(!holds(&spent, 1));
}

#[test]
fn it_prints_how_many_there_are_and_not_which() {
    assert_eq!(format!("{:?}", of(7)), "Spent { len: 7, .. }");
}

proptest! {
    #[test]
    fn it_is_a_queue_and_a_set(
        steps in proptest::collection::vec((0u32..4000, 0usize..3), 1..6000)
    ) {
        let mut spent = Spent::new();
        let (mut queue, mut set) = (VecDeque::new(), HashSet::new());
        for (n, forget) in steps {
            let fresh = set.insert(n);
            prop_assert_eq!(spent.insert(claim(n), 0), fresh);
            if fresh {
                queue.push_back(n);
            }
            // More come than go, and then fewer.
            for _ in 0..if n % 3000 < 2000 { 0 } else { forget } {
                prop_assert_eq!(spent.oldest().map(|(c, _)| c.nonce), queue.front().map(|n| nonce(*n)));
                spent.forget_oldest();
                if let Some(gone) = queue.pop_front() {
                    set.remove(&gone);
                    prop_assert!(!holds(&spent, gone));
                }
            }
            prop_assert_eq!(spent.len() as usize, set.len());
        }
        for n in 0..4000 {
            prop_assert_eq!(holds(&spent, n), set.contains(&n));
        }
    }
}
