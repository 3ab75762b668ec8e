//! A revoked machine at two gateways that share one database.
//!
//! A gateway decides in memory. It reads the database's changes at least once each poll interval,
//! and remembers when it last knew the state: it is as stale as that is old. It writes a snapshot
//! with that moment, from which it starts when the database is away. Beyond `max_stale` it refuses
//! everything. Connections may be cut, gateways may crash, and an old snapshot may be put back.

use stateright::{Model, Property};

use super::{breaks, holds};

/// Time goes from 0 to this.
const LATEST: u8 = 5;
/// The longest time between two polls of a gateway that reaches the database.
const POLL: u8 = 1;
/// Crashes and cuts of one run.
const FAILURES: u8 = 2;

const BOUND: &str = "a revoked machine is refused everywhere within the bound";
const CLOSED: &str = "a stale gateway refuses everything";

#[derive(Clone, Copy)]
struct Revocation {
    /// 0: no snapshot is used, and a lost database refuses everything at the next poll.
    max_stale: u8,
    broken: Option<Mutation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// Changes are learnt by notifications alone, which are lost with the connection.
    OnlyNotifications,
    /// A new connection counts as knowledge, before the changes are read.
    ConnectedIsKnowing,
    /// The age of what is known is not looked at.
    StaleIsServed,
    /// A start from the snapshot makes it new.
    SnapshotIsAsOldAsTheStart,
    /// The snapshot is used however old it is.
    AnySnapshotIsUsed,
    /// A replica takes over that has not heard of the revocation.
    FailoverToAStaleReplica,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    time: u8,
    /// When the machine was revoked.
    revoked: Option<u8>,
    /// Whether the database has the revocation.
    is_stored: bool,
    gateways: [Gateway; 2],
    failures: u8,
    /// The machine passed after the bound.
    passed_late: bool,
    /// The machine passed at a gateway that was too stale.
    passed_stale: bool,
    /// The machine passed after its revocation, within the bound.
    passed_within: bool,
    /// The machine passed at a gateway that had started from its snapshot.
    passed_by_snapshot: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Gateway {
    /// Since when the database is reached.
    linked: Option<u8>,
    /// `None`: it started without a state, and is not ready.
    known: Option<Known>,
    /// The file.
    snapshot: Known,
    /// Whether it started from the snapshot.
    is_from_snapshot: bool,
}

/// What a gateway knows of the machine, and the moment at which that was the database's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    is_revoked: bool,
    at: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Revoke,
    /// The machine sends a request to a gateway.
    Request(usize),
    Poll(usize),
    Cut(usize),
    Mend(usize),
    /// The process dies and starts again.
    Restart(usize),
    /// The last snapshot from before the revocation is put back, its checksum and all.
    PutBack(usize),
    Failover,
}

impl Revocation {
    fn is(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    /// The longest time for which a state counts. A cut is noticed at the next poll.
    fn limit(&self) -> u8 {
        self.max_stale.max(POLL)
    }

    fn is_fresh(&self, known: Known, time: u8) -> bool {
        time - known.at <= self.limit()
    }

    fn request(&self, state: &mut State, at: usize) -> Option<()> {
        let gateway = state.gateways[at].clone();
        let known = gateway.known?;
        let is_fresh = self.is_fresh(known, state.time);
        if known.is_revoked || !(is_fresh || self.is(Mutation::StaleIsServed)) {
            return None;
        }
        state.passed_stale |= !is_fresh;
        state.passed_by_snapshot |= gateway.is_from_snapshot;
        if let Some(revoked) = state.revoked {
            let by_link = gateway.linked.map(|since| since.max(revoked) + POLL);
            let bound = by_link.unwrap_or(u8::MAX).min(revoked + self.limit());
            match state.time > bound {
                true => state.passed_late = true,
                false => state.passed_within = true,
            }
        }
        Some(())
    }

    fn poll(&self, state: &mut State, at: usize) {
        let (time, stored) = (state.time, state.is_stored);
        let gateway = &mut state.gateways[at];
        let is_revoked = match gateway.known {
            Some(known) if self.is(Mutation::OnlyNotifications) => known.is_revoked,
            _ => stored,
        };
        gateway.learn(Known {
            is_revoked,
            at: time,
        });
    }

    fn restart(&self, state: &mut State, at: usize) {
        let time = state.time;
        let snapshot = state.gateways[at].snapshot;
        state.gateways[at].known = None;
        if state.gateways[at].linked.is_some() {
            return self.poll(state, at);
        }
        let counts = self.is_fresh(snapshot, time) || self.is(Mutation::AnySnapshotIsUsed);
        if self.max_stale == 0 || !counts {
            return;
        }
        let at_start = match self.broken {
            Some(Mutation::SnapshotIsAsOldAsTheStart) => time,
            // Else the age refuses it at the first request.
            Some(Mutation::AnySnapshotIsUsed) => time,
            _ => snapshot.at,
        };
        state.gateways[at].known = Some(Known {
            at: at_start,
            ..snapshot
        });
        state.gateways[at].snapshot.at = at_start;
        state.gateways[at].is_from_snapshot = true;
    }

    fn fail(state: &mut State) -> Option<()> {
        state.failures += 1;
        (state.failures <= FAILURES).then_some(())
    }
}

impl Gateway {
    fn new() -> Gateway {
        let known = Known {
            is_revoked: false,
            at: 0,
        };
        Gateway {
            linked: Some(0),
            known: Some(known),
            snapshot: known,
            is_from_snapshot: false,
        }
    }

