//! One gateway with a disk: kill -9, power loss, lost files, and wall clock steps in between.
//!
//! Forgetting is left to chance here: the floor may rise to whatever was inserted, and an entry
//! may go, whenever the rules allow it. [`super::memory`] shows that the real ring keeps them.
//!
//! The disk holds two files. The *journal* has a record of each accepted nonce, written before
//! its request is forwarded: it is in the page cache, which survives the process, and reaches the
//! disk some time later. The *reservation* is small, and fsynced at each change: `R`, no smaller
//! than any timestamp accepted, except of requests stamped further ahead than [`RESERVE`], whose
//! own record is fsynced and whose greatest timestamp is `F`; the floor under which records were
//! dropped; and the boot it was written in.
//!
//! A directory in which nothing was ever accepted says so at every moment of a first start: it is
//! unused, or holds the mark of a first start, or a reservation that names no segment. The last is
//! replaced before anything is accepted. So a first start may be cut off anywhere, and the next one
//! still refuses nothing but the past.

use stateright::{Model, Property};

use super::{ONCE, breaks, holds, is_found_out};

/// What a first start promises.
const PROMPT: &str = "where no gateway ever served, and nobody emptied it, nobody is held up";

/// The timestamps of the two requests there are.
const STAMPS: [u8; 2] = [1, 2];
const REQUESTS: usize = STAMPS.len();

/// The wall clock shows 0 to this.
const LATEST: u8 = 3;
/// The window, both ways.
const PAST: u8 = 1;
const FUTURE: u8 = 1;
/// How far past the wall clock `R` is raised. It spares the real gateway an fsync a request;
/// here it matters only that some requests are stamped further ahead.
const RESERVE: u8 = 0;

/// One gateway with `state_dir`.
#[derive(Clone, Copy, Default)]
struct Restart {
    broken: Option<Mutation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// Nothing is journaled, and a start in the same boot does not raise the floor.
    NoJournal,
    /// A request is forwarded before its record is written.
    JournaledAfterForwarding,
    /// After power loss the floor is not raised to `R`.
    ReservationIgnored,
    /// `R` is not raised, and nothing is fsynced, for a request stamped further ahead.
    AheadIsNotSynced,
    /// With the journal lost, the floor is `R` and not the greater of `R` and `F`.
    AheadIsForgotten,
    /// A record is dropped when the floor has passed it, but that floor is not on the disk.
    DroppedBeforeTheFloorIsSaved,
    /// The first start after power loss notes the new boot, and not the floor it began with.
    BootIsNotedWithoutTheFloor,
    /// The reservation is lost too, and the wall clock goes back meanwhile. No mistake of the
    /// gateway's: the one assumption that is left.
    ClockGoesBackWithoutReservation,
    /// A directory that was emptied is taken for an unused one.
    EmptiedIsUnused,
    /// The mark of a first start stays beside the reservation.
    MarkIsLeft,
    /// Requests pass while the reservation on disk still names no segment.
    ServesUnderTheFirstReservation,
    /// A first start leaves something in the directory before its mark.
    FirstStartIsNotMarked,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// The wall clock.
    wall: u8,
    process: Option<Process>,
    directory: Directory,
    journal: [Record; REQUESTS],
    reservation: Reservation,
    /// What the next start will find.
    found: Found,
    /// The latest that the wall clock showed when a request passed clause 2. Only the assumption
    /// of [`Found::Nothing`] looks at it.
    latest: u8,
    /// A gateway has been in a position to accept something, or somebody has emptied the directory.
    /// Only [`PROMPT`] looks at it.
    excused: bool,
    /// How often each request has been accepted. All that an observer sees.
    accepted: [u8; REQUESTS],
}

/// What the state directory says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Directory {
    /// Nothing has ever been in it.
    #[default]
    Unused,
    /// The mark of a first start, and no reservation.
    Marked,
    /// A reservation that names no segment.
    Begun,
    /// A reservation that names segments; or, with what the next start finds, the lack of one.
    Used,
}

/// What dies with the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Process {
    /// What it found at its start.
    found: Found,
    /// `L`.
    floor: u8,
    /// `S`.
    spent: [bool; REQUESTS],
    /// How far a claim of each request has come. Two claims of one request cannot both be past
    /// their insertion.
    claims: [Claim; REQUESTS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Claim {
    #[default]
    None,
    /// Clauses 1 to 3 hold.
    Inserted,
    /// And `R` or the fsynced record covers it.
    Reserved,
    /// And its record is written: clause 5.
    Journaled,
}

/// The state of one nonce in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Record {
    #[default]
    None,
    /// In the page cache: survives the process, and perhaps not the machine. When the kernel
    /// writes it out is its own affair, and shows at the next power loss.
    Cached,
    /// Known to be on the disk.
    Synced,
}

