//! `mode: observe` and `bearer_until`: what passes without a signature, what does not, and the end
//! of both.

use std::fs;

use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::{Client, Response, exchange};
use crate::support::gateway::{Gateway, Options, START, machine, raw, registry, wait_for};
use crate::support::process::Process;
use crate::support::signer::Machine;

/// An hour after the start.
const END: u64 = START + 3600;

const TOKEN: &str = "X-Vault-Token: s.ClientsOwnToken\r\n";

/// Routes that observe, that take bearer credentials, and that enforce; all with a credential.
fn options() -> Options {
    Options {
        routes: "  - { path: /observed, upstream: secrets, max_body: 8, mode: observe, observe_until: '2027-01-15T09:00:00Z' }\n  \
                 - { path: /bearer, upstream: secrets, max_body: 8, bearer_until: '2027-01-15T09:00:00Z' }\n  \
                 - { path: /, upstream: secrets }\n"
            .into(),
        upstream: "    credential: { header: X-Vault-Token, file: token }\n".into(),
        token: Some("t0ken".into()),
        machines: registry(&[&machine(), &disabled()]) + "    enabled: false\n",
        ..Options::default()
    }
}

fn gateway(backend: &Backend) -> Gateway {
    Gateway::with(backend, options())
}

fn disabled() -> Machine {
    Machine::new("machine-off", 4)
}

fn get(gateway: &Gateway, target: &str, lines: &str) -> Response {
    exchange(gateway.address, raw("GET", target, lines, b""))
}

/// The last record of this decision.
fn record(gateway: &Gateway, decision: &str) -> Value {
    gateway.decisions(decision, 1).pop().unwrap()
}

#[test]
fn an_observed_route_forwards_what_it_would_refuse_as_the_client_sent_it() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let lines = format!("{TOKEN}X-App: 1\r\nCookie: a=1\r\nCookie: b=2\r\nRange: bytes=0-9\r\n");
    let answer = get(&gateway, "/observed/a?version=2", &lines);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("x-countersign-observed"),
        Some("missing_header")
    );
    let seen = backend.only();
    assert_eq!(seen.target, "/observed/a?version=2");
    assert_eq!(seen.one("x-vault-token"), "s.ClientsOwnToken");
    assert_eq!(seen.one("x-app"), "1");
    assert_eq!(seen.one("cookie"), "a=1; b=2");
    assert_eq!(seen.one("range"), "bytes=0-9");
    assert!(seen.all("x-machine-identity").is_empty());

    let record = record(&gateway, "observed");
    assert_eq!(record["code"], "missing_header");
    assert_eq!(record["auth"], "bearer");
    assert_eq!(record["query"], "forwarded");
    assert_eq!(record["token_hash"].as_str().unwrap().len(), 32);
    assert_eq!(record.get("machine"), None);
    gateway.decisions("response", 1);
    let counted =
        r#"countersign_requests_total{auth="bearer",outcome="observed",route="/observed"}"#;
    assert_eq!(gateway.metric(counted), 1.0);
    assert_eq!(
        gateway.metric(r#"countersign_observed_total{code="missing_header"}"#),
        1.0
    );
    assert_eq!(gateway.metric("countersign_queries_stripped_total"), 0.0);
}

#[test]
fn each_refusal_of_the_caller_is_observed_under_its_code() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let path = "/observed/a";
    let good = gateway.sign(&machine(), "GET", path, b"");
    assert_eq!(get(&gateway, path, &good.lines()).status, 200);
    let late = machine().sign("GET", path, gateway.now() - 400, b"");
    let forged = gateway.sign(&Machine::new("machine-1", 9), "GET", path, b"");
    let off = gateway.sign(&disabled(), "GET", path, b"");
    let cases = [
        ("X-Nonce: 0123456789abcdef\r\n".to_owned(), "missing_header"),
        (
            good.lines().replace("X-Nonce: ", "X-Nonce: !"),
            "malformed_header",
        ),
        (late.lines(), "clock_skew"),
        (forged.lines(), "bad_signature"),
        (good.lines(), "replayed"),
        (off.lines(), "machine_disabled"),
    ];
    for (count, (lines, code)) in (1..).zip(cases) {
        assert_eq!(
            get(&gateway, path, &format!("{lines}{TOKEN}")).status,
            200,
            "{code}"
        );
        let records = gateway.decisions("observed", count);
        assert_eq!(records[count - 1]["code"], code);
        let seen = backend.seen().pop().unwrap();
        assert_eq!(seen.all("x-vault-token"), ["s.ClientsOwnToken"], "{code}");
        for name in [
            "x-machine-identity",
            "x-machine-id",
            "x-signature",
            "x-nonce",
            "x-timestamp",
        ] {
            assert!(seen.all(name).is_empty(), "{code}: {name}");
        }
    }
}