    fn learn(&mut self, known: Known) {
        self.known = Some(known);
        self.is_from_snapshot = false;
        self.snapshot = known;
    }
}

impl Model for Revocation {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            time: 0,
            revoked: None,
            is_stored: false,
            gateways: [Gateway::new(), Gateway::new()],
            failures: 0,
            passed_late: false,
            passed_stale: false,
            passed_within: false,
            passed_by_snapshot: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Tick, Action::Revoke]);
        if self.is(Mutation::FailoverToAStaleReplica) {
            actions.push(Action::Failover);
        }
        for (at, gateway) in state.gateways.iter().enumerate() {
            actions.extend([
                Action::Request(at),
                Action::Restart(at),
                Action::PutBack(at),
            ]);
            match gateway.linked {
                Some(_) => actions.extend([Action::Poll(at), Action::Cut(at)]),
                None => actions.push(Action::Mend(at)),
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => {
                // A gateway that reaches the database polls before its interval is over.
                let is_due = |gateway: &Gateway| {
                    let at = gateway.known.map(|known| known.at);
                    gateway.linked.is_some() && at.is_none_or(|at| at + POLL <= state.time)
                };
                if state.time == LATEST || state.gateways.iter().any(is_due) {
                    return None;
                }
                state.time += 1;
            }
            Action::Revoke => {
                if state.revoked.is_some() {
                    return None;
                }
                state.revoked = Some(state.time);
                state.is_stored = true;
                if self.is(Mutation::OnlyNotifications) {
                    let listening = state.gateways.iter_mut();
                    for gateway in listening.filter(|gateway| gateway.linked.is_some()) {
                        let known = gateway.known.as_mut();
                        known.into_iter().for_each(|known| known.is_revoked = true);
                    }
                }
            }
            Action::Request(at) => self.request(&mut state, at)?,
            Action::Poll(at) => self.poll(&mut state, at),
            Action::Cut(at) => {
                Revocation::fail(&mut state)?;
                state.gateways[at].linked = None;
            }
            Action::Mend(at) => {
                let time = state.time;
                let gateway = &mut state.gateways[at];
                gateway.linked = Some(time);
                if self.is(Mutation::ConnectedIsKnowing)
                    && let Some(known) = &mut gateway.known
                {
                    // And it polls for later changes alone.
                    known.at = time;
                }
            }
            Action::Restart(at) => {
                Revocation::fail(&mut state)?;
                self.restart(&mut state, at);
            }
            Action::PutBack(at) => {
                let snapshot = &mut state.gateways[at].snapshot;
                if !snapshot.is_revoked {
                    return None;
                }
                *snapshot = Known {
                    is_revoked: false,
                    at: snapshot.at.min(state.revoked?),
                };
            }
            Action::Failover => {
                Revocation::fail(&mut state)?;
                state.is_stored = false;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Revocation>> {
        vec![
            Property::always(BOUND, |_, state: &State| !state.passed_late),
            Property::always(CLOSED, |_, state: &State| !state.passed_stale),
            Property::sometimes(
                "the machine passes for a while after its revocation",
                |_, state: &State| state.passed_within,
            ),
            Property::sometimes(
                "a gateway serves from its snapshot, if it may",
                |model: &Revocation, state: &State| {
                    model.max_stale == 0 || state.passed_by_snapshot
                },
            ),
            Property::sometimes(
                "a gateway without the database refuses everything in the end",
                |model: &Revocation, state: &State| {
                    let mut gateways = state.gateways.iter();
                    gateways.any(|gateway| {
                        let is_old = |known| !model.is_fresh(known, state.time);
                        gateway.linked.is_none() && gateway.known.is_none_or(is_old)
                    })
                },
            ),
            Property::sometimes(
                "a revoked machine is known everywhere",
                |_, state: &State| {
                    let knows = |gateway: &Gateway| gateway.known.is_some_and(|it| it.is_revoked);
                    state.gateways.iter().all(knows)
                },
            ),
        ]
    }
}

fn holding(max_stale: u8) -> Revocation {
    Revocation {
        max_stale,
        broken: None,
    }
}

fn broken(mutation: Mutation) -> Revocation {
    Revocation {
        max_stale: 2,
        broken: Some(mutation),
    }
}

#[test]
fn a_revoked_machine_is_refused_everywhere_within_the_bound() {
    holds(holding(2));
}

#[test]
fn without_a_stale_time_the_bound_is_the_poll() {
    holds(holding(0));
}

#[test]
fn changes_that_only_notifications_tell_are_found_out() {
    breaks(broken(Mutation::OnlyNotifications), BOUND);
}

#[test]
fn a_connection_that_passes_for_knowledge_is_found_out() {
    breaks(broken(Mutation::ConnectedIsKnowing), BOUND);
}

#[test]
fn a_stale_gateway_that_goes_on_is_found_out() {
    breaks(broken(Mutation::StaleIsServed), CLOSED);
}

#[test]
fn a_snapshot_that_is_new_with_every_start_is_found_out() {
    breaks(broken(Mutation::SnapshotIsAsOldAsTheStart), BOUND);
}

#[test]
fn a_snapshot_of_any_age_is_found_out() {
    breaks(broken(Mutation::AnySnapshotIsUsed), BOUND);
}

#[test]
fn a_failover_to_a_replica_without_the_revocation_is_found_out() {
    breaks(broken(Mutation::FailoverToAStaleReplica), BOUND);
}
