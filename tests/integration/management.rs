//! The calls that manage the registry, over sockets, with a registry in SQLite.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use countersign::management::call::RegistryCall;
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::client::{Response, exchange};
use crate::support::gateway::{Gateway, Options, START, raw, registry, wait_for};
use crate::support::http2::Http2;
use crate::support::process::{run, unix_seconds};
use crate::support::signer::Machine;

const PREFIX: &str = "/countersign/v1";

fn operator() -> Machine {
    Machine::new("alice", 200)
}

fn options() -> Options {
    Options {
        registry: "{ database: 'sqlite:registry.db', operators: operators.yaml }".into(),
        routes: "  - { path: /, upstream: secrets, query: signed }\n  \
                 - { path: /countersign/v1, management: true }\n"
            .into(),
        files: vec![("operators.yaml", registry(&[&operator()]))],
        ..Options::default()
    }
}

fn gateway(backend: &Backend) -> Gateway {
    Gateway::with(backend, options())
}

/// Signs and sends a call, with the path behind the route's.
fn call_by(gateway: &Gateway, by: &Machine, method: &str, path: &str, body: &str) -> Response {
    let path = format!("{PREFIX}{path}");
    let signed = gateway.sign(by, method, &path, body.as_bytes());
    let request = raw(method, &path, &signed.lines(), body.as_bytes());
    exchange(gateway.address, request)
}

