//! The audit trail of a real gateway, tampered with in every way there is, and `audit verify`, which
//! names each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::gateway::{PATIENCE, machine, raw, wait_for};
use crate::support::process::{Process, clock, countersign, run, unix_seconds};
use crate::support::signer::Machine;

/// What a gateway has left behind.
struct Left {
    folder: tempfile::TempDir,
    lines: Vec<String>,
    gateway_key: String,
}

/// A thousand requests, some of them replayed, on four connections; a registry that changes; a
/// restart in the middle.
fn trail() -> &'static Left {
    static LEFT: OnceLock<Left> = OnceLock::new();
    LEFT.get_or_init(|| left_by("gateway-1"))
}

/// Another gateway's, with the same machines.
fn another_trail() -> &'static Left {
    static LEFT: OnceLock<Left> = OnceLock::new();
    LEFT.get_or_init(|| left_by("gateway-2"))
}

fn left_by(name: &str) -> Left {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("gateway-key.pem");
    let made = run(&["keygen", "--out", key.to_str().unwrap()]);
    let gateway_key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let backend = Backend::start();
    let more = format!(
        "audit: {{ file: audit.jsonl, signing_key: {key:?}, checkpoint: {{ records: 300 }} }}\n"
    );
    let mut process = Process::start(&backend, &more, Vec::new());
    for half in 0..2 {
        process.wait_until_ready();
        send(&process, &format!("/{name}/{half}"));
        process.signal("TERM");
        assert!(process.wait(PATIENCE).success());
        if half == 0 {
            process.start_again();
        }
    }
    for file in ["audit.jsonl", "machines.yaml"] {
        fs::copy(process.folder.path().join(file), folder.path().join(file)).unwrap();
    }
    let log = fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    Left {
        lines: log.lines().map(|line| format!("{line}\n")).collect(),
        folder,
        gateway_key,
    }
}

fn send(process: &Process, path: &str) {
    wait_for("the first request", || {
        let lines = machine().sign("GET", "/first", unix_seconds(), b"").lines();
        let answer = Client::connect(process.address).exchange(&raw("GET", "/first", &lines, b""));
        (answer.status == 200).then_some(())
    });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let mut client = Client::connect(process.address);
                for n in 0..125 {
                    let path = format!("{path}/{thread}/{n}");
                    let body = format!("body {n}");
                    let signed = machine().sign("POST", &path, unix_seconds(), body.as_bytes());
                    let bytes = raw("POST", &path, &signed.lines(), body.as_bytes());
                    assert_eq!(client.exchange(&bytes).status, 200);
                    if n % 10 == 0 {
                        assert_eq!(client.exchange(&bytes).code(), "replayed");
                    }
                }
            });
        }
    });
}

impl Left {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the lines of accepted requests are that lie well inside.
    fn accepted(&self) -> usize {
        let accepted = |line: &String| line.contains("\"accepted\"");
        (500..).find(|at| accepted(&self.lines[*at])).unwrap()
    }

    /// Writes these lines as a log of their own.
    fn tampered(&self, lines: &[String]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), lines.concat()).unwrap();
        file
    }

    /// Changes the lines, and gives the line and the word of the first fault.
    fn first_fault(&self, tamper: impl FnOnce(&mut Vec<String>)) -> (u64, String) {
        let mut lines = self.lines.clone();
        tamper(&mut lines);
        let verdict = self.verify(self.tampered(&lines).path(), &[]);
        assert_eq!(verdict["good"], false, "{verdict}");
        let first = &verdict["findings"][0];
        let word = first["fault"].as_str().unwrap().to_owned();
        (first["line"].as_u64().unwrap(), word)
    }

    fn verify(&self, log: &Path, more: &[&str]) -> Value {
        let registry = self.file("machines.yaml");
        let mut arguments = vec!["audit", "verify", "--json"];
        arguments.extend(["--log", log.to_str().unwrap()]);
        arguments.extend(["--registry", registry.to_str().unwrap()]);
        arguments.extend(["--gateway-key", &self.gateway_key]);
        arguments.extend(more);
        let output = run(&arguments);
        let verdict: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let code = i32::from(verdict["good"] == false);
        assert_eq!(output.status.code(), Some(code), "{verdict}");
        verdict
    }
}

