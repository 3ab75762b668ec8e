//! The store as a whole. A copy of its directory, taken while it runs, is what `kill -9` leaves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;

use super::reservation::{self, Reservation};
use super::segment::{CAPACITY, Segment};
use super::segment_name;
use super::testing::claim;
use super::*;
use countersign_client::clock::Hands;

const NOW: u64 = 1_800_000_000;
const WINDOW: Window = Window {
    past: 300,
    future: 300,
};
const BOOT: &str = "one";
const OTHER_BOOT: &str = "another";

/// A directory, the clock of the machine it is on, and the boot that machine is in.
struct Place {
    parent: tempfile::TempDir,
    path: PathBuf,
    clock: Clock,
    hands: Hands,
    boot: &'static str,
}

impl Place {
    fn new() -> Place {
        let parent = tempfile::tempdir().unwrap();
        let (clock, hands) = Clock::manual(NOW * 1000);
        Place {
            path: parent.path().join("state"),
            parent,
            clock,
            hands,
            boot: BOOT,
        }
    }

    /// The same machine after the process was killed: the files as they are now.
    fn killed(&self) -> Place {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        // A round of the worker may move a file away meanwhile; then once more.
        while fs::read_dir(&self.path).unwrap().any(|entry| {
            let entry = entry.unwrap();
            let _ = fs::create_dir(&path);
            fs::copy(entry.path(), path.join(entry.file_name())).is_err()
        }) {}
        Place {
            parent,
            path,
            clock: self.clock.clone(),
            hands: self.hands.clone(),
            boot: self.boot,
        }
    }

    /// The same after power loss that spared the files.
    fn without_power(&self) -> Place {
        Place {
            boot: OTHER_BOOT,
            ..self.killed()
        }
    }

    fn start(&self) -> JournaledNonces {
        let store = self.start_waiting();
        until("it is open", || store.shared.opened.get().is_some());
        store
    }

    fn start_waiting(&self) -> JournaledNonces {
        let quotas = NonceQuotas {
            all: 100_000,
            per_machine: 100_000,
        };
        let clock = self.clock.clone();
        JournaledNonces::start_in(self.boot, &self.path, WINDOW, quotas, clock).unwrap()
    }

    fn now(&self) -> u64 {
        self.clock.now().unix_seconds()
    }

    fn pass(&self, seconds: u64) {
        self.hands.advance(Duration::from_secs(seconds));
    }

    fn folder(&self) -> Folder {
        Folder::open(&self.path).unwrap()
    }

    fn reservation(&self) -> Reservation {
        Reservation::read(&self.folder()).unwrap().unwrap().unwrap()
    }

    fn segments(&self) -> Vec<u64> {
        let names = self.folder().names().unwrap();
        let mut numbers: Vec<u64> = names
            .iter()
            .filter_map(|n| segment_name::number(n))
            .collect();
        numbers.sort_unstable();
        numbers
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path.join(name);
        let mut content = fs::read(&path).unwrap();
        change(&mut content);
        fs::write(path, content).unwrap();
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("waited in vain until {what}");
}

fn spend(store: &JournaledNonces, n: u32, t: u64) -> Result<(), ClaimError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(store.claim(claim(n, t)))
}

fn is_unavailable(answer: Result<(), ClaimError>) -> bool {
    matches!(answer, Err(ClaimError::Unavailable { .. }))
}

/// A store that was started, waited for its first second to pass, and accepted nonce 1 and 2.
fn with_two_spent() -> (Place, JournaledNonces) {
    let place = Place::new();
    let store = place.start();
    place.pass(1);
    assert_eq!(spend(&store, 1, NOW + 1), Ok(()));
    assert_eq!(spend(&store, 2, NOW + 2), Ok(()));
    (place, store)
}

/// Neither of the two passes again, now or at any time until they have left the window; and one
/// that is signed when the store says that it is ready passes within `seconds`.
fn holds(place: &Place, seconds: u64) {
    let store = place.start();
    let began = place.now();
    let mut ready = None;
    while place.now() < NOW + 700 {
        for (n, t) in [(1, NOW + 1), (2, NOW + 2)] {
            assert_ne!(spend(&store, n, t), Ok(()), "nonce {n} at {}", place.now());
        }
        if ready.is_none() && lock(&store.shared.trouble).is_none() {
            let memory = &store.shared.opened.get().unwrap().memory;
            if memory.ready().is_ok() {
                ready = Some(place.now());
                assert_eq!(spend(&store, 3, place.now()), Ok(()));
            }
        }
        place.pass(if ready.is_none() { 1 } else { 50 });
    }
    let waited = ready.unwrap() - began;
    assert!(waited <= seconds, "service came back after {waited} s");
}

