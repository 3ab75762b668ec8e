//! Every row of the refusal table, over a real socket: the exact status and code, and a backend
//! that saw nothing.

use std::sync::Arc;

use countersign_core::refusal::Code;
use countersign_core::replay::{Claim, ClaimError, NonceStore};

use crate::support::backend::{self, Backend};
use crate::support::client::{Client, Response, exchange};
use crate::support::gateway::{Gateway, Options, START, machine, raw, registry, wait_for};
use crate::support::signer::Machine;

/// The codes that this file provokes, each in the test of the same name below.
const PROVOKED: [Code; 27] = [
    Code::BadRequest,
    Code::BadTarget,
    Code::HeaderNotForwarded,
    Code::QueryNotAllowed,
    Code::MethodNotAllowed,
    Code::HeaderTooLarge,
    Code::BodyTooLarge,
    Code::RequestTimeout,
    Code::MissingHeader,
    Code::MalformedHeader,
    Code::ClockSkew,
    Code::BadSignature,
    Code::Replayed,
    Code::MachineDisabled,
    Code::MachineExpired,
    Code::NotPermitted,
    Code::NoRoute,
    Code::Throttled,
    Code::ReplayUnavailable,
    Code::AuditUnavailable,
    Code::Overloaded,
    Code::NotReady,
    Code::UpstreamUnreachable,
    Code::UpstreamTimeout,
    Code::UpstreamError,
    Code::UpstreamCredential,
    Code::Internal,
];

/// The codes of calls to the registry, which other files provoke.
const OF_THE_REGISTRY: [Code; 5] = [
    Code::EnrolmentRefused,
    Code::Invalid,
    Code::NoMachine,
    Code::Exists,
    Code::RegistryUnavailable,
];

#[test]
fn every_code_is_provoked_here() {
    let mut named = [&PROVOKED[..], &OF_THE_REGISTRY].concat();
    named.sort();
    assert_eq!(named, Code::ALL);
    let tests = include_str!("refusals.rs");
    for code in PROVOKED {
        let own = |ending: &str| tests.contains(&format!("\nfn {}{ending}", code.as_str()));
        assert!(own("()") || own("_"), "{code:?} has no test of its name");
    }
}

/// Asserts the row, that the backend heard nothing, and that the refusal was counted once.
#[track_caller]
fn assert_refused(gateway: &Gateway, backend: &Backend, response: &Response, code: Code) {
    assert_eq!(
        (response.status, response.code().as_str()),
        (code.status(), code.as_str())
    );
    assert_eq!(backend.connections(), 0, "not even a connection");
    assert!(backend.seen().is_empty());
    let sample = format!("countersign_refusals_total{{code=\"{}\"}}", code.as_str());
    // Counted when the answer has been sent, which its reader may outrun.
    wait_for("the count", || {
        (gateway.metric(&sample) >= 1.0).then_some(())
    });
    assert_eq!(gateway.metric(&sample), 1.0);
}

/// Sends bytes to the common gateway and expects a refusal of the row.
#[track_caller]
fn refused(bytes: impl AsRef<[u8]>, code: Code) -> Response {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let response = exchange(gateway.address, bytes);
    assert_refused(&gateway, &backend, &response, code);
    response
}

/// A request of the common machine, signed for a gateway that has just become ready.
fn signed(method: &str, path: &str, body: &[u8]) -> String {
    machine().sign(method, path, START + 1, body).lines()
}

#[test]
fn bad_request() {
    let lines = signed("POST", "/a", b"abc");
    refused(
        format!(
            "POST /a HTTP/1.1\r\nHost: gw\r\n{lines}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"
        ),
        Code::BadRequest,
    );
}

#[test]
fn bad_request_for_a_head_that_cannot_be_parsed() {
    refused("GET /a HTTP/1.1\r\nHost : gw\r\n\r\n", Code::BadRequest);
    refused("NONSENSE\r\n\r\n", Code::BadRequest);
}

#[test]
fn bad_target() {
    let lines = signed("GET", "/a/%2e%2e/b", b"");
    refused(raw("GET", "/a/%2e%2e/b", &lines, b""), Code::BadTarget);
}