#[test]
fn on_an_observed_route_a_path_that_the_policy_closes_is_reached_with_the_clients_own_credential() {
    let backend = Backend::start();
    let routes = "  - { path: /, upstream: secrets, mode: observe, observe_until: '2027-01-15T09:00:00Z' }\n";
    let gateway = Gateway::with(
        &backend,
        Options {
            routes: routes.into(),
            ..options()
        },
    );
    let path = "/v1/sys/mounts";
    let lines = gateway.sign(&machine(), "GET", path, b"").lines() + TOKEN;
    assert_eq!(get(&gateway, path, &lines).status, 200);
    assert_eq!(record(&gateway, "observed")["code"], "not_permitted");
    assert_eq!(backend.only().all("x-vault-token"), ["s.ClientsOwnToken"]);
}

#[test]
fn a_header_that_must_not_be_lost_crosses_unsigned_and_is_refused_or_observed_signed() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let wrap = "X-Vault-Wrap-TTL: 5m\r\n";
    for path in ["/observed/a", "/bearer/a"] {
        assert_eq!(get(&gateway, path, &format!("{TOKEN}{wrap}")).status, 200);
        assert_eq!(backend.seen().pop().unwrap().one("x-vault-wrap-ttl"), "5m");
    }
    let signed = |path| gateway.sign(&machine(), "GET", path, b"").lines() + TOKEN + wrap;
    // Enforcing would refuse it: so it passes as the client sent it, and the record says why.
    assert_eq!(
        get(&gateway, "/observed/b", &signed("/observed/b")).status,
        200
    );
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.one("x-vault-wrap-ttl"), "5m");
    assert!(seen.all("x-machine-identity").is_empty());
    let observed = gateway.decisions("observed", 2).remove(1);
    assert_eq!(observed["code"], "header_not_forwarded");
    assert_eq!(observed.get("dropped_headers"), None);
    for path in ["/bearer/b", "/b"] {
        let answer = get(&gateway, path, &signed(path));
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "header_not_forwarded")
        );
    }
    assert_eq!(backend.seen().len(), 3);
}

#[test]
fn an_alias_of_a_reserved_name_crosses_on_no_route() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let forged = "X.Machine.Identity: admin\r\nx~machine~key: admin\r\nX.Forwarded.For: admin\r\n\
                  X*Request*Id: admin\r\nX-Machine-Assertion: admin\r\nX.Vault.Token: admin\r\n";
    for path in ["/observed/a", "/bearer/a"] {
        assert_eq!(get(&gateway, path, &format!("{TOKEN}{forged}")).status, 200);
        let seen = backend.seen().pop().unwrap();
        assert!(
            seen.headers.iter().all(|(_, value)| value != "admin"),
            "{path}"
        );
    }
    assert_eq!(gateway.metric("countersign_spoofed_identity_total"), 2.0);
    // An alias of a signing header speaks of a signature, which is then incomplete.
    let answer = get(&gateway, "/bearer/a", &format!("{TOKEN}X.Signature: a\r\n"));
    assert_eq!(answer.code(), "missing_header");
}

#[test]
fn a_good_signature_is_treated_as_where_the_route_enforces() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for path in ["/observed/a", "/bearer/a", "/a"] {
        let lines = gateway.sign(&machine(), "GET", path, b"").lines();
        let lines = format!("{lines}{TOKEN}X-App: 1\r\n");
        assert_eq!(
            get(&gateway, &format!("{path}?version=2"), &lines).status,
            200
        );
        let seen = backend.seen().pop().unwrap();
        assert_eq!(seen.target, path);
        assert_eq!(seen.one("x-machine-identity"), "machine-1");
        assert_eq!(seen.all("x-vault-token"), ["t0ken"]);
        assert!(seen.all("x-app").is_empty());
    }
    let records = gateway.decisions("accepted", 3);
    assert!(records.iter().all(|record| record["auth"] == "signature"));
    assert_eq!(gateway.metric("countersign_queries_stripped_total"), 3.0);
}

