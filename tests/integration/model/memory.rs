//! One process: copies at once, pauses between the steps of a claim, a wall clock that is set back
//! and forth, and a cache that forgets an entry by itself when its time to live is over.
//!
//! Two clocks run. The wall clock decides the window and may be set to anything. The monotonic
//! clock cannot be set; it is seen only as ages, of entries and of the buckets of the floor's ring.

use stateright::{Checker, Model, Property};

use super::{ONCE, holds, is_found_out};

/// The timestamps of the two requests there are.
const STAMPS: [u8; 2] = [2, 3];
const REQUESTS: usize = STAMPS.len();

/// The wall clock shows 0 to this; at the end the earlier request has left the window.
const LATEST: u8 = 4;
/// The window, both ways.
const PAST: u8 = 1;
const FUTURE: u8 = 1;
/// Age at which a bucket raises the floor to what has left the window: as the window is wide.
const DUE: usize = (PAST + FUTURE) as usize;
/// Age at which it raises the floor to everything.
const LIMIT: usize = DUE + 1;
/// Age at which the cache forgets an entry.
const TIME_TO_LIVE: u8 = LIMIT as u8 + 1;
/// The longest that a claim may take from its first look to its second.
const STALL: u8 = TIME_TO_LIVE - LIMIT as u8;
/// Claims under way at once.
const CLAIMS: usize = 2;

/// One gateway without a disk.
#[derive(Clone, Copy, Default)]
struct Memory {
    broken: Option<Mutation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// What is due is forgotten, and nothing raises the floor.
    FloorIsNotRaised,
    /// The cache forgets when a bucket is due, and not after its limit.
    ForgottenBeforeTheFloorRose,
    /// The floor rises to the timestamp of the earlier request, whichever is forgotten.
    FloorIsRaisedTooLittle,
    /// The floor is the lower end of the window: it falls when the wall clock does.
    FloorFollowsTheWallClock,
    /// What may still come back is forgotten, and the floor not raised.
    RenewalInNameOnly,
    /// What may still come back is forgotten, and the floor is raised to it. Nothing passes twice,
    /// but honest machines are shut out.
    NoRenewal,
    /// What may still come back is taken out, put back later, and somebody comes in between.
    RenewalInTwoSteps,
    /// The bucket that is to cover what is renewed hears nothing of it.
    RenewalIsNotCovered,
    /// A renewal that ends when entries may have been forgotten counts as if it had come in time.
    RenewalMayBeLate,
    /// The set is looked at first, and inserted into later.
    InsertionIsNotAtomic,
    /// A claim is accepted however long it took.
    ClaimMayStall,
    /// The floor and the window are looked at first, and the set later.
    FloorIsLookedAtOnlyBefore,
    /// Clause 2 is missing. This one is no mistake: see the test.
    NoWindow,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// The wall clock.
    wall: u8,
    /// `L`.
    floor: u8,
    /// `S`: the age of the entry of each request.
    spent: [Option<u8>; REQUESTS],
    /// The ring: the greatest timestamp of the bucket of each age, zero where there is none.
    ring: [u8; LIMIT + 1],
    /// Claims under way, in no order of importance.
    claims: Vec<Claim>,
    renewal: Option<Renewal>,
    /// How often each request has been accepted. All that an observer sees.
    accepted: [u8; REQUESTS],
    /// The later request came of age, by a clock that was set back, before the earlier was
    /// accepted.
    came_of_age: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Claim {
    request: usize,
    step: Step,
    /// The time since the first look, at most [`STALL`].
    waited: u8,
}

impl Claim {
    fn is_inserting(&self) -> bool {
        matches!(self.step, Step::Inserting { .. })
    }
}

/// A claim may pause after each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    /// Clauses 1 and 2, and a bucket covers it. Whether `S` lacked it is of interest to one
    /// mutation only.
    Looked { absent: bool },
    /// Clause 3 holds, and no copy can insert meanwhile. The cache has read its clock, and nobody
    /// sees the entry yet. The entry has this age.
    Inserting { age: u8 },
    /// Everybody sees the entry.
    Inserted,
}