#[test]
fn a_nonce_passes_once() {
    let (_place, store) = with_two_spent();
    assert_eq!(spend(&store, 1, NOW + 1), Err(ClaimError::Replayed));
    assert_eq!(store.live(), 2);
}

#[test]
fn a_first_start_refuses_its_first_second_and_no_more() {
    let place = Place::new();
    let store = place.start();
    assert!(is_unavailable(spend(&store, 1, NOW)));
    assert!(store.ready().is_err());
    place.pass(1);
    until("it is ready", || store.ready().is_ok());
    assert_eq!(spend(&store, 1, NOW + 1), Ok(()));
}

/// The directory after a first start that a crash interrupted; a greater stage is a later crash.
fn cut_off(stage: usize, place: &Place) {
    let folder = place.folder();
    if stage == 1 {
        fs::write(folder.file("first.new"), "countersign reserv").unwrap();
    }
    if stage >= 2 {
        Reservation::begin(&folder, BOOT, place.now()).unwrap();
    }
    if stage == 3 {
        fs::write(folder.file("journal-00000000000000000001.new"), "half").unwrap();
    }
    for number in 1..stage.saturating_sub(2) as u64 {
        Segment::create(&folder, number).unwrap();
    }
    if stage == 6 {
        fs::write(folder.file("reservation.new"), "half").unwrap();
    }
}

#[test]
fn a_first_start_that_is_cut_off_anywhere_holds_up_nobody() {
    for (stage, boot) in (0..=6).flat_map(|stage| [(stage, BOOT), (stage, OTHER_BOOT)]) {
        let mut place = Place::new();
        cut_off(stage, &place);
        // It lies beside the journal, and another part of the start puts it there.
        fs::write(place.path.join("token-hash.key"), "").unwrap();
        if stage == 0 {
            fs::remove_dir_all(&place.path).unwrap();
        }
        place.boot = boot;
        let store = place.start();
        place.pass(1);
        until("it is ready", || store.ready().is_ok());
        assert_eq!(spend(&store, 1, NOW + 1), Ok(()), "stage {stage}");
        assert_eq!(spend(&store, 1, NOW + 1), Err(ClaimError::Replayed));
        let names = place.folder().names().unwrap();
        assert!(
            !names.iter().any(|name| name.ends_with(".new")),
            "{names:?}"
        );
    }
}

#[test]
fn what_lies_beside_the_journal_does_not_make_a_first_start_look_like_another() {
    let place = Place::new();
    let store = place.start_waiting();
    // Before the worker's thread may have come to anything.
    fs::write(place.path.join("token-hash.key"), "").unwrap();
    until("it is open", || store.shared.opened.get().is_some());
    place.pass(1);
    until("it is ready", || store.ready().is_ok());
}

#[test]
fn a_first_start_under_a_clock_that_was_ahead_locks_nobody_out() {
    let place = Place::new();
    place.hands.set((NOW + 100_000) * 1000);
    cut_off(2, &place);
    place.hands.set(NOW * 1000);
    let store = place.start();
    place.pass(1);
    assert_eq!(spend(&store, 1, NOW + 1), Ok(()));
}

#[test]
fn after_a_kill_everything_is_known_and_service_goes_on_at_once() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    let next = killed.start();
    assert_eq!(next.live(), 2);
    assert_eq!(spend(&next, 1, NOW + 1), Err(ClaimError::Replayed));
    assert_eq!(spend(&next, 2, NOW + 2), Err(ClaimError::Replayed));
    assert_eq!(spend(&next, 9, NOW + 1), Ok(()));
    drop(next);
    holds(&killed, 0);
}

#[test]
fn kill_after_kill_nothing_is_forgotten() {
    let (place, store) = with_two_spent();
    let mut stores = vec![(place, store)];
    for n in 3..20 {
        let (last, _) = stores.last().unwrap();
        let place = last.killed();
        let store = place.start();
        for spent in 1..n {
            let t = NOW + u64::from(spent);
            assert_eq!(spend(&store, spent, t), Err(ClaimError::Replayed));
        }
        place.pass(1);
        assert_eq!(spend(&store, n, NOW + u64::from(n)), Ok(()));
        stores.push((place, store));
    }
    let (last, _) = stores.last().unwrap();
    assert_eq!(last.segments().len(), 2, "a restart makes no more files");
}

