//! One process: copies at once, a wall clock that is set back and forth, and claims that are
//! forgotten one by one, late, when somebody comes by.
//!
//! A claim is one critical section, and so is each step of forgetting. So they are one action each;
//! the mutations take them apart.
//!
//! Two clocks run. The wall clock decides the window and may be set to anything. The monotonic
//! clock cannot be set; it is seen only as the age of what is remembered.

use stateright::{Checker, Model, Property};

use super::{ONCE, holds, is_found_out};

/// The timestamps of the two requests there are.
const STAMPS: [u8; 2] = [2, 3];
const REQUESTS: usize = STAMPS.len();

/// The wall clock shows 0 to this; at the end both requests have left the window.
const LATEST: u8 = 5;
/// The window, both ways.
const PAST: u8 = 1;
const FUTURE: u8 = 1;
/// Age at which a claim is due to be forgotten: more than the window is wide.
const KEPT: u8 = PAST + FUTURE + 1;
/// Claims or steps of forgetting under way at once, where a mutation takes them apart.
const TASKS: usize = 2;

/// One gateway without a disk.
#[derive(Clone, Copy, Default)]
struct Memory {
    broken: Option<Mutation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// What is due is forgotten, and nothing raises the floor.
    FloorIsNotRaised,
    /// The floor is raised after the claim is forgotten, and somebody comes in between.
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
    /// The set is looked at first, and inserted into later.
    InsertionIsNotAtomic,
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
    /// `S`: the age of the claim of each request.
    spent: [Option<u8>; REQUESTS],
    /// How often each request has been accepted. All that an observer sees.
    accepted: [u8; REQUESTS],
    /// The later request came of age, by a clock that was set back, before the earlier was
    /// accepted.
    came_of_age: bool,
    /// What a mutation has begun and not ended, in no order of importance.
    tasks: Vec<Task>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Task {
    /// A claim has looked; whether the set held the request is of interest to one mutation only.
    Insert { request: usize, absent: bool },
    /// A claim was forgotten, and the floor is still to be raised.
    Raise(usize),
    /// A claim was taken out, and is still to be put back.
    PutBack(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// A tick of both clocks.
    Tick,
    /// Somebody, or NTP, sets the wall clock.
    Set(u8),
    /// A copy of the request arrives.
    Claim(usize),
    /// Somebody comes by, and the claim of the request is due. The gateway forgets in the order of
    /// insertion; that it does is of no importance.
    Forget(usize),
    /// What stands at this place goes on.
    Go(usize),
}

impl Memory {
    fn is(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    fn in_window(&self, state: &State, stamp: u8) -> bool {
        self.is(Mutation::NoWindow) || (state.wall <= stamp + PAST && stamp <= state.wall + FUTURE)
    }

    fn claim(&self, state: &mut State, request: usize) -> Option<()> {
        let stamp = STAMPS[request];
        if self.is(Mutation::FloorFollowsTheWallClock) {
            state.floor = state.wall.saturating_sub(PAST + 1);
        }
        if stamp <= state.floor || !self.in_window(state, stamp) {
            return None;
        }
        let absent = state.spent[request].is_none();
        if self.is(Mutation::InsertionIsNotAtomic) && absent {
            begin(state, Task::Insert { request, absent })
        } else if self.is(Mutation::FloorIsLookedAtOnlyBefore) {
            let absent = false;
            begin(state, Task::Insert { request, absent })
        } else {
            insert(state, request, absent)
        }
    }

    /// One step of forgetting.
    fn forget(&self, state: &mut State, request: usize) -> Option<()> {
        let stamp = STAMPS[request];
        state.spent[request].filter(|&age| age >= KEPT)?;
        state.spent[request] = None;
        let passed = stamp + PAST < state.wall || stamp <= state.floor;
        state.came_of_age |= !passed && request == 1 && state.accepted[0] == 0;
        match self.broken {
            Some(Mutation::NoRenewal) => state.floor = state.floor.max(stamp),
            // The clock was set back since: it may still come, and others are to be let in.
            _ if !passed => match self.broken {
                Some(Mutation::RenewalInNameOnly) => {}
                Some(Mutation::RenewalInTwoSteps) => begin(state, Task::PutBack(request))?,
                _ => state.spent[request] = Some(0),
            },
            Some(Mutation::FloorIsNotRaised | Mutation::FloorFollowsTheWallClock) => {}
            Some(Mutation::ForgottenBeforeTheFloorRose) => begin(state, Task::Raise(request))?,
            Some(Mutation::FloorIsRaisedTooLittle) => state.floor = state.floor.max(STAMPS[0]),
            _ => state.floor = state.floor.max(stamp),
        }
        Some(())
    }
}

fn begin(state: &mut State, task: Task) -> Option<()> {
    (state.tasks.len() < TASKS).then(|| state.tasks.push(task))
}

fn insert(state: &mut State, request: usize, absent: bool) -> Option<()> {
    absent.then(|| {
        state.spent[request] = Some(0);
        state.accepted[request] += 1;
    })
}

fn go(state: &mut State, task: Task) -> Option<()> {
    match task {
        Task::Insert { request, absent } => {
            let absent = absent || state.spent[request].is_none();
            insert(state, request, absent)?;
        }
        Task::Raise(request) => state.floor = state.floor.max(STAMPS[request]),
        Task::PutBack(request) => state.spent[request] = Some(0),
    }
    Some(())
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
        actions.extend((0..REQUESTS).map(Action::Claim));
        actions.extend((0..REQUESTS).map(Action::Forget));
        actions.extend((0..state.tasks.len()).map(Action::Go));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => {
                state.wall = LATEST.min(state.wall + 1);
                for age in state.spent.iter_mut().flatten() {
                    *age = KEPT.min(*age + 1);
                }
            }
            Action::Set(to) => state.wall = to,
            Action::Claim(request) => self.claim(&mut state, request)?,
            Action::Forget(request) => self.forget(&mut state, request)?,
            Action::Go(task) => {
                let task = state.tasks.remove(task);
                go(&mut state, task)?;
            }
        }
        state.tasks.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Memory>> {
        vec![
            Property::always(ONCE, |_, state: &State| {
                state.accepted.iter().all(|&times| times <= 1)
            }),
            Property::always(
                "what was accepted is remembered or lies below the floor",
                |_, state: &State| {
                    (0..REQUESTS).all(|request| {
                        state.accepted[request] == 0
                            || state.spent[request].is_some()
                            || STAMPS[request] <= state.floor
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
fn a_look_at_the_floor_long_before_the_insertion_is_found_out() {
    is_found_out(broken(Mutation::FloorIsLookedAtOnlyBefore));
}

fn broken(mutation: Mutation) -> Memory {
    Memory {
        broken: Some(mutation),
    }
}
