//! What machines may do, their keys over time, and that `explain` says what the gateway does.

use std::fs;
use std::process::Output;
use std::time::Duration;

use countersign::config;
use countersign::gateway::{Prediction, Question, explain};
use countersign::registry::Registry;

use crate::support::backend::Backend;
use crate::support::client::{Response, exchange};
use crate::support::gateway::{
    Gateway, Options, START, environment, machine, raw, registry, wait_for,
};
use crate::support::process::run;
use crate::support::signer::Machine;

fn with_machines(backend: &Backend, machines: &str) -> Gateway {
    let options = Options {
        machines: machines.to_owned(),
        ..Options::default()
    };
    Gateway::with(backend, options)
}

/// The common machine with these lines more.
fn with(lines: &str) -> String {
    registry(&[&machine()]) + lines
}

fn ask(gateway: &Gateway, by: &Machine, method: &str, path: &str) -> Response {
    let lines = gateway.sign(by, method, path, b"").lines();
    exchange(gateway.address, raw(method, path, &lines, b""))
}

#[test]
fn with_rules_a_machine_gets_what_they_allow_and_the_backend_hears_of_nothing_else() {
    let backend = Backend::start();
    let gateway = with_machines(
        &backend,
        &with("    allow: [\"read /v1/app/*\", \"LIST /v1/app\"]\n"),
    );
    assert_eq!(gateway.request("GET", "/v1/app/db", b"").status, 200);
    assert_eq!(gateway.request("LIST", "/v1/app", b"").status, 200);
    for (method, path) in [
        ("POST", "/v1/app/db"),
        ("GET", "/v1/app/db/deeper"),
        ("GET", "/v1/app/"),
        ("GET", "/v1/APP/db"),
    ] {
        let response = gateway.request(method, path, b"");
        assert_eq!(
            (response.status, response.code().as_str()),
            (403, "not_permitted"),
            "{method} {path}"
        );
    }
    assert_eq!(backend.seen().len(), 2);
}

#[test]
fn a_request_that_is_not_permitted_goes_on_record_under_the_machines_name() {
    let backend = Backend::start();
    let gateway = with_machines(&backend, &with("    allow: [\"GET /a\"]\n"));
    gateway.request("GET", "/b", b"");
    let record = gateway.decisions("refused", 1).remove(0);
    assert_eq!(record["code"], "not_permitted");
    assert_eq!(
        (&record["auth"], &record["machine"]["id"]),
        (&"signature".into(), &"machine-1".into())
    );
}