#[test]
fn after_a_stop_in_order_everything_is_known_even_in_another_boot() {
    let (mut place, store) = with_two_spent();
    store.close();
    assert!(is_unavailable(spend(&store, 3, NOW + 1)), "it is closed");
    assert!(place.reservation().clean);
    place.boot = OTHER_BOOT;
    let next = place.start();
    assert!(!place.reservation().clean);
    assert_eq!(next.live(), 2);
    assert_eq!(spend(&next, 3, NOW + 1), Ok(()));
    drop(next);
}

#[test]
fn a_store_that_is_dropped_stops_in_order() {
    let (place, store) = with_two_spent();
    drop(store);
    until("it has closed", || place.reservation().clean);
}

#[test]
fn after_power_loss_what_the_reservation_covers_is_refused_for_seconds() {
    let (place, _store) = with_two_spent();
    let bound = place.reservation().bound;
    let off = place.without_power();
    let next = off.start();
    assert!(is_unavailable(spend(&next, 3, bound)));
    let Err(ClaimError::Unavailable { retry_after }) = spend(&next, 4, off.now()) else {
        panic!("it is in quarantine");
    };
    assert_eq!(u64::from(retry_after), bound + 1 - off.now());
    let until = crate::config::instant::to_text(bound);
    assert!(next.ready().unwrap_err().contains(&until));
    drop(next);
    holds(&off, 16);
}

#[test]
fn after_power_loss_that_took_the_last_records_nothing_passes_twice() {
    let (place, _store) = with_two_spent();
    let off = place.without_power();
    let name = segment_name::of(off.segments()[0]);
    off.change(&name, |content| content[64..].fill(0));
    holds(&off, 16);
}

#[test]
fn a_kill_during_the_quarantine_does_not_shorten_it() {
    let (place, _store) = with_two_spent();
    let bound = place.reservation().bound;
    let off = place.without_power();
    let _next = off.start();
    let again = off.killed();
    let store = again.start();
    assert!(is_unavailable(spend(&store, 3, bound)));
}

#[test]
fn a_deleted_segment_is_missed() {
    for index in 0..2 {
        let (place, _store) = with_two_spent();
        let killed = place.killed();
        let name = segment_name::of(killed.segments()[index]);
        fs::remove_file(killed.path.join(name)).unwrap();
        holds(&killed, 16);
    }
}

#[test]
fn a_whole_journal_that_is_deleted_is_missed() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    for number in killed.segments() {
        fs::remove_file(killed.path.join(segment_name::of(number))).unwrap();
    }
    holds(&killed, 16);
}

#[test]
fn a_truncated_segment_is_seen() {
    for length in [0, 64, 64 + 40, 64 + 41] {
        let (place, _store) = with_two_spent();
        let killed = place.killed();
        let name = segment_name::of(killed.segments()[0]);
        killed.change(&name, |content| content.truncate(length));
        holds(&killed, 16);
    }
}

#[test]
fn a_flipped_bit_in_any_field_is_seen() {
    for byte in [0, 16, 24, 64, 80, 88, 96, 103, 104, 130] {
        let (place, _store) = with_two_spent();
        let killed = place.killed();
        let name = segment_name::of(killed.segments()[0]);
        killed.change(&name, |content| content[byte] ^= 4);
        holds(&killed, 16);
    }
}

#[test]
fn a_torn_record_at_the_end_costs_nothing() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    let name = segment_name::of(killed.segments()[0]);
    killed.change(&name, |content| content[64 + 80..64 + 97].fill(7));
    holds(&killed, 0);
}

#[test]
fn a_deleted_reservation_closes_the_whole_window() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    fs::remove_file(killed.path.join(reservation::NAME)).unwrap();
    holds(&killed, WINDOW.future + 1);
}

#[test]
fn a_damaged_reservation_closes_the_whole_window() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    killed.change(reservation::NAME, |content| content[40] ^= 1);
    holds(&killed, WINDOW.future + 1);
}

#[test]
fn a_directory_that_was_emptied_is_not_taken_for_a_new_one() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    for name in killed.folder().names().unwrap() {
        fs::remove_file(killed.path.join(name)).unwrap();
    }
    holds(&killed, WINDOW.future + 1);
}