/// Numbers and hashes made anew, by the format as it is documented.
fn rewritten(lines: &[String]) -> Vec<String> {
    let mut hash = [0; 32];
    let relink = |(index, line): (usize, &String)| {
        let record = line.split(",\"seq\":").next().unwrap();
        let body = format!("{record},\"seq\":{}", index + 1);
        hash = Sha256::new()
            .chain_update(hash)
            .chain_update(&body)
            .finalize()
            .into();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{body},\"hash\":\"{hex}\"}}\n")
    };
    lines.iter().enumerate().map(relink).collect()
}

#[test]
fn a_real_trail_of_thousands_of_records_is_good_across_a_restart() {
    let left = trail();
    let verdict = left.verify(&left.file("audit.jsonl"), &[]);
    assert_eq!(verdict["good"], true, "{verdict}");
    assert!(left.lines.len() > 2000, "{}", left.lines.len());
    assert!(verdict["accepted"].as_u64().unwrap() >= 1000);
    assert!(verdict["checkpoints"].as_u64().unwrap() >= 6);
    assert_eq!(verdict["unsigned"], 0, "a stop in order signs the end");
}

#[test]
fn a_flipped_byte_is_named() {
    let at = trail().accepted();
    let (line, word) = trail().first_fault(|lines| {
        lines[at] = lines[at].replace("POST", "PUST");
    });
    assert_eq!((line, &*word), (at as u64 + 1, "altered"));
}

#[test]
fn a_dropped_record_is_named() {
    let at = trail().accepted();
    let fault = trail().first_fault(|lines| drop(lines.remove(at)));
    assert_eq!(fault, (at as u64 + 1, "missing".to_owned()));
}

#[test]
fn swapped_records_are_named() {
    let at = trail().accepted();
    let fault = trail().first_fault(|lines| lines.swap(at, at + 1));
    assert_eq!(fault, (at as u64 + 1, "reordered".to_owned()));
}

#[test]
fn a_doubled_record_is_named() {
    let at = trail().accepted();
    let fault = trail().first_fault(|lines| lines.insert(at + 1, lines[at].clone()));
    assert_eq!(fault, (at as u64 + 2, "doubled".to_owned()));
}

#[test]
fn a_beginning_that_is_cut_off_is_named() {
    let fault = trail().first_fault(|lines| drop(lines.drain(..7)));
    assert_eq!(fault, (1, "beginning_cut_off".to_owned()));
}

#[test]
fn an_end_that_is_cut_off_is_found_by_the_head_of_an_earlier_run() {
    let left = trail();
    let whole = left.verify(&left.file("audit.jsonl"), &[]);
    let head = whole["head"].as_str().unwrap();
    let shorter = left.tampered(&left.lines[..left.lines.len() - 3]);
    let verdict = left.verify(shorter.path(), &["--head", head]);
    assert_eq!(verdict["findings"][0]["fault"], "end_cut_off", "{verdict}");
    let verdict = left.verify(&left.file("audit.jsonl"), &["--head", head]);
    assert_eq!(verdict["good"], true, "{verdict}");
}

#[test]
fn records_of_another_gateway_are_named() {
    let (at, other) = (trail().accepted(), &another_trail().lines);
    let (line, word) = trail().first_fault(|lines| {
        lines.splice(at..at + 3, other[at..at + 3].iter().cloned());
    });
    assert_eq!((line, &*word), (at as u64 + 1, "altered"));
    // All of it from there on, checkpoints included.
    let mut lines = trail().lines[..at].to_vec();
    lines.extend_from_slice(&other[at..]);
    let verdict = trail().verify(trail().tampered(&lines).path(), &[]);
    let words = verdict["findings"].as_array().unwrap().iter();
    let words: Vec<_> = words
        .map(|finding| finding["fault"].as_str().unwrap())
        .collect();
    assert!(words.contains(&"foreign_key"), "{words:?}");
}

#[test]
fn a_trail_that_was_written_anew_without_a_record_contradicts_a_checkpoint() {
    let at = trail().accepted();
    let (_, word) = trail().first_fault(|lines| {
        lines.remove(at);
        *lines = rewritten(lines);
    });
    assert_eq!(word, "rewritten");
}

