//! The trail while a gateway writes it: torn lines, rotation, a reader that stops, a flood.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use serde_json::Value;

use super::send;
use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::gateway::{PATIENCE, machine, raw, wait_for};
use crate::support::process::{Process, clock, run, unix_seconds};

#[test]
fn a_torn_last_line_is_reported_by_the_gateway_and_forgiven_by_verify() {
    let backend = Backend::start();
    let mut process = Process::start(&backend, "", Vec::new());
    process.wait_until_ready();
    send(&process, "/before");
    process.kill();
    let log = process.folder.path().join("audit.jsonl");
    // What a power loss leaves of a line.
    let mut text = fs::read_to_string(&log).unwrap();
    text += "{\"ts\":\"2026-01-31T08:00:00.000Z\",\"deci";
    fs::write(&log, text).unwrap();
    process.start_again();
    process.wait_until_ready();
    send(&process, "/after");
    process.signal("TERM");
    assert!(process.wait(PATIENCE).success());
    let registry = process.folder.path().join("machines.yaml");
    let arguments = [
        "--log",
        log.to_str().unwrap(),
        "--registry",
        registry.to_str().unwrap(),
    ];
    let output = run(&[&["audit", "verify", "--json"][..], &arguments].concat());
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&verdict["good"], &verdict["torn"]),
        (&true.into(), &1.into()),
        "{verdict}"
    );
}

#[test]
fn a_trail_that_is_rotated_is_one_chain_over_its_files() {
    let backend = Backend::start();
    let more = "audit: { file: audit.jsonl, rotate: { size: 1MiB } }\n";
    let mut process = Process::start(&backend, more, Vec::new());
    process.wait_until_ready();
    for round in 0..3 {
        send(&process, &format!("/rotated/{round}"));
    }
    process.signal("TERM");
    assert!(process.wait(PATIENCE).success());
    let at = |name: &str| {
        process
            .folder
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert!(Path::new(&at("audit.jsonl.1")).exists());
    let (old, new, registry) = (at("audit.jsonl.1"), at("audit.jsonl"), at("machines.yaml"));
    let verify = |logs: &[&str]| {
        let mut arguments = vec!["audit", "verify", "--json", "--registry", &registry];
        arguments.extend(logs.iter().flat_map(|log| ["--log", log]));
        let output = run(&arguments);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let verdict = verify(&[&old, &new]);
    assert_eq!(verdict["good"], true, "{verdict}");
    assert_eq!(verify(&[&new])["findings"][0]["fault"], "beginning_cut_off");
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew_on_sigusr1_without_a_request() {
    let backend = Backend::start();
    let process = Process::start(&backend, "", Vec::new());
    process.wait_until_ready();
    let log = process.folder.path().join("audit.jsonl");
    fs::rename(&log, log.with_extension("old")).unwrap();
    process.signal("USR1");
    wait_for("the new file", || {
        let text = fs::read_to_string(&log).ok()?;
        text.contains("\"event\":\"reopen\"").then_some(())
    });
    wait_for("the word in the log", || {
        process.log().contains("SIGUSR1").then_some(())
    });
}

/// A gateway that logs to standard output, into `cat`, which can be stopped.
fn into_a_reader(backend: &Backend) -> (Process, Child, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(backend, "audit: { file: \"-\" }\n", Vec::new());
    process.kill();
    let written = fs::File::create(folder.path().join("audit.jsonl")).unwrap();
    let reader = Command::new("cat")
        .stdin(process.start_again_piped())
        .stdout(written)
        .spawn()
        .unwrap();
    process.wait_until_ready();
    (process, reader, folder)
}

#[test]
fn a_reader_of_standard_output_that_stops_costs_503s_and_no_more() {
    let backend = Backend::start();
    let (process, mut reader, folder) = into_a_reader(&backend);
    let id = reader.id().to_string();
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &id]).status();
        assert!(sent.unwrap().success());
    };
    let mut sent = 0;
    let mut request = || {
        sent += 1;
        let path = format!("/{sent}");
        let lines = machine().sign("GET", &path, unix_seconds(), b"").lines();
        Client::connect(process.address).exchange(&raw("GET", &path, &lines, b""))
    };
    while request().status != 200 {}
    signal("-STOP");
    // The pipe takes some; then a record has nowhere to go.
    let refused = (0..500)
        .map(|_| request())
        .find(|answer| answer.status != 200);
    assert_eq!(refused.unwrap().code(), "audit_unavailable");
    assert!(!process.is_ready());
    signal("-CONT");
    let back = clock();
    while request().status != 200 {
        assert!(back.elapsed() < PATIENCE, "{}", process.log());
    }
    process.wait_until_ready();
    let delivered = backend.seen().len();
    drop(process);
    reader.wait().unwrap();
    let log = fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    let accepted = log.matches("\"decision\":\"accepted\"").count();
    // What was refused for want of its record may have it all the same, and a refusal behind it.
    assert!(accepted >= delivered, "{accepted} records of {delivered}");
}

#[test]
fn a_flood_of_strangers_leaves_the_trail_whole_and_its_own_file_small() {
    const FLOOD: usize = 4000;
    const PER_SECOND: u64 = 20;
    let backend = Backend::start();
    let more = "audit: { file: audit.jsonl, refusals: { per_second: 20 } }\n";
    let mut process = Process::start(&backend, more, Vec::new());
    process.wait_until_ready();
    let began = clock();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..FLOOD / 4 {
                    let mut client = Client::connect(process.address);
                    let answer = client.exchange(b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n");
                    assert_eq!(answer.code(), "missing_header");
                }
            });
        }
        send(&process, "/honest");
    });
    let seconds = began.elapsed().as_secs() + 2;
    process.signal("TERM");
    assert!(process.wait(PATIENCE).success());
    let read = |name| fs::read_to_string(process.folder.path().join(name)).unwrap();
    let (trail, strangers) = (read("audit.jsonl"), read("audit.refused.jsonl"));
    assert_eq!(trail.matches("\"accepted\"").count(), 501);
    assert!(!trail.contains("missing_header"));
    let recorded = strangers.matches("\"code\":\"missing_header\"").count();
    let left_out: u64 = (strangers.lines())
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|record| record["left_out"]["missing_header"].as_u64())
        .sum();
    assert_eq!(recorded + usize::try_from(left_out).unwrap(), FLOOD);
    let most = PER_SECOND * seconds;
    assert!(
        recorded as u64 <= most,
        "{recorded} recorded in {seconds} s"
    );
    assert!(most < FLOOD as u64, "this machine is too slow for a flood");
}