#[test]
fn header_not_forwarded() {
    for name in [
        "Content-Encoding",
        "content_encoding",
        "X-Vault-Wrap-TTL",
        "Content.Range",
        "X-Http-Method",
    ] {
        let backend = Backend::start();
        let gateway = Gateway::start(&backend);
        let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
        let lines = format!("{lines}{name}: x\r\n");
        let response = exchange(gateway.address, raw("GET", "/a", &lines, b""));
        assert_refused(&gateway, &backend, &response, Code::HeaderNotForwarded);
        let text = String::from_utf8(response.body).unwrap();
        assert!(text.contains("forward_headers"), "{text}");
        let record = &gateway.decisions("refused", 1)[0];
        assert_eq!(record["dropped_headers"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn query_not_allowed() {
    let backend = Backend::start();
    let routes = "  - { path: /, upstream: secrets, query: reject }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            routes,
            ..Options::default()
        },
    );
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let response = exchange(gateway.address, raw("GET", "/a?", &lines, b""));
    assert_refused(&gateway, &backend, &response, Code::QueryNotAllowed);
}

#[test]
fn method_not_allowed() {
    for method in ["CONNECT", "TRACE", "get", "BREW"] {
        let response = refused(
            raw(method, "/a", &signed(method, "/a", b""), b""),
            Code::MethodNotAllowed,
        );
        assert_eq!(
            response.header("allow"),
            Some("GET, HEAD, POST, PUT, PATCH, DELETE, LIST, OPTIONS")
        );
    }
}

#[test]
fn header_too_large() {
    let padding = "a".repeat(33 * 1024);
    refused(
        raw("GET", "/a", &format!("X-Padding: {padding}\r\n"), b""),
        Code::HeaderTooLarge,
    );
}

#[test]
fn header_too_large_for_more_header_lines_than_the_parser_takes() {
    let lines = "A: b\r\n".repeat(2000);
    refused(raw("GET", "/a", &lines, b""), Code::HeaderTooLarge);
}

#[test]
fn body_too_large_by_its_declared_length_before_a_byte_is_read() {
    let lines = signed("POST", "/a", b"");
    for length in ["1048577", "18446744073709551615"] {
        refused(
            format!("POST /a HTTP/1.1\r\nHost: gw\r\n{lines}Content-Length: {length}\r\n\r\n"),
            Code::BodyTooLarge,
        );
    }
}

#[test]
fn body_too_large_by_what_arrives() {
    let backend = Backend::start();
    let routes = "  - { path: /, upstream: secrets, max_body: 10 }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            routes,
            ..Options::default()
        },
    );
    let lines = gateway
        .sign(&machine(), "POST", "/a", b"12345678901")
        .lines();
    let response = exchange(
        gateway.address,
        format!(
            "POST /a HTTP/1.1\r\nHost: gw\r\n{lines}Transfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n"
        ),
    );
    assert_refused(&gateway, &backend, &response, Code::BodyTooLarge);
}

#[test]
fn request_timeout_for_a_body_that_does_not_come() {
    let backend = Backend::start();
    let more = "limits: { body_timeout: 200ms }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            more,
            ..Options::default()
        },
    );
    let lines = gateway.sign(&machine(), "POST", "/a", b"abc").lines();
    let response = exchange(
        gateway.address,
        format!("POST /a HTTP/1.1\r\nHost: gw\r\n{lines}Content-Length: 3\r\n\r\na"),
    );
    assert_refused(&gateway, &backend, &response, Code::RequestTimeout);
}

#[test]
fn request_timeout_for_a_head_that_does_not_end() {
    let backend = Backend::start();
    let more = "limits: { header_timeout: 200ms }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            more,
            ..Options::default()
        },
    );
    let response = exchange(gateway.address, "GET /a HTTP/1.1\r\nHost: g");
    assert_refused(&gateway, &backend, &response, Code::RequestTimeout);
}

#[test]
fn request_timeout_for_a_second_head_that_does_not_end() {
    let backend = Backend::start();
    let more = "limits: { header_timeout: 300ms }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            more,
            ..Options::default()
        },
    );
    let mut client = Client::connect(gateway.address);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    assert_eq!(client.exchange(&raw("GET", "/a", &lines, b"")).status, 200);
    // At rest for longer than a head may take: that is idle time.
    std::thread::sleep(std::time::Duration::from_millis(600));
    client.send(b"GET /a HTTP/1.1\r\nHost: g");
    assert_eq!(client.receive().code(), "request_timeout");
    backend.only();
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let backend = Backend::start();
    let more = "limits: { header_timeout: 200ms }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            more,
            ..Options::default()
        },
    );
    assert!(Client::connect(gateway.address).is_closed());
}