fn call(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Response {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    call_by(gateway, &operator(), method, path, &body)
}

#[track_caller]
fn answered(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Value {
    let answer = call(gateway, method, path, body);
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

#[track_caller]
fn refused(gateway: &Gateway, method: &str, path: &str, body: &Value, expected: (u16, &str)) {
    let answer = call(gateway, method, path, body);
    assert_eq!(
        (answer.status, &*answer.code()),
        expected,
        "{}",
        answer.json()
    );
}

fn entry(machine: &Machine) -> Value {
    json!({"id": machine.id, "public_keys": [machine.public_key()]})
}

fn add(gateway: &Gateway, machines: &[&Machine]) {
    let entries: Vec<Value> = machines.iter().map(|machine| entry(machine)).collect();
    answered(gateway, "POST", "/machines", &json!({"machines": entries}));
}

/// Waits until a machine's request gets this status.
fn gets(gateway: &Gateway, machine: &Machine, status: u16) {
    wait_for(&format!("{status} for {}", machine.id), || {
        let signed = gateway.sign(machine, "GET", "/a", b"");
        let answer = exchange(gateway.address, raw("GET", "/a", &signed.lines(), b""));
        (answer.status == status).then_some(())
    });
}

#[test]
fn a_machine_is_added_changed_and_removed_and_each_is_in_force() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let web = Machine::new("web-1", 1);
    add(&gateway, &[&web, &Machine::new("web-2", 2)]);
    gets(&gateway, &web, 200);

    let shown = answered(&gateway, "GET", "/machines/web-1", &Value::Null);
    assert_eq!(shown["public_keys"], json!([web.public_key()]));
    assert!(shown["last_used"].is_string(), "{shown}");

    let patch = json!({"enabled": false, "owner": "ops"});
    answered(&gateway, "PATCH", "/machines/web-1", &patch);
    gets(&gateway, &web, 403);
    let shown = answered(&gateway, "GET", "/machines/web-1", &Value::Null);
    assert_eq!(
        (&shown["enabled"], &shown["owner"]),
        (&json!(false), &json!("ops"))
    );

    let patch = json!({"enabled": null});
    answered(&gateway, "PATCH", "/machines/web-1", &patch);
    gets(&gateway, &web, 200);

    answered(&gateway, "DELETE", "/machines/web-1", &Value::Null);
    gets(&gateway, &web, 401);
    let none = (404, "no_machine");
    refused(&gateway, "GET", "/machines/web-1", &Value::Null, none);
    // Its id and its key stay taken.
    let again = json!({"machines": [entry(&web)]});
    refused(&gateway, "POST", "/machines", &again, (409, "exists"));
    let other_id = json!({"machines": [entry(&Machine::new("web-3", 1))]});
    refused(&gateway, "POST", "/machines", &other_id, (409, "exists"));
}

#[test]
fn a_new_key_stands_beside_the_old_one_for_the_overlap() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let (old, new) = (Machine::new("web-1", 1), Machine::new("web-1", 2));
    add(&gateway, &[&old]);
    let body = json!({"public_key": new.public_key(), "overlap": "1h"});
    answered(&gateway, "POST", "/machines/web-1/keys", &body);
    gets(&gateway, &new, 200);
    gets(&gateway, &old, 200);
    let shown = answered(&gateway, "GET", "/machines/web-1", &Value::Null);
    assert!(shown["public_keys"][0]["not_after"].is_string(), "{shown}");
    refused(
        &gateway,
        "POST",
        "/machines/web-1/keys",
        &body,
        (409, "exists"),
    );
}

#[test]
fn pages_follow_one_another_and_a_text_selects() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let machines: Vec<Machine> = (1..=5)
        .map(|n| Machine::new(&format!("m-{n}"), n))
        .collect();
    add(&gateway, &machines.iter().collect::<Vec<_>>());
    let (mut found, mut path) = (Vec::new(), "/machines?limit=2".to_owned());
    loop {
        let page = answered(&gateway, "GET", &path, &Value::Null);
        let machines = page["machines"].as_array().unwrap();
        assert!(machines.len() <= 2);
        found.extend(
            machines
                .iter()
                .map(|it| it["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/machines?limit=2&after={next}");
    }
    assert_eq!(found, ["m-1", "m-2", "m-3", "m-4", "m-5"]);
    let page = answered(&gateway, "GET", "/machines?text=M-4", &Value::Null);
    assert_eq!(page["machines"][0]["id"], "m-4");
    assert_eq!(page["machines"].as_array().unwrap().len(), 1);
}

#[test]
fn the_changes_tell_who_made_which() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    add(&gateway, &[&Machine::new("web-1", 1)]);
    let before = answered(&gateway, "GET", "/changes", &Value::Null);
    let revision = before["revision"].as_u64().unwrap();
    answered(&gateway, "DELETE", "/machines/web-1", &Value::Null);
    let path = format!("/changes?after={revision}");
    let changes = answered(&gateway, "GET", &path, &Value::Null);
    assert_eq!(changes["revision"], revision + 1);
    let change = &changes["changes"][0];
    assert_eq!(change["by"], "alice");
    assert_eq!(change["removed"], json!(["web-1"]));
    assert_eq!(changes["changes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_change_is_on_record_before_it_is_made_under_the_operators_name() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    add(&gateway, &[&Machine::new("web-1", 1)]);
    answered(&gateway, "GET", "/machines", &Value::Null);
    gateway.decisions("response", 2);
    let records = gateway.records();
    let mine = |record: &&Value| record["request_id"].is_string();
    let told: Vec<(&str, Option<&str>)> = (records.iter().filter(mine))
        .map(|record| (record["decision"].as_str().unwrap(), record["by"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("accepted", None),
            ("registry", Some("alice")),
            ("response", None),
            // A call that changes nothing has no record of a change.
            ("accepted", None),
            ("response", None),
        ]
    );
    let change = records
        .iter()
        .find(|record| record["by"] == "alice")
        .unwrap();
    assert_eq!(change["call"], "add_machines");
    assert_eq!(change["added"], json!({"count": 1, "ids": ["web-1"]}));
    let accepted = records
        .iter()
        .find(|it| it["decision"] == "accepted")
        .unwrap();
    assert_eq!(accepted["machine"]["id"], "alice");
    assert_eq!(accepted["request_id"], change["request_id"]);
    let sample = "countersign_requests_total{auth=\"signature\",outcome=\"answered\",\
                  route=\"/countersign/v1\"}";
    assert_eq!(gateway.metric(sample), 2.0);
}

#[test]
fn the_operators_are_on_record_when_they_come_into_force() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let records = gateway.decisions("registry", 2);
    let operators = records.iter().find(|record| record["of"] == "operators");
    assert_eq!(operators.unwrap()["added"]["ids"], json!(["alice"]));
}

#[test]
fn a_machine_never_manages() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let web = Machine::new("web-1", 1);
    add(&gateway, &[&web]);
    gets(&gateway, &web, 200);
    for (method, path) in RegistryCall::TABLE {
        if path == "/self/keys" {
            continue;
        }
        let path = path.replace("{id}", "web-1");
        let answer = call_by(&gateway, &web, method, &path, "");
        assert_eq!(answer.code(), "bad_signature", "{method} {path}");
    }
    // Nor under the id of an operator, with a machine's key.
    let posing = Machine::new("alice", 1);
    assert_eq!(
        call_by(&gateway, &posing, "GET", "/machines", "").status,
        401
    );
}

#[test]
fn an_operator_reaches_no_backend_and_is_no_machine() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let signed = gateway.sign(&operator(), "GET", "/a", b"");
    let answer = exchange(gateway.address, raw("GET", "/a", &signed.lines(), b""));
    assert_eq!(answer.code(), "bad_signature");
    let answer = call(&gateway, "POST", "/self/keys", &json!({}));
    assert_eq!(answer.code(), "bad_signature");
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_management_route_never_forwards() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for path in [
        "",
        "/",
        "/machine",
        "/machines/",
        "/machines/a/b",
        "/other",
        "/self",
    ] {
        refused(&gateway, "GET", path, &Value::Null, (404, "no_route"));
    }
    for (method, path, allow) in [
        ("HEAD", "/machines", "GET, POST"),
        ("OPTIONS", "/machines", "GET, POST"),
        ("PUT", "/machines/a", "GET, PATCH, DELETE"),
        ("LIST", "/changes", "GET"),
        ("GET", "/machines/a/keys", "POST"),
        ("GET", "/self/keys", "POST"),
    ] {
        let path = format!("{PREFIX}{path}");
        let signed = gateway.sign(&operator(), method, &path, b"");
        let request = raw(method, &path, &signed.lines(), b"");
        let mut client = crate::support::client::Client::connect(gateway.address);
        client.send(&request);
        let answer = match method {
            "HEAD" => client.receive_head(),
            _ => client.receive(),
        };
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_query_is_signed() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let signed = gateway.sign(&operator(), "GET", "/countersign/v1/machines", b"");
    let target = "/countersign/v1/machines?limit=1";
    let answer = exchange(gateway.address, raw("GET", target, &signed.lines(), b""));
    assert_eq!(answer.code(), "bad_signature");
    for path in [
        "/machines?limit=0",
        "/machines?x=1",
        "/machines/a?x",
        "/changes?after=x",
    ] {
        refused(&gateway, "GET", path, &Value::Null, (422, "invalid"));
    }
}

#[test]
fn a_captured_call_is_not_made_twice() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let path = "/countersign/v1/machines/web-1";
    add(&gateway, &[&Machine::new("web-1", 1)]);
    let lines = gateway.sign(&operator(), "DELETE", path, b"").lines();
    assert_eq!(
        exchange(gateway.address, raw("DELETE", path, &lines, b"")).status,
        200
    );
    let again = exchange(gateway.address, raw("DELETE", path, &lines, b""));
    assert_eq!(again.code(), "replayed");
}

#[test]
fn every_mistake_is_told_and_nothing_is_changed() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let body = json!({"machines": [
        entry(&Machine::new("good", 1)),
        {"id": "b d", "public_keys": ["x"], "colour": "red"},
    ]});
    let answer = call(&gateway, "POST", "/machines", &body);
    assert_eq!((answer.status, &*answer.code()), (422, "invalid"));
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    assert_eq!(errors.len(), 3, "{errors:?}");
    for body in [
        r#"{"machines":[],"machines":[]}"#,
        "[]",
        "",
        "{",
        r#"{"machines":[{"id":"a","id":"b"}]}"#,
    ] {
        let answer = call_by(&gateway, &operator(), "POST", "/machines", body);
        assert_eq!(answer.code(), "invalid", "{body}");
    }
    let page = answered(&gateway, "GET", "/machines", &Value::Null);
    assert_eq!(page["machines"], json!([]));
    assert_eq!(page["revision"], 0);
    let invalid = (422, "invalid");
    refused(&gateway, "GET", "/machines", &json!({}), invalid);
    refused(&gateway, "PATCH", "/machines/a", &json!({}), invalid);
    refused(&gateway, "POST", "/machines/a/keys", &json!({}), invalid);
    refused(&gateway, "POST", "/enrolment-tokens", &json!({}), invalid);
}