/// The small file. It is replaced whole, and each replacement is fsynced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Reservation {
    /// `R`.
    reserved: u8,
    /// `F`.
    ahead: u8,
    /// No record of a timestamp above this has been dropped.
    floor: u8,
}

/// What a start finds on the disk, and how it chooses its floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Found {
    /// A directory in which nothing was ever accepted. A process elsewhere may have accepted what
    /// is stamped until now.
    First,
    /// The boot that the reservation names. The page cache is whole, so the journal holds all but
    /// what was dropped: the saved floor will do.
    #[default]
    SameBoot,
    /// Another boot. What the journal has lost was not synced, so it lies at or below `R`.
    OtherBoot,
    /// The journal is missing or damaged. All that was accepted lies at or below `R` or `F`.
    NoJournal,
    /// The reservation is missing or damaged too. All that was accepted lay in the window, so at
    /// or below now + future, *if* the wall clock did not go back meanwhile.
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// The wall clock ticks, or somebody, or NTP, or a dead battery, sets it.
    Set(u8),
    /// A copy of the request arrives.
    Claim(usize),
    /// Its claim goes on by a step.
    Go(usize),
    /// A bucket of the ring reaches its age: the floor rises to the timestamp of this request.
    Raise(usize),
    /// The floor is saved.
    SaveFloor,
    /// The entry goes from `S`.
    Forget(usize),
    /// The record goes from the journal, with its segment.
    Drop(usize),
    /// kill -9.
    Kill,
    /// Power loss. Of the pages in the cache the disk has got those of the requests marked.
    LosePower([bool; REQUESTS]),
    /// The journal is deleted, truncated or damaged while the process is down.
    LoseJournal,
    /// The reservation too.
    LoseAll,
    /// A start.
    Start,
    /// A step of a first start towards its reservation; it can be cut off behind each.
    Begin,
}

