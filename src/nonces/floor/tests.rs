#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::auth::identity::PublicKey;

const RETENTION: Duration = Duration::from_secs(660);
const START: u64 = 1_700_000_000;
/// By the wall clock, everything has left the window: it has not been set back.
const LATER: u64 = u64::MAX;
const ALL: u32 = u32::MAX;

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

/// All that is due at this moment is forgotten.
fn look(floor: &mut Floor, now: u64, passed: u64) {
    assert!(!floor.advance(secs(now), passed, ALL));
}

/// A claim in the same nonce is refused as a replay: it is remembered.
fn remembers(floor: &mut Floor, now: u64, claim: Claim) -> bool {
    floor.admits(claim.timestamp) && !floor.insert(secs(now), claim)
}

#[test]
fn what_was_stamped_at_or_before_the_start_is_below_the_floor() {
    let mut floor = Floor::new(START, RETENTION);
    for t in [START - 1, START] {
        assert!(!floor.admits(at(t)) && !floor.insert(secs(0), claim(1, 1, t)));
    }
    assert!(floor.insert(secs(0), claim(1, 1, START + 1)));
}

#[test]
fn a_claim_is_remembered_for_the_retention_and_the_floor_takes_its_place() {
    let mut floor = Floor::new(0, RETENTION);
    assert!(floor.insert(secs(9), claim(1, 1, START)));
    look(&mut floor, 668, LATER);
    assert!(remembers(&mut floor, 668, claim(1, 1, START)));
    look(&mut floor, 669, LATER);
    assert!(!floor.admits(at(START)) && floor.admits(at(START + 1)));
    assert_eq!(floor.live(), 0);
}

#[test]
fn the_floor_never_falls() {
    let mut floor = Floor::new(0, RETENTION);
    assert!(floor.insert(secs(0), claim(1, 1, START + 500)));
    assert!(floor.insert(secs(1), claim(1, 2, START)));
    look(&mut floor, 10_000, LATER);
    assert_eq!(floor.level(), START + 500);
}

#[test]
fn what_is_due_is_forgotten_in_steps_and_remembered_until_its_turn_comes() {
    let mut floor = Floor::new(0, RETENTION);
    let claims: Vec<Claim> = (0..1000).map(|n| claim(1, n, START + n)).collect();
    for claim in &claims {
        assert!(floor.insert(secs(0), *claim));
    }
    for turn in 1..=100 {
        assert!(floor.advance(secs(5000), LATER, 10), "turn {turn}");
        assert_eq!(floor.live(), 1000 - turn * 10);
        assert_eq!(floor.level(), START + turn * 10 - 1);
        let (gone, left) = claims.split_at(turn as usize * 10);
        for claim in [gone.first(), gone.last()].into_iter().flatten() {
            assert!(!floor.admits(claim.timestamp));
        }
        for claim in [left.first(), left.last()].into_iter().flatten() {
            assert!(remembers(&mut floor, 5000, *claim));
        }
    }
    assert!(!floor.advance(secs(5000), LATER, 10));
}

#[test]
fn what_came_last_does_not_wait_for_less_because_much_is_due() {
    let mut floor = Floor::new(0, RETENTION);
    for n in 0..100 {
        assert!(floor.insert(secs(0), claim(1, n, START)));
    }
    assert!(floor.insert(secs(5000), claim(1, 100, START)));
    look(&mut floor, 5000, LATER);
    assert_eq!(floor.live(), 1);
}

#[test]
fn a_wall_clock_that_jumps_ahead_and_returns_does_not_raise_it_at_once() {
    let mut floor = Floor::new(START, RETENTION);
    assert!(floor.insert(secs(5), claim(1, 1, START + 1_000_000)));
    look(&mut floor, 6, START - 300);
    assert!(floor.admits(at(START + 6)));
}

#[test]
fn what_a_clock_that_was_ahead_let_in_is_remembered_until_it_has_left_the_window() {
    let mut floor = Floor::new(START, RETENTION);
    let (early, honest) = (claim(1, 1, START + 3600), claim(1, 2, START + 5));
    assert!(floor.insert(secs(5), early) && floor.insert(secs(5), honest));
    for now in [665, 1325, 1985] {
        let passed = START + now - 301;
        look(&mut floor, now, passed);
        assert!(remembers(&mut floor, now, early));
        assert!(floor.admits(at(passed + 1)), "honest machines are let in");
        assert!(!floor.admits(honest.timestamp), "what is forgotten is not");
    }
    look(&mut floor, 3950, START + 3649);
    assert!(!floor.admits(early.timestamp));
    assert_eq!((floor.live(), floor.live_of(early.owner)), (0, 0));
}

#[test]
fn what_is_remembered_anew_is_so_in_steps_too_and_counts_once() {
    let mut floor = Floor::new(START, RETENTION);
    for n in 0..1000 {
        assert!(floor.insert(secs(0), claim(1, n, START + 3600 + n)));
    }
    let owner = claim(1, 0, START).owner;
    for _ in 0..100 {
        assert!(floor.advance(secs(660), START, 10));
        assert_eq!((floor.live(), floor.live_of(owner)), (1000, 1000));
    }
    assert!(
        !floor.advance(secs(660), START, 10),
        "each has had its turn"
    );
    for n in [0, 499, 999] {
        assert!(remembers(&mut floor, 660, claim(1, n, START + 3600 + n)));
    }
    assert!(!floor.advance(secs(1319), START, 10), "for all of another");
    assert!(floor.advance(secs(1320), START, 10));
}

