//! Logins at backends that misbehave, and what logins and assertions look like to a backend.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};

use crate::support::backend::{Backend, Seen, ok, response, scripted};
use crate::support::client::{Response, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw, registry, wait_for};
use crate::support::signer::Machine;

pub const LOGIN: &str = "/v1/auth/jwt/login";
const CHECK: &str = "/v1/auth/token/lookup-self";

/// A gateway that logs machines in; `login` are more settings of the login, and `more` of the file.
pub fn gateway(backend: &Backend, machines: String, login: &str, more: &str) -> Gateway {
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("assertion.pem");
    fs::write(&key, Machine::new("gateway", 200).pem()).unwrap();
    let role = if login.contains("role") {
        ""
    } else {
        "role: machine, "
    };
    Gateway::with(
        backend,
        Options {
            upstream: format!(
                "    login: {{ method: jwt, mount: jwt, {role}audience: api, header: X-Token{login} }}\n"
            ),
            more: format!(
                "assertion: {{ issuer: 'https://gw.example', keys: ['{}'] }}\n{more}",
                key.display()
            ),
            machines,
            ..Options::default()
        },
    )
}

pub fn ask(gateway: &Gateway, machine: &Machine, path: &str) -> Response {
    let lines = gateway.sign(machine, "GET", path, b"").lines();
    exchange(gateway.address, raw("GET", path, &lines, b""))
}

/// An answer to a login that grants this token.
fn grants(token: &str) -> Vec<u8> {
    let auth = json!({"client_token": token, "accessor": "acc", "lease_duration": 3600});
    ok(json!({ "auth": auth }).to_string().as_bytes())
}

/// A backend that grants the token `t-<n>` to the n-th login.
fn granting() -> Backend {
    let count = AtomicUsize::new(0);
    Backend::answering(move |seen| match &*seen.target {
        LOGIN => grants(&format!("t-{}", count.fetch_add(1, Ordering::SeqCst))),
        _ => ok(b"{}"),
    })
}

fn logins(backend: &Backend) -> usize {
    backend
        .seen()
        .iter()
        .filter(|seen| seen.target == LOGIN)
        .count()
}

fn refused_by_credential(answer: &Response) {
    assert_eq!(
        (answer.status, &*answer.code()),
        (503, "upstream_credential"),
        "{answer:?}"
    );
}

/// The claims of a token whose signature is by the gateway's key, as the admin listener shows it.
fn verified(gateway: &Gateway, token: &str) -> Value {
    let (_, keys) = gateway.admin_get("/.well-known/jwks.json");
    let keys: Value = serde_json::from_str(&keys).unwrap();
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let public = bytes(keys["keys"][0]["x"].as_str().unwrap())
        .try_into()
        .unwrap();
    let public = VerifyingKey::from_bytes(&public).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = Signature::from_slice(&bytes(signature)).unwrap();
    public
        .verify_strict(message.as_bytes(), &signature)
        .unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&bytes(header)).unwrap();
    assert_eq!(header["kid"], keys["keys"][0]["kid"]);
    serde_json::from_slice(&bytes(claims)).unwrap()
}

#[test]
fn a_login_asks_for_the_role_with_an_assertion_about_the_machine() {
    let backend = granting();
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    let seen = backend.seen();
    assert_eq!((&*seen[0].method, &*seen[0].target), ("POST", LOGIN));
    assert_eq!(seen[0].one("content-type"), "application/json");
    for absent in ["x-token", "x-machine-identity", "x-machine-assertion"] {
        assert!(seen[0].all(absent).is_empty(), "{absent}");
    }
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(body["role"], "machine");
    let claims = verified(&gateway, body["jwt"].as_str().unwrap());
    assert_eq!(
        (&claims["sub"], &claims["aud"]),
        (&json!("machine-1"), &json!("api"))
    );
    assert_eq!(seen[1].one("x-token"), "t-0");
    assert_eq!(seen[1].one("x-machine-identity"), "machine-1");
}

#[test]
fn a_namespace_is_named_on_login_request_and_check() {
    let backend = Backend::answering(|seen| match &*seen.target {
        LOGIN => grants("t"),
        CHECK => ok(b"{}"),
        _ => response("403 Forbidden", "", b"{}"),
    });
    let gateway = gateway(&backend, registry(&[&machine()]), ", namespace: team-a", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 403);
    let seen = backend.seen();
    let targets: Vec<&str> = seen.iter().map(|seen| &*seen.target).collect();
    assert_eq!(targets.len(), 3);
    for target in [LOGIN, "/a", CHECK] {
        let one = seen.iter().find(|seen| seen.target == target).unwrap();
        assert_eq!(one.one("x-vault-namespace"), "team-a", "{target}");
    }
}

