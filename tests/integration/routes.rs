//! Several routes: where a path goes, what is taken off it, and what an open route lets through.

use crate::support::backend::{Backend, ok};
use crate::support::client::{Client, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw, registry};

/// A gateway with these lines below `routes:`, and a credential for its upstream.
fn routed(backend: &Backend, routes: &str) -> Gateway {
    let options = Options {
        routes: routes.into(),
        upstream: "    credential: { header: X-Vault-Token, file: token }\n    set_headers: { X-Vault-Namespace: team-a }\n".into(),
        token: Some("t0ken".into()),
        machines: format!("{}    name: prod-api-7\n    owner: payments\n", registry(&[&machine()])),
        ..Options::default()
    };
    Gateway::with(backend, options)
}

const STRIPPED: &str = "  - { path: /edge, strip_prefix: /edge, upstream: secrets }\n";
const OPEN: &str = "  - { path: /, upstream: secrets }\n  - { path: /health, upstream: secrets, mode: open, max_body: 8 }\n";

#[test]
fn a_stripped_prefix_is_neither_verified_nor_forwarded() {
    let backend = Backend::start();
    let gateway = routed(&backend, STRIPPED);
    let signed = gateway.sign(&machine(), "GET", "/v1/secret/a", b"");
    let bytes = raw("GET", "/edge/v1/secret/a", &signed.lines(), b"");
    assert_eq!(exchange(gateway.address, bytes).status, 200);
    assert_eq!(backend.only().target, "/v1/secret/a");
    let record = &gateway.decisions("accepted", 1)[0];
    assert_eq!(record["path"], "/edge/v1/secret/a");
    assert_eq!(record["signed_path"], "/v1/secret/a");
    assert_eq!(record["route"], "/edge");
}

#[test]
fn a_signature_over_the_prefix_does_not_verify_where_it_is_stripped() {
    let backend = Backend::start();
    let gateway = routed(&backend, STRIPPED);
    let answer = gateway.request("GET", "/edge/v1/secret/a", b"");
    assert_eq!(answer.code(), "bad_signature");
    assert!(backend.seen().is_empty());
}

#[test]
fn nothing_behind_the_stripped_prefix_is_the_root() {
    let backend = Backend::start();
    let gateway = routed(
        &backend,
        "  - { path: /edge, strip_prefix: /edge, query: signed, upstream: secrets }\n",
    );
    for (sent, signed) in [("/edge", "/"), ("/edge/", "/"), ("/edge?a=b", "/?a=b")] {
        let lines = gateway.sign(&machine(), "GET", signed, b"").lines();
        let answer = exchange(gateway.address, raw("GET", sent, &lines, b""));
        assert_eq!(answer.status, 200, "{sent}");
        assert_eq!(backend.seen().pop().unwrap().target, signed, "{sent}");
    }
}

#[test]
fn a_path_that_a_client_encodes_more_than_it_needs_crosses_as_it_was_sent_and_signed() {
    let backend = Backend::start();
    let gateway = routed(
        &backend,
        "  - { path: /team@a, strip_prefix: /team@a, upstream: secrets }\n",
    );
    let inner = "/v1/db%40prod%3A1/%28a%29%2B%2C%3D%24%26%21%27%2A";
    let lines = gateway.sign(&machine(), "GET", inner, b"").lines();
    let sent = format!("/team%40a{inner}");
    let answer = exchange(gateway.address, raw("GET", &sent, &lines, b""));
    assert_eq!(answer.status, 200);
    assert_eq!(backend.only().target, inner);
    // Another spelling of it is another request.
    let lines = gateway.sign(&machine(), "GET", "/v1/db@prod", b"").lines();
    let answer = exchange(
        gateway.address,
        raw("GET", "/team@a/v1/db%40prod", &lines, b""),
    );
    assert_eq!(answer.code(), "bad_signature");
}

#[test]
fn the_paths_that_hand_the_credential_out_are_closed_behind_a_stripped_prefix_too() {
    let backend = Backend::start();
    let gateway = routed(&backend, STRIPPED);
    let path = "/v1/auth/token/lookup-self";
    let signed = gateway.sign(&machine(), "GET", path, b"");
    let bytes = raw("GET", &format!("/edge{path}"), &signed.lines(), b"");
    assert_eq!(exchange(gateway.address, bytes).code(), "not_permitted");
}

#[test]
fn a_route_may_wait_less_than_its_upstream() {
    let backend = Backend::answering(|_| {
        std::thread::sleep(std::time::Duration::from_secs(3));
        ok(b"late")
    });
    let routes = "  - { path: /, upstream: secrets }\n  - { path: /quick, upstream: secrets, read_timeout: 50ms }\n";
    let gateway = routed(&backend, routes);
    assert_eq!(
        gateway.request("GET", "/quick", b"").code(),
        "upstream_timeout"
    );
    assert_eq!(gateway.request("GET", "/slow", b"").status, 200);
}