#[test]
fn the_query_is_not_what_a_rule_is_about() {
    let backend = Backend::start();
    let options = Options {
        routes: "  - { path: /, upstream: secrets, query: signed }\n".into(),
        machines: with("    allow: [\"GET /a\"]\n"),
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    assert_eq!(gateway.request("GET", "/a?version=2", b"").status, 200);
    assert_eq!(gateway.request("GET", "/b?/a", b"").status, 403);
}

#[test]
fn networks_judge_the_client_that_a_trusted_proxy_names() {
    let backend = Backend::start();
    let options = Options {
        more: "trusted_proxies: [127.0.0.1]\n".into(),
        machines: with("    cidrs: [192.0.2.0/24]\n"),
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let from = |client: &str| {
        let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
        let lines = format!("{lines}X-Forwarded-For: {client}\r\n");
        exchange(gateway.address, raw("GET", "/a", &lines, b"")).status
    };
    assert_eq!(from("192.0.2.7"), 200);
    assert_eq!(from("198.51.100.7"), 403);
    assert_eq!(from("192.0.2.7, 198.51.100.7"), 403);
}

#[test]
fn what_a_stranger_says_of_its_address_is_not_believed() {
    let backend = Backend::start();
    let gateway = with_machines(&backend, &with("    cidrs: [192.0.2.0/24]\n"));
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let lines = format!("{lines}X-Forwarded-For: 192.0.2.7\r\n");
    assert_eq!(
        exchange(gateway.address, raw("GET", "/a", &lines, b"")).status,
        403
    );
}

#[test]
fn beyond_its_rate_a_machine_hears_when_to_try_again() {
    let backend = Backend::start();
    let gateway = with_machines(&backend, &with("    rate: { per_minute: 3 }\n"));
    for _ in 0..3 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    }
    let response = gateway.request("GET", "/a", b"");
    assert_eq!(
        (response.status, response.code().as_str()),
        (429, "throttled")
    );
    assert_eq!(response.header("retry-after"), Some("20"));
    gateway.hands.advance(Duration::from_secs(20));
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    assert_eq!(backend.seen().len(), 4);
}

#[test]
fn neither_a_replay_nor_what_is_not_permitted_uses_up_a_rate() {
    let backend = Backend::start();
    let lines = "    rate: { per_minute: 2 }\n    allow: [\"GET /a\"]\n";
    let gateway = with_machines(&backend, &with(lines));
    let captured = raw(
        "GET",
        "/a",
        &gateway.sign(&machine(), "GET", "/a", b"").lines(),
        b"",
    );
    assert_eq!(exchange(gateway.address, &captured).status, 200);
    for _ in 0..5 {
        assert_eq!(exchange(gateway.address, &captured).code(), "replayed");
        assert_eq!(gateway.request("GET", "/b", b"").code(), "not_permitted");
    }
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    assert_eq!(gateway.request("GET", "/a", b"").code(), "throttled");
}

#[test]
fn what_is_used_of_a_rate_survives_a_reload() {
    let backend = Backend::start();
    let lines = "    rate: { per_minute: 2 }\n";
    let gateway = with_machines(&backend, &with(lines));
    gateway.request("GET", "/a", b"");
    gateway.request("GET", "/a", b"");
    gateway.write_registry(&with(&format!("{lines}    name: renamed\n")));
    gateway.decisions("registry", 2);
    assert_eq!(gateway.request("GET", "/a", b"").code(), "throttled");
}

#[test]
fn a_rule_that_is_taken_out_of_a_group_counts_from_the_next_request() {
    let backend = Backend::start();
    let with_rules = |rules: &str| {
        format!(
            "groups:\n- name: fleet\n  allow: [{rules}]\n{}",
            with("    groups: [fleet]\n")
        )
    };
    let gateway = with_machines(&backend, &with_rules("GET /a, GET /b"));
    assert_eq!(gateway.request("GET", "/b", b"").status, 200);
    gateway.write_registry(&with_rules("GET /a"));
    let record = gateway.decisions("registry", 2).remove(1);
    assert_eq!(record["changed"]["ids"][0], "machine-1");
    assert_eq!(gateway.request("GET", "/b", b"").status, 403);
}

#[test]
fn where_a_route_observes_what_is_not_permitted_passes_as_it_was_sent() {
    let backend = Backend::start();
    let options = Options {
        routes: "  - { path: /, upstream: secrets, mode: observe, observe_until: 2027-01-20 }\n"
            .into(),
        machines: with("    allow: [\"GET /a\"]\n"),
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    assert_eq!(gateway.request("GET", "/b", b"").status, 200);
    let record = gateway.decisions("observed", 1).remove(0);
    assert_eq!(record["code"], "not_permitted");
    assert!(backend.only().all("x-machine-identity").is_empty());
}

/// A machine with the key of seed 1, which ends at `end`, and that of seed 2.
fn rotating(end: u64) -> String {
    let [old, new] = [1, 2].map(|seed| Machine::new("machine-1", seed).public_key());
    let end = countersign::config::instant::to_text(end);
    format!(
        "machines:\n  - id: machine-1\n    public_keys:\n      - {{ key: \"{old}\", not_after: \"{end}\" }}\n      - \"{new}\"\n"
    )
}

#[test]
fn during_a_rotation_both_keys_are_good_and_then_the_new_one() {
    let backend = Backend::start();
    let gateway = with_machines(&backend, &rotating(START + 60));
    let [old, new] = [1, 2].map(|seed| Machine::new("machine-1", seed));
    assert_eq!(ask(&gateway, &old, "GET", "/a").status, 200);
    assert_eq!(ask(&gateway, &new, "GET", "/a").status, 200);
    gateway.hands.advance(Duration::from_secs(60));
    let response = ask(&gateway, &old, "GET", "/a");
    assert_eq!(
        (response.status, response.code().as_str()),
        (403, "machine_expired")
    );
    assert_eq!(ask(&gateway, &new, "GET", "/a").status, 200);
    let record = gateway.decisions("refused", 1).remove(0);
    assert_eq!(record["machine"]["public_key"], old.public_key());
}

#[test]
fn the_metric_tells_which_key_was_used_until_the_other_is_gone() {
    let backend = Backend::start();
    let gateway = with_machines(&backend, &rotating(START + 600));
    let [old, new] = [1, 2].map(|seed| Machine::new("machine-1", seed));
    for by in [&old, &new] {
        assert_eq!(ask(&gateway, by, "GET", "/a").status, 200);
    }
    let series = || {
        let (_, page) = gateway.admin_get("/metrics");
        page.matches("countersign_machine_key_last_used_timestamp_seconds{")
            .count()
    };
    assert_eq!(series(), 2);
    gateway.write_registry(&registry(&[&new]));
    gateway.decisions("registry", 2);
    wait_for("the series to go", || (series() == 0).then_some(()));
}

#[test]
fn the_records_of_a_machine_that_was_removed_stay_checkable_until_its_end() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    gateway.decisions("response", 1);
    let log = gateway.folder.path().join("audit.jsonl");
    let later = gateway.folder.path().join("later.yaml");
    let verify = |removed: &str| {
        let key = machine().public_key();
        let tombstone = format!(
            "machines: []\nremoved:\n- id: machine-1\n  at: {removed}\n  public_keys: [\"{key}\"]\n"
        );
        fs::write(&later, tombstone).unwrap();
        run(&[
            "audit",
            "verify",
            "--log",
            log.to_str().unwrap(),
            "--registry",
            later.to_str().unwrap(),
            "--registry-only",
            "--json",
        ])
    };
    let output = verify("2027-01-16");
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let output = verify("2027-01-14");
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["findings"][0]["fault"], "after_end");
}

