//! What crosses to the backend, and back.

use crate::support::backend::{Backend, response};
use crate::support::client::exchange;
use crate::support::gateway::{Gateway, Options, machine, raw, registry};

fn described() -> Options {
    Options {
        machines: format!(
            "{}    name: prod-api-7\n    vault: vault_prod\n    owner: payments\n",
            registry(&[&machine()])
        ),
        ..Options::default()
    }
}

#[test]
fn the_backend_is_told_who_the_machine_is() {
    let backend = Backend::start();
    let gateway = Gateway::with(&backend, described());
    let answer = gateway.request("GET", "/v1/secret/a", b"");
    assert_eq!(answer.status, 200);
    let seen = backend.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/v1/secret/a")
    );
    assert_eq!(seen.one("x-machine-identity"), "machine-1");
    assert_eq!(seen.one("x-machine-name"), "prod-api-7");
    assert_eq!(seen.one("x-machine-vault"), "vault_prod");
    assert_eq!(seen.one("x-machine-owner"), "payments");
    assert_eq!(seen.one("x-machine-key").len(), 16);
    assert_eq!(
        seen.one("x-request-id"),
        answer.header("x-request-id").unwrap()
    );
    assert_eq!(seen.one("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.one("x-forwarded-proto"), "http");
    assert_eq!(seen.one("x-forwarded-host"), "gw");
    assert_eq!(seen.one("host"), backend.address.to_string());
}

#[test]
fn what_the_registry_does_not_know_is_not_said() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    gateway.request("GET", "/a", b"");
    let seen = backend.only();
    for name in ["x-machine-name", "x-machine-vault", "x-machine-owner"] {
        assert!(seen.all(name).is_empty(), "{name}");
    }
}

#[test]
fn a_client_cannot_say_who_it_is_in_any_spelling() {
    let backend = Backend::start();
    let gateway = Gateway::with(&backend, described());
    let forged = "X-Machine-Identity: root\r\nx-machine-identity: root\r\nX_Machine_Identity: root\r\n\
                  X-MACHINE-OWNER: root\r\nX-Machine_Vault: root\r\nX-Machine-Key: root\r\n\
                  X-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nX-Real-Ip: 9.9.9.9\r\n\
                  X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Request-Id: mine\r\n";
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines() + forged;
    assert_eq!(
        exchange(gateway.address, raw("GET", "/a", &lines, b"")).status,
        200
    );
    let seen = backend.only();
    assert_eq!(seen.one("x-machine-identity"), "machine-1");
    for (name, value) in &seen.headers {
        for forged in ["root", "9.9.9.9", "evil", "mine"] {
            assert!(!value.contains(forged), "{name}: {value}");
        }
        assert!(!name.contains('_'), "{name}");
    }
    assert_eq!(gateway.metric("countersign_spoofed_identity_total"), 1.0);
}

/// Headers that cross: those that always do, and the one that the route adds.
const CROSSING: [(&str, &str); 10] = [
    ("Accept", "application/json"),
    ("Accept-Encoding", "gzip"),
    ("Accept-Language", "en"),
    ("Content-Type", "application/json"),
    ("User-Agent", "test/1"),
    ("If-None-Match", "\"a\""),
    ("If-Match", "\"b\""),
    ("Traceparent", "00-1-2-01"),
    ("Tracestate", "a=b"),
    ("X-Vault-Namespace", "team"),
];

/// Headers that do not; each is sent with this value.
const STAYING: [&str; 9] = [
    "Authorization",
    "Cookie",
    "Range",
    "X-Original-URL",
    "X-Team",
    "X-Vault-Token",
    "Via",
    "Keep-Alive",
    "Proxy-Authorization",
];
const LEFT_BEHIND: &str = "left-behind";

/// A gateway that was sent all of them with a signed request, and let it pass.
fn with_every_header(backend: &Backend) -> Gateway {
    let routes =
        "  - { path: /, upstream: secrets, forward_headers: [X-Vault-Namespace] }\n".into();
    let options = Options {
        routes,
        ..Options::default()
    };
    let gateway = Gateway::with(backend, options);
    let mut lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    for (name, value) in CROSSING {
        lines += &format!("{name}: {value}\r\n");
    }
    for name in STAYING {
        lines += &format!("{name}: {LEFT_BEHIND}\r\n");
    }
    let response = exchange(gateway.address, raw("GET", "/a", &lines, b""));
    assert_eq!(response.status, 200);
    gateway
}

#[test]
fn headers_on_the_list_cross() {
    let backend = Backend::start();
    let _gateway = with_every_header(&backend);
    let seen = backend.only();
    for (name, value) in CROSSING {
        assert_eq!(seen.one(name), value);
    }
}

#[test]
fn headers_that_are_not_on_the_list_do_not_cross_and_neither_do_the_signing_headers() {
    let backend = Backend::start();
    let _gateway = with_every_header(&backend);
    let seen = backend.only();
    let left_behind = seen.headers.iter().any(|(_, value)| value == LEFT_BEHIND);
    assert!(!left_behind, "{:?}", seen.headers);
    for (name, _) in machine().sign("GET", "/", 1, b"").pairs() {
        assert!(seen.all(name).is_empty(), "{name} crossed");
    }
}

