//! SikkerKey's calls on a route with an adapter, before the real OpenBao where it can answer, and
//! before a backend that misbehaves where it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::{Backend, Seen, ok, response, scripted};
use crate::support::client::{Response, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw, registry};
use crate::support::openbao::{OpenBao, ROOT};
use crate::support::signer::Machine;

const LOOK_UP: &str = "/v1/auth/token/lookup-self";

fn options(servers: Vec<String>, token: &str) -> Options {
    Options {
        routes: "  - { path: /v1, upstream: secrets, read_timeout: 1s, adapter: { kind: sikkerkey, kv: secret } }\n"
            .into(),
        upstream: format!(
            "    check: GET {LOOK_UP}\n    credential: {{ header: X-Vault-Token, file: token }}\n"
        ),
        servers: Some(servers),
        token: Some(token.into()),
        machines: registry(&[&machine(), &other()]),
        ..Options::default()
    }
}

fn other() -> Machine {
    Machine::new("machine-2", 2)
}

fn before(backend: &Backend) -> Gateway {
    Gateway::with(
        backend,
        options(vec![format!("http://{}", backend.address)], "t0ken"),
    )
}

fn before_bao(bao: &OpenBao, token: &str) -> Gateway {
    let unused = Backend::start();
    Gateway::with(
        &unused,
        options(vec![format!("http://{}", bao.address)], token),
    )
}

fn get(gateway: &Gateway, path: &str) -> Response {
    gateway.request("GET", path, b"")
}

fn post(gateway: &Gateway, path: &str, body: &Value) -> Response {
    gateway.request("POST", path, body.to_string().as_bytes())
}

fn ids(answer: &Response) -> Vec<String> {
    let body = answer.json();
    let secrets = body["secrets"].as_array().unwrap();
    secrets
        .iter()
        .map(|it| it["id"].as_str().unwrap().to_owned())
        .collect()
}

/// An OpenBao with three secrets, and a deleted one.
fn stocked() -> OpenBao {
    let bao = OpenBao::start();
    bao.write_fields("api", json!({ "value": "v" }));
    bao.write_fields("app/db", json!({ "user": "u", "pass": "p" }));
    bao.write_fields("app/deep/a%40b%20c", json!({ "n": 5 }));
    bao.write_fields("old", json!({ "value": "o" }));
    bao.call("DELETE", "/v1/secret/data/old", Value::Null);
    bao
}