#[test]
fn the_role_by_group_is_the_first_one_and_a_machine_without_a_group_gets_503() {
    let backend = granting();
    let other = Machine::new("machine-2", 2);
    let groups = "groups: [{ name: web, rate: { per_minute: 60 } }, { name: eu, rate: { per_minute: 60 } }]\n";
    let machines = format!(
        "{}    groups: [eu, web]\n{groups}",
        registry(&[&other, &machine()])
    );
    let gateway = gateway(&backend, machines, ", role_by: group", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    let body: Value = serde_json::from_slice(&backend.seen()[0].body).unwrap();
    assert_eq!(body["role"], "eu");
    let claims = verified(&gateway, body["jwt"].as_str().unwrap());
    assert_eq!(claims["machine"]["groups"], json!(["eu", "web"]));
    refused_by_credential(&ask(&gateway, &other, "/a"));
    assert_eq!(logins(&backend), 1);
}

#[test]
fn no_answer_without_a_usable_token_lets_a_request_through() {
    let large = format!(
        "{{\"auth\":{{\"client_token\":\"t\",\"x\":\"{}\"}}}}",
        "x".repeat(70_000)
    );
    let limited = json!({"auth": {"client_token": "t", "lease_duration": 60, "num_uses": 3}});
    let answers = [
        response("302 Found", "Location: http://127.0.0.1:1/\r\n", b""),
        response("400 Bad Request", "", b"{\"errors\":[\"no such role\"]}"),
        response("403 Forbidden", "", b"{}"),
        response("404 Not Found", "", b"{}"),
        response("429 Too Many Requests", "", b"{}"),
        response(
            "503 Service Unavailable",
            "",
            b"{\"errors\":[\"Vault is sealed\"]}",
        ),
        response("204 No Content", "", b""),
        ok(b"<html>"),
        ok(b"{\"auth\":null,\"wrap_info\":{\"token\":\"t\"}}"),
        ok(b"{\"auth\":{\"client_token\":\"a b\",\"lease_duration\":60}}"),
        ok(limited.to_string().as_bytes()),
        ok(large.as_bytes()),
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"auth\":".to_vec(),
        b"nonsense\r\n\r\n".to_vec(),
    ];
    let machines: Vec<Machine> = (0..answers.len())
        .map(|n| Machine::new(&format!("m-{n}"), 50 + u8::try_from(n).unwrap()))
        .collect();
    // A scripted one: it closes each connection, also in the middle of an answer.
    let next = AtomicUsize::new(0);
    let count = answers.len();
    let address = scripted(move |mut stream| {
        let head = crate::support::backend::read_head(&mut stream);
        if !head.is_some_and(|head| head.contains(LOGIN)) {
            return; // the revocation of the token of limited uses
        }
        let answer = &answers[next.fetch_add(1, Ordering::SeqCst)];
        let _ = stream.write_all(answer);
    });
    let gateway = {
        let all: Vec<&Machine> = machines.iter().collect();
        let keys = tempfile::tempdir().unwrap();
        let key = keys.path().join("assertion.pem");
        fs::write(&key, Machine::new("gateway", 200).pem()).unwrap();
        Gateway::with(
            &Backend::start(),
            Options {
                servers: Some(vec![format!("http://{address}")]),
                upstream: "    login: { method: jwt, mount: jwt, role: r, audience: a, header: X-Token }\n".into(),
                more: format!("assertion: {{ issuer: gw, keys: ['{}'] }}\n", key.display()),
                machines: registry(&all),
                ..Options::default()
            },
        )
    };
    for machine in &machines {
        refused_by_credential(&ask(&gateway, machine, "/a"));
    }
    let results = ["refused", "unavailable", "unusable", "accepted"].map(|result| {
        gateway.metric(&format!(
            "countersign_logins_total{{result=\"{result}\",upstream=\"secrets\"}}"
        ))
    });
    assert_eq!(results.iter().sum::<f64>(), count as f64);
    assert_eq!(results[0], 3.0);
    assert_eq!(results[3], 0.0);
}

/// A gateway with these two servers for its logins.
fn gateway_of_two(servers: [SocketAddr; 2], machines: String) -> Gateway {
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("assertion.pem");
    fs::write(&key, Machine::new("gateway", 200).pem()).unwrap();
    Gateway::with(
        &Backend::start(),
        Options {
            servers: Some(servers.map(|server| format!("http://{server}")).to_vec()),
            upstream:
                "    login: { method: jwt, mount: jwt, role: r, audience: a, header: X-Token }\n"
                    .into(),
            more: format!("assertion: {{ issuer: gw, keys: ['{}'] }}\n", key.display()),
            machines,
            ..Options::default()
        },
    )
}

/// A server that does this with each login, and answers other requests with 200; and the assertions
/// that it got.
fn logging_in_by(answer: fn() -> Vec<u8>) -> Backend {
    Backend::answering(move |seen| match &*seen.target {
        LOGIN => answer(),
        _ => ok(b"{}"),
    })
}

fn assertions(backend: &Backend) -> Vec<String> {
    let logins = backend
        .seen()
        .into_iter()
        .filter(|seen| seen.target == LOGIN);
    let body = |seen: Seen| serde_json::from_slice::<Value>(&seen.body).unwrap();
    logins
        .map(|seen| body(seen)["jwt"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_sealed_server_sends_the_login_on_to_the_next_with_another_assertion() {
    let sealed = logging_in_by(|| response("503 Service Unavailable", "", b"{}"));
    let open = logging_in_by(|| grants("t"));
    let machines: Vec<Machine> = (0..4)
        .map(|n| Machine::new(&format!("m-{n}"), 50 + n))
        .collect();
    let all = registry(&machines.iter().collect::<Vec<_>>());
    let gateway = gateway_of_two([sealed.address, open.address], all);
    for machine in &machines {
        assert_eq!(ask(&gateway, machine, "/a").status, 200);
    }
    assert!(logins(&sealed) > 0);
    assert_eq!(logins(&open), 4);
    let mut all = assertions(&sealed);
    all.extend(assertions(&open));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn a_silent_server_is_left_for_the_next_one_and_put_out_of_service() {
    let silent = scripted(|mut stream| {
        let _ = crate::support::backend::read_head(&mut stream);
        std::thread::sleep(Duration::from_secs(20));
    });
    let open = logging_in_by(|| grants("t"));
    let machines: Vec<Machine> = (0..8)
        .map(|n| Machine::new(&format!("m-{n}"), 50 + n))
        .collect();
    let all = registry(&machines.iter().collect::<Vec<_>>());
    let gateway = gateway_of_two([silent, open.address], all);
    let lines: Vec<_> = (machines.iter())
        .map(|machine| gateway.sign(machine, "GET", "/a", b"").lines())
        .collect();
    // Their requests may go to the silent server too, and are not waited for.
    let clients: Vec<_> = (lines.iter())
        .map(|lines| {
            let mut client = TcpStream::connect(gateway.address).unwrap();
            client.write_all(&raw("GET", "/a", lines, b"")).unwrap();
            client
        })
        .collect();
    wait_for("all logins", || (logins(&open) == 8).then_some(()));
    let (_, ready) = gateway.admin_get("/readyz");
    assert!(ready.contains(&silent.to_string()), "{ready}");
    drop(clients);
}

#[test]
fn a_server_that_refuses_a_login_has_the_last_word() {
    let refusing = || logging_in_by(|| response("400 Bad Request", "", b"{}"));
    let servers = [refusing(), refusing()];
    let gateway = gateway_of_two(
        [servers[0].address, servers[1].address],
        registry(&[&machine()]),
    );
    refused_by_credential(&ask(&gateway, &machine(), "/a"));
    assert_eq!(logins(&servers[0]) + logins(&servers[1]), 1);
}

#[test]
fn a_login_without_an_answer_ends_at_its_deadline() {
    let address = scripted(|mut stream: TcpStream| {
        let _ = crate::support::backend::read_head(&mut stream);
        std::thread::sleep(Duration::from_secs(20));
    });
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("assertion.pem");
    fs::write(&key, Machine::new("gateway", 200).pem()).unwrap();
    let gateway = Gateway::with(
        &Backend::start(),
        Options {
            servers: Some(vec![format!("http://{address}")]),
            upstream:
                "    login: { method: jwt, mount: jwt, role: r, audience: a, header: X-Token }\n"
                    .into(),
            more: format!("assertion: {{ issuer: gw, keys: ['{}'] }}\n", key.display()),
            ..Options::default()
        },
    );
    // Both wait for the one login.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| refused_by_credential(&ask(&gateway, &machine(), "/a")));
        }
    });
    let failed = "countersign_logins_total{result=\"unavailable\",upstream=\"secrets\"}";
    assert_eq!(gateway.metric(failed), 1.0);
}

#[test]
fn a_client_that_leaves_does_not_end_the_login_for_the_others() {
    let backend = Backend::answering(|seen| match &*seen.target {
        LOGIN => {
            std::thread::sleep(Duration::from_millis(400));
            grants("t")
        }
        _ => ok(b"{}"),
    });
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let mut leaving = TcpStream::connect(gateway.address).unwrap();
    leaving.write_all(&raw("GET", "/a", &lines, b"")).unwrap();
    wait_for("the login to begin", || {
        (backend.connections() == 1).then_some(())
    });
    drop(leaving);
    assert_eq!(ask(&gateway, &machine(), "/b").status, 200);
    assert_eq!(logins(&backend), 1);
}

#[test]
fn a_machine_that_is_disabled_during_its_login_gets_no_use_of_the_token() {
    let backend = Backend::answering(|seen| match &*seen.target {
        LOGIN => {
            std::thread::sleep(Duration::from_millis(1_500));
            grants("t")
        }
        _ => ok(b"{}"),
    });
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&gateway, &machine(), "/a"));
        wait_for("the login to begin", || {
            (backend.connections() == 1).then_some(())
        });
        let disabled = registry(&[&machine()]) + "    enabled: false\n";
        gateway.write_registry(&disabled);
        refused_by_credential(&asked.join().unwrap());
    });
    assert!(backend.seen().iter().all(|seen| seen.target != "/a"));
    let tokens = "countersign_backend_tokens{upstream=\"secrets\"}";
    wait_for("the token to be gone", || {
        (gateway.metric(tokens) == 0.0).then_some(())
    });
}