#[test]
fn the_record_names_the_headers_that_did_not_cross() {
    let backend = Backend::start();
    let gateway = with_every_header(&backend);
    let record = &gateway.decisions("accepted", 1)[0];
    let dropped = record["dropped_headers"].as_array().unwrap();
    let mut dropped: Vec<&str> = dropped.iter().filter_map(|name| name.as_str()).collect();
    dropped.sort_unstable();
    let named = [
        "authorization",
        "cookie",
        "range",
        "via",
        "x-original-url",
        "x-team",
        "x-vault-token",
    ];
    assert_eq!(dropped, named);
}

#[test]
fn a_metric_counts_the_headers_that_did_not_cross() {
    let backend = Backend::start();
    let gateway = with_every_header(&backend);
    for (name, count) in [
        ("cookie", 1.0),
        ("range", 1.0),
        ("other", 2.0),
        ("x-vault-namespace", 0.0),
    ] {
        let sample = format!("countersign_headers_dropped_total{{name=\"{name}\"}}");
        assert_eq!(gateway.metric(&sample), count, "{name}");
    }
}

#[test]
fn a_crossing_header_with_odd_bytes_refuses_the_request() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let mut bytes = raw("GET", "/a", &(lines + "User-Agent: a"), b"");
    let end = bytes.len() - 2;
    bytes.splice(end..end, *b"\xff\r\n");
    assert_eq!(exchange(gateway.address, bytes).code(), "bad_request");
    assert_eq!(backend.connections(), 0);
}

#[test]
fn the_credential_replaces_the_clients_own_and_is_said_to_nobody() {
    const TOKEN: &str = "s.the-backend-token";
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            upstream:
                "    credential: { header: Authorization, prefix: \"Bearer \", file: token }\n"
                    .into(),
            token: Some(format!("{TOKEN}\n")),
            ..Options::default()
        },
    );
    let lines =
        gateway.sign(&machine(), "GET", "/a", b"").lines() + "Authorization: Bearer mine\r\n";
    let answer = exchange(gateway.address, raw("GET", "/a", &lines, b""));
    assert_eq!(answer.status, 200);
    assert_eq!(
        backend.only().one("authorization"),
        format!("Bearer {TOKEN}")
    );
    let log = std::fs::read_to_string(gateway.folder.path().join("audit.jsonl")).unwrap();
    let (_, metrics) = gateway.admin_get("/metrics");
    for text in [format!("{answer:?}"), log, metrics] {
        assert!(!text.contains(TOKEN));
    }
}

#[test]
fn the_identity_header_has_the_name_that_the_configuration_gives_it() {
    let backend = Backend::start();
    let more = "identity: { header: X-Client-Id }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            more,
            ..Options::default()
        },
    );
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines() + "x_client_id: root\r\n";
    assert_eq!(
        exchange(gateway.address, raw("GET", "/a", &lines, b"")).status,
        200
    );
    assert_eq!(backend.only().one("x-client-id"), "machine-1");
    assert_eq!(gateway.metric("countersign_spoofed_identity_total"), 1.0);
}

#[test]
fn a_backend_cannot_speak_for_the_gateway() {
    let backend = Backend::answering(|_| {
        response(
            "200 OK",
            "X-Machine-Identity: root\r\nX-Request-Id: other\r\nCache-Control: public\r\n\
             Location: http://elsewhere/\r\nX-Forwarded-For: 1.2.3.4\r\nKeep-Alive: timeout=1\r\n\
             ETag: \"kept\"\r\n",
            b"body",
        )
    });
    let gateway = Gateway::start(&backend);
    let answer = gateway.request("GET", "/a", b"");
    for name in [
        "x-machine-identity",
        "location",
        "x-forwarded-for",
        "keep-alive",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.all("cache-control"), ["no-store"]);
    assert_eq!(answer.header("etag"), Some("\"kept\""));
    assert_eq!(answer.body, b"body");
}

#[test]
fn fixed_headers_of_the_upstream_are_set() {
    let backend = Backend::start();
    let upstream =
        "    set_headers: { X-Vault-Namespace: team-a }\n    host: vault.internal\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            upstream,
            ..Options::default()
        },
    );
    gateway.request("GET", "/a", b"");
    let seen = backend.only();
    assert_eq!(seen.one("x-vault-namespace"), "team-a");
    assert_eq!(seen.one("host"), "vault.internal");
}

#[test]
fn a_host_that_is_not_on_the_list_is_refused() {
    let backend = Backend::start();
    let more = "hosts: [secrets.example]\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            more,
            ..Options::default()
        },
    );
    assert_eq!(gateway.request("GET", "/a", b"").code(), "bad_request");
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let bytes = format!("GET /a HTTP/1.1\r\nHost: Secrets.Example\r\n{lines}\r\n");
    assert_eq!(exchange(gateway.address, bytes).status, 200);
}

#[test]
fn a_header_of_which_there_is_one_is_not_sent_twice() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let twice = "Content-Type: a/b\r\nContent-Type: c/d\r\n";
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines() + twice;
    let answer = exchange(gateway.address, raw("GET", "/a", &lines, b""));
    assert_eq!(answer.code(), "bad_request");
    assert_eq!(backend.connections(), 0);
}

#[test]
fn the_credential_header_does_not_come_back_in_either_spelling() {
    let backend = Backend::answering(|_| {
        response(
            "200 OK",
            "X-Vault-Token: echoed\r\nX_Vault_Token: echoed\r\n",
            b"body",
        )
    });
    let gateway = Gateway::with(
        &backend,
        Options {
            upstream: "    credential: { header: X-Vault-Token, file: token }\n".into(),
            token: Some("t".into()),
            ..Options::default()
        },
    );
    assert!(!format!("{:?}", gateway.request("GET", "/a", b"")).contains("echoed"));
}