#[test]
fn openbao_answers_every_call() {
    let bao = stocked();
    let gateway = before_bao(&bao, ROOT);

    assert_eq!(
        get(&gateway, "/v1/secret/api").json(),
        json!({ "value": "v" })
    );
    let db = get(&gateway, "/v1/secret/app/db").json();
    assert_eq!(db["value"], r#"{"pass":"p","user":"u"}"#);
    for id in ["app/deep/a%40b%20c", "app/deep/a@b%20c"] {
        let odd = get(&gateway, &format!("/v1/secret/{id}"));
        assert_eq!(
            (odd.status, odd.json()["value"].clone()),
            (200, json!(r#"{"n":"5"}"#))
        );
    }
    for missing in ["none", "old", "app", "app/none"] {
        assert_eq!(
            get(&gateway, &format!("/v1/secret/{missing}")).status,
            404,
            "{missing}"
        );
    }

    // A deleted secret is still listed by OpenBao; an export leaves it out.
    let all = ["api", "app/db", "app/deep/a%40b%20c", "old"];
    assert_eq!(ids(&get(&gateway, "/v1/secrets")), all);
    assert_eq!(ids(&get(&gateway, "/v1/cli/secrets")), all);
    let project = json!({ "projectId": "app" });
    assert_eq!(
        ids(&post(&gateway, "/v1/secrets/list", &project)),
        all[1..3]
    );
    assert_eq!(
        ids(&post(&gateway, "/v1/secrets/export", &project)),
        all[1..3]
    );
    assert_eq!(
        ids(&gateway.request("POST", "/v1/secrets/export", b"")),
        all[..3]
    );
    assert_eq!(
        get(&gateway, "/v1/cli/projects").json(),
        json!({ "projects": [{ "projectId": "app", "projectName": "app" }] })
    );
}

#[test]
fn a_poll_tells_of_each_change_once_and_each_machine_of_its_own() {
    let bao = stocked();
    let gateway = before_bao(&bao, ROOT);
    let body = json!({ "watch": ["api", "app/db", "old"] }).to_string();
    let poll = |who: &Machine| {
        let lines = gateway
            .sign(who, "POST", "/v1/secrets/poll", body.as_bytes())
            .lines();
        let bytes = raw("POST", "/v1/secrets/poll", &lines, body.as_bytes());
        exchange(gateway.address, bytes).json()["changes"].clone()
    };
    let gone = json!({ "old": { "status": "deleted" } });
    assert_eq!(poll(&machine()), gone);
    assert_eq!(poll(&machine()), json!({}));
    bao.write_fields("app/db", json!({ "user": "u", "pass": "new" }));
    bao.call("DELETE", "/v1/secret/data/api", Value::Null);
    let news = json!({ "app/db": { "status": "changed" }, "api": { "status": "deleted" } });
    assert_eq!(poll(&machine()), news);
    assert_eq!(poll(&machine()), json!({}));
    // The other machine begins here.
    let gone = json!({ "old": { "status": "deleted" }, "api": { "status": "deleted" } });
    assert_eq!(poll(&other()), gone);
}

#[test]
fn what_the_policy_of_openbao_denies_is_403_or_left_out() {
    let bao = stocked();
    let token = bao.token(
        r#"path "secret/metadata/" { capabilities = ["list"] }
           path "secret/data/api" { capabilities = ["read"] }
           path "secret/data/old" { capabilities = ["read"] }"#,
    );
    let gateway = before_bao(&bao, &token);
    assert_eq!(get(&gateway, "/v1/secret/api").status, 200);
    let denied = get(&gateway, "/v1/secret/app/db");
    assert_eq!((denied.status, denied.code()), (403, String::new()));
    assert!(denied.json()["error"].as_str().unwrap().contains("app/db"));
    assert_eq!(ids(&get(&gateway, "/v1/secrets")), ["api", "old"]);
    assert_eq!(
        ids(&gateway.request("POST", "/v1/secrets/export", b"")),
        ["api"]
    );
    let list = post(&gateway, "/v1/secrets/list", &json!({ "projectId": "app" }));
    assert_eq!(list.status, 403);
    let poll = post(&gateway, "/v1/secrets/poll", &json!({ "watch": ["api"] })).json();
    assert_eq!(poll["changes"]["api"]["status"], "access_denied");
}

#[test]
fn a_token_that_openbao_refuses_is_503_in_every_call() {
    let bao = stocked();
    let gateway = before_bao(&bao, "revoked");
    for path in ["/v1/secret/api", "/v1/secrets", "/v1/cli/projects"] {
        let answer = get(&gateway, path);
        assert_eq!(
            (answer.status, &*answer.code()),
            (503, "upstream_credential"),
            "{path}"
        );
    }
    for path in ["/v1/secrets/export", "/v1/secrets/poll"] {
        let answer = post(
            &gateway,
            path,
            &json!(match path {
                "/v1/secrets/poll" => json!({ "watch": ["api"] }),
                _ => json!({}),
            }),
        );
        assert_eq!(answer.code(), "upstream_credential", "{path}");
    }
}

#[test]
fn a_sealed_openbao_is_503_and_one_that_is_gone_is_502() {
    let bao = stocked();
    let gateway = before_bao(&bao, ROOT);
    bao.call("PUT", "/v1/sys/seal", Value::Null);
    for path in ["/v1/secret/api", "/v1/secret/none", "/v1/secrets"] {
        assert_eq!(get(&gateway, path).status, 503, "{path}");
    }
    drop(bao);
    for path in ["/v1/secret/api", "/v1/secrets"] {
        let answer = get(&gateway, path);
        assert_eq!(
            (answer.status, &*answer.code()),
            (502, "upstream_unreachable"),
            "{path}"
        );
    }
}

/// An engine with one folder of `count` secrets.
fn engine(count: usize) -> Backend {
    Backend::answering(move |seen: &Seen| match &*seen.target {
        "/v1/secret/metadata/" => ok(br#"{"data":{"keys":["app/"]}}"#),
        "/v1/secret/metadata/app/" => {
            let names: Vec<String> = (0..count).map(|number| format!("s{number}")).collect();
            ok(json!({ "data": { "keys": names } }).to_string().as_bytes())
        }
        _ => ok(br#"{"data":{"data":{"value":"v"}}}"#),
    })
}

#[test]
fn each_read_carries_the_identity_the_credential_and_the_id_of_the_request() {
    let backend = engine(2);
    let gateway = before(&backend);
    let signed = gateway
        .sign(&machine(), "POST", "/v1/secrets/export", b"")
        .lines();
    let more = "User-Agent: sdk/1\r\nAccept-Encoding: gzip\r\nIf-None-Match: \"x\"\r\n\
                X-Vault-Token: mine\r\nX-Machine-Identity: admin\r\nCookie: a=b\r\n";
    let lines = format!("{signed}{more}");
    let answer = exchange(
        gateway.address,
        raw("POST", "/v1/secrets/export", &lines, b""),
    );
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let id = answer.header("x-request-id").unwrap();
    let seen = backend.seen();
    let asked: Vec<_> = seen
        .iter()
        .map(|it| format!("{} {}", it.method, it.target))
        .collect();
    assert_eq!(
        asked[..2],
        ["LIST /v1/secret/metadata/", "LIST /v1/secret/metadata/app/"]
    );
    assert_eq!(asked.len(), 4);
    for seen in &seen {
        assert_eq!(seen.one("x-machine-identity"), "machine-1");
        assert_eq!(seen.one("x-vault-token"), "t0ken");
        assert_eq!(seen.one("x-request-id"), id);
        assert_eq!(seen.one("user-agent"), "sdk/1");
        assert!(seen.body.is_empty());
        assert_eq!(seen.one("accept-encoding"), "identity");
        for name in ["if-none-match", "cookie", "x-signature", "content-type"] {
            assert!(seen.all(name).is_empty(), "{name}");
        }
    }
}

#[test]
fn the_records_name_the_signed_path_and_the_paths_that_were_asked() {
    let backend = engine(2);
    let gateway = before(&backend);
    gateway.request("POST", "/v1/secrets/export", b"");
    let accepted = &gateway.decisions("accepted", 1)[0];
    assert_eq!(accepted["signed_path"], "/v1/secrets/export");
    let records = gateway.decisions("response", 1);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["request_id"], accepted["request_id"]);
    assert_eq!(records[0]["backend_paths"]["count"], 4);
    assert_eq!(
        records[0]["backend_paths"]["paths"][3],
        "/v1/secret/data/app/s1"
    );
}

#[test]
fn a_request_that_is_no_call_is_a_path_that_is_not_there_and_never_forwarded() {
    let backend = engine(1);
    let gateway = before(&backend);
    for (method, path) in [
        ("GET", "/v1/secret/data/app/"),
        ("POST", "/v1/secret/app"),
        ("PUT", "/v1/secret/app"),
        ("DELETE", "/v1/secret/app"),
        ("LIST", "/v1/secret/app"),
        ("GET", "/v1/sys/mounts"),
        ("GET", LOOK_UP),
        ("GET", "/v1"),
        ("POST", "/v1/verify-access"),
    ] {
        let answer = gateway.request(method, path, b"");
        assert_eq!(
            (answer.status, &*answer.code()),
            (404, "no_route"),
            "{method} {path}"
        );
    }
    assert!(backend.seen().is_empty());
}

#[test]
fn no_id_leads_out_of_the_mount() {
    let backend = engine(1);
    let gateway = before(&backend);
    for id in [
        "../sys/mounts",
        "..",
        "a/../../auth/token/lookup-self",
        "%2E%2E/%2E%2E/sys",
        "%2e%2e%2fsys",
        "..%2F..%2Fsys%2Fmounts",
        "a%5C..%5Csys",
        "a%00",
        "a%3Fx",
        "/sys/mounts",
        "a//b",
        "a;b",
    ] {
        let answer = get(&gateway, &format!("/v1/secret/{id}"));
        assert!(
            [400, 404].contains(&answer.status),
            "{id}: {}",
            answer.status
        );
        let poll = post(&gateway, "/v1/secrets/poll", &json!({ "watch": [id] }));
        assert_eq!(poll.json()["changes"][id]["status"], "deleted", "{id}");
        let project = json!({ "projectId": id });
        assert_eq!(
            post(&gateway, "/v1/secrets/export", &project).code(),
            "bad_request",
            "{id}"
        );
    }
    assert!(backend.seen().is_empty());
    // What is a name like another, though it looks like a way out.
    for (id, asked) in [
        ("sys/mounts", "sys/mounts"),
        ("auth", "auth"),
        ("%252E%252E/x", "%252E%252E/x"),
        ("a%252Fb", "a%252Fb"),
    ] {
        assert_eq!(get(&gateway, &format!("/v1/secret/{id}")).status, 200);
        let last = backend.seen().pop().unwrap();
        assert_eq!(last.target, format!("/v1/secret/data/{asked}"));
    }
}

#[test]
fn a_query_is_refused() {
    let backend = engine(1);
    let gateway = before(&backend);
    assert_eq!(
        get(&gateway, "/v1/secret/a?version=1").code(),
        "query_not_allowed"
    );
    assert!(backend.seen().is_empty());
}

#[test]
fn the_rules_of_a_machine_judge_the_path_that_it_signed() {
    let backend = engine(1);
    let machines = registry(&[&machine()]) + "    allow: [GET /v1/secret/app/**]\n";
    let servers = vec![format!("http://{}", backend.address)];
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            ..options(servers, "t0ken")
        },
    );
    assert_eq!(get(&gateway, "/v1/secret/app/db").status, 200);
    assert_eq!(get(&gateway, "/v1/secret/web/db").code(), "not_permitted");
    assert_eq!(get(&gateway, "/v1/secrets").code(), "not_permitted");
    assert_eq!(backend.only().target, "/v1/secret/data/app/db");
}

#[test]
fn a_backend_that_is_no_kv_engine_is_502_and_never_404() {
    for answer in [
        response(
            "404 Not Found",
            "",
            br#"{"errors":["no handler for route"]}"#,
        ),
        response("404 Not Found", "Content-Type: text/html\r\n", b"<html>"),
        response(
            "400 Bad Request",
            "",
            br#"{"errors":["missing client token"]}"#,
        ),
        response("307 Temporary Redirect", "Location: http://other/\r\n", b""),
        response("200 OK", "Content-Encoding: gzip\r\n", b"\x1f\x8b"),
        ok(b"not json"),
        ok(b"{}"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let backend = scripted(move |mut stream| {
            use std::io::Write;
            while crate::support::backend::read_head(&mut stream).is_some() {
                let _ = stream.write_all(&answer);
                if answer.ends_with(b"{") {
                    return;
                }
            }
        });
        let unused = Backend::start();
        let gateway = Gateway::with(&unused, options(vec![format!("http://{backend}")], "t0ken"));
        for path in ["/v1/secret/a", "/v1/secrets"] {
            let answer = get(&gateway, path);
            assert_eq!(
                (answer.status, &*answer.code()),
                (502, "upstream_error"),
                "{shown}"
            );
        }
    }
}

#[test]
fn a_backend_that_does_not_answer_is_504() {
    let backend = scripted(|mut stream| {
        crate::support::backend::read_head(&mut stream);
        std::thread::sleep(Duration::from_secs(30));
    });
    let unused = Backend::start();
    let gateway = Gateway::with(&unused, options(vec![format!("http://{backend}")], "t0ken"));
    let answer = get(&gateway, "/v1/secret/a");
    assert_eq!((answer.status, &*answer.code()), (504, "upstream_timeout"));
}

#[test]
fn an_answer_that_is_too_long_fails_the_call() {
    let backend = Backend::answering(|_| {
        let value = "x".repeat(5 << 20);
        ok(json!({ "data": { "data": { "value": value } } })
            .to_string()
            .as_bytes())
    });
    let gateway = before(&backend);
    assert_eq!(get(&gateway, "/v1/secret/a").code(), "upstream_error");
}

#[test]
fn one_check_of_the_credential_covers_every_denial_of_a_call() {
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checks);
    let backend = Backend::answering(move |seen: &Seen| match &*seen.target {
        LOOK_UP => {
            counted.fetch_add(1, Ordering::SeqCst);
            ok(b"{}")
        }
        "/v1/secret/metadata/" => ok(br#"{"data":{"keys":["a/","b/","c/","d"]}}"#),
        _ => response("403 Forbidden", "", br#"{"errors":["permission denied"]}"#),
    });
    let gateway = before(&backend);
    assert_eq!(ids(&get(&gateway, "/v1/secrets")), ["d"]);
    assert_eq!(checks.load(Ordering::SeqCst), 1);
}

#[test]
fn a_credential_that_is_revoked_under_way_does_not_shorten_a_list() {
    let backend = Backend::answering(|seen: &Seen| match &*seen.target {
        "/v1/secret/metadata/" => ok(br#"{"data":{"keys":["a/","d"]}}"#),
        _ => response("403 Forbidden", "", br#"{"errors":["permission denied"]}"#),
    });
    let gateway = before(&backend);
    assert_eq!(get(&gateway, "/v1/secrets").code(), "upstream_credential");
}

#[test]
fn reads_of_one_machine_share_its_connections_and_no_other_machines() {
    let backend = engine(20);
    let gateway = before(&backend);
    let export = |who: &Machine| {
        let lines = gateway.sign(who, "POST", "/v1/secrets/export", b"").lines();
        exchange(
            gateway.address,
            raw("POST", "/v1/secrets/export", &lines, b""),
        )
    };
    // A new server's connections rest before they are used again, until it is trusted.
    for _ in 0..3 {
        assert_eq!(ids(&export(&machine())).len(), 20);
        gateway.hands.advance(Duration::from_millis(100));
    }
    let known = backend.connections();
    assert_eq!(ids(&export(&machine())).len(), 20);
    assert_eq!(backend.connections(), known);
    assert_eq!(export(&other()).status, 200);
    assert!(backend.connections() > known);
}

#[test]
fn a_machine_without_a_credential_gets_503_and_the_backend_hears_nothing() {
    let backend = engine(1);
    let machines = registry(&[&machine(), &other()]) + "    credential: team-a\n";
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            upstream: format!("    check: GET {LOOK_UP}\n"),
            more: "credentials: { team-a: { header: X-Vault-Token, file: token } }\n".into(),
            ..options(vec![format!("http://{}", backend.address)], "t0ken")
        },
    );
    let get_as = |who: &Machine| {
        let lines = gateway.sign(who, "GET", "/v1/secret/a", b"").lines();
        exchange(gateway.address, raw("GET", "/v1/secret/a", &lines, b""))
    };
    assert_eq!(get_as(&machine()).code(), "upstream_credential");
    assert!(backend.seen().is_empty());
    assert_eq!(get_as(&other()).status, 200);
    assert_eq!(backend.only().one("x-vault-token"), "t0ken");
}

#[test]
fn a_poll_whose_backend_fails_is_given_again() {
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let backend = Backend::answering(move |_| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        let version =
            json!({ "created_time": number.to_string(), "deletion_time": "", "destroyed": false });
        let body = json!({ "data": { "current_version": 1, "versions": { "1": version } } });
        match number {
            1 => response("503 Service Unavailable", "", b"{}"),
            _ => ok(body.to_string().as_bytes()),
        }
    });
    let gateway = before(&backend);
    let poll = || post(&gateway, "/v1/secrets/poll", &json!({ "watch": ["a"] }));
    assert_eq!(poll().json(), json!({ "changes": {} }));
    assert_eq!(poll().status, 503);
    assert_eq!(poll().json()["changes"]["a"]["status"], "changed");
}