#[test]
fn damage_says_which_file_and_how_long() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    let name = segment_name::of(killed.segments()[0]);
    killed.change(&name, |content| content.truncate(100));
    let folder = killed.folder();
    let recovered = recover::recover(&folder, BOOT, killed.now(), WINDOW).unwrap();
    let recover::Completeness::Damaged(text) = recovered.why else {
        panic!("{:?}", recovered.why);
    };
    assert!(text.contains(&name) && text.contains("100 bytes"), "{text}");
}

#[test]
fn a_request_stamped_far_ahead_is_on_disk_before_it_passes() {
    let (place, store) = with_two_spent();
    assert_eq!(spend(&store, 9, NOW + 200), Ok(()));
    assert!(place.reservation().ahead >= NOW + 200);
    assert!(place.reservation().bound < NOW + 30);
    // After power loss the nonce is known, and other requests do not wait.
    let off = place.without_power();
    let next = off.start();
    assert_eq!(spend(&next, 9, NOW + 200), Err(ClaimError::Replayed));
    off.pass(20);
    assert_eq!(spend(&next, 10, off.now()), Ok(()));
}

#[test]
fn a_request_stamped_far_ahead_is_refused_after_damage_too() {
    let (place, store) = with_two_spent();
    assert_eq!(spend(&store, 9, NOW + 200), Ok(()));
    let killed = place.killed();
    let name = segment_name::of(killed.segments()[0]);
    fs::remove_file(killed.path.join(name)).unwrap();
    let next = killed.start();
    assert!(is_unavailable(spend(&next, 9, NOW + 200)));
    killed.pass(200);
    assert_eq!(spend(&next, 10, NOW + 201), Ok(()));
    assert_ne!(spend(&next, 9, NOW + 200), Ok(()));
}

#[test]
fn the_reservation_is_never_below_what_was_accepted_nor_far_beyond_the_clock() {
    let (place, store) = with_two_spent();
    // Seconds by which the clock moves, and by which the machine's is ahead of it.
    let steps = [
        (0, 0),
        (1, 14),
        (3, 16),
        (10, -5),
        (1, 299),
        (60, 3),
        (0, 30),
        (20, 15),
    ];
    for (n, (passed, skew)) in (10..).zip(steps) {
        place.pass(passed);
        let t = place.now().saturating_add_signed(skew);
        assert_eq!(spend(&store, n, t), Ok(()), "{passed} {skew}");
        let read = place.reservation();
        assert!(t <= read.bound.max(read.ahead), "{t} {read:?}");
        assert!(read.bound <= place.now() + 15, "{read:?}");
    }
}

#[test]
fn it_is_raised_ahead_of_need() {
    let (place, _store) = with_two_spent();
    place.pass(100);
    until("it is raised", || {
        place.reservation().bound == place.now() + 15
    });
}

#[test]
fn after_a_clock_that_was_wrong_it_falls_to_what_was_accepted() {
    let (place, store) = with_two_spent();
    place.hands.set((NOW + 100_000) * 1000);
    until("it has risen", || place.reservation().bound > NOW + 100_000);
    place.hands.set((NOW + 3) * 1000);
    until("it has fallen", || place.reservation().bound <= NOW + 18);
    assert_eq!(spend(&store, 3, NOW + 3), Ok(()));
    // Something accepted meanwhile keeps it up.
    place.hands.set((NOW + 100_000) * 1000);
    until("it has risen", || place.reservation().bound > NOW + 100_000);
    assert_eq!(spend(&store, 4, NOW + 100_000), Ok(()));
    place.hands.set((NOW + 3) * 1000);
    // As the bound, or, if it was accepted before the raised bound was in force, as the stamp that
    // was synchronised for itself.
    until("it has fallen", || {
        let reservation = place.reservation();
        reservation.bound.max(reservation.ahead) == NOW + 100_000
    });
}

#[test]
fn of_64_copies_at_once_one_passes() {
    let (place, store) = with_two_spent();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    let store = Arc::new(store);
    let answers = runtime.block_on(async {
        let copies: Vec<_> = (0..64)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.claim(claim(5, NOW + 1)).await })
            })
            .collect();
        futures::future::join_all(copies).await
    });
    let passed = answers.iter().filter(|a| matches!(a, Ok(Ok(())))).count();
    assert_eq!(passed, 1);
    assert_eq!(place.killed().start().live(), 3);
}