#[test]
fn a_record_forged_with_another_machines_key_is_named() {
    let left = trail();
    let at = left.accepted();
    let mut record: Value = serde_json::from_str(&left.lines[at]).unwrap();
    let thief = Machine::new("machine-1", 99);
    let time = record["timestamp"].as_u64().unwrap();
    let nonce = record["nonce"].as_str().unwrap().to_owned();
    let path = record["signed_path"].as_str().unwrap().to_owned();
    let signed = thief.sign_with_nonce("POST", &path, time, &nonce, b"other");
    record["signature"] = signed.signature.into();
    record["machine"]["public_key"] = thief.public_key().into();
    let hash: String = Sha256::digest(b"other")
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    record["body_sha256"] = hash.into();
    let fields = record.as_object_mut().unwrap();
    fields.remove("seq");
    fields.remove("hash");
    let forged = record.to_string();
    let (line, word) = left.first_fault(|lines| {
        lines[at] = format!("{},\"seq\":", forged.strip_suffix('}').unwrap());
        *lines = rewritten(lines);
    });
    assert_eq!((line, &*word), (at as u64 + 1, "unknown_key"));
}

#[test]
fn a_changed_request_does_not_verify_under_its_machines_key() {
    let at = trail().accepted();
    let (line, word) = trail().first_fault(|lines| {
        lines[at] = lines[at].replace("/gateway-1/", "/gateway-7/");
        *lines = rewritten(lines);
    });
    assert_eq!((line, &*word), (at as u64 + 1, "client_signature"));
}

#[test]
fn verify_says_in_words_what_is_wrong_and_where() {
    let left = trail();
    let mut lines = left.lines.clone();
    lines.remove(10);
    let log = left.tampered(&lines);
    let output = run(&["audit", "verify", "--log", log.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = format!("{}:11: missing: record 11 between", log.path().display());
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("\nhead "), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn show_filters_by_machine_path_and_decision() {
    let left = trail();
    let log = left.file("audit.jsonl");
    let show = |more: &[&str]| {
        let mut arguments = vec!["audit", "show", "--log", log.to_str().unwrap()];
        arguments.extend(more);
        let output = run(&arguments);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
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
    let json = show(&["--json", "--decision", "checkpoint"]);
    assert!(
        json.lines()
            .all(|line| left.lines.contains(&format!("{line}\n")))
    );
    assert_eq!(show(&["--until", "2020-01-01T00:00:00Z"]), "");
}

/// The trail in three files as logrotate leaves them, the oldest with the greatest number and packed,
/// in a folder of their own.
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

#[test]
fn verify_takes_the_head_as_it_printed_it_and_files_packed_in_any_order_and_by_a_pattern() {
    let left = trail();
    let folder = rotated(left);
    let registry = left.file("machines.yaml");
    let verify = |more: &[&str]| {
        let common = ["audit", "verify", "--registry", registry.to_str().unwrap()];
        let mut command = countersign(&[&common[..], more].concat());
        let input = fs::File::open(folder.path().join("audit.jsonl")).unwrap();
        command.current_dir(folder.path()).stdin(input);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{more:?}: {said}{errors}");
        said
    };
    let said = verify(&["--audit", "audit.jsonl*"]);
    let head = said.lines().last().unwrap();
    assert!(head.starts_with("head "), "{said}");
    let files = ["audit.jsonl", "audit.jsonl.2.gz", "audit.jsonl.1"];
    for more in [
        &["--audit", files[0], files[1], files[2]][..],
        &["--log", files[2], "--audit", files[1], "--log", files[0]],
        &["--audit", "-", files[1], files[2]],
        &["--audit", "audit.jsonl.*", "audit.jsonl"],
    ] {
        assert_eq!(
            verify(&[more, &["--head", head]].concat()),
            said,
            "{more:?}"
        );
    }
    let first = verify(&["--audit", files[1]]);
    let first = first.lines().last().unwrap();
    verify(&["--audit", files[2], files[0], "--continues", first]);
}

#[test]
fn every_command_that_reads_the_trail_takes_the_same_files_and_times() {
    let folder = rotated(trail());
    let run = |arguments: &[&str]| {
        let mut command = countersign(arguments);
        let input = fs::File::open(folder.path().join("audit.jsonl.2.gz")).unwrap();
        let output = command.current_dir(folder.path()).stdin(input).output();
        let output = output.unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    for since in ["7d", "2020-01-31", "2020-01-31T08:00:00.123Z"] {
        let files = ["-", "audit.jsonl", "audit.jsonl.?"];
        let files = [&["--audit"][..], &files, &["--since", since, "--json"]].concat();
        let shown = run(&[&["audit", "show"][..], &files].concat());
        assert!(
            shown == trail().lines.concat(),
            "{since}: all lines, in order"
        );
        let report = run(&[&["report"][..], &files].concat());
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["lines"], trail().lines.len(), "{since}");
    }
    assert_eq!(
        run(&["audit", "show", "--audit", "audit.jsonl*", "--until", "7d"]),
        ""
    );
}

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