#[test]
fn framing_target_method_and_size_hold_without_a_signature() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for route in ["/observed", "/bearer"] {
        for (bytes, code) in [
            (
                raw("GET", &format!("{route}/../a"), TOKEN, b""),
                "bad_target",
            ),
            (raw("BREW", route, TOKEN, b""), "method_not_allowed"),
            (
                raw(
                    "POST",
                    route,
                    &format!("{TOKEN}Transfer-Encoding: gzip\r\n"),
                    b"",
                ),
                "bad_request",
            ),
            (raw("POST", route, TOKEN, b"nine bytes"), "body_too_large"),
            (
                raw("GET", route, &format!("{TOKEN}Upgrade: websocket\r\n"), b""),
                "bad_request",
            ),
            (
                raw(
                    "GET",
                    route,
                    &format!("{TOKEN}Connection: X-Vault-Token\r\n"),
                    b"",
                ),
                "bad_request",
            ),
            (
                raw("GET", route, &format!("{TOKEN}TE: gzip\r\n"), b""),
                "bad_request",
            ),
            (
                raw("GET", route, &format!("{TOKEN}Expect: a-miracle\r\n"), b""),
                "bad_request",
            ),
        ] {
            assert_eq!(exchange(gateway.address, bytes).code(), code, "{route}");
        }
    }
    assert!(backend.seen().is_empty());
}

#[test]
fn a_body_without_a_signature_is_framed_anew() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for route in ["/observed", "/bearer"] {
        let lines =
            format!("{TOKEN}Transfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: X-Checksum\r\n");
        let mut bytes = raw("POST", route, &lines, b"");
        bytes.extend_from_slice(b"4\r\nbody\r\n0\r\nX-Checksum: 1\r\n\r\n");
        assert_eq!(exchange(gateway.address, bytes).status, 200);
        let seen = backend.seen().pop().unwrap();
        assert_eq!(
            (seen.one("content-length"), &*seen.body),
            ("4", &b"body"[..])
        );
        for name in ["transfer-encoding", "te", "trailer", "x-checksum"] {
            assert!(seen.all(name).is_empty(), "{name}");
        }
    }
}

#[test]
fn a_trailer_by_which_the_gateway_speaks_is_refused_unsigned_too() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for route in ["/observed", "/bearer"] {
        for name in ["X-Machine-Identity", "X-Vault-Token", "Content-Length"] {
            let lines = format!("{TOKEN}Transfer-Encoding: chunked\r\n");
            let mut bytes = raw("POST", route, &lines, b"");
            bytes.extend(format!("4\r\nbody\r\n0\r\n{name}: 4\r\n\r\n").bytes());
            assert_eq!(exchange(gateway.address, bytes).code(), "bad_request");
        }
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_bearer_credential_and_no_word_of_a_signature_passes_until_the_date() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let lines = format!("{TOKEN}X-App: 1\r\nX-Machine-Identity: root\r\nx-real-ip: 1.1.1.1\r\n");
    assert_eq!(get(&gateway, "/bearer/a?list=true", &lines).status, 200);
    let seen = backend.only();
    assert_eq!(seen.target, "/bearer/a?list=true");
    assert_eq!(seen.all("x-vault-token"), ["s.ClientsOwnToken"]);
    assert_eq!(seen.one("x-app"), "1");
    assert!(seen.all("x-machine-identity").is_empty() && seen.all("x-real-ip").is_empty());
    let record = record(&gateway, "accepted");
    assert_eq!(
        (&record["auth"], record.get("code")),
        (&"bearer".into(), None)
    );
    assert_eq!(record["token_hash"].as_str().unwrap().len(), 32);
    gateway.decisions("response", 1);
    let counted =
        r#"countersign_requests_total{auth="bearer",outcome="forwarded",route="/bearer"}"#;
    assert_eq!(gateway.metric(counted), 1.0);
}

#[test]
fn there_is_no_downgrade_any_word_of_a_signature_means_verify_or_refuse() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for name in ["X-Machine-Id", "X-Timestamp", "X-Nonce", "X-Signature"] {
        for name in [name.to_owned(), name.to_lowercase(), name.replace('-', "_")] {
            for value in ["", "a"] {
                let lines = format!("{TOKEN}{name}: {value}\r\n");
                let answer = get(&gateway, "/bearer/a", &lines);
                assert_eq!(answer.status, 401, "{name}: {value}");
            }
        }
    }
    let forged = gateway.sign(&Machine::new("machine-1", 9), "GET", "/bearer/a", b"");
    let answer = get(&gateway, "/bearer/a", &(forged.lines() + TOKEN));
    assert_eq!(answer.code(), "bad_signature");
    assert!(backend.seen().is_empty());
}

