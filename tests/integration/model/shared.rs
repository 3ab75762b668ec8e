//! Two gateways and one shared store.
//!
//! The store is one Redis or Valkey primary: `SET .. NX PX`, atomic, and it forgets by itself when
//! the time to live is over. So one clock does take part here, the store's: a claim counts only if
//! its timestamp lies in the window, widened by the margin, by that clock, in the transaction that
//! set the key. No gateway's clock matters, and so the model has none.
//!
//! The local sets are left out, as if each gateway had forgotten all: what the store and the
//! floors do not refuse, passes. One request is enough for that.

use stateright::{Model, Property};

use super::{ONCE, holds, is_found_out};

/// The timestamp of the request.
const STAMP: u8 = 4;
/// The store's clock shows 0 to this; at the end the request is out of the widened window.
const LATEST: u8 = 8;
/// The window, both ways, and how far a gateway's clock may be from the store's.
const PAST: u8 = 1;
const FUTURE: u8 = 1;
const MARGIN: u8 = 1;
/// `PX`: from the first moment at which a timestamp counts to the last, both included. The bounds
/// are inclusive and times whole seconds, hence the one more.
const TIME_TO_LIVE: u8 = PAST + FUTURE + 2 * MARGIN + 1;
/// How often the store restarts in a way that loses something.
const LOSSES: u8 = 2;

/// Two gateways with `store: redis`.
#[derive(Clone, Copy)]
struct Shared {
    /// `appendfsync always`: what the store acknowledged survives its restart.
    durable: bool,
    broken: Option<Mutation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// A replica takes over that had not heard of the last writes, and passes for its primary.
    FailoverToAStaleReplica,
    /// An empty store is a new one, and no reason to raise a floor.
    EmptyIsNew,
    /// Only the gateway that finds the store empty raises its floor; the epoch does not tell the
    /// others.
    EpochTellsNoFloor,
    /// The floor of a new epoch is the time + future, without the margin.
    FloorWithoutTheMargin,
    /// A store that is not durable is trusted after its restart: its epoch is still there.
    LossIsNotNoticed,
    /// `PX` = past + future + 2 x margin, and not a second more.
    TimeToLiveWithoutTheLastSecond,
    /// The window is looked at before the claim, and not in its transaction.
    WindowOnlyBeforeTheClaim,
    /// The claim asks and sets in two steps: no `NX`.
    NotAtomic,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    store: Store,
    gateways: [Gateway; 2],
    /// How often the request has been accepted, over both gateways.
    accepted: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Store {
    /// Its clock, which `TIME` tells.
    time: u8,
    /// The time left to the entry of the request, if it holds it: the shared part of `S`.
    entry: Option<u8>,
    /// The epoch key: present as long as the contents are. The first to find none writes it.
    epoch: Option<Epoch>,
    /// The life of the process (`run_id`), and when it began.
    life: u8,
    began: u8,
}

/// Written once, when the store was empty: whatever passed before is stamped no later than `floor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Epoch {
    /// Random in truth; here it is the life in which it was written.
    name: u8,
    floor: u8,
}

/// All of it dies with the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Gateway {
    /// `L`, as far as the store raised it.
    floor: u8,
    /// The life in which it met the store last.
    known: Option<u8>,
    /// The epoch of the connection it has, if it has one.
    link: Option<u8>,
    /// A copy of the request is past clause 1, and perhaps asleep.
    claim: Option<Claim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Claim {
    /// What a mutation saw before it slept.
    seen: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// A tick of the store's clock.
    Tick,
    /// A copy of the request arrives at a gateway.
    Look(usize),
    /// The gateway's transaction: set the key, tell the epoch and the time. If the answer gets
    /// lost, the request is refused, which is no worse than that it never arrived.
    Ask(usize),
    /// The process of a gateway dies and starts again.
    Crash(usize),
    /// A gateway connects to the store.
    Connect(usize),
    /// The store restarts; where it is not durable, without its last writes.
    RestartStore,
    /// The store restarts empty.
    EmptyStore,
    /// See [`Mutation::FailoverToAStaleReplica`].
    Failover,
}