#[test]
fn a_call_about_no_machine_or_token_is_no_machine() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let none = (404, "no_machine");
    let key = json!({"public_key": Machine::new("x", 9).public_key()});
    for (method, path, body) in [
        ("GET", "/machines/ghost", Value::Null),
        ("PATCH", "/machines/ghost", json!({"enabled": false})),
        ("DELETE", "/machines/ghost", Value::Null),
        ("POST", "/machines/ghost/keys", key),
        ("DELETE", "/enrolment-tokens/ghost", Value::Null),
    ] {
        refused(&gateway, method, path, &body, none);
    }
    let records = gateway.records();
    let changed = records.iter().filter(|record| record["by"].is_string());
    // The database alone knows the tokens.
    let calls: Vec<&Value> = changed.map(|record| &record["call"]).collect();
    assert_eq!(calls, ["revoke_token"]);
}

#[test]
fn a_body_has_the_bound_of_the_route() {
    let backend = Backend::start();
    let mut options = options();
    options.routes = "  - { path: /, upstream: secrets }\n  \
                      - { path: /countersign/v1, management: true, max_body: 1KiB }\n"
        .into();
    let gateway = Gateway::with(&backend, options);
    let answer = call_by(
        &gateway,
        &operator(),
        "POST",
        "/machines",
        &"x".repeat(1025),
    );
    assert_eq!(answer.code(), "body_too_large");
}