const ROUTES: &str = "  - { path: /, upstream: secrets }
  - { path: /signed, upstream: secrets, query: signed }
  - { path: /reject, upstream: secrets, query: reject, methods: [SCAN] }
  - { path: /open, upstream: secrets, mode: open }
  - { path: /observe, upstream: secrets, mode: observe, observe_until: 2027-01-20 }
  - { path: /until, upstream: secrets, bearer_until: 2027-01-20 }
  - { path: /inner/v1, upstream: secrets, strip_prefix: /inner }
  - { path: /v1/sys/health, upstream: secrets }
";

/// The machines of the table; the key of each is its number.
fn table_machines() -> (String, Vec<Machine>) {
    let entries = [
        ("free", ""),
        (
            "ruled",
            "    allow: [\"read /v1/app/**\", \"any /signed/a\", \"GET /v1/sys/health\"]\n",
        ),
        (
            "grouped",
            "    groups: [fleet]\n    allow: [\"PUT /v1/own\"]\n",
        ),
        ("here", "    cidrs: [127.0.0.0/8]\n"),
        ("elsewhere", "    cidrs: [192.0.2.0/24]\n"),
        ("off", "    enabled: false\n"),
        ("over", "    expires: 2027-01-01\n"),
        ("early", "    not_before: 2027-02-01\n"),
        ("bereft", "    credential: nobody\n"),
    ];
    let mut text = "groups:\n  - name: fleet\n    allow: [\"LIST /v1/app/*\", \"any /observe/a\"]\nmachines:\n".to_owned();
    let mut machines = Vec::new();
    for (seed, (id, lines)) in (1..).zip(entries) {
        let machine = Machine::new(id, seed);
        text += &format!(
            "  - id: {id}\n    public_keys: [\"{}\"]\n{lines}",
            machine.public_key()
        );
        machines.push(machine);
    }
    let keys = [100, 101].map(|seed| Machine::new("rotating", seed));
    text += &format!(
        "  - id: rotating\n    public_keys: [{{ key: \"{}\", not_after: 2027-01-01 }}, \"{}\"]\n",
        keys[0].public_key(),
        keys[1].public_key()
    );
    let [_, new] = keys;
    let ended = Machine::new("ended", 102);
    text += &format!(
        "  - id: ended\n    public_keys: [{{ key: \"{}\", not_after: 2027-01-01 }}]\n",
        ended.public_key()
    );
    machines.extend([new, ended, Machine::new("stranger", 103)]);
    (text, machines)
}