#[test]
fn without_a_bearer_credential_a_signature_is_asked_for() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for lines in [
        "",
        "X-Vault-Token:\r\n",
        "X_Vault_Token: s.1\r\n",
        "Authorization: Basic dTpw\r\n",
        "Cookie: token=s.1\r\n",
    ] {
        assert_eq!(
            get(&gateway, "/bearer/a", lines).code(),
            "missing_header",
            "{lines}"
        );
    }
    let two = format!("{TOKEN}Authorization: Bearer other\r\n");
    assert_eq!(get(&gateway, "/bearer/a", &two).code(), "bad_request");
    assert!(backend.seen().is_empty());
}

#[test]
fn both_end_in_the_second_of_their_date_also_on_a_connection_that_is_open() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for route in ["/observed/a", "/bearer/a"] {
        gateway.hands.set(END * 1000 - 1);
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.exchange(&raw("GET", route, TOKEN, b"")).status, 200);
        gateway.hands.set(END * 1000);
        let answer = client.exchange(&raw("GET", route, TOKEN, b""));
        assert_eq!((answer.status, &*answer.code()), (401, "missing_header"));
        let lines = gateway.sign(&machine(), "GET", route, b"").lines();
        assert_eq!(
            get(&gateway, route, &lines).status,
            200,
            "signed requests go on"
        );
    }
    assert_eq!(backend.seen().len(), 4);
}

#[test]
fn a_configuration_that_is_read_after_its_dates_enforces() {
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            start: END + 86_400,
            ..options()
        },
    );
    for route in ["/observed/a", "/bearer/a"] {
        assert_eq!(get(&gateway, route, TOKEN).code(), "missing_header");
    }
    assert!(backend.seen().is_empty());
}

#[test]
fn a_reload_judges_the_date_by_the_gateways_own_clock() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    // 30 days behind the end as the file has it: far, seen from the start, and near from here.
    gateway.hands.set((END + 86_400) * 1000);
    gateway.edit_config(|text| {
        text.replace(
            "observe_until: '2027-01-15T09:00:00Z'",
            "observe_until: '2027-02-15T09:00:00Z'",
        )
    });
    wait_for("the configuration", || {
        let sample = r#"countersign_config_reloads_total{result="loaded"}"#;
        (gateway.metric(sample) == 1.0).then_some(())
    });
    assert_eq!(get(&gateway, "/observed/a", TOKEN).status, 200);
    let shown =
        r#"countersign_route_open_until_timestamp_seconds{mode="observe",route="/observed"}"#;
    assert_eq!(gateway.metric(shown), (END + 31 * 86_400) as f64);
}

#[test]
fn metrics_show_until_when_which_route_is_open() {
    let gateway = gateway(&Backend::start());
    for (mode, route) in [("observe", "/observed"), ("bearer", "/bearer")] {
        let family = "countersign_route_open_until_timestamp_seconds";
        let sample = format!(r#"{family}{{mode="{mode}",route="{route}"}}"#);
        assert_eq!(gateway.metric(&sample), END as f64);
    }
}

#[test]
fn without_a_record_nothing_passes_unsigned_either() {
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            audit: "/dev/full".into(),
            ..options()
        },
    );
    for route in ["/observed/a", "/bearer/a"] {
        let answer = get(&gateway, route, TOKEN);
        assert_eq!((answer.status, &*answer.code()), (503, "audit_unavailable"));
    }
    assert!(backend.seen().is_empty());
}

#[test]
fn failures_on_an_observed_route_ban_nobody_and_a_ban_does_not_reach_there() {
    let backend = Backend::start();
    let more = "throttle: { failures_per_minute: 5, ban: 60s }\n";
    let gateway = Gateway::with(
        &backend,
        Options {
            more: more.into(),
            ..options()
        },
    );
    let forged = |path: &str| {
        let signed = gateway.sign(&Machine::new("machine-1", 9), "GET", path, b"");
        get(&gateway, path, &(signed.lines() + TOKEN))
    };
    for _ in 0..20 {
        assert_eq!(forged("/observed/a").status, 200);
    }
    assert_eq!(gateway.metric("countersign_source_bans_total"), 0.0);
    for _ in 0..6 {
        assert_eq!(forged("/a").code(), "bad_signature");
    }
    assert_eq!(forged("/a").code(), "throttled");
    assert_eq!(forged("/observed/a").status, 200);
    assert_eq!(get(&gateway, "/bearer/a", TOKEN).status, 200);
}