#[test]
fn a_nonce_that_an_earlier_process_accepted_under_two_timestamps_is_remembered_for_the_later() {
    for stamps in [[START + 1, START + 200], [START + 200, START + 1]] {
        let mut floor = Floor::new(START, RETENTION);
        for stamp in stamps {
            floor.restore(secs(0), claim(1, 1, stamp));
        }
        assert!(floor.advance(secs(660), LATER, 1));
        for stamp in stamps {
            let again = claim(1, 1, stamp);
            assert!(!floor.insert(secs(660), again));
        }
    }
}

#[test]
fn each_owners_claims_are_counted_apart_until_they_are_forgotten() {
    let mut floor = Floor::new(0, RETENTION);
    let (one, two) = (claim(1, 1, START), claim(2, 1, START));
    for (now, claim) in [(0, one), (15, claim(1, 2, START)), (15, two)] {
        assert!(floor.insert(secs(now), claim));
    }
    let live = |floor: &Floor| (floor.live_of(one.owner), floor.live_of(two.owner));
    assert_eq!((floor.live(), live(&floor)), (3, (2, 1)));
    look(&mut floor, 660, LATER);
    assert_eq!((floor.live(), live(&floor)), (2, (1, 1)));
    look(&mut floor, 2000, LATER);
    assert_eq!((floor.live(), live(&floor)), (0, (0, 0)));
    assert!(floor.live_of.0.iter().all(HashMap::is_empty));
}

#[test]
fn a_replay_is_not_counted() {
    let mut floor = Floor::new(0, RETENTION);
    let claim = claim(1, 1, START);
    assert!(floor.insert(secs(0), claim));
    assert!(!floor.insert(secs(0), claim));
    assert_eq!((floor.live(), floor.live_of(claim.owner)), (1, 1));
}

#[test]
fn a_retention_or_a_time_too_long_to_be_counted_forgets_nothing() {
    let mut floor = Floor::new(0, Duration::MAX);
    let claim = claim(1, 1, START);
    assert!(floor.insert(secs(0), claim));
    look(&mut floor, u64::from(u32::MAX) - 1, LATER);
    assert!(remembers(&mut floor, 0, claim));
    let mut floor = Floor::new(0, RETENTION);
    assert!(floor.insert(Duration::MAX, claim));
    look(&mut floor, u64::MAX, LATER);
    assert!(remembers(&mut floor, 0, claim));
}

proptest! {
    /// A wall clock that jumps at will, looks that forget a few, and requests that are repeated at
    /// will: no (nonce, timestamp) passes twice.
    #[test]
    fn nothing_passes_twice_whatever_the_wall_clock_does(
        steps in proptest::collection::vec(
            (0u64..400, 0u8..6, -1000i64..1000, -3000i64..3000, 0u32..3), 1..400,
        )
    ) {
        let mut floor = Floor::new(START, RETENTION);
        let mut accepted: Vec<(u64, u64)> = Vec::new();
        let mut now = 0;
        for (pause, nonce, skew, off, forgets) in steps {
            now += pause;
            let t = (START + now).saturating_add_signed(skew);
            // Half of the steps repeat an earlier request.
            let (nonce, t) = match accepted.get(usize::from(nonce)) {
                Some(earlier) if skew % 2 == 0 => *earlier,
                _ => (u64::from(nonce), t),
            };
            let passed = (START + now - 301).saturating_add_signed(off);
            let _ = floor.advance(secs(now), passed, forgets);
            if floor.insert(secs(now), claim(1, nonce, t)) {
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
        let mut now = 0;
        for (n, pause) in pauses.into_iter().enumerate() {
            now += pause;
            let wall = START + now;
            let t = at((wall + 1).saturating_add_signed(skew));
            look(&mut floor, now, wall - 301);
            prop_assert!(floor.admits(t));
            prop_assert!(floor.insert(secs(now), claim(1, n as u64, wall + 300)));
        }
    }

    /// A wall clock that is ahead for less than the retention, and is then set right.
    #[test]
    fn a_clock_that_was_wrong_shuts_no_honest_machine_out_when_it_is_right_again(
        ahead in 1u64..100_000, wrong_for in 0u64..660,
        pauses in proptest::collection::vec(0u64..120, 1..200), skew in -300i64..=300
    ) {
        let mut floor = Floor::new(START - 300, RETENTION);
        let mut now = 0;
        for (n, pause) in pauses.into_iter().enumerate() {
            now += pause;
            let right = START + now;
            let wrong = now < wrong_for;
            let wall = if wrong { right + ahead } else { right };
            look(&mut floor, now, wall - 301);
            if !wrong {
                prop_assert!(floor.admits(at((right + 1).saturating_add_signed(skew))));
            }
            prop_assert!(floor.insert(secs(now), claim(1, n as u64, wall + 300)));
        }
    }
}