#[test]
fn overloaded_is_counted_for_connections_over_the_limit() {
    let backend = Backend::start();
    let more = "limits: { connections: 1 }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            more,
            ..Options::default()
        },
    );
    let mut first = Client::connect(gateway.address);
    wait_for("the first", || {
        (gateway.metric("countersign_connections") == 1.0).then_some(())
    });
    assert!(Client::connect(gateway.address).is_closed());
    assert_eq!(
        gateway.metric("countersign_refusals_total{code=\"overloaded\"}"),
        1.0
    );
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    assert_eq!(first.exchange(&raw("GET", "/a", &lines, b"")).status, 200);
}

#[test]
fn missing_header() {
    let signed = machine().sign("GET", "/a", START + 1, b"");
    for (missing, _) in signed.pairs() {
        let lines: String = signed
            .pairs()
            .iter()
            .filter(|(name, _)| *name != missing)
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let response = refused(raw("GET", "/a", &lines, b""), Code::MissingHeader);
        assert!(response.json()["error"].as_str().unwrap().contains(missing));
    }
}

#[test]
fn malformed_header() {
    let signed = machine().sign("GET", "/a", START + 1, b"");
    for (twice, value) in signed.pairs() {
        let lines = format!("{}{twice}: {value}\r\n", signed.lines());
        let response = refused(raw("GET", "/a", &lines, b""), Code::MalformedHeader);
        assert!(response.json()["error"].as_str().unwrap().contains(twice));
    }
}

#[test]
fn clock_skew() {
    for timestamp in [START + 1 - 301, START + 1 + 301] {
        let lines = machine().sign("GET", "/a", timestamp, b"").lines();
        let response = refused(raw("GET", "/a", &lines, b""), Code::ClockSkew);
        assert_eq!(response.json()["server_time"], START + 1);
    }
}

#[test]
fn bad_signature() {
    let lines = Machine::new("machine-1", 2)
        .sign("GET", "/a", START + 1, b"")
        .lines();
    refused(raw("GET", "/a", &lines, b""), Code::BadSignature);
}

#[test]
fn bad_signature_for_a_body_that_was_not_signed() {
    refused(
        raw("POST", "/a", &signed("POST", "/a", b"one"), b"two"),
        Code::BadSignature,
    );
}

#[test]
fn replayed() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let bytes = raw("GET", "/a", &lines, b"");
    assert_eq!(exchange(gateway.address, &bytes).status, 200);
    let response = exchange(gateway.address, &bytes);
    assert_eq!(
        (response.status, response.code().as_str()),
        (401, "replayed")
    );
    backend.only();
}

#[test]
fn machine_disabled() {
    let backend = Backend::start();
    let machines = format!("{}    enabled: false\n", registry(&[&machine()]));
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            ..Options::default()
        },
    );
    let response = gateway.request("GET", "/a", b"");
    assert_refused(&gateway, &backend, &response, Code::MachineDisabled);
}

#[test]
fn machine_expired() {
    // START is 2027-01-15T08:00:00Z.
    for line in [
        "expires: 2027-01-15T08:00:01Z",
        "not_before: 2027-01-15T08:00:02Z",
    ] {
        let backend = Backend::start();
        let machines = format!("{}    {line}\n", registry(&[&machine()]));
        let gateway = Gateway::with(
            &backend,
            Options {
                machines,
                ..Options::default()
            },
        );
        let response = gateway.request("GET", "/a", b"");
        assert_refused(&gateway, &backend, &response, Code::MachineExpired);
    }
}

#[test]
fn not_permitted() {
    for path in [
        "/v1/auth/token/lookup-self",
        "/v1/sys/mounts",
        "/v1/sys",
        "/v1/auth",
    ] {
        let backend = Backend::start();
        let gateway = Gateway::with(&backend, with_credential());
        let response = gateway.request("GET", path, b"");
        assert_refused(&gateway, &backend, &response, Code::NotPermitted);
    }
}

fn with_credential() -> Options {
    Options {
        upstream: "    credential: { header: X-Vault-Token, file: token }\n".into(),
        token: Some("the-backend-token".into()),
        ..Options::default()
    }
}

#[test]
fn no_route() {
    let backend = Backend::start();
    let routes = "  - { path: /v1, upstream: secrets }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            routes,
            ..Options::default()
        },
    );
    let response = gateway.request("GET", "/v12/a", b"");
    assert_refused(&gateway, &backend, &response, Code::NoRoute);
}