#[test]
fn an_operators_id_and_key_cannot_become_a_machines() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let alice = operator();
    let same_id = entry(&Machine::new("alice", 1));
    let same_key = json!({"id": "web-1", "public_keys": [alice.public_key()]});
    for machine in [same_id, same_key] {
        let body = json!({"machines": [machine]});
        refused(&gateway, "POST", "/machines", &body, (422, "invalid"));
    }
    add(&gateway, &[&Machine::new("web-1", 1)]);
    let key = json!({"public_key": alice.public_key()});
    refused(
        &gateway,
        "POST",
        "/machines/web-1/keys",
        &key,
        (422, "invalid"),
    );
    let patch = json!({"public_keys": [alice.public_key()]});
    refused(
        &gateway,
        "PATCH",
        "/machines/web-1",
        &patch,
        (422, "invalid"),
    );
}

#[test]
fn rules_make_an_operator_who_only_reads() {
    let backend = Backend::start();
    let mut options = options();
    let text = registry(&[&operator()]) + "    allow: [\"read /countersign/v1/**\"]\n";
    options.files = vec![("operators.yaml", text)];
    let gateway = Gateway::with(&backend, options);
    answered(&gateway, "GET", "/machines", &Value::Null);
    let body = json!({"machines": [entry(&Machine::new("web-1", 1))]});
    refused(&gateway, "POST", "/machines", &body, (403, "not_permitted"));
}

