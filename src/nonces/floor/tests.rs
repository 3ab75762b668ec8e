#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::auth::identity::PublicKey;

const RETENTION: Duration = Duration::from_secs(660);
const START: u64 = 1_700_000_000;
/// By the wall clock, everything has left the window: it has not been set back.
const LATER: u64 = u64::MAX;

fn at(seconds: u64) -> Timestamp {
    Timestamp::parse(seconds.to_string().as_bytes()).unwrap()
}

fn claim(machine: u8, n: u64, t: u64) -> Claim {
    let signing = ed25519_dalek::SigningKey::from_bytes(&[machine; 32]);
    let key = PublicKey::from_bytes(signing.verifying_key().as_bytes()).unwrap();
    Claim::new(&key, &n.to_string(), at(t))
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A claim from its cover to its count, in one moment.
fn remember(floor: &mut Floor, now: Duration, claim: Claim) {
    let cover = floor.cover(now, claim.timestamp);
    assert!(floor.count(cover, &claim));
}

#[test]
fn what_was_stamped_at_or_before_the_start_is_below_the_floor() {
    let floor = Floor::new(START, RETENTION);
    assert!(!floor.admits(at(START - 1)));
    assert!(!floor.admits(at(START)));
    assert!(floor.admits(at(START + 1)));
}

#[test]
fn the_floor_passes_an_entry_before_the_store_may_forget_it() {
    let mut floor = Floor::new(0, RETENTION);
    floor.cover(secs(9), at(START));
    assert!(floor.advance(secs(639), LATER).is_empty());
    assert!(floor.admits(at(START)));
    assert!(floor.advance(secs(640), LATER).is_empty());
    assert!(!floor.admits(at(START)) && floor.admits(at(START + 1)));
}

#[test]
fn the_floor_never_falls() {
    let mut floor = Floor::new(START + 500, RETENTION);
    floor.cover(secs(0), at(START));
    let _ = floor.advance(secs(10_000), LATER);
    assert!(!floor.admits(at(START + 500)));
}

#[test]
fn a_wall_clock_that_jumps_ahead_and_returns_does_not_raise_it_at_once() {
    let mut floor = Floor::new(START, RETENTION);
    floor.cover(secs(5), at(START + 1_000_000));
    let _ = floor.advance(secs(6), START - 300);
    assert!(floor.admits(at(START + 6)));
}

#[test]
fn what_a_clock_that_was_ahead_let_in_is_remembered_until_it_has_left_the_window() {
    let mut floor = Floor::new(START, RETENTION);
    let (early, honest) = (claim(1, 1, START + 3600), claim(1, 2, START + 5));
    remember(&mut floor, secs(5), early);
    remember(&mut floor, secs(5), honest);
    for now in [640, 1280, 1920] {
        let passed = START + now - 301;
        assert_eq!(floor.advance(secs(now), passed), [early.nonce]);
        assert!(floor.admits(at(passed + 1)), "honest machines are let in");
        assert!(!floor.admits(honest.timestamp), "what is forgotten is not");
    }
    assert_eq!(floor.advance(secs(3950), START + 3649), []);
    assert!(!floor.admits(early.timestamp));
    assert_eq!((floor.live(), floor.live_of.len()), (0, 0));
}

#[test]
fn a_claim_that_slept_through_the_end_of_its_bucket_does_not_count() {
    let mut floor = Floor::new(START, RETENTION);
    let slow = claim(1, 1, START + 5);
    let cover = floor.cover(secs(5), slow.timestamp);
    let _ = floor.advance(secs(640), START - 300);
    assert!(!floor.count(cover, &slow));
    assert_eq!(floor.live(), 0);
}

/// The earlier claim may have been forgotten by the store when the later was inserted, and have
/// been renewed after that.
#[test]
fn a_claim_that_slept_while_others_were_renewed_does_not_count() {
    let mut floor = Floor::new(START, RETENTION);
    let twice = claim(1, 1, START + 3600);
    remember(&mut floor, secs(1), twice);
    let cover = floor.cover(secs(31), twice.timestamp);
    assert_eq!(floor.advance(secs(663), START + 362), [twice.nonce]);
    assert!(!floor.count(cover, &twice));
}

#[test]
fn live_entries_are_counted_until_the_floor_passes_them() {
    let mut floor = Floor::new(0, RETENTION);
    for second in 0..30 {
        remember(&mut floor, secs(second), claim(1, second, START));
    }
    assert_eq!(floor.live(), 30);
    let _ = floor.advance(secs(655), LATER);
    assert_eq!(floor.live(), 10);
    let _ = floor.advance(secs(2000), LATER);
    assert_eq!(floor.live(), 0);
}

#[test]
fn each_owners_entries_are_counted_apart() {
    let mut floor = Floor::new(0, RETENTION);
    let (one, two) = (claim(1, 1, START), claim(2, 1, START));
    remember(&mut floor, secs(0), one);
    remember(&mut floor, secs(15), claim(1, 2, START));
    remember(&mut floor, secs(15), two);
    let live = |floor: &Floor| (floor.live_of(one.owner), floor.live_of(two.owner));
    assert_eq!(live(&floor), (2, 1));
    let _ = floor.advance(secs(640), LATER);
    assert_eq!(live(&floor), (1, 1));
    let _ = floor.advance(secs(2000), LATER);
    assert_eq!(live(&floor), (0, 0));
    assert!(floor.live_of.is_empty());
}

#[test]
fn the_ring_stays_as_short_as_the_retention() {
    let mut floor = Floor::new(0, RETENTION);
    for second in 0..100_000 {
        let _ = floor.advance(secs(second), LATER);
        floor.cover(secs(second), at(START));
    }
    assert!(floor.buckets.len() <= 65);
}

proptest! {
    /// A store that forgets as early as it may, a wall clock that jumps at will, claims that sleep
    /// before they are inserted and counted, and requests that are repeated at will: no (nonce,
    /// timestamp) passes twice.
    #[test]
    fn nothing_passes_twice_whatever_the_wall_clock_does(
        steps in proptest::collection::vec(
            (0u64..400, 0u8..6, -1000i64..1000, -3000i64..3000, 0u64..3, 0u64..700), 1..200,
        )
    ) {
        let mut floor = Floor::new(START, RETENTION);
        let mut remembered: HashMap<NonceKey, Duration> = HashMap::new();
        let mut accepted: Vec<(u64, u64)> = Vec::new();
        let mut now = Duration::ZERO;
        // Time passes, the wall clock says what it likes, and somebody looks at the floor.
        let look = |floor: &mut Floor, remembered: &mut HashMap<_, _>, now: Duration, off: i64| {
            let passed = (START + now.as_secs() - 301).saturating_add_signed(off);
            for nonce in floor.advance(now, passed) {
                remembered.insert(nonce, now);
            }
        };
        for (pause, nonce, skew, off, sleeps, sleep) in steps {
            now += secs(pause);
            let t = (START + now.as_secs()).saturating_add_signed(skew);
            // Half of the steps repeat an earlier request.
            let (nonce, t) = match accepted.get(usize::from(nonce)) {
                Some(earlier) if skew % 2 == 0 => *earlier,
                _ => (u64::from(nonce), t),
            };
            let claim = claim(1, nonce, t);
            look(&mut floor, &mut remembered, now, off);
            if !floor.admits(claim.timestamp) {
                continue;
            }
            let cover = floor.cover(now, claim.timestamp);
            // Others may look while it sleeps, and see another wall clock.
            for _ in 0..sleeps {
                now += secs(sleep / 2);
                look(&mut floor, &mut remembered, now, -off);
            }
            now += secs(sleep * sleeps.min(1));
            remembered.retain(|_, inserted| now < *inserted + RETENTION);
            if remembered.contains_key(&claim.nonce) {
                continue;
            }
            remembered.insert(claim.nonce, now);
            look(&mut floor, &mut remembered, now, off);
            if floor.count(cover, &claim) && floor.admits(claim.timestamp) {
                prop_assert!(!accepted.contains(&(nonce, t)), "passed twice");
                accepted.push((nonce, t));
            }
        }
    }

    #[test]
    fn an_honest_machine_is_never_below_the_floor(
        pauses in proptest::collection::vec(0u64..120, 1..200), skew in -300i64..=300
    ) {
        // Window of 300 s both ways, and a wall clock that keeps time.
        let mut floor = Floor::new(START - 300, RETENTION);
        let mut now = Duration::ZERO;
        for (n, pause) in pauses.into_iter().enumerate() {
            now += secs(pause);
            let wall = START + now.as_secs();
            let t = at((wall + 1).saturating_add_signed(skew));
            prop_assert_eq!(floor.advance(now, wall - 301), []);
            prop_assert!(floor.admits(t));
            remember(&mut floor, now, claim(1, n as u64, wall + 300));
        }
    }

    /// A wall clock that is ahead for less than the retention, and is then set right.
    #[test]
    fn a_clock_that_was_wrong_shuts_no_honest_machine_out_when_it_is_right_again(
        ahead in 1u64..100_000, wrong_for in 0u64..640,
        pauses in proptest::collection::vec(0u64..120, 1..200), skew in -300i64..=300
    ) {
        let mut floor = Floor::new(START - 300, RETENTION);
        let mut now = Duration::ZERO;
        for (n, pause) in pauses.into_iter().enumerate() {
            now += secs(pause);
            let right = START + now.as_secs();
            let wrong = now.as_secs() < wrong_for;
            let wall = if wrong { right + ahead } else { right };
            let _ = floor.advance(now, wall - 301);
            if !wrong {
                prop_assert!(floor.admits(at((right + 1).saturating_add_signed(skew))));
            }
            remember(&mut floor, now, claim(1, n as u64, wall + 300));
        }
    }
}
