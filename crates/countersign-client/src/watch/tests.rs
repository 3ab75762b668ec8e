use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// Time between two looks: short, so that the tests are.
const OFTEN: Duration = Duration::from_millis(20);

/// Longer than any of the delays, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time enough for a call that should not come.
const SILENCE: Duration = Duration::from_millis(600);

struct Watched {
    directory: tempfile::TempDir,
    calls: Receiver<()>,
    watch: Watch,
}

impl Watched {
    /// Watches `m.yaml` in a directory that `prepare` has filled.
    fn new(prepare: impl FnOnce(&Path)) -> Watched {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let (call, calls) = channel();
        let file = directory.path().join("m.yaml");
        let watch = start(
            move || vec![file.clone()],
            OFTEN,
            FileState::of,
            move || {
                let _ = call.send(());
                None
            },
        );
        let watched = Watched {
            directory,
            calls,
            watch: watch.unwrap(),
        };
        // The one at the start.
        watched.expect_call();
        watched
    }

    fn one_file() -> Watched {
        Self::new(|directory| {
            fs::write(directory.join("m.yaml"), "one").unwrap();
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn expect_call(&self) {
        self.calls.recv_timeout(PATIENCE).expect("a call");
    }

    fn expect_silence(&self) {
        assert!(
            self.calls.recv_timeout(SILENCE).is_err(),
            "a call for nothing"
        );
    }
}

#[test]
fn a_write_in_place_is_told() {
    let watched = Watched::one_file();
    fs::write(watched.path("m.yaml"), "two").unwrap();
    watched.expect_call();
}

#[test]
fn a_rename_over_the_file_is_told() {
    let watched = Watched::one_file();
    fs::write(watched.path("new"), "two").unwrap();
    fs::rename(watched.path("new"), watched.path("m.yaml")).unwrap();
    watched.expect_call();
}

#[test]
fn every_rename_is_told_not_only_the_first() {
    let watched = Watched::one_file();
    for text in ["two", "three", "four"] {
        fs::write(watched.path("new"), text).unwrap();
        fs::rename(watched.path("new"), watched.path("m.yaml")).unwrap();
        watched.expect_call();
    }
}

#[test]
fn deletion_is_told_and_so_is_making_it_again() {
    let watched = Watched::one_file();
    fs::remove_file(watched.path("m.yaml")).unwrap();
    watched.expect_call();
    fs::write(watched.path("m.yaml"), "two").unwrap();
    watched.expect_call();
}

#[test]
fn a_swapped_directory_link_is_told_as_kubernetes_does_it() {
    let watched = Watched::new(|directory| {
        fs::create_dir(directory.join("..1")).unwrap();
        fs::write(directory.join("..1/m.yaml"), "one").unwrap();
        symlink("..1", directory.join("..data")).unwrap();
        symlink("..data/m.yaml", directory.join("m.yaml")).unwrap();
    });
    for (old, new) in [("..1", "..2"), ("..2", "..3")] {
        fs::create_dir(watched.path(new)).unwrap();
        fs::write(watched.path(new).join("m.yaml"), new).unwrap();
        symlink(new, watched.path("..data_tmp")).unwrap();
        fs::rename(watched.path("..data_tmp"), watched.path("..data")).unwrap();
        fs::remove_dir_all(watched.path(old)).unwrap();
        watched.expect_call();
    }
}

#[test]
fn a_write_behind_a_link_to_another_directory_is_told() {
    let elsewhere = tempfile::tempdir().unwrap();
    let real = elsewhere.path().join("real.yaml");
    fs::write(&real, "one").unwrap();
    let watched = Watched::new(|directory| {
        symlink(&real, directory.join("m.yaml")).unwrap();
    });
    fs::write(&real, "two").unwrap();
    watched.expect_call();
}

#[test]
fn after_a_link_is_turned_the_new_target_is_watched() {
    let elsewhere = tempfile::tempdir().unwrap();
    let real = elsewhere.path().join("real.yaml");
    fs::write(&real, "other").unwrap();
    let watched = Watched::one_file();
    symlink(&real, watched.path("link")).unwrap();
    fs::rename(watched.path("link"), watched.path("m.yaml")).unwrap();
    watched.expect_call();
    fs::write(&real, "another").unwrap();
    watched.expect_call();
}

#[test]
fn a_file_that_is_not_there_yet_is_told_when_it_comes() {
    let watched = Watched::new(|_| {});
    fs::write(watched.path("m.yaml"), "one").unwrap();
    watched.expect_call();
}

#[test]
fn other_files_in_the_directory_and_mere_reading_are_not_told() {
    let watched = Watched::one_file();
    fs::write(watched.path("other"), "x").unwrap();
    fs::read(watched.path("m.yaml")).unwrap();
    watched.expect_silence();
}

#[test]
fn many_writes_in_a_row_are_few_calls() {
    let watched = Watched::one_file();
    for round in 0..50 {
        fs::write(watched.path("m.yaml"), format!("{round}")).unwrap();
    }
    watched.expect_call();
    thread::sleep(SILENCE);
    assert!(watched.calls.try_iter().count() < 5);
}

#[test]
fn a_directory_that_was_made_again_is_told() {
    let outer = tempfile::tempdir().unwrap();
    let directory = outer.path().join("conf");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("m.yaml");
    fs::write(&file, "one").unwrap();
    let (call, calls) = channel();
    let watched = file.clone();
    let _watch = start(
        move || vec![watched.clone()],
        OFTEN,
        FileState::of,
        move || {
            let _ = call.send(());
            None
        },
    );
    calls.recv_timeout(PATIENCE).expect("the call at the start");
    fs::remove_dir_all(&directory).unwrap();
    calls.recv_timeout(PATIENCE).unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(&file, "two").unwrap();
    calls.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_dropped_watch_tells_nothing_more() {
    let Watched {
        directory,
        calls,
        watch,
    } = Watched::one_file();
    drop(watch);
    fs::write(directory.path().join("m.yaml"), "two").unwrap();
    assert!(calls.recv_timeout(PATIENCE).is_err());
}

#[test]
fn one_watch_tells_of_each_of_its_files_also_in_several_directories() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = [
        one.path().join("a"),
        one.path().join("b"),
        other.path().join("c"),
    ];
    let (call, calls) = channel();
    let watched = files.to_vec();
    let _watch = start(
        move || watched.clone(),
        OFTEN,
        FileState::of,
        move || {
            let _ = call.send(());
            None
        },
    );
    calls.recv_timeout(PATIENCE).expect("the call at the start");
    for file in &files {
        fs::write(file, "new").unwrap();
        calls.recv_timeout(PATIENCE).expect("a call");
        while calls.recv_timeout(SILENCE).is_ok() {}
    }
}

#[test]
fn a_file_that_another_one_names_is_watched_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("list"), "").unwrap();
    let (call, calls) = channel();
    let (list, named) = (at("list"), at("named"));
    let files = move || {
        let names = fs::read_to_string(&list).unwrap_or_default();
        let named = (!names.is_empty()).then(|| named.clone());
        [list.clone()].into_iter().chain(named).collect()
    };
    let _watch = start(files, OFTEN, FileState::of, move || {
        let _ = call.send(());
        None
    });
    let quiet = || while calls.recv_timeout(SILENCE).is_ok() {};
    quiet();
    fs::write(at("list"), "named").unwrap();
    calls.recv_timeout(PATIENCE).expect("a call");
    quiet();
    fs::write(at("named"), "new").unwrap();
    calls.recv_timeout(PATIENCE).expect("a call");
}

#[test]
fn a_call_that_asks_for_another_gets_it_though_nothing_changes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("m.yaml");
    fs::write(&file, "one").unwrap();
    let (call, calls) = channel();
    let mut attempts = 0;
    let watched = file.clone();
    let _watch = start(
        move || vec![watched.clone()],
        OFTEN,
        FileState::of,
        move || {
            let _ = call.send(());
            attempts += 1;
            (attempts < 3).then_some(Duration::from_millis(10))
        },
    );
    for _ in 0..3 {
        calls.recv_timeout(PATIENCE).expect("a call");
    }
    assert!(calls.recv_timeout(SILENCE).is_err(), "no fourth one");
}

