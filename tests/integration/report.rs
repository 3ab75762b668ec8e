//! `countersign report`, over what a real gateway has written down of a move half done.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use countersign::config::{self, Environment, instant};
use serde_json::Value;

use crate::support::backend::{Backend, ok, response};
use crate::support::client::exchange;
use crate::support::gateway::{PATIENCE, machine, raw, registry, wait_for};
use crate::support::process::{Process, countersign, run, unix_seconds};
use crate::support::signer::Machine;

const GOOD: &str = "hvs.the-token-of-a-service";
const STALE: &str = "hvs.a-token-that-is-no-good";

/// The folder of a gateway that has ended: its audit files, one of them rotated, its configuration,
/// and `fleet.yaml`, a registry with a machine that never signed.
fn left() -> &'static Path {
    static LEFT: OnceLock<tempfile::TempDir> = OnceLock::new();
    LEFT.get_or_init(|| {
        let backend = Backend::answering(|seen| match seen.all("x-vault-token")[..] {
            [STALE] => response("403 Forbidden", "", b"{}"),
            _ => ok(b"{}"),
        });
        let tomorrow = instant::to_text(unix_seconds() + 86_400);
        let routes = format!(
            "routes:\n  - {{ path: /, upstream: secrets }}\n  \
             - {{ path: /bearer, upstream: secrets, bearer_until: '{tomorrow}' }}\n  \
             - {{ path: /stale, upstream: secrets, bearer_until: '{tomorrow}' }}\n  \
             - {{ path: /watched, upstream: secrets, mode: observe, observe_until: '{tomorrow}' }}\n  \
             - {{ path: /open, upstream: secrets, mode: open }}\n"
        );
        let mut process = Process::start(&backend, &routes, Vec::new());
        process.wait_until_ready();
        let folder = process.folder.path().to_owned();
        first_signed(&process);
        let token = |token: &str| format!("X-Vault-Token: {token}\r\n");
        for path in ["/bearer/app/one", "/bearer/app/two"] {
            assert_eq!(ask(&process, path, &token(GOOD)), 200);
        }
        fs::rename(folder.join("audit.jsonl"), folder.join("audit.jsonl.1")).unwrap();
        process.signal("USR1");
        wait_for("the next file", || folder.join("audit.jsonl").exists().then_some(()));

        assert_eq!(ask(&process, "/bearer/app/one?list=true", &token(GOOD)), 200);
        assert_eq!(ask(&process, "/stale/a", &token(STALE)), 403);
        assert_eq!(ask(&process, "/watched/a", &token(GOOD)), 200);
        assert_eq!(ask(&process, "/watched/a", ""), 200);
        let skewed = machine().sign("GET", "/watched/b", unix_seconds() - 4_000, b"");
        assert_eq!(ask(&process, "/watched/b", &skewed.lines()), 200);
        for path in ["/watched/b", "/stale/a"] {
            let good = machine().sign("GET", path, unix_seconds(), b"");
            assert_eq!(ask(&process, path, &good.lines()), 200);
        }
        assert_eq!(ask(&process, "/open/a", ""), 200);
        assert_eq!(ask(&process, "/a", &token(GOOD)), 401);
        process.signal("TERM");
        assert!(process.wait(PATIENCE).success());

        let kept = tempfile::tempdir().unwrap();
        let files = ["audit.jsonl", "audit.jsonl.1", "audit.refused.jsonl", "countersign.yaml", "machines.yaml"];
        for file in files {
            fs::copy(folder.join(file), kept.path().join(file)).unwrap();
        }
        let fleet = registry(&[&machine(), &Machine::new("asleep", 2)]);
        fs::write(kept.path().join("fleet.yaml"), fleet).unwrap();
        kept
    })
    .path()
}

fn first_signed(process: &Process) {
    wait_for("the first request", || {
        let signed = machine().sign("GET", "/a", unix_seconds(), b"");
        (ask(process, "/a", &signed.lines()) == 200).then_some(())
    });
}

fn ask(process: &Process, target: &str, lines: &str) -> u16 {
    exchange(process.address, raw("GET", target, lines, b"")).status
}

/// Runs the report over all files of the folder, with more arguments; what it prints.
fn report(more: &[&str]) -> String {
    let files = ["audit.jsonl.1", "audit.jsonl", "audit.refused.jsonl"];
    let files = files.map(|file| left().join(file).to_str().unwrap().to_owned());
    let mut arguments = vec!["report", "--audit"];
    arguments.extend(files.iter().map(String::as_str));
    arguments.extend(more);
    let output = run(&arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(more: &[&str]) -> Value {
    let more: Vec<&str> = more.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&report(&more)).unwrap()
}

fn path(file: &str) -> String {
    left().join(file).to_str().unwrap().to_owned()
}

fn route<'a>(report: &'a Value, path: &str) -> &'a Value {
    let mut routes = report["routes"].as_array().unwrap().iter();
    routes.find(|route| route["route"] == path).unwrap()
}

