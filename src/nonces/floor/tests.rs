#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const TIME_TO_LIVE: Duration = Duration::from_secs(660);
const START: u64 = 1_700_000_000;
/// By the wall clock, everything has left the window: it has not been set back.
const LATER: u64 = u64::MAX;
/// Seconds after which a bucket is due, and after which it raises the floor in any case.
const DUE: u64 = 620;
const LIMIT: u64 = 650;

fn at(seconds: u64) -> Timestamp {
    Timestamp::parse(seconds.to_string().as_bytes()).unwrap()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The floor with a cache beside it that forgets an entry the very moment it may.
struct Gateway {
    floor: Floor,
    /// When each nonce was inserted or renewed, and its timestamp.
    cache: HashMap<u64, (u64, u64)>,
    /// Seconds of the monotonic clock.
    now: u64,
    /// Timestamps at or below it have left the window.
    passed: u64,
}

/// A claim between its steps, and a renewal between its own.
#[derive(Clone, Copy)]
struct Pending {
    nonce: u64,
    stamp: u64,
    /// The time of the first look.
    looked: u64,
    step: Step,
}

/// A claim may pause after each step.
#[derive(Clone, Copy)]
enum Step {
    Looked,
    /// The cache has read its clock, at this time. Nobody sees the entry yet.
    Inserting(u64),
    Inserted,
}

impl Gateway {
    fn new(level: u64) -> Gateway {
        Gateway {
            floor: Floor::new(level, TIME_TO_LIVE),
            cache: HashMap::new(),
            now: 0,
            passed: LATER,
        }
    }

    fn to(&mut self, now: u64, passed: u64) {
        (self.now, self.passed) = (now, passed);
        let alive = |inserted: u64| now < inserted + TIME_TO_LIVE.as_secs();
        self.cache.retain(|_, (inserted, _)| alive(*inserted));
    }

    fn admits(&mut self, stamp: u64) -> bool {
        self.floor.advance(secs(self.now), self.passed);
        self.floor.admits(at(stamp))
    }

    fn look(&mut self, nonce: u64, stamp: u64) -> Option<Pending> {
        self.admits(stamp).then(|| {
            self.floor.cover(secs(self.now), stamp);
            Pending {
                nonce,
                stamp,
                looked: self.now,
                step: Step::Looked,
            }
        })
    }

    fn begin_insertion(&mut self, claim: Pending) -> Option<Pending> {
        let absent = !self.cache.contains_key(&claim.nonce);
        let step = Step::Inserting(self.now);
        absent.then_some(Pending { step, ..claim })
    }

    fn end_insertion(&mut self, read: u64, claim: Pending) -> Pending {
        if self.now < read + TIME_TO_LIVE.as_secs() {
            self.cache.insert(claim.nonce, (read, claim.stamp));
        }
        let step = Step::Inserted;
        Pending { step, ..claim }
    }

    /// An insertion without a pause.
    fn insert(&mut self, claim: Pending) -> Option<Pending> {
        let begun = self.begin_insertion(claim)?;
        Some(self.end_insertion(self.now, begun))
    }

    fn look_again(&mut self, claim: Pending) -> bool {
        self.admits(claim.stamp) && Floor::was_covered(secs(claim.looked), secs(self.now))
    }

    /// All of a claim at once.
    fn accepts(&mut self, nonce: u64, stamp: u64) -> bool {
        let looked = self.look(nonce, stamp);
        let inserted = looked.and_then(|claim| self.insert(claim));
        inserted.is_some_and(|claim| self.look_again(claim))
    }

    /// Refused as a replay: it is remembered, and not below the floor.
    fn remembers(&mut self, nonce: u64, stamp: u64) -> bool {
        self.admits(stamp) && self.cache.contains_key(&nonce)
    }

    fn begin_renewal(&mut self) -> Option<Renewal> {
        self.floor.begin_renewal(secs(self.now), self.passed)
    }

    fn scan(&mut self, renewal: &Renewal, nonce: u64) {
        let now = self.now;
        if let Some(entry) = self.cache.get_mut(&nonce)
            && entry.1 > renewal.above
        {
            entry.0 = now;
        }
    }

    fn end_renewal(&mut self, renewal: &Renewal) {
        self.floor.end_renewal(renewal, secs(self.now));
        self.floor.advance(secs(self.now), self.passed);
    }

    /// A round of the timer.
    fn renew(&mut self) -> bool {
        let Some(renewal) = self.begin_renewal() else {
            return false;
        };
        for nonce in self.cache.keys().copied().collect::<Vec<_>>() {
            self.scan(&renewal, nonce);
        }
        self.end_renewal(&renewal);
        true
    }
}

#[test]
fn what_was_stamped_at_or_before_the_start_is_below_the_floor() {
    let mut gateway = Gateway::new(START);
    for t in [START - 1, START] {
        assert!(!gateway.admits(t) && !gateway.accepts(1, t));
    }
    assert!(gateway.accepts(1, START + 1));
}

#[test]
fn a_claim_is_remembered_until_the_floor_takes_its_place() {
    let mut gateway = Gateway::new(0);
    gateway.to(9, LATER);
    assert!(gateway.accepts(1, START));
    gateway.to(DUE - 1, LATER);
    assert!(gateway.remembers(1, START));
    gateway.to(DUE, LATER);
    assert!(!gateway.admits(START) && gateway.admits(START + 1));
    assert!(gateway.cache.contains_key(&1), "the floor rose before");
}

#[test]
fn the_floor_rises_to_everything_before_the_time_to_live_is_over() {
    const { assert!(LIMIT < TIME_TO_LIVE.as_secs()) };
    let mut gateway = Gateway::new(0);
    assert!(gateway.accepts(1, START));
    // No timestamp has left the window, and no renewal runs.
    gateway.to(LIMIT - 1, 0);
    assert!(gateway.remembers(1, START));
    gateway.to(LIMIT, 0);
    assert!(!gateway.admits(START) && gateway.cache.contains_key(&1));
}

#[test]
fn the_floor_never_falls() {
    let mut gateway = Gateway::new(0);
    assert!(gateway.accepts(1, START + 500));
    gateway.to(10, LATER);
    assert!(gateway.accepts(2, START));
    gateway.to(10_000, LATER);
    assert!(!gateway.admits(START));
    assert_eq!(gateway.floor.level(), START + 500);
}

#[test]
fn what_came_last_does_not_wait_for_less_because_much_is_due() {
    let mut gateway = Gateway::new(0);
    assert!(gateway.accepts(1, START));
    gateway.to(5000, LATER);
    assert!(gateway.accepts(2, START + 1));
    assert!(gateway.remembers(2, START + 1));
    gateway.to(5000 + DUE - 1, LATER);
    assert!(gateway.remembers(2, START + 1));
}

#[test]
fn a_claim_that_sleeps_for_longer_than_its_bucket_lives_is_refused() {
    for sleep in [DUE, LIMIT, 10_000] {
        let mut gateway = Gateway::new(0);
        let looked = gateway.look(1, START + 100).unwrap();
        // The end of the bucket raises the floor to the claim.
        gateway.to(sleep, LATER);
        let claim = gateway.insert(looked).unwrap();
        assert!(!gateway.look_again(claim), "after {sleep} s");
    }
}

#[test]
fn a_wall_clock_that_jumps_ahead_and_returns_does_not_raise_it_at_once() {
    let mut gateway = Gateway::new(START);
    gateway.to(5, START + 1_000_000 - 301);
    assert!(gateway.accepts(1, START + 1_000_000));
    gateway.to(6, START - 300);
    assert!(gateway.admits(START + 6));
}

#[test]
fn what_a_clock_that_was_ahead_let_in_is_remembered_until_it_has_left_the_window() {
    let mut gateway = Gateway::new(START);
    let (early, honest) = (START + 3600, START + 5);
    gateway.to(5, START);
    assert!(gateway.accepts(1, early) && gateway.accepts(2, honest));
    for now in [625, 1250, 1875] {
        let passed = START + now - 301;
        gateway.to(now, passed);
        assert!(gateway.renew(), "at {now}");
        assert!(gateway.remembers(1, early));
        assert!(gateway.admits(passed + 1), "honest machines are let in");
        assert!(!gateway.admits(honest), "what is forgotten is not");
        assert!(!gateway.renew(), "once is enough");
    }
    gateway.to(1875 + LIMIT, START + 3649);
    assert!(!gateway.admits(early));
}

#[test]
fn a_renewal_that_comes_too_late_raises_the_floor_to_everything() {
    let mut gateway = Gateway::new(START);
    assert!(gateway.accepts(1, START + 3600));
    gateway.to(DUE, START);
    assert!(gateway.accepts(2, START + 5000));
    let renewal = gateway.begin_renewal().unwrap();
    gateway.to(LIMIT, START);
    gateway.end_renewal(&renewal);
    assert_eq!(gateway.floor.level(), START + 5000);
}

#[test]
fn a_claim_that_sleeps_for_less_than_the_margin_through_a_renewal_is_covered_by_its_bucket() {
    let mut gateway = Gateway::new(START);
    assert!(gateway.accepts(1, START + 3600));
    gateway.to(DUE - 1, START);
    let looked = gateway.look(2, START + 3600).unwrap();
    gateway.to(DUE, START);
    assert!(gateway.renew());
    let claim = gateway.insert(looked).unwrap();
    assert!(gateway.look_again(claim));
    gateway.to(DUE + LIMIT - 1, START);
    assert!(gateway.remembers(2, START + 3600));
    gateway.to(DUE + LIMIT, START);
    assert!(!gateway.admits(START + 3600));
    assert!(gateway.cache.contains_key(&2), "the floor rose before");
}

#[test]
fn a_claim_that_stalls_between_the_clock_of_the_cache_and_its_table_is_refused() {
    let mut gateway = Gateway::new(START);
    assert!(gateway.accepts(1, START + 3600));
    gateway.to(575, START);
    let looked = gateway.look(2, START + 3600).unwrap();
    let begun = gateway.begin_insertion(looked).unwrap();
    // The scan of a renewal does not see the entry.
    gateway.to(DUE, START);
    assert!(gateway.renew());
    let claim = gateway.end_insertion(575, begun);
    assert!(!gateway.look_again(claim));
    // The cache forgets the entry before the bucket of the renewal raises the floor.
    gateway.to(575 + TIME_TO_LIVE.as_secs(), START);
    assert!(gateway.accepts(2, START + 3600), "the first time");
}

#[test]
fn a_time_to_live_without_an_end_forgets_nothing() {
    let mut floor = Floor::new(0, Duration::MAX);
    floor.cover(secs(0), START);
    floor.advance(secs(u64::from(u32::MAX)), LATER);
    assert!(floor.admits(at(START)) && floor.greatest() == START);
}

#[test]
fn a_monotonic_time_at_its_end_does_not_overflow() {
    let mut floor = Floor::new(0, TIME_TO_LIVE);
    floor.cover(Duration::MAX, START);
    floor.advance(Duration::MAX, LATER);
    assert!(floor.admits(at(START)) && floor.greatest() == START);
}

proptest! {
    /// A wall clock that jumps at will, claims and renewals that sleep between their steps, and
    /// requests that are repeated at will: no (nonce, timestamp) passes twice.
    #[test]
    fn nothing_passes_twice_whatever_the_wall_clock_does(
        steps in proptest::collection::vec(
            (0u64..300, 0u8..6, -1000i64..1000, -3000i64..3000, 0u8..8), 1..400,
        )
    ) {
        let mut gateway = Gateway::new(START);
        let mut asked: Vec<(u64, u64)> = Vec::new();
        let mut accepted: Vec<(u64, u64)> = Vec::new();
        let mut pending: Vec<Pending> = Vec::new();
        let mut renewal: Option<Renewal> = None;
        let mut now = 0;
        for (pause, nonce, skew, off, step) in steps {
            // Half of the steps follow at once.
            now += if off % 2 == 0 { 0 } else { pause };
            gateway.to(now, (START + now - 301).saturating_add_signed(off));
            let t = (START + now).saturating_add_signed(skew);
            // Half of the claims repeat an earlier request.
            let (nonce, t) = match asked.get(usize::from(nonce)) {
                Some(earlier) if skew % 2 == 0 => *earlier,
                _ => (u64::from(nonce), t),
            };
            let next = usize::try_from(pause).unwrap() % pending.len().max(1);
            match (step, &renewal) {
                (0..3, _) => {
                    asked.push((nonce, t));
                    pending.extend(gateway.look(nonce, t));
                }
                (3..6, _) if next < pending.len() => {
                    let claim = pending.swap_remove(next);
                    let is_copy = |other: &Pending| {
                        other.nonce == claim.nonce && matches!(other.step, Step::Inserting(_))
                    };
                    match claim.step {
                        // The cache lets one copy at a time insert.
                        Step::Looked if pending.iter().any(is_copy) => pending.push(claim),
                        Step::Looked => pending.extend(gateway.begin_insertion(claim)),
                        Step::Inserting(read) => pending.push(gateway.end_insertion(read, claim)),
                        Step::Inserted if gateway.look_again(claim) => {
                            let request = (claim.nonce, claim.stamp);
                            prop_assert!(!accepted.contains(&request), "passed twice");
                            accepted.push(request);
                        }
                        Step::Inserted => {}
                    }
                }
                (6, None) => renewal = gateway.begin_renewal(),
                (_, Some(under_way)) => {
                    // All that is there, when the scan goes by.
                    for nonce in gateway.cache.keys().copied().collect::<Vec<_>>() {
                        gateway.scan(under_way, nonce);
                    }
                    gateway.end_renewal(under_way);
                    renewal = None;
                }
                _ => {}
            }
        }
    }

    #[test]
    fn an_honest_machine_is_never_below_the_floor(
        pauses in proptest::collection::vec(0u64..120, 1..200), skew in -300i64..=300
    ) {
        // Window of 300 s both ways, and a wall clock that keeps time.
        let mut gateway = Gateway::new(START - 300);
        let mut now = 0;
        for (n, pause) in (0..).zip(pauses) {
            now += pause;
            let wall = START + now;
            gateway.to(now, wall - 301);
            prop_assert!(gateway.admits((wall + 1).saturating_add_signed(skew)));
            prop_assert!(!gateway.renew(), "nothing to renew");
            prop_assert!(gateway.accepts(n, wall + 300));
        }
    }

    /// A wall clock that is ahead for less than the time to live, and is then set right.
    #[test]
    fn a_clock_that_was_wrong_shuts_no_honest_machine_out_when_it_is_right_again(
        ahead in 1u64..100_000, wrong_for in 0u64..DUE,
        pauses in proptest::collection::vec(0u64..25, 1..400), skew in -300i64..=300
    ) {
        let mut gateway = Gateway::new(START - 300);
        let mut now = 0;
        for (n, pause) in (0..).zip(pauses) {
            now += pause;
            let right = START + now;
            let wrong = now < wrong_for;
            let wall = if wrong { right + ahead } else { right };
            gateway.to(now, wall - 301);
            gateway.renew();
            if !wrong {
                prop_assert!(gateway.admits((right + 1).saturating_add_signed(skew)));
            }
            prop_assert!(gateway.accepts(n, wall + 300));
        }
    }
}