impl Restart {
    fn is(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    /// Clauses 1 to 3, in one step: [`super::memory`] takes them apart.
    fn claim(&self, state: &mut State, request: usize) -> Option<()> {
        let stamp = STAMPS[request];
        let process = state.process.as_mut()?;
        let in_window = state.wall <= stamp + PAST && stamp <= state.wall + FUTURE;
        if stamp <= process.floor || !in_window || process.spent[request] {
            return None;
        }
        process.spent[request] = true;
        process.claims[request] = Claim::Inserted;
        state.latest = state.latest.max(state.wall);
        Some(())
    }

    /// Clause 5, in two steps that a fault may part; then clause 4, and the request is forwarded.
    fn go(&self, state: &mut State, request: usize) -> Option<()> {
        let late = self.is(Mutation::JournaledAfterForwarding);
        let next = match state.process.as_ref()?.claims[request] {
            Claim::None => return None,
            Claim::Inserted => {
                self.reserve(state, request);
                Claim::Reserved
            }
            Claim::Reserved => {
                self.write_or_forward(state, request, !late);
                Claim::Journaled
            }
            Claim::Journaled => {
                self.write_or_forward(state, request, late);
                Claim::None
            }
        };
        state.process.as_mut()?.claims[request] = next;
        Some(())
    }

    /// Sees to it that power loss does not make the gateway forget the request.
    fn reserve(&self, state: &mut State, request: usize) {
        let stamp = STAMPS[request];
        let horizon = state.wall + RESERVE;
        if stamp <= state.reservation.reserved {
            // Covered already: the case that costs nothing.
        } else if stamp <= horizon {
            state.reservation.reserved = horizon;
        } else if !self.is(Mutation::AheadIsNotSynced) {
            state.journal[request] = Record::Synced;
            state.reservation.ahead = state.reservation.ahead.max(stamp);
        }
    }

    fn write_or_forward(&self, state: &mut State, request: usize, write: bool) {
        let floor = state.process.as_ref().map_or(0, |process| process.floor);
        let record = &mut state.journal[request];
        if !write {
            state.accepted[request] += u8::from(STAMPS[request] > floor);
        } else if *record == Record::None && !self.is(Mutation::NoJournal) {
            *record = Record::Cached;
        }
    }

    /// One of the steps by which a running gateway forgets.
    fn prune(&self, state: &mut State, action: &Action) -> Option<()> {
        let process = state.process.as_mut()?;
        match *action {
            Action::Raise(request) if process.spent[request] => {
                process.floor = process.floor.max(STAMPS[request]);
            }
            Action::SaveFloor => state.reservation.floor = process.floor,
            Action::Forget(request) if STAMPS[request] <= process.floor => {
                process.spent[request] = false;
            }
            Action::Drop(request) if STAMPS[request] <= self.floor_to_drop_under(state) => {
                state.journal[request] = Record::None;
            }
            _ => return None,
        }
        Some(())
    }

    fn floor_to_drop_under(&self, state: &State) -> u8 {
        match &state.process {
            Some(process) if self.is(Mutation::DroppedBeforeTheFloorIsSaved) => process.floor,
            _ => state.reservation.floor,
        }
    }

    /// The steps of a first start before anything else: the mark, and by one rename the first
    /// reservation in its place.
    fn begin(&self, state: &mut State) -> Option<()> {
        state.directory = match state.directory {
            Directory::Unused if self.is(Mutation::FirstStartIsNotMarked) => {
                state.found = Found::Nothing;
                Directory::Used
            }
            Directory::Unused => Directory::Marked,
            Directory::Marked => Directory::Begun,
            Directory::Begun | Directory::Used => return None,
        };
        Some(())
    }

    /// What a start finds once it has begun.
    fn finds(state: &State) -> Option<Found> {
        match state.directory {
            Directory::Unused | Directory::Marked => None,
            Directory::Begun => Some(Found::First),
            Directory::Used => Some(state.found),
        }
    }

    /// A start loads the journal, chooses a floor by what it found, and saves that floor together
    /// with the boot, so that the next start can trust the saved floor.
    fn start(&self, state: &mut State) -> Option<()> {
        let Reservation {
            reserved,
            ahead,
            floor,
        } = state.reservation;
        let found = Restart::finds(state)?;
        let floor = match found {
            Found::First => state.wall,
            Found::SameBoot => floor,
            Found::OtherBoot if self.is(Mutation::ReservationIgnored) => floor,
            Found::NoJournal if self.is(Mutation::AheadIsForgotten) => floor.max(reserved),
            Found::OtherBoot => floor.max(reserved),
            Found::NoJournal => floor.max(reserved).max(ahead),
            Found::Nothing => {
                let went_back = state.wall < state.latest;
                if went_back && !self.is(Mutation::ClockGoesBackWithoutReservation) {
                    return None;
                }
                state.wall + FUTURE
            }
        };
        if !self.is(Mutation::BootIsNotedWithoutTheFloor) {
            state.reservation.floor = floor;
        }
        // `R` may fall to what is known: it bounds what lies above the floor.
        let known = |(stamp, record): (u8, Record)| {
            (record != Record::None && stamp <= reserved).then_some(stamp)
        };
        let records = STAMPS.into_iter().zip(state.journal);
        state.reservation.reserved = records.filter_map(known).max().unwrap_or(0);
        if found >= Found::NoJournal {
            state.reservation.ahead = 0;
        }
        if !self.is(Mutation::ServesUnderTheFirstReservation) {
            state.directory = Directory::Used;
        }
        state.excused = true;
        state.process = Some(Process {
            found,
            floor,
            spent: state.journal.map(|record| record != Record::None),
            claims: [Claim::None; REQUESTS],
        });
        state.found = Found::SameBoot;
        Some(())
    }

    /// What befalls the disk. The process is down, or goes down with it.
    fn fail(&self, state: &mut State, action: &Action) -> Option<()> {
        match action {
            Action::Kill => state.process.as_ref().map(|_| ())?,
            Action::LosePower(kept) => {
                for (record, kept) in state.journal.iter_mut().zip(kept) {
                    *record = match *record {
                        Record::Cached if !kept => Record::None,
                        Record::Cached => Record::Synced,
                        other => other,
                    };
                }
                state.found = state.found.max(Found::OtherBoot);
            }
            Action::LoseJournal => {
                state.journal = [Record::None; REQUESTS];
                state.found = state.found.max(Found::NoJournal);
            }
            // There is nothing to delete, or nothing by which anybody could tell that there was.
            _ if state.directory == Directory::Unused => return None,
            _ => {
                state.journal = [Record::None; REQUESTS];
                state.reservation = Reservation::default();
                state.found = Found::Nothing;
                state.excused = true;
                state.directory = match self.broken {
                    Some(Mutation::EmptiedIsUnused) => Directory::Unused,
                    Some(Mutation::MarkIsLeft) => Directory::Marked,
                    _ => Directory::Used,
                };
            }
        }
        state.process = None;
        Some(())
    }
}

impl Model for Restart {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..=LATEST).filter(|&to| to != state.wall).map(Action::Set));
        for kept in [[false, false], [false, true], [true, false], [true, true]] {
            actions.push(Action::LosePower(kept));
        }
        actions.extend([Action::Kill, Action::LoseJournal, Action::LoseAll]);
        if state.process.is_none() {
            actions.extend([Action::Begin, Action::Start]);
            return;
        }
        for request in 0..REQUESTS {
            actions.extend([
                Action::Claim(request),
                Action::Go(request),
                Action::Raise(request),
                Action::Forget(request),
                Action::Drop(request),
            ]);
        }
        actions.push(Action::SaveFloor);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Set(to) => state.wall = to,
            Action::Claim(request) => self.claim(&mut state, request)?,
            Action::Go(request) => self.go(&mut state, request)?,
            Action::Raise(_) | Action::SaveFloor | Action::Forget(_) | Action::Drop(_) => {
                self.prune(&mut state, &action)?;
            }
            Action::Kill | Action::LosePower(_) | Action::LoseJournal | Action::LoseAll => {
                self.fail(&mut state, &action)?;
            }
            Action::Start => self.start(&mut state)?,
            Action::Begin => self.begin(&mut state)?,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Restart>> {
        fn serves(state: &State, found: Found) -> bool {
            state.process.as_ref().is_some_and(|process| {
                let passes = |request: usize| {
                    process.claims[request] == Claim::Journaled && STAMPS[request] > process.floor
                };
                let waited = found <= Found::SameBoot || process.floor > 0;
                process.found == found && waited && (0..REQUESTS).any(passes)
            })
        }
        vec![
            Property::always(ONCE, |_, state: &State| {
                state.accepted.iter().all(|&times| times <= 1)
            }),
            Property::always(PROMPT, |_, state: &State| {
                state.excused || state.found != Found::Nothing
            }),
            Property::sometimes("a first start serves", |_, state: &State| {
                serves(state, Found::First)
            }),
            Property::sometimes("every request is accepted", |_, state: &State| {
                state.accepted == [1; REQUESTS]
            }),
            Property::sometimes(
                "kill -9 costs nothing: all that was not accepted still can be",
                |_, state: &State| serves(state, Found::SameBoot) && state.accepted == [0, 1],
            ),
            Property::sometimes(
                "a request is accepted after power loss",
                |_, state: &State| serves(state, Found::OtherBoot),
            ),
            Property::sometimes(
                "a request is accepted after the journal was lost",
                |_, state: &State| serves(state, Found::NoJournal),
            ),
            Property::sometimes(
                "a request is accepted after all was lost",
                |_, state: &State| serves(state, Found::Nothing),
            ),
        ]
    }
}

