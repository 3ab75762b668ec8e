#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::PermissionsExt;

use super::file::{MODE, unix_ms};
use super::*;
use crate::audit::testing::{Scratch, Tape, TapeStep};

impl Sink {
    /// As the writer does it.
    fn put(&mut self, lines: &[u8]) -> Result<(), Torn> {
        self.prepare(0)
            .map_err(|error| Torn { written: 0, error })?;
        self.write_lines(lines)
    }
}

#[test]
fn lines_are_appended_to_a_file() {
    let scratch = Scratch::new();
    let path = scratch.path("audit");
    fs::write(&path, "before\n").unwrap();
    Sink::file(&path, Bounds::default())
        .unwrap()
        .put(b"after\n")
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
}

#[test]
fn a_new_file_is_not_for_everybody() {
    let scratch = Scratch::new();
    let path = scratch.path("audit");
    Sink::file(&path, Bounds::default()).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777 & !MODE, 0, "{mode:o}");
    assert_eq!(mode & 0o600, 0o600, "{mode:o}");
}

#[test]
fn a_missing_directory_is_an_error_that_names_the_path() {
    let scratch = Scratch::new();
    let path = scratch.path("missing/audit");
    let error = Sink::file(&path, Bounds::default()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("missing/audit"), "{error}");
}

#[test]
fn a_directory_is_no_sink() {
    let scratch = Scratch::new();
    assert!(Sink::file(scratch.dir(), Bounds::default()).is_err());
}

#[test]
fn a_line_that_a_crash_cut_off_is_ended_first() {
    let scratch = Scratch::new();
    let path = scratch.path("audit");
    fs::write(&path, "{\"torn").unwrap();
    Sink::file(&path, Bounds::default())
        .unwrap()
        .put(b"{}\n")
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"torn \n{}\n");
}

