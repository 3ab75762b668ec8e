//! One process: pauses between the steps of a claim, copies at once, a wall clock that is set
//! back and forth, and a cache that drops an entry by itself when its time to live is over.
//!
//! Two clocks run. The wall clock decides the window and may be set to anything. The monotonic
//! clock cannot be set; it is seen only as ages, of entries and of the buckets of the ring.

use stateright::{Model, Property};

use super::{ONCE, holds, is_found_out};

/// The timestamps of the two requests there are.
const STAMPS: [u8; 2] = [2, 3];
const REQUESTS: usize = STAMPS.len();

/// The wall clock shows 0 to this.
const LATEST: u8 = 4;
/// The window, both ways.
const PAST: u8 = 1;
const FUTURE: u8 = 1;
/// Age at which the cache drops an entry: more than the window is wide.
const TIME_TO_LIVE: u8 = 4;
/// Age at which a bucket of the ring ends, before any entry that it covers can be dropped: it
/// raises the floor, or its entries begin anew.
const BUCKET_LIVES: u8 = TIME_TO_LIVE - 1;
/// Claims under way at once.
const TASKS: usize = 2;

/// One gateway without a disk.
#[derive(Clone, Copy, Default)]
struct Memory {
    broken: Option<Mutation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// Entries live as long as the window is wide, and nothing raises the floor.
    RetentionIsTheWindow,
    /// Clause 4 is missing.
    NoSecondLookAtTheFloor,
    /// The floor is the lower end of the window: it falls when the wall clock does.
    FloorFollowsTheWallClock,
    /// The ring hears of a claim after the insertion, not before it.
    CoveredAfterTheInsertion,
    /// A claim does not notice that others began anew while it slept.
    RenewalsGoUnnoticed,
    /// What may still come back is forgotten, and the floor not raised.
    RenewalInNameOnly,
    /// Clause 3 looks first and inserts later.
    InsertionIsNotAtomic,
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
    /// The ring: the age of the bucket that remembers the claim of each request.
    ring: [Option<u8>; REQUESTS],
    /// Claims under way, in no order of importance.
    tasks: Vec<Task>,
    /// How often each request has been accepted. All that an observer sees.
    accepted: [u8; REQUESTS],
    /// The later request began anew before the earlier was accepted.
    renewed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Task {
    request: usize,
    step: Step,
    /// The age of the bucket that covers it.
    bucket: u8,
    /// Others began anew since its first look.
    disturbed: bool,
}

/// What a claim has behind it. It may pause for any time after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    /// Clauses 1 and 2, and a bucket covers it. Whether `S` held it is of interest to a mutation
    /// only.
    Looked { absent: bool },
    /// Clause 3.
    Inserted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// A tick of both clocks.
    Tick,
    /// Somebody, or NTP, sets the wall clock.
    Set(u8),
    /// A copy of the request arrives and takes the first look.
    Look(usize),
    /// The task at this place goes on.
    Go(usize),
}