#[test]
fn a_second_process_waits_says_so_and_takes_over() {
    let (place, first) = with_two_spent();
    let second = place.start_waiting();
    until("it says so", || {
        second
            .ready()
            .is_err_and(|why| why.contains("another process holds it"))
    });
    assert!(is_unavailable(spend(&second, 3, NOW + 1)));
    first.close();
    drop(first);
    until("it takes over", || second.ready().is_ok());
    assert_eq!(spend(&second, 1, NOW + 1), Err(ClaimError::Replayed));
    assert_eq!(spend(&second, 3, NOW + 1), Ok(()));
}

#[test]
fn waiting_for_the_lock_ends_when_the_store_does() {
    let (place, _first) = with_two_spent();
    place.start_waiting().close();
}

#[test]
fn segments_are_made_ahead_of_need_and_dropped_once_the_floor_has_passed_them() {
    let (place, store) = with_two_spent();
    let count = 3 * CAPACITY;
    for n in 10..10 + count {
        until("there is room", || {
            spend(&store, n, NOW + 1) != UNAVAILABLE_ANSWER
        });
    }
    assert!(place.segments().len() >= 4, "{:?}", place.segments());
    let killed = place.killed();
    let next = killed.start();
    assert_eq!(next.live(), u64::from(count) + 2);
    assert_eq!(spend(&next, 10, NOW + 1), Err(ClaimError::Replayed));
    drop(next);

    place.pass(700);
    until("they are dropped", || place.segments().len() == 2);
    assert_eq!(place.reservation().first, place.segments()[0]);
    assert!(place.reservation().floor > NOW);
    assert_ne!(spend(&store, 10, NOW + 1), Ok(()));
    let killed = place.killed();
    let next = killed.start();
    assert_ne!(spend(&next, 10, NOW + 1), Ok(()));
    assert_eq!(spend(&next, 10, NOW + 700), Ok(()));
}

const UNAVAILABLE_ANSWER: Result<(), ClaimError> = Err(UNAVAILABLE);

#[test]
fn what_has_left_the_window_is_not_loaded() {
    let (place, store) = with_two_spent();
    place.pass(400);
    until("it is reserved", || place.reservation().bound > place.now());
    assert_eq!(spend(&store, 3, place.now()), Ok(()));
    let killed = place.killed();
    let next = killed.start();
    assert_eq!(next.live(), 1);
    assert_ne!(spend(&next, 1, NOW + 1), Ok(()));
}

#[test]
fn a_start_under_a_clock_that_is_ahead_locks_nobody_out_afterwards() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    killed.hands.set((NOW + 1_000_000) * 1000);
    let next = killed.start();
    killed.hands.set((NOW + 3) * 1000);
    assert_eq!(spend(&next, 3, NOW + 3), Ok(()));
    assert_ne!(spend(&next, 1, NOW + 1), Ok(()));
}

#[test]
fn a_start_under_a_clock_that_is_behind_reopens_nothing() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    killed.hands.set((NOW - 100_000) * 1000);
    let next = killed.start();
    for (n, t) in [(1, NOW + 1), (2, NOW + 2)] {
        assert_ne!(spend(&next, n, t), Ok(()));
    }
}

#[test]
fn a_file_that_was_being_made_is_made_again() {
    let (place, _store) = with_two_spent();
    let killed = place.killed();
    let next = killed.reservation().last + 1;
    fs::write(killed.path.join(segment_name::of(next)), "half").unwrap();
    fs::write(killed.path.join("reservation.new"), "half").unwrap();
    let store = killed.start();
    assert_eq!(spend(&store, 1, NOW + 1), Err(ClaimError::Replayed));
    assert_eq!(killed.segments().len(), 2);
    assert_eq!(spend(&store, 3, NOW + 1), Ok(()));
}

#[test]
fn a_directory_that_is_taken_away_closes_the_store() {
    let (place, store) = with_two_spent();
    until("it is ready", || store.ready().is_ok());
    fs::rename(&place.path, place.parent.path().join("away")).unwrap();
    until("it says so", || store.ready().is_err());
    fs::rename(place.parent.path().join("away"), &place.path).unwrap();
    until("it is back", || store.ready().is_ok());
}

#[test]
fn a_path_that_is_no_directory_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("file");
    fs::write(&path, "").unwrap();
    let quotas = NonceQuotas {
        all: 1,
        per_machine: 1,
    };
    let (clock, _) = Clock::manual(NOW * 1000);
    let error = JournaledNonces::start(&path, WINDOW, quotas, clock).unwrap_err();
    assert!(error.contains("/file: "), "{error}");
}
