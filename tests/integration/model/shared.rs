//! Two gateways, one shared store, and clocks that differ.
//!
//! The store is one Redis or Valkey primary: `SET .. NX PX`, atomic, and it forgets by itself when
//! the time to live is over. So clocks do take part here, within bounds that are checked: a
//! gateway whose wall clock is further from the store's `TIME` than the margin accepts nothing.
//!
//! The local sets are left out, as if each gateway had forgotten all: what the store and the
//! floors do not refuse, passes. One request is enough for that.

use stateright::{Model, Property};

use super::{ONCE, holds, is_found_out};

/// The timestamp of the request.
const STAMP: u8 = 4;
/// The store's clock shows 0 to this; at the end the request is out of every window.
const LATEST: u8 = 7;
/// The window, both ways.
const PAST: u8 = 1;
const FUTURE: u8 = 1;
/// How far a gateway's wall clock may be from the store's.
const MARGIN: u8 = 1;
/// What a gateway's wall clock may be off by: within the margin, at its ends, beyond it.
const OFFSETS: [i8; 3] = [-1, 1, 2];
/// `PX`: from the earliest moment a gateway accepts the request to the latest one, both included.
/// The bounds are inclusive and timestamps whole seconds, hence the one more.
const TIME_TO_LIVE: u8 = PAST + FUTURE + 2 * MARGIN + 1;
/// Epochs of the store: it is emptied once less.
const MOST_EPOCHS: u8 = 2;

