//! A token at several gateways that share one database.
//!
//! A gateway enrols a machine in one transaction: it locks the token, looks whether a use is left
//! and whether the key is new, counts the use and inserts the machine. It answers 200 after the
//! commit. Gateways, the database and connections may fail between any two steps. A client that got
//! no answer asks again, at any gateway, with the same key.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use super::{breaks, holds};

/// Machines that ask for the token's two uses.
const CLIENTS: u8 = 3;
const MAX_USES: u8 = 2;
/// Failures of gateways and of the database in one run.
const FAILURES: u8 = 3;

const AT_MOST: &str = "a token enrols at most max_uses machines";
const NO_HALF: &str = "a use is counted if and only if its machine is there";
const NO_LOSS: &str = "a machine that was answered 200 is there";

#[derive(Clone, Copy)]
struct Enrolment {
    broken: Option<Mutation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// Each gateway counts the uses in its own memory.
    CountedByTheGateway,
    /// The token is read without a lock, and written later.
    ReadWithoutALock,
    /// The use is counted in one transaction, the machine inserted in the next.
    TwoTransactions,
    /// The answer goes out before the commit.
    AnsweredBeforeTheCommit,
    /// The database acknowledges a commit before it is on disk.
    CommitIsNotDurable,
    /// A key that is known is no reason to refuse, so a client that asks again takes a second use.
    KnownKeyIsTaken,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    database: Database,
    /// The last state that is on disk; another one only with [`Mutation::CommitIsNotDurable`].
    on_disk: Database,
    /// The gateway whose transaction holds the lock of the token.
    lock: Option<usize>,
    gateways: [Gateway; 2],
    /// The clients that got 200.
    answered: BTreeSet<u8>,
    /// The clients that were told that their key is known.
    told_known: BTreeSet<u8>,
    failures: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Database {
    uses: u8,
    machines: BTreeSet<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Gateway {
    step: Step,
    /// Only with [`Mutation::CountedByTheGateway`].
    counted: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Idle,
    /// A request of this client has arrived.
    Asked(u8),
    /// The transaction has read the uses of the token, and whether the key is known.
    Read { client: u8, uses: u8, known: bool },
    /// The use is counted, the machine is not there yet.
    Counted(u8),
    /// The machine is there, the client does not know it.
    Committed(u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Ask(u8, usize),
    Read(usize),
    Commit(usize),
    Answer(usize),
    CrashGateway(usize),
    CrashDatabase,
    /// The database writes its last commits to disk.
    Flush,
}

impl Enrolment {
    fn is(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    /// The transaction begins: the lock, then the row.
    fn read(&self, state: &mut State, at: usize) -> Option<()> {
        let Step::Asked(client) = state.gateways[at].step else {
            return None;
        };
        if !self.is(Mutation::ReadWithoutALock) {
            if state.lock.is_some() {
                return None;
            }
            state.lock = Some(at);
        }
        let uses = match self.is(Mutation::CountedByTheGateway) {
            true => state.gateways[at].counted,
            false => state.database.uses,
        };
        let known = state.database.machines.contains(&client);
        state.gateways[at].step = Step::Read {
            client,
            uses,
            known,
        };
        if self.is(Mutation::AnsweredBeforeTheCommit) && uses < MAX_USES && !known {
            state.answered.insert(client);
        }
        Some(())
    }

    /// The transaction ends: with the use and the machine, or without both.
    fn commit(&self, state: &mut State, at: usize) -> Option<()> {
        match state.gateways[at].step {
            Step::Read {
                client,
                uses,
                known,
            } => {
                if known && !self.is(Mutation::KnownKeyIsTaken) {
                    state.told_known.insert(client);
                    state.gateways[at].step = Step::Idle;
                } else if uses >= MAX_USES {
                    state.gateways[at].step = Step::Idle;
                } else {
                    state.database.uses = match self.is(Mutation::CountedByTheGateway) {
                        true => state.database.uses + 1,
                        false => uses + 1,
                    };
                    state.gateways[at].counted += 1;
                    state.gateways[at].step = match self.is(Mutation::TwoTransactions) {
                        true => Step::Counted(client),
                        false => {
                            state.database.machines.insert(client);
                            Step::Committed(client)
                        }
                    };
                }
            }
            Step::Counted(client) => {
                state.database.machines.insert(client);
                state.gateways[at].step = Step::Committed(client);
            }
            _ => return None,
        }
        if state.lock == Some(at) {
            state.lock = None;
        }
        if !self.is(Mutation::CommitIsNotDurable) {
            state.on_disk = state.database.clone();
        }
        Some(())
    }

    /// A failure: what was not committed is rolled back.
    fn fail(state: &mut State) -> Option<()> {
        state.failures += 1;
        (state.failures <= FAILURES).then_some(())
    }
}

impl Model for Enrolment {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, gateway) in state.gateways.iter().enumerate() {
            actions.push(Action::CrashGateway(at));
            match gateway.step {
                Step::Idle => actions.extend((0..CLIENTS).map(|client| Action::Ask(client, at))),
                Step::Asked(_) => actions.push(Action::Read(at)),
                Step::Read { .. } | Step::Counted(_) => actions.push(Action::Commit(at)),
                Step::Committed(_) => actions.push(Action::Answer(at)),
            }
        }
        actions.push(Action::CrashDatabase);
        if state.on_disk != state.database {
            actions.push(Action::Flush);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Ask(client, at) => {
                if state.answered.contains(&client) {
                    return None;
                }
                state.gateways[at].step = Step::Asked(client);
            }
            Action::Read(at) => self.read(&mut state, at)?,
            Action::Commit(at) => self.commit(&mut state, at)?,
            Action::Answer(at) => {
                let Step::Committed(client) = state.gateways[at].step else {
                    return None;
                };
                state.answered.insert(client);
                state.gateways[at].step = Step::Idle;
            }
            Action::CrashGateway(at) => {
                Enrolment::fail(&mut state)?;
                state.gateways[at] = Gateway::default();
                if state.lock == Some(at) {
                    state.lock = None;
                }
            }
            Action::CrashDatabase => {
                Enrolment::fail(&mut state)?;
                state.database = state.on_disk.clone();
                state.lock = None;
                for gateway in &mut state.gateways {
                    // The client gets 503. A commit that was acknowledged is answered all the same.
                    if !matches!(gateway.step, Step::Committed(_)) {
                        gateway.step = Step::Idle;
                    }
                }
            }
            Action::Flush => state.on_disk = state.database.clone(),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Enrolment>> {
        vec![
            Property::always(AT_MOST, |_, state: &State| {
                state.database.machines.len() <= usize::from(MAX_USES)
            }),
            Property::always(NO_HALF, |_, state: &State| {
                usize::from(state.database.uses) == state.database.machines.len()
            }),
            Property::always(NO_LOSS, |_, state: &State| {
                state.answered.is_subset(&state.database.machines)
            }),
            Property::sometimes("every use is taken", |_, state: &State| {
                state.answered.len() == usize::from(MAX_USES)
            }),
            Property::sometimes(
                "a client whose answer was lost is told that its key is known",
                |_, state: &State| {
                    let mut lost = state.told_known.difference(&state.answered);
                    lost.any(|client| state.database.machines.contains(client))
                },
            ),
        ]
    }
}

fn broken(mutation: Mutation) -> Enrolment {
    Enrolment {
        broken: Some(mutation),
    }
}

#[test]
fn a_token_enrols_at_most_max_uses_machines_whatever_fails() {
    holds(Enrolment { broken: None });
}

#[test]
fn uses_that_each_gateway_counts_by_itself_are_found_out() {
    breaks(broken(Mutation::CountedByTheGateway), AT_MOST);
}

#[test]
fn a_token_that_is_read_without_a_lock_is_found_out() {
    breaks(broken(Mutation::ReadWithoutALock), AT_MOST);
}

#[test]
fn a_use_and_a_machine_in_two_transactions_are_found_out() {
    breaks(broken(Mutation::TwoTransactions), NO_HALF);
}

#[test]
fn an_answer_before_the_commit_is_found_out() {
    breaks(broken(Mutation::AnsweredBeforeTheCommit), NO_LOSS);
}

#[test]
fn a_commit_that_is_not_on_disk_is_found_out() {
    breaks(broken(Mutation::CommitIsNotDurable), NO_LOSS);
}

#[test]
fn a_known_key_that_takes_a_second_use_is_found_out() {
    breaks(broken(Mutation::KnownKeyIsTaken), NO_HALF);
}