#[test]
fn a_hundred_requests_at_once_make_one_failed_login() {
    let backend = Backend::answering(|_| {
        std::thread::sleep(Duration::from_millis(200));
        response("400 Bad Request", "", b"{}")
    });
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| refused_by_credential(&ask(&gateway, &machine(), "/a")));
        }
    });
    // A slow machine may need more than the second for which a failure is kept.
    assert!(logins(&backend) <= 3, "{}", logins(&backend));
    wait_for("another try", || {
        refused_by_credential(&ask(&gateway, &machine(), "/a"));
        (logins(&backend) >= 2).then_some(())
    });
}

#[test]
fn a_bounded_number_of_machines_logs_in_at_once() {
    let in_progress = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let its = Arc::clone(&in_progress);
    let backend = Backend::answering(move |seen| match &*seen.target {
        LOGIN => {
            let now = its[0].fetch_add(1, Ordering::SeqCst) + 1;
            its[1].fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(150));
            its[0].fetch_sub(1, Ordering::SeqCst);
            grants("t")
        }
        _ => ok(b"{}"),
    });
    let machines: Vec<Machine> = (0..80)
        .map(|n| Machine::new(&format!("m-{n}"), n))
        .collect();
    let gateway = gateway(
        &backend,
        registry(&machines.iter().collect::<Vec<_>>()),
        "",
        "",
    );
    std::thread::scope(|scope| {
        for machine in &machines {
            scope.spawn(|| assert_eq!(ask(&gateway, machine, "/a").status, 200));
        }
    });
    let most = in_progress[1].load(Ordering::SeqCst);
    assert!((2..=32).contains(&most), "{most}");
}

