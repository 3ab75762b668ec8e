//! The admin listener.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::backend::Backend;
use crate::support::client::exchange;
use crate::support::gateway::{Gateway, Options, START, machine, raw, wait_for};

#[test]
fn every_request_is_counted_once_by_route_outcome_and_proof() {
    let backend = Backend::answering(|seen| match seen.target.as_str() {
        "/break" => Vec::new(),
        _ => crate::support::backend::ok(b"ok"),
    });
    let gateway = Gateway::start(&backend);
    gateway.request("GET", "/a", b"");
    gateway.request("GET", "/break", b"");
    exchange(gateway.address, raw("GET", "/a", "", b""));
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    for _ in 0..2 {
        exchange(gateway.address, raw("GET", "/a", &lines, b""));
    }
    let count = |outcome: &str, auth: &str| {
        gateway.metric(&format!(
            "countersign_requests_total{{auth=\"{auth}\",outcome=\"{outcome}\",route=\"/\"}}"
        ))
    };
    // Counted when the answer has been sent, which its reader may outrun.
    wait_for("the count", || {
        (count("forwarded", "signature") == 2.0).then_some(())
    });
    assert_eq!(count("failed", "signature"), 1.0);
    assert_eq!(count("refused", "none"), 1.0);
    assert_eq!(count("refused", "signature"), 1.0);
    assert_eq!(gateway.metric("countersign_nonces"), 3.0);
    // The replay was verified too.
    assert_eq!(gateway.metric("countersign_verify_seconds_count"), 4.0);
    assert_eq!(
        gateway.metric("countersign_upstream_seconds_count{upstream=\"secrets\"}"),
        3.0
    );
    assert_eq!(gateway.metric("countersign_registry_machines"), 1.0);
}

#[test]
fn the_connection_gauge_goes_up_and_down() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let client = crate::support::client::Client::connect(gateway.address);
    // The scrape's own connection does not count.
    let connections = || gateway.metric("countersign_connections");
    wait_for("a connection", || (connections() == 1.0).then_some(()));
    drop(client);
    wait_for("its end", || (connections() == 0.0).then_some(()));
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    gateway.request("GET", "/a", b"");
    let (status, text) = gateway.admin_get("/metrics");
    assert_eq!(status, 200);
    // `make test` unpacks it there where the system has none.
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/usr/bin/promtool");
    let name = if Path::new(unpacked).exists() {
        unpacked
    } else {
        "promtool"
    };
    let mut promtool = Command::new(name)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by `make test`");
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn alive_from_the_start_and_ready_after_the_first_second() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    assert_eq!(gateway.admin_get("/livez").0, 200);
    assert_eq!(gateway.admin_get("/readyz").0, 200);
    gateway.hands.set(START * 1000 + 999);
    let (status, why) = gateway.admin_get("/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("quarantine"), "{why}");
}

#[test]
fn nothing_else_is_served_there_and_no_metrics_on_the_data_listener() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for path in ["/metrics/x", "/index.html", "/status", "//"] {
        assert_eq!(gateway.admin_get(path).0, 404, "{path}");
    }
    assert_eq!(
        exchange(gateway.address, raw("GET", "/metrics", "", b"")).status,
        401
    );
}

#[test]
fn no_unverified_word_becomes_a_label() {
    let backend = Backend::start();
    let gateway = Gateway::with(&backend, Options::default());
    let lines = "X-Machine-Id: labelled-by-a-stranger\r\n";
    exchange(
        gateway.address,
        raw("GET", "/a-stranger-s-path", lines, b""),
    );
    let (_, text) = gateway.admin_get("/metrics");
    assert!(!text.contains("stranger"));
}