impl Memory {
    fn is(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    fn time_to_live(&self) -> u8 {
        match self.is(Mutation::RetentionIsTheWindow) {
            true => PAST + FUTURE,
            false => TIME_TO_LIVE,
        }
    }

    /// Brings the floor up to date; done under the lock at each look, so that the look counts.
    fn advance(&self, state: &mut State) {
        if self.is(Mutation::RetentionIsTheWindow) {
            return;
        }
        if self.is(Mutation::FloorFollowsTheWallClock) {
            state.floor = state.wall.saturating_sub(PAST + 1);
            return;
        }
        for (request, stamp) in STAMPS.into_iter().enumerate() {
            if state.ring[request].is_none_or(|age| age < BUCKET_LIVES) {
                continue;
            }
            if stamp + PAST < state.wall {
                state.ring[request] = None;
                state.floor = state.floor.max(stamp);
                continue;
            }
            // The clock was set back since: it may still come, and others are to be let in.
            state.ring[request] = Some(0);
            if !self.is(Mutation::RenewalInNameOnly) {
                state.spent[request] = Some(0);
            }
            for task in &mut state.tasks {
                task.disturbed = !self.is(Mutation::RenewalsGoUnnoticed);
            }
            state.renewed |= request == 1 && state.accepted[0] == 0;
        }
    }

    fn in_window(&self, state: &State, stamp: u8) -> bool {
        self.is(Mutation::NoWindow) || (state.wall <= stamp + PAST && stamp <= state.wall + FUTURE)
    }

    fn look(&self, state: &mut State, request: usize) -> Option<Task> {
        let stamp = STAMPS[request];
        self.advance(state);
        if stamp <= state.floor || !self.in_window(state, stamp) {
            return None;
        }
        let absent = state.spent[request].is_none();
        let absent = absent && self.is(Mutation::InsertionIsNotAtomic);
        Some(Task {
            request,
            step: Step::Looked { absent },
            bucket: 0,
            disturbed: false,
        })
    }

    fn insert(&self, state: &mut State, task: Task, absent: bool) -> Option<Task> {
        let fresh = state.spent[task.request].is_none() || absent;
        let step = Step::Inserted;
        fresh.then(|| {
            state.spent[task.request] = Some(0);
            Task { step, ..task }
        })
    }

    /// The last of the tasks looks again; it is one of them until it has, so that it hears of what
    /// its own look brings about.
    fn look_again(&self, state: &mut State) {
        self.advance(state);
        let Some(task) = state.tasks.pop() else {
            return;
        };
        let (request, mut bucket) = (task.request, task.bucket);
        if self.is(Mutation::CoveredAfterTheInsertion) {
            bucket = 0;
        }
        let undisturbed = bucket < BUCKET_LIVES && !task.disturbed;
        let admitted = undisturbed && STAMPS[request] > state.floor;
        if admitted || self.is(Mutation::NoSecondLookAtTheFloor) {
            state.accepted[request] += 1;
            state.ring[request] = Some(bucket);
        }
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
        if state.tasks.len() < TASKS {
            actions.extend((0..REQUESTS).map(Action::Look));
        }
        actions.extend((0..state.tasks.len()).map(Action::Go));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => {
                state.wall = LATEST.min(state.wall + 1);
                for entry in &mut state.spent {
                    *entry = entry
                        .map(|age| age + 1)
                        .filter(|&age| age < self.time_to_live());
                }
                let covers = state.tasks.iter_mut().map(|task| &mut task.bucket);
                for age in state.ring.iter_mut().flatten().chain(covers) {
                    *age = BUCKET_LIVES.min(*age + 1);
                }
            }
            Action::Set(to) => state.wall = to,
            Action::Look(request) => {
                let task = self.look(&mut state, request);
                state.tasks.extend(task);
            }
            Action::Go(task) => {
                let task = state.tasks.remove(task);
                match task.step {
                    Step::Looked { absent } => {
                        let next = self.insert(&mut state, task, absent);
                        state.tasks.extend(next);
                    }
                    Step::Inserted => {
                        state.tasks.push(task);
                        self.look_again(&mut state);
                    }
                }
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
            Property::sometimes(
                "nor when what the wrong clock let in has come of age",
                |_, state: &State| state.renewed && state.accepted == [1, 1],
            ),
        ]
    }
}

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
fn a_retention_of_just_the_window_is_found_out() {
    is_found_out(broken(Mutation::RetentionIsTheWindow));
}

#[test]
fn a_task_that_sleeps_before_its_insertion_and_does_not_look_again_is_found_out() {
    is_found_out(broken(Mutation::NoSecondLookAtTheFloor));
}

#[test]
fn a_floor_that_falls_with_the_wall_clock_is_found_out() {
    is_found_out(broken(Mutation::FloorFollowsTheWallClock));
}

#[test]
fn a_ring_that_hears_of_a_timestamp_after_the_insertion_is_found_out() {
    is_found_out(broken(Mutation::CoveredAfterTheInsertion));
}

#[test]
fn a_claim_that_does_not_notice_a_renewal_is_found_out() {
    is_found_out(broken(Mutation::RenewalsGoUnnoticed));
}

#[test]
fn a_claim_that_is_forgotten_because_it_may_come_back_is_found_out() {
    is_found_out(broken(Mutation::RenewalInNameOnly));
}

#[test]
fn an_insertion_in_two_steps_is_found_out() {
    is_found_out(broken(Mutation::InsertionIsNotAtomic));
}

fn broken(mutation: Mutation) -> Memory {
    Memory {
        broken: Some(mutation),
    }
}