/// Answers requests and checks with statuses that can be set.
fn refusing() -> (Backend, Arc<[AtomicU16; 2]>) {
    let statuses = Arc::new([AtomicU16::new(403), AtomicU16::new(200)]);
    let its = Arc::clone(&statuses);
    let count = AtomicUsize::new(0);
    let backend = Backend::answering(move |seen: &Seen| {
        if seen.target == LOGIN {
            return grants(&format!("t-{}", count.fetch_add(1, Ordering::SeqCst)));
        }
        let status = its[usize::from(seen.target == CHECK)].load(Ordering::SeqCst);
        response(&format!("{status} X"), "", b"{\"errors\":[]}")
    });
    (backend, statuses)
}

#[test]
fn what_a_403_means_is_asked_of_the_backend_with_the_machines_token() {
    let (backend, statuses) = refusing();
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    // The token lives: the machine's own policy refused, and the answer crosses.
    assert_eq!(ask(&gateway, &machine(), "/a").status, 403);
    // It is dead: dropped, and the next request logs in anew.
    statuses[1].store(403, Ordering::SeqCst);
    refused_by_credential(&ask(&gateway, &machine(), "/a"));
    statuses[0].store(200, Ordering::SeqCst);
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    let seen = backend.seen();
    let checks: Vec<&Seen> = seen.iter().filter(|seen| seen.target == CHECK).collect();
    assert_eq!(checks.len(), 2);
    assert!(checks.iter().all(|check| check.one("x-token") == "t-0"));
    let last = seen.iter().rfind(|seen| seen.target == "/a");
    assert_eq!(last.unwrap().one("x-token"), "t-1");
}