/// A renewal has begun. Its scan goes by all entries at once: they do not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Renewal {
    above: u8,
    /// The ages of the bucket that covers what is renewed, and of the oldest when it began.
    into: usize,
    oldest: usize,
    scanned: bool,
    /// What a mutation took out.
    taken: [bool; REQUESTS],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// A tick of both clocks.
    Tick,
    /// Somebody, or NTP, sets the wall clock.
    Set(u8),
    /// A copy of the request arrives and takes the first look.
    Look(usize),
    /// The claim at this place goes on.
    Go(usize),
    /// The timer finds something to renew.
    BeginRenewal,
    /// Its scan goes by.
    Scan,
    EndRenewal,
}

impl Memory {
    fn is(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    fn time_to_live(&self) -> u8 {
        match self.is(Mutation::ForgottenBeforeTheFloorRose) {
            true => DUE as u8 - 1,
            false => TIME_TO_LIVE,
        }
    }

    fn in_window(&self, state: &State, stamp: u8) -> bool {
        self.is(Mutation::NoWindow) || (state.wall <= stamp + PAST && stamp <= state.wall + FUTURE)
    }

    /// Brings the floor up to date; done under the lock at each look, so that the look counts.
    fn advance(&self, state: &mut State) {
        if self.is(Mutation::FloorFollowsTheWallClock) {
            state.floor = state.wall.saturating_sub(PAST + 1);
            return;
        }
        for age in (DUE..=LIMIT).rev() {
            let greatest = state.ring[age];
            let early = greatest > passed(state).max(state.floor);
            if early && age < LIMIT && !self.is(Mutation::NoRenewal) {
                return;
            }
            state.came_of_age |= early && greatest == STAMPS[1] && state.accepted[0] == 0;
            state.ring[age] = 0;
            state.floor = match self.broken {
                Some(Mutation::FloorIsNotRaised) => state.floor,
                Some(Mutation::FloorIsRaisedTooLittle) => state.floor.max(greatest.min(STAMPS[0])),
                _ => state.floor.max(greatest),
            };
        }
    }

    fn look(&self, state: &mut State, request: usize) -> Option<()> {
        let stamp = STAMPS[request];
        self.advance(state);
        if stamp <= state.floor || !self.in_window(state, stamp) {
            return None;
        }
        state.ring[0] = state.ring[0].max(stamp);
        let absent = self.is(Mutation::InsertionIsNotAtomic) && state.spent[request].is_none();
        state.claims.push(Claim {
            request,
            step: Step::Looked { absent },
            waited: 0,
        });
        Some(())
    }

    fn go(&self, state: &mut State, claim: Claim) -> Option<()> {
        let Claim { request, step, .. } = claim;
        let stamp = STAMPS[request];
        match step {
            Step::Looked { absent } => {
                let is_copy = |other: &Claim| other.request == request && other.is_inserting();
                if !absent && state.claims.iter().any(is_copy) {
                    return None;
                }
                // The loser has been refused, whatever it leaves behind.
                if absent || state.spent[request].is_none() {
                    let step = Step::Inserting { age: 0 };
                    state.claims.push(Claim { step, ..claim });
                }
            }
            Step::Inserting { age } => {
                state.spent[request] = Some(age).filter(|&age| age < self.time_to_live());
                let step = Step::Inserted;
                state.claims.push(Claim { step, ..claim });
            }
            Step::Inserted => {
                self.advance(state);
                if stamp > state.floor || self.is(Mutation::FloorIsLookedAtOnlyBefore) {
                    state.accepted[request] += 1;
                }
            }
        }
        Some(())
    }

    fn begin_renewal(&self, state: &mut State) -> Option<()> {
        self.advance(state);
        let oldest = (DUE..=LIMIT).rfind(|&age| state.ring[age] > 0)?;
        if !self.is(Mutation::RenewalIsNotCovered) {
            state.ring[0] = greatest(state);
        }
        state.renewal = Some(Renewal {
            above: passed(state).max(state.floor),
            into: 0,
            oldest,
            scanned: false,
            taken: [false; REQUESTS],
        });
        Some(())
    }

    fn scan(&self, state: &mut State) -> Option<()> {
        let renewal = state.renewal.as_mut().filter(|renewal| !renewal.scanned)?;
        renewal.scanned = true;
        for (request, entry) in state.spent.iter_mut().enumerate() {
            if STAMPS[request] <= renewal.above || entry.is_none() {
                continue;
            }
            state.came_of_age |= request == 1 && state.accepted[0] == 0;
            renewal.taken[request] = self.is(Mutation::RenewalInTwoSteps);
            match self.broken {
                Some(Mutation::RenewalInNameOnly) => {}
                Some(Mutation::RenewalInTwoSteps) => *entry = None,
                _ => *entry = Some(0),
            }
        }
        Some(())
    }

    fn end_renewal(&self, state: &mut State) -> Option<()> {
        let renewal = state.renewal.filter(|renewal| renewal.scanned)?;
        state.renewal = None;
        for (entry, taken) in state.spent.iter_mut().zip(renewal.taken) {
            if taken {
                *entry = Some(0);
            }
        }
        if renewal.oldest >= LIMIT && !self.is(Mutation::RenewalMayBeLate) {
            state.floor = state.floor.max(greatest(state));
            return Some(());
        }
        for bucket in &mut state.ring[renewal.into + 1..] {
            *bucket = (*bucket).min(renewal.above);
        }
        Some(())
    }
}

/// What is stamped at or below it has left the window, by the wall clock.
fn passed(state: &State) -> u8 {
    state.wall.saturating_sub(PAST + 1)
}

fn greatest(state: &State) -> u8 {
    state.ring.into_iter().fold(0, u8::max)
}

fn older(age: usize) -> usize {
    LIMIT.min(age + 1)
}

fn tick(state: &mut State, time_to_live: u8, may_stall: bool) {
    state.wall = LATEST.min(state.wall + 1);
    for entry in &mut state.spent {
        *entry = entry.map(|age| age + 1).filter(|&age| age < time_to_live);
    }
    // What has come to its limit stays there until somebody looks.
    let mut ring = state.ring;
    ring.copy_within(0..LIMIT, 1);
    ring[LIMIT] = ring[LIMIT].max(state.ring[LIMIT]);
    state.ring = ring;
    state.ring[0] = 0;
    // A claim that takes longer is refused. The entry that it leaves can only refuse others.
    (state.claims).retain(|claim| claim.waited < STALL || may_stall);
    for claim in &mut state.claims {
        claim.waited = STALL.min(claim.waited + 1);
        if let Step::Inserting { age } = &mut claim.step {
            *age = (*age + 1).min(TIME_TO_LIVE);
        }
    }
    if let Some(renewal) = &mut state.renewal {
        renewal.into = older(renewal.into);
        renewal.oldest = older(renewal.oldest);
    }
}

impl Model for Memory {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        actions.extend((0..=LATEST).filter(|&to| to != state.wall).map(Action::Set));
        if state.claims.len() < CLAIMS {
            actions.extend((0..REQUESTS).map(Action::Look));
        }
        actions.extend((0..state.claims.len()).map(Action::Go));
        if state.renewal.is_none() {
            actions.push(Action::BeginRenewal);
        } else {
            actions.push(Action::Scan);
            actions.push(Action::EndRenewal);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => {
                let may_stall = self.is(Mutation::ClaimMayStall);
                tick(&mut state, self.time_to_live(), may_stall);
            }
            Action::Set(to) => state.wall = to,
            Action::Look(request) => self.look(&mut state, request)?,
            Action::Go(claim) => {
                let claim = state.claims.remove(claim);
                self.go(&mut state, claim)?;
            }
            Action::BeginRenewal => self.begin_renewal(&mut state)?,
            Action::Scan => self.scan(&mut state)?,
            Action::EndRenewal => self.end_renewal(&mut state)?,
        }
        state.claims.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Memory>> {
        vec![
            Property::always(ONCE, |_, state: &State| {
                state.accepted.iter().all(|&times| times <= 1)
            }),
            Property::always(
                "at each look, what was accepted is remembered or lies below the floor",
                |model, state: &State| {
                    let mut next = state.clone();
                    model.advance(&mut next);
                    (0..REQUESTS).all(|request| {
                        state.accepted[request] == 0
                            || next.spent[request].is_some()
                            || STAMPS[request] <= next.floor
                    })
                },
            ),
            Property::sometimes("every request is accepted", |_, state: &State| {
                state.accepted == [1; REQUESTS]
            }),
            Property::sometimes(
                "a clock that was ahead and is set right shuts nobody out",
                |_, state: &State| {
                    // The honest request came after the one that the wrong clock let in.
                    let [honest, early] = state.spent;
                    honest.is_some()
                        && honest < early
                        && state.wall == STAMPS[0]
                        && state.accepted == [1, 1]
                },
            ),
            Property::sometimes(COME_OF_AGE, |_, state: &State| {
                state.came_of_age && state.accepted == [1, 1]
            }),
        ]
    }
}

const COME_OF_AGE: &str = "nor when what the wrong clock let in has come of age";

#[test]
fn nothing_passes_twice_in_one_process_whatever_the_clock_does() {
    holds(Memory::default());
}

/// The window only bounds what has to be remembered: the argument takes no clock on trust.
#[test]
fn nothing_passes_twice_even_without_a_window() {
    holds(broken(Mutation::NoWindow));
}

#[test]
fn a_floor_that_is_not_raised_is_found_out() {
    is_found_out(broken(Mutation::FloorIsNotRaised));
}

#[test]
fn a_claim_that_is_forgotten_before_the_floor_rose_is_found_out() {
    is_found_out(broken(Mutation::ForgottenBeforeTheFloorRose));
}

#[test]
fn a_floor_that_is_raised_to_less_than_what_is_forgotten_is_found_out() {
    is_found_out(broken(Mutation::FloorIsRaisedTooLittle));
}

#[test]
fn a_floor_that_falls_with_the_wall_clock_is_found_out() {
    is_found_out(broken(Mutation::FloorFollowsTheWallClock));
}

#[test]
fn a_claim_that_is_forgotten_because_it_may_come_back_is_found_out() {
    is_found_out(broken(Mutation::RenewalInNameOnly));
}

#[test]
fn a_renewal_that_no_bucket_covers_is_found_out() {
    is_found_out(broken(Mutation::RenewalIsNotCovered));
}

#[test]
fn a_renewal_that_may_be_late_is_found_out() {
    is_found_out(broken(Mutation::RenewalMayBeLate));
}

#[test]
fn a_renewal_in_two_steps_is_found_out() {
    is_found_out(broken(Mutation::RenewalInTwoSteps));
}

/// Nothing passes twice, but what renewal is there for is out of reach.
#[test]
fn without_renewal_a_clock_that_was_ahead_shuts_honest_machines_out() {
    let model = broken(Mutation::NoRenewal);
    let checker = model.checker().spawn_bfs().join();
    checker.assert_no_discovery(ONCE);
    checker.assert_no_discovery(COME_OF_AGE);
}

#[test]
fn an_insertion_in_two_steps_is_found_out() {
    is_found_out(broken(Mutation::InsertionIsNotAtomic));
}

#[test]
fn a_claim_that_stalls_while_it_is_inserted_is_found_out() {
    is_found_out(broken(Mutation::ClaimMayStall));
}

#[test]
fn a_look_at_the_floor_long_before_the_insertion_is_found_out() {
    is_found_out(broken(Mutation::FloorIsLookedAtOnlyBefore));
}

fn broken(mutation: Mutation) -> Memory {
    Memory {
        broken: Some(mutation),
    }
}