#[test]
fn an_operator_who_is_taken_out_of_the_file_manages_no_more() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    answered(&gateway, "GET", "/machines", &Value::Null);
    let bob = Machine::new("bob", 201);
    let path = gateway.folder.path().join("operators.yaml");
    let replace = |text: &str| {
        let new = gateway.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &path).unwrap();
    };
    replace(&registry(&[&bob]));
    wait_for("the other operator", || {
        let answer = call_by(&gateway, &bob, "GET", "/machines", "");
        (answer.status == 200).then_some(())
    });
    assert_eq!(call(&gateway, "GET", "/machines", &Value::Null).status, 401);
    // A file with a mistake changes nothing.
    replace("machines: [");
    let sample = "countersign_config_reloads_total{result=\"rejected\"}";
    wait_for("the mistake", || {
        (gateway.metric(sample) >= 1.0).then_some(())
    });
    assert_eq!(call_by(&gateway, &bob, "GET", "/machines", "").status, 200);
}

#[test]
fn answers_are_not_stored_by_any_cache() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for path in [
        "/machines",
        "/machines/ghost",
        "/nothing",
        "/changes?after=x",
    ] {
        let answer = call(&gateway, "GET", path, &Value::Null);
        assert_eq!(answer.all("cache-control"), ["no-store"], "{path}");
        assert_eq!(answer.all("content-type"), ["application/json"], "{path}");
        assert_eq!(answer.all("x-request-id").len(), 1, "{path}");
    }
}

#[test]
fn a_token_is_in_its_answer_and_nowhere_else() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let terms = json!({"name": "fleet", "vault": "prod", "max_uses": 2});
    let created = answered(&gateway, "POST", "/enrolment-tokens", &terms);
    let (id, token) = (
        created["id"].as_str().unwrap(),
        created["token"].as_str().unwrap(),
    );
    assert!(token.starts_with("cse_"));
    let listed = answered(&gateway, "GET", "/enrolment-tokens", &Value::Null);
    assert_eq!(listed["tokens"][0]["id"], id);
    assert_eq!(listed["tokens"][0]["by"], "alice");
    let revoke = format!("/enrolment-tokens/{id}");
    answered(&gateway, "DELETE", &revoke, &Value::Null);
    let again = answered(&gateway, "GET", "/enrolment-tokens", &Value::Null);
    assert!(again["tokens"][0]["revoked"].is_string(), "{again}");

    gateway.decisions("response", 4);
    let (_, metrics) = gateway.admin_get("/metrics");
    let mut places = vec![listed.to_string(), again.to_string(), metrics];
    for file in fs::read_dir(gateway.folder.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap_or_default();
        places.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    let found = places
        .iter()
        .any(|place| place.contains(&token["cse_".len()..]));
    assert!(!found, "the token is stored or shown");
    // What is searched for can be found.
    assert!(places.iter().any(|place| place.contains(id)));
}

#[test]
fn calls_come_over_http2_alike() {
    let backend = Backend::start();
    let mut options = options();
    options.tls = true;
    let gateway = Gateway::with(&backend, options);
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    let body = json!({"machines": [entry(&Machine::new("web-1", 1))]}).to_string();
    let mut send = |method: &str, path: &str, body: &[u8]| {
        let path = format!("{PREFIX}{path}");
        let signed = gateway.sign(&operator(), method, &path, body);
        client.request(method, &path, &signed, body, true)
    };
    let added = send("POST", "/machines", body.as_bytes());
    assert_eq!(added.json()["added"], 1);
    let listed = send("GET", "/machines?limit=1", b"");
    assert_eq!(listed.json()["machines"][0]["id"], "web-1");
    assert_eq!(send("GET", "/machines/ghost", b"").status, 404);
    assert_eq!(send("PUT", "/machines", b"").status, 405);
}

/// Another process that holds the write lock of the database, until it is dropped.
struct WriteLock(Child);