#[test]
fn a_check_without_an_answer_that_counts_is_a_503_and_leaves_the_token() {
    let (backend, statuses) = refusing();
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    statuses[1].store(500, Ordering::SeqCst);
    refused_by_credential(&ask(&gateway, &machine(), "/a"));
    statuses[0].store(200, Ordering::SeqCst);
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    assert_eq!(logins(&backend), 1);
}

#[test]
fn a_check_that_refuses_new_tokens_makes_no_storm_of_logins_and_says_what_to_do() {
    let (backend, statuses) = refusing();
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    statuses[1].store(403, Ordering::SeqCst);
    for _ in 0..8 {
        refused_by_credential(&ask(&gateway, &machine(), "/a"));
    }
    assert!(logins(&backend) <= 3, "{}", logins(&backend));
    let (_, ready) = gateway.admin_get("/readyz");
    assert!(ready.contains("let the role's policies read"), "{ready}");
    // What the policy permits still passes, with the token that is there.
    let before = logins(&backend);
    statuses[0].store(200, Ordering::SeqCst);
    assert_eq!(ask(&gateway, &machine(), "/b").status, 200);
    assert_eq!(logins(&backend), before);
}

#[test]
fn a_new_token_that_the_backend_says_it_does_not_know_costs_one_503() {
    let (dead, count) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let its = Arc::clone(&dead);
    let backend = Backend::answering(move |seen: &Seen| match &*seen.target {
        LOGIN => grants(&format!("t-{}", count.fetch_add(1, Ordering::SeqCst))),
        _ if seen.one("x-token") == "t-0" && its.load(Ordering::SeqCst) > 0 => {
            response("403 Forbidden", "", b"{\"errors\":[\"permission denied\"]}")
        }
        _ => ok(b"{}"),
    });
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    dead.store(1, Ordering::SeqCst);
    refused_by_credential(&ask(&gateway, &machine(), "/a"));
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    assert_eq!(logins(&backend), 2);
    let (_, ready) = gateway.admin_get("/readyz");
    assert!(!ready.contains("let the role's policies"), "{ready}");
}

#[test]
fn no_answer_that_shows_the_token_is_wrapped_though_the_route_forwards_the_header() {
    let backend = granting();
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("assertion.pem");
    fs::write(&key, Machine::new("gateway", 200).pem()).unwrap();
    let gateway = Gateway::with(
        &backend,
        Options {
            upstream:
                "    login: { method: jwt, mount: jwt, role: r, audience: a, header: X-Token }\n"
                    .into(),
            more: format!("assertion: {{ issuer: gw, keys: ['{}'] }}\n", key.display()),
            routes: "  - { path: /v1/auth/token, upstream: secrets, query: signed, \
                     forward_headers: [X-Vault-Wrap-TTL] }\n"
                .into(),
            ..Options::default()
        },
    );
    let wrapped = |path: &str| {
        let lines = gateway.sign(&machine(), "POST", path, b"").lines();
        let lines = format!("{lines}X-Vault-Wrap-TTL: 60s\r\n");
        exchange(gateway.address, raw("POST", path, &lines, b""))
    };
    for shows in [
        "renew-self",
        "lookup-self",
        "lookup-self?a=b",
        "renew",
        "lookup",
    ] {
        let answer = wrapped(&format!("/v1/auth/token/{shows}"));
        assert_eq!(answer.code(), "header_not_forwarded", "{shows}");
    }
    assert!(backend.seen().is_empty());
    assert_eq!(wrapped("/v1/auth/token/create").status, 200);
    assert_eq!(backend.seen().pop().unwrap().one("x-vault-wrap-ttl"), "60s");
}