#[test]
fn nothing_passes_twice_whatever_befalls_the_process_the_machine_and_its_disk() {
    holds(Restart::default());
}

#[test]
fn kill_9_without_a_journal_and_with_the_old_floor_is_found_out() {
    is_found_out(broken(Mutation::NoJournal));
}

#[test]
fn a_record_written_after_the_request_was_forwarded_is_found_out() {
    is_found_out(broken(Mutation::JournaledAfterForwarding));
}

#[test]
fn a_reservation_that_is_not_honoured_after_power_loss_is_found_out() {
    is_found_out(broken(Mutation::ReservationIgnored));
}

#[test]
fn a_request_stamped_further_ahead_whose_record_is_not_synced_is_found_out() {
    is_found_out(broken(Mutation::AheadIsNotSynced));
}

#[test]
fn a_floor_below_what_was_stamped_further_ahead_is_found_out_when_the_journal_is_lost() {
    is_found_out(broken(Mutation::AheadIsForgotten));
}

#[test]
fn a_record_dropped_under_a_floor_that_is_not_saved_is_found_out() {
    is_found_out(broken(Mutation::DroppedBeforeTheFloorIsSaved));
}

#[test]
fn a_start_after_power_loss_that_saves_the_boot_and_not_the_floor_is_found_out() {
    is_found_out(broken(Mutation::BootIsNotedWithoutTheFloor));
}

#[test]
fn without_a_reservation_all_rests_on_a_wall_clock_that_does_not_go_back() {
    is_found_out(broken(Mutation::ClockGoesBackWithoutReservation));
}

#[test]
fn an_emptied_directory_that_is_taken_for_an_unused_one_is_found_out() {
    is_found_out(broken(Mutation::EmptiedIsUnused));
}

#[test]
fn a_mark_of_a_first_start_that_is_left_is_found_out() {
    is_found_out(broken(Mutation::MarkIsLeft));
}

#[test]
fn requests_that_pass_under_a_reservation_that_names_no_segment_are_found_out() {
    is_found_out(broken(Mutation::ServesUnderTheFirstReservation));
}

#[test]
fn a_first_start_that_leaves_something_before_its_mark_is_found_out() {
    breaks(broken(Mutation::FirstStartIsNotMarked), PROMPT);
}

fn broken(mutation: Mutation) -> Restart {
    Restart {
        broken: Some(mutation),
    }
}