/// The greatest timestamp that can have passed by this time.
fn ceiling(time: u8) -> u8 {
    time + FUTURE + MARGIN
}

impl Store {
    /// Clause 2, by the store's clock.
    fn counts(&self) -> bool {
        self.time <= STAMP + PAST + MARGIN && STAMP <= ceiling(self.time)
    }

    fn begin_a_life(&mut self) {
        self.life += 1;
        self.began = self.time;
        self.entry = None;
    }
}

impl Shared {
    fn is(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    fn look(&self, state: &mut State, at: usize) -> Option<()> {
        let (store, gateway) = (&state.store, &mut state.gateways[at]);
        let passes = gateway.link.is_some() && gateway.claim.is_none() && STAMP > gateway.floor;
        let seen = if self.is(Mutation::WindowOnlyBeforeTheClaim) {
            Some(store.counts())
        } else {
            self.is(Mutation::NotAtomic)
                .then_some(store.entry.is_none())
        };
        gateway.claim = Some(passes.then_some(Claim { seen })?);
        Some(())
    }

    /// Clauses 3 and 5 are the store's; clause 2 holds in the same instant. Clause 4 holds too:
    /// the floor only rises on a new connection, and this one is still good.
    fn ask(&self, state: &mut State, at: usize) -> Option<()> {
        let (store, gateway) = (&mut state.store, &mut state.gateways[at]);
        let Claim { seen } = gateway.claim.take()?;
        let mut fresh = store.entry.is_none();
        let mut counts = store.counts();
        if self.is(Mutation::WindowOnlyBeforeTheClaim) {
            counts = seen?;
        } else if self.is(Mutation::NotAtomic) {
            fresh = seen?;
        }
        if fresh {
            let less = u8::from(self.is(Mutation::TimeToLiveWithoutTheLastSecond));
            store.entry = Some(TIME_TO_LIVE - less);
        }
        let same_epoch = store.epoch.map(|epoch| epoch.name) == gateway.link;
        state.accepted += u8::from(fresh && counts && same_epoch);
        Some(())
    }

    /// A gateway asks what the store may have forgotten, and raises its floor past that.
    fn connect(&self, state: &mut State, at: usize) {
        let (store, gateway) = (&mut state.store, &mut state.gateways[at]);
        let mut lost = match gateway.known {
            _ if self.durable || self.is(Mutation::LossIsNotNoticed) => 0,
            Some(life) if life == store.life => 0,
            Some(_) => ceiling(store.time),
            // What it forgot, it forgot when it began.
            None => ceiling(store.began),
        };
        let horizon = match self.broken {
            Some(Mutation::EmptyIsNew) => 0,
            Some(Mutation::FloorWithoutTheMargin) => store.time + FUTURE,
            _ => ceiling(store.time),
        };
        let tells = !self.is(Mutation::EpochTellsNoFloor);
        if store.epoch.is_none() && !tells {
            lost = lost.max(horizon);
        }
        let epoch = *store.epoch.get_or_insert(Epoch {
            name: store.life,
            floor: if tells { horizon } else { 0 },
        });
        gateway.floor = gateway.floor.max(epoch.floor).max(lost);
        gateway.known = Some(store.life);
        gateway.link = Some(epoch.name);
    }

    fn restart_store(&self, state: &mut State, action: &Action) -> Option<()> {
        let loses = *action == Action::EmptyStore || !self.durable;
        match action {
            Action::Failover => state.store.entry = None,
            _ if loses && state.store.life == LOSSES => return None,
            _ if loses => state.store.begin_a_life(),
            _ => {}
        }
        if *action == Action::EmptyStore {
            state.store.epoch = None;
        }
        for gateway in &mut state.gateways {
            gateway.link = None;
            gateway.claim = None;
        }
        Some(())
    }
}

impl Model for Shared {
    type State = State;
    type Action = Action;