#[test]
fn a_deleted_file_is_made_again() {
    let scratch = Scratch::new();
    let path = scratch.path("audit");
    let mut sink = Sink::file(&path, Bounds::default()).unwrap();
    sink.put(b"1\n").unwrap();
    fs::remove_file(&path).unwrap();
    sink.put(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
}

#[test]
fn a_file_that_was_moved_away_keeps_its_lines_and_gets_no_more() {
    let scratch = Scratch::new();
    let (path, moved) = (scratch.path("audit"), scratch.path("audit.1"));
    let mut sink = Sink::file(&path, Bounds::default()).unwrap();
    sink.put(b"1\n").unwrap();
    fs::rename(&path, &moved).unwrap();
    sink.put(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(&moved).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
}

#[test]
fn a_file_put_in_place_of_the_old_one_is_appended_to() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.path("audit"), scratch.path("other"));
    let mut sink = Sink::file(&path, Bounds::default()).unwrap();
    fs::write(&other, "other").unwrap();
    fs::rename(&other, &path).unwrap();
    sink.put(b"1\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "other \n1\n");
}

#[test]
fn a_truncated_file_is_written_on_from_its_start() {
    let scratch = Scratch::new();
    let path = scratch.path("audit");
    let mut sink = Sink::file(&path, Bounds::default()).unwrap();
    sink.put(b"1\n").unwrap();
    File::create(&path).unwrap();
    sink.put(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
}

#[test]
fn a_file_that_cannot_be_made_again_fails_until_it_can() {
    let scratch = Scratch::new();
    let dir = scratch.path("log");
    let path = dir.join("audit");
    fs::create_dir(&dir).unwrap();
    let mut sink = Sink::file(&path, Bounds::default()).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(sink.put(b"1\n").unwrap_err().written, 0);
    fs::create_dir(&dir).unwrap();
    sink.put(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
}

#[test]
fn an_interrupted_write_is_taken_up_again() {
    let tape = Tape::default();
    tape.then(TapeStep::Fail(io::ErrorKind::Interrupted));
    tape.sink().put(b"1\n").unwrap();
    assert_eq!(tape.text(), "1\n");
}

#[test]
fn a_descriptor_that_would_block_is_tried_again() {
    let tape = Tape::default();
    tape.then(TapeStep::Take(1));
    tape.then(TapeStep::Fail(io::ErrorKind::WouldBlock));
    tape.sink().put(b"1\n").unwrap();
    assert_eq!(tape.text(), "1\n");
}

#[test]
fn a_write_in_parts_is_completed() {
    let tape = Tape::default();
    tape.then(TapeStep::Take(1));
    tape.then(TapeStep::Take(2));
    tape.sink().put(b"abcdef\n").unwrap();
    assert_eq!(tape.writes(), ["a", "bc", "def\n"]);
}

#[test]
fn a_failure_tells_how_much_was_taken() {
    let tape = Tape::default();
    tape.then(TapeStep::Take(3));
    tape.then(TapeStep::Fail(io::ErrorKind::StorageFull));
    let torn = tape.sink().put(b"abcdef\n").unwrap_err();
    assert_eq!(torn.written, 3);
    assert_eq!(torn.error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_writer_that_takes_nothing_has_failed() {
    let tape = Tape::default();
    tape.then(TapeStep::Take(0));
    let torn = tape.sink().put(b"a\n").unwrap_err();
    assert_eq!(torn.error.kind(), io::ErrorKind::WriteZero);
}

#[test]
fn after_a_failure_the_next_lines_start_afresh_and_those_after_them_do_not() {
    let tape = Tape::default();
    let mut sink = tape.sink();
    tape.then(TapeStep::Fail(io::ErrorKind::StorageFull));
    sink.put(b"1\n").unwrap_err();
    sink.put(b"2\n").unwrap();
    sink.put(b"3\n").unwrap();
    assert_eq!(tape.text(), " \n2\n3\n");
}

#[test]
fn a_failure_to_end_the_torn_line_leaves_it_to_be_ended() {
    let tape = Tape::default();
    let mut sink = tape.sink();
    tape.then(TapeStep::Fail(io::ErrorKind::StorageFull));
    tape.then(TapeStep::Fail(io::ErrorKind::StorageFull));
    sink.put(b"1\n").unwrap_err();
    assert_eq!(sink.put(b"2\n").unwrap_err().written, 0);
    sink.put(b"3\n").unwrap();
    assert_eq!(tape.text(), " \n3\n");
}

#[test]
fn writing_no_lines_ends_a_torn_one() {
    let tape = Tape::default();
    let mut sink = tape.sink();
    tape.then(TapeStep::Fail(io::ErrorKind::StorageFull));
    sink.put(b"1\n").unwrap_err();
    sink.put(b"").unwrap();
    assert_eq!(tape.text(), " \n");
}

#[test]
fn a_named_pipe_is_refused_instead_of_waited_for() {
    let scratch = Scratch::new();
    let path = scratch.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let error = Sink::file(&path, Bounds::default()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// A sink in bounds, and how many files it has put aside.
fn bounded(bounds: Bounds) -> (Scratch, Sink, impl Fn(&Scratch) -> Vec<String>) {
    let scratch = Scratch::new();
    let sink = Sink::file(&scratch.path("audit"), bounds).unwrap();
    let aside = |scratch: &Scratch| {
        let entries = fs::read_dir(scratch.dir()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    (scratch, sink, aside)
}

#[test]
fn a_file_that_has_reached_its_size_is_put_aside_and_the_others_stay() {
    let (scratch, mut sink, names) = bounded(Bounds {
        size: Some(4),
        ..Bounds::default()
    });
    for line in ["1234\n", "2\n", "345\n", "4\n"] {
        sink.put(line.as_bytes()).unwrap();
    }
    assert_eq!(names(&scratch), ["audit", "audit.1", "audit.2"]);
    let read = |name| fs::read_to_string(scratch.path(name)).unwrap();
    assert_eq!(
        [read("audit.1"), read("audit.2"), read("audit")],
        ["1234\n", "2\n345\n", "4\n"]
    );
}

#[test]
fn of_a_stream_that_may_be_cut_short_only_the_last_file_stays() {
    let (scratch, mut sink, names) = bounded(Bounds {
        size: Some(1),
        keep_one: true,
        ..Bounds::default()
    });
    for line in ["1\n", "2\n", "3\n"] {
        sink.put(line.as_bytes()).unwrap();
    }
    assert_eq!(names(&scratch), ["audit", "audit.1"]);
    assert_eq!(fs::read_to_string(scratch.path("audit.1")).unwrap(), "2\n");
}

#[test]
fn a_file_that_has_reached_its_age_is_put_aside_once_it_holds_something() {
    let (scratch, mut sink, names) = bounded(Bounds {
        age: Some(Duration::from_secs(3600)),
        ..Bounds::default()
    });
    let born = unix_ms(
        fs::metadata(scratch.path("audit"))
            .unwrap()
            .created()
            .unwrap(),
    );
    let hour = 3600 * 1000;
    sink.prepare(born + 2 * hour).unwrap();
    sink.write_lines(b"1\n").unwrap();
    sink.prepare(born + hour - 1).unwrap();
    assert_eq!(names(&scratch), ["audit"]);
    let prepared = sink.prepare(born + hour).unwrap();
    assert!(prepared.reopened);
    assert_eq!(names(&scratch), ["audit", "audit.1"]);
}

#[test]
fn a_file_gets_a_number_above_all_that_are_there() {
    let bounds = Bounds {
        size: Some(1),
        ..Bounds::default()
    };
    let (scratch, mut sink, _) = bounded(bounds);
    fs::write(scratch.path("audit.7.gz"), "").unwrap();
    fs::write(scratch.path("audit.2"), "").unwrap();
    fs::write(scratch.path("audit.refused.9"), "").unwrap();
    sink.put(b"1\n").unwrap();
    sink.put(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(scratch.path("audit.8")).unwrap(), "1\n");
}

#[test]
fn a_full_file_that_is_gone_does_not_keep_the_next_one_away() {
    let bounds = Bounds {
        size: Some(1),
        ..Bounds::default()
    };
    let (scratch, mut sink, _) = bounded(bounds);
    sink.put(b"1\n").unwrap();
    fs::remove_file(scratch.path("audit")).unwrap();
    sink.put(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(scratch.path("audit")).unwrap(), "2\n");
}

#[test]
fn of_two_that_open_one_file_the_second_waits_and_goes_on_where_the_first_ended() {
    let scratch = Scratch::new();
    let path = scratch.path("audit");
    let mut first = Sink::file(&path, Bounds::default()).unwrap();
    assert!(first.claim().unwrap());
    let mut second = Sink::file(&path, Bounds::default()).unwrap();
    assert!(!second.claim().unwrap());
    first.put(b"1\n").unwrap();
    first.write_lines(b"torn").unwrap();
    assert!(!second.claim().unwrap());
    drop(first);
    assert!(second.claim().unwrap());
    assert!(second.found().torn);
    second.put(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\ntorn \n2\n");
}

#[test]
fn a_file_that_another_process_has_put_in_its_place_is_not_written_to() {
    let scratch = Scratch::new();
    let path = scratch.path("audit");
    let mut sink = Sink::file(&path, Bounds::default()).unwrap();
    sink.put(b"1\n").unwrap();
    fs::rename(&path, scratch.path("moved")).unwrap();
    let mut other = Sink::file(&path, Bounds::default()).unwrap();
    assert!(other.claim().unwrap());
    assert!(sink.put(b"2\n").is_err());
    drop(other);
    sink.put(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
}