#[test]
fn a_machine_over_its_quota_is_told_to_wait_on_an_observed_route_too() {
    let backend = Backend::start();
    let more = "replay: { state_dir: none, quota_per_machine: 2 }\n";
    let gateway = Gateway::with(
        &backend,
        Options {
            more: more.into(),
            ..options()
        },
    );
    let ask = || {
        let lines = gateway.sign(&machine(), "GET", "/observed/a", b"").lines();
        get(&gateway, "/observed/a", &(lines + TOKEN))
    };
    assert_eq!((ask().status, ask().status), (200, 200));
    let answer = ask();
    assert_eq!((answer.status, &*answer.code()), (429, "throttled"));
    assert_eq!(
        get(&gateway, "/observed/a", TOKEN).status,
        200,
        "without a signature"
    );
}

#[test]
fn where_the_gateways_credential_is_missing_a_good_signature_gets_503_and_a_bearer_token_passes() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    fs::remove_file(gateway.folder.path().join("token")).unwrap();
    wait_for("the loss", || {
        let sample = r#"countersign_credential_usable{credential="upstream:secrets"}"#;
        (gateway.metric(sample) == 0.0).then_some(())
    });
    let lines = gateway.sign(&machine(), "GET", "/observed/a", b"").lines() + TOKEN;
    assert_eq!(
        get(&gateway, "/observed/a", &lines).code(),
        "upstream_credential"
    );
    assert!(backend.seen().is_empty());
    assert_eq!(get(&gateway, "/observed/a", TOKEN).status, 200);
    assert_eq!(get(&gateway, "/bearer/a", TOKEN).status, 200);
}

#[test]
fn a_token_keeps_its_name_and_is_in_no_record_metric_or_line_of_the_log() {
    let backend = Backend::start();
    let day = crate::support::process::unix_seconds() + 86_400;
    let until = countersign::config::instant::to_text(day);
    let mut process = Process::start(&backend, "log: { level: trace }\n", Vec::new());
    process.wait_until_ready();
    let file = process.folder.path().join("countersign.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let opened = text.replace(
        "upstream: secrets }",
        &format!("upstream: secrets, bearer_until: '{until}' }}"),
    );
    assert_ne!(text, opened);
    fs::write(&file, opened).unwrap();
    process.kill();
    process.start_again();
    process.wait_until_ready();
    let ask =
        |process: &Process| exchange(process.address, raw("GET", "/a?s.InTheQuery", TOKEN, b""));
    assert_eq!(ask(&process).status, 200);
    process.kill();
    process.start_again();
    process.wait_until_ready();
    assert_eq!(ask(&process).status, 200);
    let audit = fs::read_to_string(process.folder.path().join("audit.jsonl")).unwrap();
    let hashes: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["token_hash"].clone())
        .filter(|hash| !hash.is_null())
        .collect();
    assert_eq!(hashes.len(), 2, "{audit}");
    assert_eq!(
        hashes[0], hashes[1],
        "the key is kept in the state directory"
    );
    let (_, metrics) = crate::support::gateway::get(process.admin, "/metrics");
    let log = process.log();
    assert!(log.contains("lets unsigned requests pass"), "{log}");
    for text in [audit, metrics, log] {
        assert!(
            !text.contains("ClientsOwnToken") && !text.contains("InTheQuery"),
            "{text}"
        );
    }
}

#[test]
fn values_outside_visible_ascii_do_not_cross_unsigned_either() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for name in ["X-App", "Cookie", "X-Vault-Token", "Authorization", "Range"] {
        for byte in [0x80u8, 0xa0, 0xc3, 0xff] {
            for target in ["/observed/a", "/bearer/a"] {
                let mut bytes =
                    format!("GET {target} HTTP/1.1\r\nHost: gw\r\n{name}: a").into_bytes();
                bytes.push(byte);
                bytes.extend(b"b\r\n");
                if name != "X-Vault-Token" {
                    bytes.extend(TOKEN.as_bytes());
                }
                bytes.extend(b"\r\n");
                let answer = exchange(gateway.address, bytes);
                assert_eq!(answer.status, 400, "{name} {byte:#x} {target}");
                assert_eq!(answer.code(), "bad_request");
            }
        }
    }
    assert_eq!(backend.connections(), 0);
    // What does not cross harms nobody: a signed request is served.
    let signed = gateway.sign(&machine(), "GET", "/observed/a", b"").lines();
    let mut bytes =
        format!("GET /observed/a HTTP/1.1\r\nHost: gw\r\n{signed}X-App: a").into_bytes();
    bytes.extend(b"\xff\r\n\r\n");
    assert_eq!(exchange(gateway.address, bytes).status, 200);
    assert!(backend.only().all("x-app").is_empty());
}