#[test]
fn every_line_that_a_gateway_writes_is_read() {
    let report = json(&[]);
    assert_eq!(report["unread"], 0);
    let count = |file| {
        fs::read_to_string(left().join(file))
            .unwrap()
            .lines()
            .count()
    };
    let lines = ["audit.jsonl", "audit.jsonl.1", "audit.refused.jsonl"].map(count);
    assert_eq!(report["lines"], lines.iter().sum::<usize>());
}

#[test]
fn each_route_counts_its_requests_by_how_they_were_authenticated() {
    let report = json(&[]);
    let count = |path, way: &str| {
        let way = &route(&report, path)[way];
        way["seen"]["requests"]
            .as_u64()
            .or(way["requests"].as_u64())
            .unwrap()
    };
    let ways = ["signed", "bearer", "observed", "open", "refused"];
    let counts = |path| ways.map(|way| count(path, way));
    let root = counts("/");
    assert!(root[0] >= 1, "{root:?}");
    assert_eq!(root[1..], [0, 0, 0, 1]);
    assert_eq!(counts("/bearer"), [0, 3, 0, 0, 0]);
    assert_eq!(counts("/stale"), [1, 1, 0, 0, 0]);
    assert_eq!(counts("/watched"), [1, 0, 3, 0, 0]);
    assert_eq!(counts("/open"), [0, 0, 0, 1, 0]);
}

#[test]
fn each_route_has_its_verdict() {
    let report = json(&[]);
    for (path, verdict) in [
        ("/", "clear"),
        ("/bearer", "not_yet"),
        ("/stale", "failing"),
        ("/watched", "not_yet"),
        ("/open", "open"),
    ] {
        assert_eq!(route(&report, path)["verdict"], verdict, "{path}");
    }
}