#[test]
fn throttled_for_a_machine_over_its_quota() {
    let backend = Backend::start();
    let more = "replay: { state_dir: none, quota_per_machine: 2 }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            more,
            ..Options::default()
        },
    );
    for expected in [200, 200, 429] {
        assert_eq!(gateway.request("GET", "/a", b"").status, expected);
    }
    let response = gateway.request("GET", "/a", b"");
    assert_eq!(
        (response.code().as_str(), response.header("retry-after")),
        ("throttled", Some("10"))
    );
    assert_eq!(backend.seen().len(), 2);
}

#[test]
fn replay_unavailable_for_what_was_stamped_before_the_start() {
    let lines = machine().sign("GET", "/a", START, b"").lines();
    let response = refused(raw("GET", "/a", &lines, b""), Code::ReplayUnavailable);
    assert_eq!(response.header("retry-after"), Some("1"));
}

#[test]
fn audit_unavailable() {
    let backend = Backend::start();
    let audit = "/dev/full".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            audit,
            ..Options::default()
        },
    );
    let response = gateway.request("GET", "/a", b"");
    assert_refused(&gateway, &backend, &response, Code::AuditUnavailable);
}

#[test]
fn overloaded() {
    let backend = Backend::start();
    let more = "limits: { body_budget: 1MiB }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            more,
            ..Options::default()
        },
    );
    let body = [b'a'; 700_000];
    let lines = gateway.sign(&machine(), "POST", "/a", &body).lines();
    let mut holder = Client::connect(gateway.address);
    holder.send(&raw("POST", "/a", &lines, &body)[..650_000]);
    wait_for("the first body", || {
        (gateway.metric("countersign_body_buffer_bytes") > 600_000.0).then_some(())
    });
    let response = gateway.request("POST", "/a", &body);
    assert_refused(&gateway, &backend, &response, Code::Overloaded);
}

#[test]
fn internal_for_a_panic_and_the_next_request_is_fine() {
    struct Panics(std::sync::atomic::AtomicBool);
    #[async_trait::async_trait]
    impl NonceStore for Panics {
        async fn claim(&self, _: Claim) -> Result<(), ClaimError> {
            let first = !self.0.swap(true, std::sync::atomic::Ordering::SeqCst);
            assert!(!first, "a panic on purpose");
            Ok(())
        }
    }
    let backend = Backend::start();
    let nonces: Arc<dyn NonceStore> = Arc::new(Panics(false.into()));
    let gateway = Gateway::with(
        &backend,
        Options {
            nonces: Some(nonces),
            ..Options::default()
        },
    );
    let response = gateway.request("GET", "/a", b"");
    assert_refused(&gateway, &backend, &response, Code::Internal);
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
}

/// A port at which nobody listens: it takes root to.
fn nobody() -> String {
    "http://127.0.0.1:1".to_owned()
}

#[test]
fn upstream_unreachable() {
    let backend = Backend::start();
    let servers = Some(vec![nobody(), "http://127.0.0.1:2".to_owned()]);
    let gateway = Gateway::with(
        &backend,
        Options {
            servers,
            ..Options::default()
        },
    );
    let response = gateway.request("GET", "/a", b"");
    assert_refused(&gateway, &backend, &response, Code::UpstreamUnreachable);
}

#[test]
fn upstream_timeout() {
    let backend = Backend::answering(|_| {
        std::thread::sleep(std::time::Duration::from_secs(3));
        backend::ok(b"late")
    });
    let upstream = "    read_timeout: 200ms\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            upstream,
            ..Options::default()
        },
    );
    let response = gateway.request("GET", "/a", b"");
    assert_eq!(
        (response.status, response.code().as_str()),
        (504, "upstream_timeout")
    );
}

#[test]
fn upstream_error() {
    let answers: [&[u8]; 3] = [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ];
    for answer in answers {
        let backend = Backend::answering(move |_| answer.to_vec());
        let gateway = Gateway::start(&backend);
        let response = gateway.request("GET", "/a", b"");
        assert_eq!(
            (response.status, response.code().as_str()),
            (502, "upstream_error"),
            "{}",
            answer.escape_ascii()
        );
        assert_eq!(response.header("location"), None);
        backend.only();
    }
}