impl WriteLock {
    fn take(gateway: &Gateway) -> WriteLock {
        let file = gateway.folder.path().join("registry.db");
        let script = "import sqlite3, sys\n\
                      c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n\
                      c.execute('BEGIN EXCLUSIVE')\nprint('held', flush=True)\nsys.stdin.read()\n";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert_eq!(line, "held\n");
        WriteLock(child)
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.0.stdin.take() {
            let _ = stdin.flush();
        }
        let _ = self.0.wait();
    }
}

#[test]
fn a_database_that_does_not_answer_a_change_leaves_its_result_unknown_and_says_so() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let lock = WriteLock::take(&gateway);
    let body = json!({"machines": [entry(&Machine::new("web-1", 1))]});
    let answer = call(&gateway, "POST", "/machines", &body);
    assert_eq!(
        (answer.status, &*answer.code()),
        (503, "registry_unavailable")
    );
    let text = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(
        text.contains("unknown whether the change was made"),
        "{text}"
    );
    drop(lock);
    // The record tells of the change, and the response that it was not confirmed.
    let record = gateway.decisions("registry", 2);
    let record = record
        .iter()
        .find(|record| record["by"] == "alice")
        .unwrap();
    let responses = gateway.decisions("response", 1);
    let response = (responses.iter()).find(|it| it["request_id"] == record["request_id"]);
    assert_eq!(response.unwrap()["status"], 503);
    // The next call finds out which it was.
    let shown = wait_for("an answer", || {
        let answer = call(&gateway, "GET", "/machines/web-1", &Value::Null);
        (answer.status != 503).then_some(answer.status)
    });
    assert!(matches!(shown, 200 | 404), "{shown}");
}

#[test]
fn nothing_is_changed_without_its_record() {
    let backend = Backend::start();
    let mut options = options();
    options.audit = "/dev/full".into();
    let gateway = Gateway::with(&backend, options);
    let body = json!({"machines": [entry(&Machine::new("web-1", 1))]});
    refused(
        &gateway,
        "POST",
        "/machines",
        &body,
        (503, "audit_unavailable"),
    );
    let file = gateway.folder.path().join("registry.db");
    let script = "import sqlite3, sys\n\
                  print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM machine').fetchone()[0])";
    let counted = Command::new("python3")
        .args(["-c", script])
        .arg(file)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&counted.stdout), "0\n");
}