    /// The store is new, and so are the gateways: the first to connect writes the epoch.
    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Tick, Action::RestartStore, Action::EmptyStore]);
        if self.is(Mutation::FailoverToAStaleReplica) {
            actions.push(Action::Failover);
        }
        for (at, gateway) in state.gateways.iter().enumerate() {
            actions.push(Action::Crash(at));
            actions.push(match gateway.claim {
                _ if gateway.link.is_none() => Action::Connect(at),
                None => Action::Look(at),
                Some(_) => Action::Ask(at),
            });
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => {
                let store = &mut state.store;
                store.time = Some(store.time + 1).filter(|&time| time <= LATEST)?;
                store.entry = store.entry.map(|left| left - 1).filter(|&left| left > 0);
            }
            Action::Look(at) => self.look(&mut state, at)?,
            Action::Ask(at) => self.ask(&mut state, at)?,
            Action::Crash(at) => state.gateways[at] = Gateway::default(),
            Action::Connect(at) => self.connect(&mut state, at),
            Action::RestartStore | Action::EmptyStore | Action::Failover => {
                self.restart_store(&mut state, &action)?;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Shared>> {
        vec![
            Property::always(ONCE, |_, state: &State| state.accepted <= 1),
            Property::always(
                "nobody is shut out for longer than the future window and the margin",
                |_, state: &State| {
                    let longest = ceiling(state.store.time);
                    state
                        .gateways
                        .iter()
                        .all(|gateway| gateway.floor <= longest)
                },
            ),
            Property::sometimes("the request is accepted", |_, state: &State| {
                state.accepted == 1
            }),
            Property::sometimes(
                "the request is accepted after the store was emptied",
                |_, state: &State| {
                    state.accepted == 1
                        && state.store.epoch.is_some_and(|epoch| epoch.name > 0)
                        && state.store.entry.is_some()
                },
            ),
        ]
    }
}

#[test]
fn nothing_passes_twice_at_two_gateways_with_one_durable_store() {
    holds(Shared {
        durable: true,
        broken: None,
    });
}

#[test]
fn nothing_passes_twice_at_two_gateways_with_one_store_that_loses_its_last_writes() {
    holds(Shared {
        durable: false,
        broken: None,
    });
}

#[test]
fn a_failover_to_a_stale_replica_is_found_out() {
    is_found_out(broken(Mutation::FailoverToAStaleReplica));
}

#[test]
fn an_empty_store_that_passes_for_a_new_one_is_found_out() {
    is_found_out(broken(Mutation::EmptyIsNew));
}

#[test]
fn an_epoch_that_does_not_tell_its_floor_is_found_out() {
    is_found_out(broken(Mutation::EpochTellsNoFloor));
}

#[test]
fn a_floor_of_a_new_epoch_without_the_margin_is_found_out() {
    is_found_out(broken(Mutation::FloorWithoutTheMargin));
}

#[test]
fn a_store_that_is_not_durable_and_is_trusted_after_its_restart_is_found_out() {
    is_found_out(Shared {
        durable: false,
        broken: Some(Mutation::LossIsNotNoticed),
    });
}

#[test]
fn a_time_to_live_that_is_a_second_short_is_found_out() {
    is_found_out(broken(Mutation::TimeToLiveWithoutTheLastSecond));
}

#[test]
fn a_claim_that_sleeps_after_its_look_at_the_window_is_found_out() {
    is_found_out(broken(Mutation::WindowOnlyBeforeTheClaim));
}

#[test]
fn a_claim_that_asks_and_sets_in_two_steps_is_found_out() {
    is_found_out(broken(Mutation::NotAtomic));
}

fn broken(mutation: Mutation) -> Shared {
    Shared {
        durable: true,
        broken: Some(mutation),
    }
}