#[test]
fn upstream_error_for_every_redirect_with_and_without_a_location() {
    for status in [300, 301, 302, 303, 305, 307, 308, 399] {
        for location in ["", "Location: http://elsewhere/\r\n"] {
            let backend = Backend::answering(move |_| {
                backend::response(&format!("{status} Elsewhere"), location, b"")
            });
            let gateway = Gateway::start(&backend);
            let response = gateway.request("GET", "/a", b"");
            assert_eq!(
                (response.status, response.code().as_str()),
                (502, "upstream_error"),
                "{status} {location}"
            );
            assert_eq!(response.header("location"), None);
            backend.only();
        }
    }
}

#[test]
fn unknown_machine_disabled_machine_and_wrong_signature_look_alike() {
    let disabled = Machine::new("disabled", 3);
    let machines = format!("{}    enabled: false\n", registry(&[&machine(), &disabled]));
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            ..Options::default()
        },
    );
    let answers = ["machine-1", "disabled", "nobody"].map(|id| {
        let forged = Machine::new(id, 9);
        let lines = gateway.sign(&forged, "GET", "/a", b"").lines();
        let mut client = Client::connect(gateway.address);
        let response = client.exchange(&raw("GET", "/a", &lines, b""));
        assert_eq!(response.code(), "bad_signature");
        assert!(client.is_closed(), "the connection ends alike");
        without_what_always_differs(&response)
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert!(backend.seen().is_empty());
}

/// The whole answer, less the date and the id of the request.
fn without_what_always_differs(response: &Response) -> (Vec<(String, String)>, String) {
    let id = response.header("x-request-id").unwrap().to_owned();
    let headers = response
        .headers
        .iter()
        .filter(|(name, _)| {
            !name.eq_ignore_ascii_case("date") && !name.eq_ignore_ascii_case("x-request-id")
        })
        .cloned()
        .collect();
    let body = String::from_utf8(response.body.clone()).unwrap();
    assert_eq!(body.matches(&id).count(), 1);
    (headers, body.replace(&id, ""))
}

#[test]
fn a_refused_request_closes_its_connection_and_its_body_is_no_request() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let smuggled = raw(
        "GET",
        "/smuggled",
        &gateway.sign(&machine(), "GET", "/smuggled", b"").lines(),
        b"",
    );
    let lines = Machine::new("machine-1", 2)
        .sign("POST", "/a", gateway.now(), &smuggled)
        .lines();
    let mut client = Client::connect(gateway.address);
    let response = client.exchange(&raw("POST", "/a", &lines, &smuggled));
    assert_eq!(response.code(), "bad_signature");
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed());
    assert!(backend.seen().is_empty());
}

#[test]
fn a_client_that_is_still_sending_gets_its_refusal() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let body = vec![b'a'; 600_000];
    let lines = machine().sign("POST", "/a", START - 1000, &body).lines();
    // Refused by its head; the body is under way all the same.
    let mut client = Client::connect(gateway.address);
    client.send(&raw("POST", "/a", &lines, &body)[..40_000]);
    assert_eq!(client.receive().code(), "clock_skew");
}

#[test]
fn a_refused_head_request_has_no_body() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = Client::connect(gateway.address);
    client.send(&raw("HEAD", "/a", "", b""));
    let response = client.receive_head();
    assert_eq!(response.status, 401);
    assert!(client.is_closed());
}

#[test]
fn upstream_credential() {
    let backend = Backend::start();
    let machines = format!("{}    credential: team-a\n", registry(&[&machine()]));
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            ..Options::default()
        },
    );
    let response = gateway.request("GET", "/a", b"");
    assert_refused(&gateway, &backend, &response, Code::UpstreamCredential);
}

#[test]
fn not_ready_for_a_request_that_is_still_being_sent_when_the_gateway_ends() {
    let backend = Backend::start();
    let options = Options {
        grace: "100ms",
        ..Options::default()
    };
    let mut gateway = Gateway::with(&backend, options);
    let mut client = Client::connect(gateway.address);
    let lines = gateway.sign(&machine(), "POST", "/a", b"abc").lines();
    let bytes = raw("POST", "/a", &lines, b"abc");
    client.send(&bytes[..bytes.len() - 1]);
    wait_for("the body", || {
        (gateway.metric("countersign_body_buffer_bytes") > 0.0).then_some(())
    });
    gateway.begin_stop();
    let response = client.receive();
    assert_eq!(
        (response.status, response.code().as_str()),
        (503, "not_ready")
    );
    gateway.stop();
    assert_eq!(backend.connections(), 0);
    let mut records = gateway.records();
    records.retain(|record| record["code"] == "not_ready");
    assert_eq!(records.len(), 1, "{records:?}");
}