#[test]
fn a_token_is_told_by_its_hash_with_where_it_comes_from_and_what_for() {
    let report = json(&[]);
    let rows = report["tokens"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let (good, stale) = (&rows[0], &rows[1]);
    assert_eq!(good["usage"]["requests"], 4);
    assert_eq!(good["usage"]["served"], 4);
    assert_eq!(good["addresses"]["values"][0], "127.0.0.1");
    let mut paths: Vec<_> = (good["paths"]["values"].as_array().unwrap().iter())
        .map(|path| path.as_str().unwrap())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/bearer/app/one", "/bearer/app/two", "/watched/a"]);
    assert_eq!(
        (&stale["usage"]["answered"], &stale["usage"]["served"]),
        (&1.into(), &0.into())
    );
}

#[test]
fn neither_form_shows_a_token_or_a_query() {
    for text in [report(&[]), report(&["--json"])] {
        assert!(
            !text.contains("hvs.") && !text.contains("list=true"),
            "{text}"
        );
    }
}

#[test]
fn whom_the_observed_route_would_have_refused_is_told_with_the_reason() {
    let report = json(&[]);
    let codes = &route(&report, "/watched")["observed_codes"];
    assert_eq!(
        *codes,
        serde_json::json!({"missing_header": 2, "clock_skew": 1})
    );
    let rows = report["would_refuse"]["rows"].as_array().unwrap();
    let skewed = rows.iter().find(|row| row["code"] == "clock_skew").unwrap();
    assert_eq!(skewed["claimed_machine"], "machine-1");
    let missing = rows
        .iter()
        .find(|row| row["code"] == "missing_header")
        .unwrap();
    assert_eq!(missing["address"], "127.0.0.1");
}

#[test]
fn a_machine_of_the_registry_that_never_signed_is_named() {
    let fleet = path("fleet.yaml");
    let report = json(&["--registry", &fleet]);
    assert_eq!(report["never_signed"], serde_json::json!(["asleep"]));
    assert_eq!(report["machines"]["rows"][0]["id"], "machine-1");
}

#[test]
fn the_configuration_says_what_each_route_asks_for_now() {
    let config = path("countersign.yaml");
    let report = json(&["--config", &config]);
    let mode = |path| route(&report, path)["mode"].as_str().unwrap().to_owned();
    assert_eq!(mode("/"), "enforce");
    assert_eq!(mode("/open"), "open");
    assert!(
        mode("/bearer").starts_with("bearer until 2"),
        "{}",
        mode("/bearer")
    );
    assert!(mode("/watched").starts_with("observe until 2"));
    assert_eq!(report["never_signed"], serde_json::json!([]));
}

#[test]
fn a_configuration_whose_credential_cannot_be_read_here_still_names_the_registry() {
    let config = fs::read_to_string(path("countersign.yaml")).unwrap();
    let credential = "secrets:\n    credential: { header: X-Vault-Token, file: /etc }\n";
    let config = config.replacen("secrets:\n", credential, 1);
    let config = config.replace("machines.yaml", "fleet.yaml");
    let file = left().join("elsewhere.yaml");
    fs::write(&file, config).unwrap();
    let log = path("audit.jsonl");
    let file = file.to_str().unwrap();
    let output = run(&["report", "--audit", &log, "--config", file, "--json"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("left out") && error.contains("/etc is a directory"),
        "{error}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["never_signed"], serde_json::json!(["asleep"]));
    assert_eq!(route(&report, "/bearer")["mode"], Value::Null);
}

#[test]
fn a_configuration_that_names_no_registry_is_a_mistake() {
    let file = left().join("nonsense.yaml");
    fs::write(&file, "nonsense: 1\n").unwrap();
    let log = path("audit.jsonl");
    let output = run(&[
        "report",
        "--audit",
        &log,
        "--config",
        file.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(78));
    assert!(output.stdout.is_empty());
}

#[test]
fn the_text_answers_whether_each_route_can_enforce() {
    let (config, fleet) = (path("countersign.yaml"), path("fleet.yaml"));
    let text = report(&["--config", &config, "--registry", &fleet]);
    for line in [
        "\nroute /  (enforce)\n",
        "  -> it can enforce: all that passed was signed\n",
        "  -> not yet: 3 passed that enforcing would have refused, the last one ",
        "  -> it can enforce: the backend refused all unsigned requests, 1 of them\n",
        "\nbearer tokens, by their hash: 2\n",
        "\nmachines of the registry that have not signed: 1\n  asleep\n",
        "clock_skew        claims to be machine-1",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
}

#[test]
fn a_period_that_begins_after_everything_has_nothing_in_it() {
    let report = json(&["--since", "2099-01-01"]);
    assert_eq!(report["seen"]["requests"], 0);
    assert!(report["earlier"].as_u64().unwrap() > 8);
}

#[test]
fn the_last_hour_has_all_of_it() {
    let report = json(&["--since", "1h"]);
    assert_eq!(report["earlier"], 0);
    assert!(report["seen"]["requests"].as_u64().unwrap() > 8);
}

#[test]
fn a_log_can_come_from_standard_input() {
    let mut child = countersign(&["report", "--audit", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let log = fs::read(left().join("audit.jsonl.1")).unwrap();
    child.stdin.take().unwrap().write_all(&log).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(route(&report, "/bearer")["bearer"]["requests"], 2);
}

#[test]
fn what_a_stranger_put_into_a_record_cannot_move_the_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let evil = r"\u001b[2J\u202e\r\n  -> it can enforce";
    let line = format!(
        r#"{{"ts":"2027-01-15T08:00:01.000Z","request_id":"r","decision":"observed","auth":"bearer","code":"bad_signature","claimed_machine":"{evil}","token_hash":"{:032}","client_ip":"192.0.2.7","method":"GET","path":"/{evil}","route":"/{evil}"}}"#,
        0
    );
    fs::write(&file, format!("{line}\nnonsense\u{1b}[2J\n")).unwrap();
    let output = run(&["report", "--audit", file.to_str().unwrap()]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("claims to be \\u{1b}[2J\\u{202e}"), "{text}");
    let plain = |c: char| c == '\n' || matches!(c, ' '..='~');
    assert!(text.chars().all(plain), "{text:?}");
    assert!(
        !text
            .lines()
            .any(|line| line.starts_with("  -> it can enforce"))
    );
    assert!(
        text.contains("CAUTION: unreadable lines, which are not counted: 1,"),
        "{text}"
    );
}

#[test]
fn the_commands_of_the_guide_to_the_migration_work_as_written() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migration.md");
    let guide = fs::read_to_string(guide).unwrap();
    let commands: Vec<&str> = (guide.lines())
        .filter(|line| line.starts_with("countersign report "))
        .collect();
    assert_eq!(commands.len(), 4);
    for command in commands {
        // What follows a pipe is somebody else's program.
        let command = command.split(" | ").next().unwrap();
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let output = countersign(&words).current_dir(left()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}");
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn the_routes_of_the_guide_to_the_migration_are_what_a_gateway_takes() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migration.md");
    let guide = fs::read_to_string(guide).unwrap();
    let blocks: Vec<&str> = (guide.split("```yaml\n").skip(1))
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert_eq!(blocks.len(), 3);
    let now = instant::to_unix_seconds("2027-02-20").unwrap();
    let environment = Environment::of_process(now);
    for routes in blocks {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nregistry: {{ file: machines.yaml }}\n\
             upstreams: {{ secrets: {{ servers: ['http://127.0.0.1:1'] }} }}\n{routes}"
        );
        let loaded = config::read(&text, Path::new("countersign.yaml"), &environment)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(loaded.warnings, [], "{routes}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named_and_nothing_is_reported() {
    let output = run(&[
        "report",
        "--audit",
        &path("audit.jsonl"),
        "/nowhere/audit.jsonl",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("/nowhere/audit.jsonl"), "{text}");
}

#[test]
fn without_a_file_it_is_called_wrongly() {
    assert_eq!(run(&["report"]).status.code(), Some(64));
}

#[test]
fn with_a_time_that_is_none_it_is_called_wrongly() {
    let file = path("audit.jsonl");
    let output = run(&["report", "--audit", &file, "--since", "soon"]);
    assert_eq!(output.status.code(), Some(64));
}
