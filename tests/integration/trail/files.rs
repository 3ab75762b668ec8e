//! The files that the commands read: rotated, compressed, in any order, by a pattern, from standard
//! input; and the filters of `audit show`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{Left, trail};
use crate::support::process::{countersign, run};

/// What `audit show` prints of the trail.
fn show(more: &[&str]) -> String {
    let log = trail().file("audit.jsonl");
    let common = ["audit", "show", "--log", log.to_str().unwrap()];
    let output = run(&[&common[..], more].concat());
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn show_filters_by_machine_path_and_decision() {
    let shown = show(&[
        "--machine",
        "machine-1",
        "--path",
        "/gateway-1/0/3",
        "--decision",
        "refused",
    ]);
    assert_eq!(shown.lines().count(), 13, "{shown}");
    assert!(
        shown.lines().all(|line| line.ends_with("replayed")),
        "{shown}"
    );
}

#[test]
fn show_as_json_prints_the_lines_unchanged() {
    let json = show(&["--json", "--decision", "checkpoint"]);
    assert!(
        json.lines()
            .all(|line| trail().lines.contains(&format!("{line}\n")))
    );
}

#[test]
fn show_prints_nothing_of_a_time_before_the_trail() {
    assert_eq!(show(&["--until", "2020-01-01T00:00:00Z"]), "");
}

/// The trail in three files as logrotate leaves them, the oldest with the greatest number and
/// packed, in a folder of their own.
fn rotated(left: &Left) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let third = left.lines.len() / 3;
    let parts = [
        ("audit.jsonl.2", &left.lines[..third]),
        ("audit.jsonl.1", &left.lines[third..2 * third]),
        ("audit.jsonl", &left.lines[2 * third..]),
    ];
    for (name, lines) in parts {
        fs::write(folder.path().join(name), lines.concat()).unwrap();
    }
    let gzip = Command::new("gzip")
        .arg(folder.path().join("audit.jsonl.2"))
        .status();
    assert!(gzip.unwrap().success());
    folder
}

/// Runs a command in the folder of [`rotated`] files, with one of them as standard input.
fn run_in(folder: &tempfile::TempDir, input: &str, arguments: &[&str]) -> String {
    let mut command = countersign(arguments);
    let input = fs::File::open(folder.path().join(input)).unwrap();
    let output = command.current_dir(folder.path()).stdin(input).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}{errors}");
    said
}

fn verify(folder: &tempfile::TempDir, more: &[&str]) -> String {
    let registry = trail().file("machines.yaml");
    let common = ["audit", "verify", "--registry", registry.to_str().unwrap()];
    run_in(folder, "audit.jsonl", &[&common[..], more].concat())
}

/// The last line of the output: `head`, and the head.
fn head_line(said: &str) -> &str {
    let head = said.lines().last().unwrap();
    assert!(head.starts_with("head "), "{said}");
    head
}

#[test]
fn verify_takes_files_in_any_order_compressed_by_a_pattern_and_from_standard_input() {
    let folder = rotated(trail());
    let said = verify(&folder, &["--audit", "audit.jsonl*"]);
    let files = ["audit.jsonl", "audit.jsonl.2.gz", "audit.jsonl.1"];
    for more in [
        &["--audit", files[0], files[1], files[2]][..],
        &["--log", files[2], "--audit", files[1], "--log", files[0]],
        &["--audit", "-", files[1], files[2]],
        &["--audit", "audit.jsonl.*", "audit.jsonl"],
    ] {
        assert_eq!(verify(&folder, more), said, "{more:?}");
    }
}

#[test]
fn verify_takes_the_head_as_it_printed_it() {
    let folder = rotated(trail());
    let said = verify(&folder, &["--audit", "audit.jsonl*"]);
    let again = ["--audit", "audit.jsonl*", "--head", head_line(&said)];
    assert_eq!(verify(&folder, &again), said);
}

#[test]
fn verify_continues_after_the_head_of_an_older_file() {
    let folder = rotated(trail());
    let older = verify(&folder, &["--audit", "audit.jsonl.2.gz"]);
    let newer = ["--audit", "audit.jsonl.1", "audit.jsonl"];
    verify(
        &folder,
        &[&newer[..], &["--continues", head_line(&older)]].concat(),
    );
}

/// All files of the trail, one as standard input, and the ways to give a time before all of it.
const FILES: [&str; 4] = ["--audit", "-", "audit.jsonl", "audit.jsonl.?"];
const SINCE: [&str; 3] = ["7d", "2020-01-31", "2020-01-31T08:00:00.123Z"];

#[test]
fn show_prints_all_files_in_order_since_a_time() {
    let folder = rotated(trail());
    for since in SINCE {
        let more = ["--since", since, "--json"];
        let arguments = [&["audit", "show"][..], &FILES, &more].concat();
        let shown = run_in(&folder, "audit.jsonl.2.gz", &arguments);
        assert!(shown == trail().lines.concat(), "{since}");
    }
}

#[test]
fn report_reads_all_files_since_a_time() {
    let folder = rotated(trail());
    for since in SINCE {
        let more = ["--since", since, "--json"];
        let arguments = [&["report"][..], &FILES, &more].concat();
        let report = run_in(&folder, "audit.jsonl.2.gz", &arguments);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["lines"], trail().lines.len(), "{since}");
    }
}

#[test]
fn show_prints_nothing_that_is_younger_than_a_period() {
    let folder = rotated(trail());
    let arguments = ["audit", "show", "--audit", "audit.jsonl*", "--until", "7d"];
    assert_eq!(run_in(&folder, "audit.jsonl", &arguments), "");
}
