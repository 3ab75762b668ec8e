//! The audit trail of a real gateway, and the commands that read it.

mod files;
mod tampered;
mod written;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::gateway::{PATIENCE, machine, raw, wait_for};
use crate::support::process::{Process, run, unix_seconds};

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