/// Two gateways with `store: redis`.
#[derive(Clone, Copy, Default)]
struct Shared {
    broken: Option<Mutation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// A replica takes over that had not heard of the last writes. Its epoch is the same.
    FailoverToAStaleReplica,
    /// A gateway does not look at the epoch when it connects again.
    EpochIgnored,
    /// The epoch is noted before the floor that goes with it, and the process dies in between.
    EpochIsSavedWithoutTheFloor,
    /// The floor rises to the gateway's own time + future, without the margin.
    FloorWithoutTheMargin,
    /// `PX` = past + future + 2 x margin, and not a second more.
    TimeToLiveWithoutTheLastSecond,
    /// The window is looked at before the claim, and not again after the store's answer.
    NoSecondLookAtTheWindow,
    /// Gateways do not compare clocks with the store.
    ClocksNotCompared,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// The store's clock, which `TIME` tells.
    time: u8,
    /// The time left to the entry of the request, if the store holds it.
    entry: Option<u8>,
    /// The epoch key. A store that has lost its data has none until the first gateway writes one.
    epoch: Option<u8>,
    epochs: u8,
    gateways: [Gateway; 2],
    /// How often the request has been accepted, over both gateways.
    accepted: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Gateway {
    /// Its wall clock is so far ahead of the store's.
    offset: i8,
    /// `L`, saved in `state_dir`.
    floor: u8,
    /// The epoch it remembers, saved together with the floor.
    epoch: Option<u8>,
    connected: bool,
    claim: Claim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Claim {
    None,
    /// Clauses 1 and 2.
    Looked,
    /// And the store has answered that the nonce was fresh: clauses 3 and 5.
    Answered,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// A tick of all clocks.
    Tick,
    /// A gateway's wall clock is set, or has drifted.
    Set(usize, i8),
    /// A copy of the request arrives.
    Look(usize),
    /// The claim goes on by a step.
    Go(usize),
    /// The process of a gateway dies and starts again.
    Crash(usize),
    /// A gateway connects to the store again.
    Connect(usize),
    /// The store restarts with its data: `appendfsync always`.
    RestartStore,
    /// The store restarts empty.
    EmptyStore,
    /// See [`Mutation::FailoverToAStaleReplica`].
    Failover,
}

impl Gateway {
    fn new() -> Gateway {
        Gateway {
            offset: OFFSETS[0],
            floor: 0,
            epoch: Some(0),
            connected: true,
            claim: Claim::None,
        }
    }

    fn wall(&self, time: u8) -> u8 {
        time.saturating_add_signed(self.offset)
    }

    fn in_window(&self, time: u8) -> bool {
        let wall = self.wall(time);
        wall <= STAMP + PAST && STAMP <= wall + FUTURE
    }

    /// A broken connection: no answer will come, and doubt is refusal. An answer that has come
    /// already counts.
    fn disconnect(&mut self) {
        self.connected = false;
        if self.claim == Claim::Looked {
            self.claim = Claim::None;
        }
    }
}

impl Shared {
    fn is(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    fn trusts_its_clock(&self, gateway: &Gateway) -> bool {
        gateway.offset.unsigned_abs() <= MARGIN || self.is(Mutation::ClocksNotCompared)
    }

    fn go(&self, state: &mut State, at: usize) -> Option<()> {
        let gateway = &mut state.gateways[at];
        match gateway.claim {
            Claim::None => return None,
            Claim::Looked => {
                let fresh = state.entry.is_none();
                gateway.claim = Claim::None;
                if fresh {
                    let less = u8::from(self.is(Mutation::TimeToLiveWithoutTheLastSecond));
                    state.entry = Some(TIME_TO_LIVE - less);
                    gateway.claim = Claim::Answered;
                }
            }
            // Clause 4, and clause 2 again: the store forgets by its clock, so the insertion
            // only counts if it came before the end of the window.
            Claim::Answered => {
                gateway.claim = Claim::None;
                let in_time = gateway.in_window(state.time) && self.trusts_its_clock(gateway);
                if STAMP > gateway.floor && (in_time || self.is(Mutation::NoSecondLookAtTheWindow))
                {
                    state.accepted += 1;
                }
            }
        }
        Some(())
    }

    /// A store whose epoch is not the one remembered has forgotten. Whatever any gateway accepted
    /// before that was stamped no later than its clock + future; so the floor rises to there.
    fn connect(&self, state: &mut State, at: usize) {
        let gateway = &mut state.gateways[at];
        let epoch = *state.epoch.get_or_insert(state.epochs);
        if gateway.epoch != Some(epoch) && !self.is(Mutation::EpochIgnored) {
            let horizon = match self.is(Mutation::FloorWithoutTheMargin) {
                true => gateway.wall(state.time) + FUTURE,
                false => state.time + MARGIN + FUTURE,
            };
            gateway.floor = gateway.floor.max(horizon);
            gateway.epoch = Some(epoch);
        }
        gateway.connected = true;
    }
}

impl Model for Shared {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            time: 0,
            entry: None,
            epoch: Some(0),
            epochs: 0,
            gateways: [Gateway::new(), Gateway::new()],
            accepted: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Tick, Action::RestartStore, Action::EmptyStore]);
        if self.is(Mutation::FailoverToAStaleReplica) {
            actions.push(Action::Failover);
        }
        for (at, gateway) in state.gateways.iter().enumerate() {
            actions.extend(OFFSETS.map(|offset| Action::Set(at, offset)));
            actions.extend([Action::Go(at), Action::Crash(at)]);
            actions.push(match gateway.connected {
                true => Action::Look(at),
                false => Action::Connect(at),
            });
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => {
                state.time = Some(state.time + 1).filter(|&time| time <= LATEST)?;
                state.entry = state.entry.map(|left| left - 1).filter(|&left| left > 0);
            }
            Action::Set(at, offset) => state.gateways[at].offset = offset,
            Action::Look(at) => {
                let gateway = &mut state.gateways[at];
                let passes = STAMP > gateway.floor
                    && gateway.in_window(state.time)
                    && self.trusts_its_clock(gateway)
                    && gateway.claim == Claim::None;
                gateway.claim = passes.then_some(Claim::Looked)?;
            }
            Action::Go(at) => self.go(&mut state, at)?,
            Action::Crash(at) => {
                let gateway = &mut state.gateways[at];
                gateway.disconnect();
                gateway.claim = Claim::None;
                if self.is(Mutation::EpochIsSavedWithoutTheFloor) {
                    gateway.floor = 0;
                }
            }
            Action::Connect(at) => self.connect(&mut state, at),
            Action::RestartStore | Action::EmptyStore | Action::Failover => {
                state.gateways.iter_mut().for_each(Gateway::disconnect);
                if action == Action::EmptyStore {
                    state.epochs = Some(state.epochs + 1).filter(|&n| n < MOST_EPOCHS)?;
                    state.epoch = None;
                }
                if action != Action::RestartStore {
                    state.entry = None;
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Shared>> {
        vec![
            Property::always(ONCE, |_, state: &State| state.accepted <= 1),
            Property::always(
                "an empty store shuts nobody out for longer than the future window and the margin",
                |_, state: &State| {
                    state
                        .gateways
                        .iter()
                        .all(|gateway| gateway.floor <= state.time + FUTURE + MARGIN)
                },
            ),
            Property::sometimes("the request is accepted", |_, state: &State| {
                state.accepted == 1
            }),
            Property::sometimes(
                "it is accepted after the store was emptied",
                |_, state: &State| {
                    state.epochs > 0
                        && state
                            .gateways
                            .iter()
                            .all(|gateway| gateway.epoch == state.epoch)
                        && state.gateways.iter().any(|gateway| {
                            gateway.claim == Claim::Answered
                                && gateway.floor > 0
                                && STAMP > gateway.floor
                        })
                },
            ),
        ]
    }
}

#[test]
fn nothing_passes_twice_at_two_gateways_with_one_store() {
    holds(Shared::default());
}

#[test]
fn a_failover_to_a_stale_replica_is_found_out() {
    is_found_out(broken(Mutation::FailoverToAStaleReplica));
}

#[test]
fn a_gateway_that_does_not_ask_whether_the_store_forgot_is_found_out() {
    is_found_out(broken(Mutation::EpochIgnored));
}

#[test]
fn an_epoch_saved_without_the_floor_that_goes_with_it_is_found_out() {
    is_found_out(broken(Mutation::EpochIsSavedWithoutTheFloor));
}

#[test]
fn a_floor_raised_by_the_gateways_own_clock_without_the_margin_is_found_out() {
    is_found_out(broken(Mutation::FloorWithoutTheMargin));
}

#[test]
fn a_time_to_live_that_is_a_second_short_is_found_out() {
    is_found_out(broken(Mutation::TimeToLiveWithoutTheLastSecond));
}

#[test]
fn a_claim_that_sleeps_and_does_not_look_at_the_window_again_is_found_out() {
    is_found_out(broken(Mutation::NoSecondLookAtTheWindow));
}

#[test]
fn clocks_that_nobody_compares_are_found_out() {
    is_found_out(broken(Mutation::ClocksNotCompared));
}

fn broken(mutation: Mutation) -> Shared {
    Shared {
        broken: Some(mutation),
    }
}