#[test]
fn a_credential_of_the_machine_comes_before_the_login() {
    let backend = granting();
    let machines = registry(&[&machine()]) + "    credential: own\n";
    let more = "credentials: { own: { header: X-Own, env: HOME } }\n";
    let gateway = gateway(&backend, machines, "", more);
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    let seen = backend.only();
    assert!(seen.all("x-token").is_empty() && !seen.one("x-own").is_empty());
}

#[test]
fn paths_that_hand_tokens_out_are_closed_and_no_client_sends_the_header_of_the_token() {
    let backend = granting();
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), CHECK).code(), "not_permitted");
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let own = "X-Token: mine\r\nX_Token: mine\r\nX-Machine-Assertion: mine\r\n";
    let answer = exchange(
        gateway.address,
        raw("GET", "/a", &format!("{lines}{own}"), b""),
    );
    assert_eq!(answer.status, 200);
    let seen = backend.seen();
    let request = seen.last().unwrap();
    assert_eq!(request.one("x-token"), "t-0");
    assert!(request.all("x_token").is_empty() && request.all("x-machine-assertion").is_empty());
}

#[test]
fn ids_that_differ_in_case_only_keep_a_login_out_until_one_is_renamed() {
    let (one, other) = (Machine::new("Case-1", 1), Machine::new("case-1", 2));
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            machines: registry(&[&one, &other]),
            ..Options::default()
        },
    );
    let key = gateway.folder.path().join("assertion.pem");
    fs::write(&key, Machine::new("gateway", 200).pem()).unwrap();
    let login = "upstreams:\n  secrets:\n    login: { method: jwt, mount: jwt, role: r, audience: a, header: X-Token }\n";
    gateway.edit_config(|text| {
        text.replace("upstreams:\n  secrets:\n", login)
            + "assertion: { issuer: gw, keys: [assertion.pem] }\n"
    });
    let reloads = |result: &str| {
        gateway.metric(&format!(
            "countersign_config_reloads_total{{result=\"{result}\"}}"
        ))
    };
    wait_for("the refused configuration", || {
        (reloads("rejected") >= 1.0).then_some(())
    });
    assert_eq!(ask(&gateway, &one, "/a").status, 200);
    assert_eq!(logins(&backend), 0);
    gateway.write_registry(&registry(&[&one]));
    wait_for("the configuration, which is tried again", || {
        (reloads("loaded") >= 1.0).then_some(())
    });
    let before = gateway.metric("countersign_registry_reloads_total{result=\"rejected\"}");
    gateway.write_registry(&registry(&[&one, &other]));
    wait_for("the refused registry", || {
        let now = gateway.metric("countersign_registry_reloads_total{result=\"rejected\"}");
        (now > before).then_some(())
    });
}

#[test]
fn a_route_with_an_assertion_proves_machine_and_request_to_the_backend() {
    let backend = Backend::start();
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("assertion.pem");
    fs::write(&key, Machine::new("gateway", 200).pem()).unwrap();
    let gateway = Gateway::with(
        &backend,
        Options {
            upstream: "    audience: api\n".into(),
            routes: "  - { path: /, upstream: secrets, query: signed, assertion: true }\n  \
                     - { path: /plain, upstream: secrets }\n"
                .into(),
            more: format!("assertion: {{ issuer: gw, keys: ['{}'] }}\n", key.display()),
            ..Options::default()
        },
    );
    let body = b"hello";
    let path = "/v1/a?version=2";
    let lines = gateway.sign(&machine(), "POST", path, body).lines();
    let spoofed = format!("{lines}X-Machine-Assertion: e30.e30.x\r\n");
    let answer = exchange(gateway.address, raw("POST", path, &spoofed, body));
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.request("GET", "/plain", b"").status, 200);
    let seen = backend.seen();
    let claims = verified(&gateway, seen[0].one("x-machine-assertion"));
    assert_eq!(claims["htm"], "POST");
    assert_eq!(claims["htu"], path);
    assert_eq!(claims["bh"], "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ");
    assert_eq!(
        (&claims["aud"], &claims["sub"]),
        (&json!("api"), &json!("machine-1"))
    );
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        60
    );
    assert!(seen[1].all("x-machine-assertion").is_empty());
}