#[test]
fn a_configuration_without_operators_or_database_has_no_management() {
    for (registry, expected) in [
        (
            "{ file: machines.yaml, operators: operators.yaml }",
            "needs a registry in a database",
        ),
        ("{ database: 'sqlite:registry.db' }", "needs operators"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("countersign.yaml");
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nregistry: {registry}\nupstreams: {{ a: {{ \
             servers: ['http://127.0.0.1:1'] }} }}\nroutes: [{{ path: /, upstream: a }}, {{ path: \
             /countersign/v1, management: true }}]\n"
        );
        fs::write(&path, text).unwrap();
        let checked = run(&["check", "--config", path.to_str().unwrap()]);
        let told = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(78), "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

/// The command line as an operator, at a gateway whose clock is that of the machine.
struct CommandLine {
    gateway: Gateway,
    key: String,
}

impl CommandLine {
    fn start(backend: &Backend) -> CommandLine {
        let mut options = options();
        // The program stamps with the system's time, which must be after the start.
        options.start = unix_seconds() - 10;
        assert_ne!(options.start, START);
        let gateway = Gateway::with(backend, options);
        let key = gateway.folder.path().join("alice.pem");
        fs::write(&key, operator().pem()).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        CommandLine {
            key: key.to_str().unwrap().to_owned(),
            gateway,
        }
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let url = format!("http://{}", self.gateway.address);
        let common = [
            "--gateway",
            &url,
            "--machine-id",
            "alice",
            "--key",
            &self.key,
        ];
        let output = run(&[arguments, &common].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let (code, out, told) = self.run(arguments);
        assert_eq!(code, Some(0), "{told}");
        out
    }
}

#[test]
fn the_command_line_prints_the_same_for_a_gateway_as_for_a_file() {
    let backend = Backend::start();
    let at_gateway = CommandLine::start(&backend);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.yaml");
    fs::write(&file, "machines: []\n").unwrap();
    let on_file = |arguments: &[&str]| {
        let common = ["--registry", file.to_str().unwrap()];
        let output = run(&[arguments, &common].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let [one, two, new] = [1, 2, 3].map(|seed| Machine::new("x", seed).public_key());
    for arguments in [
        &[
            "machine",
            "add",
            "--new-id",
            "web-1",
            "--public-key",
            &one,
            "--name",
            "prod web",
            "--owner",
            "ops",
            "--allow",
            "read /v1/a/*",
            "--cidr",
            "10.0.0.0/8",
            "--per-minute",
            "60",
            "--expires",
            "2040-01-01",
        ][..],
        &["machine", "add", "--new-id", "web-2", "--public-key", &two],
        &["machine", "disable", "web-2"],
        &["machine", "disable", "web-2"],
        &["machine", "enable", "web-2"],
        &["machine", "list"],
        &["machine", "list", "--json"],
        &["machine", "show", "web-1"],
        &["machine", "show", "web-1", "--json"],
        &["machine", "remove", "web-2"],
        &["machine", "list"],
    ] {
        assert_eq!(
            at_gateway.ok(arguments),
            on_file(arguments),
            "{arguments:?}"
        );
    }
    let rotate = [
        "machine",
        "rotate",
        "web-1",
        "--new-key",
        &new,
        "--overlap",
        "7d",
    ];
    let lines = |text: String| text.lines().count();
    assert_eq!(lines(at_gateway.ok(&rotate)), lines(on_file(&rotate)));
}

#[test]
fn the_command_line_names_every_mistake_and_the_wrong_calls() {
    let backend = Backend::start();
    let at_gateway = CommandLine::start(&backend);
    let (code, _, told) = at_gateway.run(&["machine", "show", "ghost"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("no_machine (404)"), "{told}");
    let key = Machine::new("x", 1).public_key();
    let (code, _, told) = at_gateway.run(&[
        "machine",
        "add",
        "--new-id",
        "a",
        "--public-key",
        &key,
        "--allow",
        "nonsense",
        "--group",
        "none",
    ]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("invalid (422)") && told.contains("allow"),
        "{told}"
    );
    let (code, _, told) = at_gateway.run(&["machine", "list", "--registry", "m.yaml"]);
    assert_eq!(code, Some(64), "{told}");
    let told = run(&[
        "machine",
        "list",
        "--machine-id",
        "alice",
        "--registry",
        "m.yaml",
    ]);
    assert_eq!(told.status.code(), Some(64));
}

#[test]
fn the_command_line_creates_lists_and_revokes_tokens() {
    let backend = Backend::start();
    let at_gateway = CommandLine::start(&backend);
    let create = [
        "token",
        "create",
        "--name",
        "fleet",
        "--vault",
        "prod",
        "--max-uses",
        "3",
    ];
    let (code, out, told) = at_gateway.run(&create);
    assert_eq!(code, Some(0), "{told}");
    let token = out.trim_end();
    assert!(token.starts_with("cse_") && !told.contains(token), "{told}");
    let listed = at_gateway.ok(&["token", "list"]);
    assert!(listed.contains("fleet") && listed.contains("0/3") && listed.contains("open"));
    assert!(!listed.contains(token));
    let json: Value = serde_json::from_str(&at_gateway.ok(&["token", "list", "--json"])).unwrap();
    let id = json[0]["id"].as_str().unwrap();
    assert_eq!(
        at_gateway.ok(&["token", "revoke", id]),
        format!("{id}: revoked\n")
    );
    assert!(at_gateway.ok(&["token", "list"]).contains("revoked"));
    let (code, ..) = at_gateway.run(&["token", "revoke", "ghost"]);
    assert_eq!(code, Some(1));
    assert_eq!(run(&["token", "list"]).status.code(), Some(64));
}