#[test]
fn a_route_may_wait_less_for_a_body() {
    let backend = Backend::start();
    let routes = "  - { path: /, upstream: secrets, body_timeout: 100ms }\n";
    let gateway = routed(&backend, routes);
    let signed = gateway.sign(&machine(), "POST", "/a", b"whole");
    let mut client = Client::connect(gateway.address);
    let head = format!(
        "POST /a HTTP/1.1\r\nHost: gw\r\n{}Content-Length: 5\r\n\r\nwho",
        signed.lines()
    );
    client.send(head.as_bytes());
    assert_eq!(client.receive().code(), "request_timeout");
    assert!(backend.seen().is_empty());
}

#[test]
fn an_open_route_takes_a_request_that_nobody_signed() {
    let backend = Backend::start();
    let gateway = routed(&backend, OPEN);
    let answer = exchange(gateway.address, raw("GET", "/health?deep=1", "", b""));
    assert_eq!(answer.status, 200);
    assert_eq!(backend.only().target, "/health");
    let record = &gateway.decisions("accepted", 1)[0];
    assert_eq!(
        (&record["auth"], &record["route"]),
        (&"none".into(), &"/health".into())
    );
    assert_eq!(record["query"], "stripped");
    assert!(record.get("machine").is_none());
    gateway.decisions("response", 1);
    let counted = r#"countersign_requests_total{auth="none",outcome="forwarded",route="/health"}"#;
    assert_eq!(gateway.metric(counted), 1.0);
}

#[test]
fn beside_an_open_route_every_path_still_has_to_be_signed() {
    let backend = Backend::start();
    let gateway = routed(&backend, OPEN);
    for path in ["/", "/healthy", "/v1/secret/a"] {
        let answer = exchange(gateway.address, raw("GET", path, "", b""));
        assert_eq!(answer.code(), "missing_header", "{path}");
    }
    assert!(backend.seen().is_empty());
}

#[test]
fn an_open_route_keeps_the_rules_of_framing_target_method_and_size() {
    let backend = Backend::start();
    let gateway = routed(&backend, OPEN);
    for (bytes, code) in [
        (raw("GET", "/health/../v1", "", b""), "bad_target"),
        (raw("BREW", "/health", "", b""), "method_not_allowed"),
        (
            raw("POST", "/health", "Transfer-Encoding: gzip\r\n", b""),
            "bad_request",
        ),
        (raw("POST", "/health", "", b"nine bytes"), "body_too_large"),
        (
            raw("GET", "/health", "User-Agent: a\r\nUser-Agent: b\r\n", b""),
            "bad_request",
        ),
    ] {
        assert_eq!(exchange(gateway.address, bytes).code(), code);
    }
    assert!(backend.seen().is_empty());
}

/// What the gateway alone may say, in every spelling, on a thousand requests that differ in method,
/// query, body, and in who they claim to be: signed as they should be, or not.
#[test]
fn an_open_route_never_yields_an_identity_or_a_credential() {
    const NAMES: [&str; 11] = [
        "X-Machine-Identity",
        "X-Machine-Name",
        "X-Machine-Owner",
        "X-Machine-Vault",
        "X-Machine-Key",
        "X-Machine-Id",
        "X-Signature",
        "X-Vault-Token",
        "Authorization",
        "Forwarded",
        "X-Real-Ip",
    ];
    let backend = Backend::start();
    let gateway = routed(&backend, OPEN);
    let mut client = Client::connect(gateway.address);
    let mut seed = 1_u64;
    let mut next = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(seed >> 33).unwrap() % bound
    };
    for _ in 0..1000 {
        let method = ["GET", "POST", "LIST", "DELETE"][next(4)];
        let path = ["/health", "/health/", "/health/a:b", "/health?x=1"][next(4)];
        let body: &[u8] = [b"".as_slice(), b"body"][next(2)];
        let mut lines = String::new();
        if next(2) == 0 {
            let signed_path = path.split('?').next().unwrap();
            lines += &gateway.sign(&machine(), method, signed_path, body).lines();
        }
        for name in NAMES {
            let name = match next(4) {
                0 => name.to_owned(),
                1 => name.to_lowercase(),
                2 => name.replace('-', "_"),
                _ => continue,
            };
            lines += &format!("{name}: root\r\n");
        }
        let answer = client.exchange(&raw(method, path, &lines, body));
        assert_eq!(answer.status, 200, "{method} {path}\n{lines}");
    }
    let seen = backend.seen();
    assert_eq!(seen.len(), 1000);
    for request in seen {
        for (name, value) in &request.headers {
            let known = [
                "host",
                "content-length",
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-forwarded-host",
                "x-request-id",
            ];
            assert!(
                known.contains(&name.to_lowercase().as_str()),
                "{name} crossed"
            );
            assert!(
                value != "root" && !value.contains("t0ken"),
                "{name}: {value}"
            );
        }
    }
}