#[test]
fn a_complaint_is_new_once_and_again_after_all_was_well() {
    let complaint = Complaint::default();
    assert!(complaint.is_new("a") && !complaint.is_new("a"));
    assert!(complaint.is_new("b"));
    assert!(complaint.is_over() && !complaint.is_over());
    assert!(complaint.is_new("b"));
}

#[test]
fn the_looks_go_on_while_nothing_happens_and_stop_while_a_call_hangs() {
    let (hang, hangs) = channel::<()>();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("m.yaml");
    let (watched, there) = (file.clone(), file.clone());
    let watch = start(
        move || vec![watched.clone()],
        OFTEN,
        FileState::of,
        move || {
            if there.exists() {
                let _ = hangs.recv();
            }
            None
        },
    )
    .unwrap();
    let looks = watch.looks();
    let looks = || looks.load(Ordering::Relaxed);
    let wait_for = |is_so: &dyn Fn() -> bool| {
        let in_time = (0..2000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            is_so()
        });
        assert!(in_time, "waited in vain");
    };
    let before = looks();
    wait_for(&|| looks() > before + 3);
    fs::write(&file, "one").unwrap();
    // Five intervals without a look: it hangs.
    wait_for(&|| {
        let before = looks();
        thread::sleep(Duration::from_millis(100));
        looks() == before
    });
    drop(hang);
    let before = looks();
    wait_for(&|| looks() > before);
}

/// A file system that does not answer for one file until another one is there.
fn stat_that_hangs(file: &Path) -> FileState {
    if file.ends_with("hangs") {
        let release = file.with_file_name("release");
        while !release.exists() {
            thread::sleep(OFTEN);
        }
    }
    FileState::of(file)
}

fn release(directory: &Path) {
    for name in ["release", "sub/release"] {
        fs::write(directory.join(name), "").unwrap();
    }
}

#[test]
fn a_file_whose_file_system_does_not_answer_delays_no_other_and_counts_when_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let files = ["hangs", "sub/hangs", "z"].map(at);
    fs::create_dir(at("sub")).unwrap();
    for file in &files {
        fs::write(file, "one").unwrap();
    }
    let (call, calls) = channel();
    let watched = files.to_vec();
    let _watch = start(
        move || watched.clone(),
        OFTEN,
        stat_that_hangs,
        move || {
            let _ = call.send(());
            None
        },
    );
    calls.recv_timeout(PATIENCE).expect("the call at the start");
    for text in ["two", "three"] {
        fs::write(&files[2], text).unwrap();
        calls.recv_timeout(PATIENCE).expect("a call");
    }
    assert!(calls.recv_timeout(SILENCE).is_err(), "hanging is no change");
    release(directory.path());
    calls.recv_timeout(PATIENCE).expect("a call");
}

#[test]
fn threads_are_added_for_files_that_hang_and_not_at_each_look() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let files = || ["hangs", "sub/hangs", "a", "b", "c"].map(at).to_vec();
    fs::create_dir(at("sub")).unwrap();
    let mut observer = Observer::start(stat_that_hangs).unwrap();
    for _ in 0..3 {
        assert_eq!(observer.look(files()).len(), 3);
        assert!(observer.threads <= files().len() + 1);
    }
    release(directory.path());
}