#[test]
fn explain_says_of_every_request_what_the_gateway_does_with_it() {
    let backend = Backend::start();
    let (registry, machines) = table_machines();
    let options = Options {
        routes: ROUTES.into(),
        machines: registry,
        upstream: "    credential: { header: X-Vault-Token, file: token }\n".into(),
        token: Some("t".into()),
        more: "throttle: { failures_per_minute: 0 }\n".into(),
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let file = gateway.folder.path().join("countersign.yaml");
    let config = config::load(&file, &environment()).unwrap().config;
    let registry = Registry::load(&gateway.registry_path(), None).unwrap();
    let (mut passed, mut observed, mut codes) = (0, 0, std::collections::BTreeSet::new());
    for machine in &machines {
        for method in ["GET", "LIST", "PUT", "SCAN", "get"] {
            for target in [
                "/v1/app/db",
                "/v1/app/db/x",
                "/v1/own",
                "/v1/own/",
                "/v1/own?x=1",
                "/v1/sys/mounts",
                "/v1/sys/health",
                "/v1/auth",
                "/signed/a?b=c",
                "/signed/b",
                "/reject/a",
                "/reject/a?b",
                "/open/a",
                "/observe/a",
                "/observe/b",
                "/until/a",
                "/inner/v1/own",
                "/inner/v1/sys",
                "/a//b",
            ] {
                let question = Question {
                    machine: &machine.id,
                    method,
                    target,
                    client: Some("127.0.0.1".parse().unwrap()),
                    at: gateway.now(),
                };
                let told = explain(&config, &registry, question).unwrap();
                let signed = told.route.as_ref().and_then(|route| route.signed.clone());
                let signed = signed.unwrap_or_else(|| target.to_owned());
                let lines = machine.sign(method, &signed, gateway.now(), b"").lines();
                let response = exchange(gateway.address, raw(method, target, &lines, b""));
                let what = format!("{} {method} {target}: {:?}", machine.id, told.verdict);
                match told.verdict {
                    Prediction::Passes | Prediction::PassesOpen => {
                        passed += 1;
                        assert_eq!(response.status, 200, "{what}");
                        let seen = backend.seen().pop().unwrap();
                        let is_named = !seen.all("x-machine-identity").is_empty();
                        assert_eq!(is_named, told.verdict == Prediction::Passes, "{what}");
                        let token = !seen.all("x-vault-token").is_empty();
                        let credential = told.policy.and_then(|policy| policy.credential);
                        assert_eq!(token, credential.is_some(), "{what}");
                    }
                    Prediction::PassesObserved(refusal) => {
                        observed += 1;
                        assert_eq!(response.status, 200, "{what}");
                        let records = gateway.decisions("observed", observed);
                        let code = &records[observed - 1]["code"];
                        assert_eq!(code, refusal.code().as_str(), "{what}");
                    }
                    Prediction::Refused(refusal) => {
                        codes.insert(refusal.code());
                        let code = response.code();
                        assert_eq!(code, refusal.code().as_str(), "{what}");
                    }
                }
            }
        }
    }
    // The table is worth something only if it has a bit of everything.
    assert!(
        passed > 50 && observed > 10 && codes.len() >= 8,
        "{passed} {observed} {codes:?}"
    );
}

/// A gateway whose machine may read below /v1/app/, and the command that explains.
struct Explained {
    gateway: Gateway,
    _backend: Backend,
}

impl Explained {
    fn start() -> Explained {
        let backend = Backend::start();
        let lines = "    allow: [\"read /v1/app/*\"]\n    rate: { per_minute: 60 }\n";
        let gateway = with_machines(&backend, &with(lines));
        Explained {
            gateway,
            _backend: backend,
        }
    }

    fn run(&self, more: &[&str]) -> Output {
        let file = self.gateway.folder.path().join("countersign.yaml");
        let config = file.to_str().unwrap();
        let common = ["explain", "--config", config, "--machine", "machine-1"];
        run(&[&common, more].concat())
    }

    /// What the command prints holds each of the words.
    fn tells(&self, asked: &[&str], words: &[&str]) {
        let text = String::from_utf8(self.run(asked).stdout).unwrap();
        for word in words {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn explain_tells_why_a_request_passes_and_ends_with_0() {
    let explained = Explained::start();
    let asked = ["GET", "/v1/app/db"];
    assert_eq!(explained.run(&asked).status.code(), Some(0));
    let words = [
        "passes, authenticated as this machine",
        "allowed by read /v1/app/*",
        "60 a minute",
        "credential    none",
    ];
    explained.tells(&asked, &words);
}

#[test]
fn explain_gives_a_refusal_as_json_and_ends_with_1() {
    let output = Explained::start().run(&["--json", "PUT", "/v1/app/db"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["verdict"], "refused");
    assert_eq!(json["code"], "not_permitted");
    let objection = &json["policy"]["objection"];
    assert_eq!(objection, "no rule of `allow` matches method and path");
    let told = String::from_utf8(output.stderr).unwrap();
    let refused = "the request would be refused: 403 not_permitted";
    assert!(told.contains(refused), "{told}");
}

#[test]
fn explain_asks_about_the_machine_where_the_target_is_refused() {
    let words = [
        "route         not matched: the target is outside the grammar",
        "machine       may act",
        "policy        not checked: no route",
    ];
    Explained::start().tells(&["GET", "/a//b"], &words);
}

#[test]
fn explain_asks_about_the_machine_where_the_route_refuses_the_method() {
    let words = [
        "route         / -> secrets",
        "machine       may act",
        "policy        not checked: the route does not take the method",
    ];
    Explained::start().tells(&["SCAN", "/v1/app/db"], &words);
}

#[test]
fn explain_asks_about_the_machine_where_no_route_matches() {
    let explained = Explained::start();
    let one_route = |config: String| config.replace("path: /,", "path: /v1,");
    explained.gateway.edit_config(one_route);
    let words = ["route         none has this path", "machine       may act"];
    explained.tells(&["GET", "/v2/app"], &words);
}

#[test]
fn explain_ends_with_78_where_the_registry_has_a_mistake() {
    let explained = Explained::start();
    fs::write(explained.gateway.registry_path(), "machines: [").unwrap();
    assert_eq!(explained.run(&["GET", "/"]).status.code(), Some(78));
}
