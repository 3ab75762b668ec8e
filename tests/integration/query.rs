//! What becomes of the part behind `?`, per route.

use crate::support::backend::Backend;
use crate::support::client::exchange;
use crate::support::gateway::{Gateway, Options, machine, raw};

fn gateway(backend: &Backend, policy: &str) -> Gateway {
    let routes = format!("  - {{ path: /, upstream: secrets, query: {policy} }}\n");
    Gateway::with(
        backend,
        Options {
            routes,
            ..Options::default()
        },
    )
}

#[test]
fn strip_drops_the_query_and_serves_the_path() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "strip");
    for query in ["?a=b", "?", "?token=secret"] {
        let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
        let target = format!("/a{query}");
        assert_eq!(
            exchange(gateway.address, raw("GET", &target, &lines, b"")).status,
            200
        );
    }
    assert!(backend.seen().iter().all(|seen| seen.target == "/a"));
    assert_eq!(gateway.metric("countersign_queries_stripped_total"), 3.0);
    let records = gateway.decisions("accepted", 3);
    assert!(
        records
            .iter()
            .all(|r| r["query"] == "stripped" && r["path"] == "/a")
    );
    assert!(!format!("{records:?}").contains("secret"));
}

#[test]
fn strip_does_not_take_a_signature_over_the_query() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "strip");
    let lines = gateway.sign(&machine(), "GET", "/a?b", b"").lines();
    let answer = exchange(gateway.address, raw("GET", "/a?b", &lines, b""));
    assert_eq!(answer.code(), "bad_signature");
}

#[test]
fn signed_forwards_the_query_byte_for_byte() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "signed");
    for target in ["/a?version=2", "/a?", "/a?x=%2f;y:z/?", "/a"] {
        let lines = gateway.sign(&machine(), "GET", target, b"").lines();
        assert_eq!(
            exchange(gateway.address, raw("GET", target, &lines, b"")).status,
            200
        );
        assert_eq!(backend.seen().last().unwrap().target, target);
    }
    let records = gateway.decisions("accepted", 4);
    assert_eq!(
        (&records[0]["query"], &records[0]["signed_path"]),
        (&"signed".into(), &"/a?version=2".into())
    );
}

#[test]
fn signed_does_not_take_a_query_that_was_added_or_cut_off() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "signed");
    for (signed, sent) in [("/a", "/a?b"), ("/a?b", "/a"), ("/a?b", "/a?c")] {
        let lines = gateway.sign(&machine(), "GET", signed, b"").lines();
        let answer = exchange(gateway.address, raw("GET", sent, &lines, b""));
        assert_eq!(answer.code(), "bad_signature", "{signed} {sent}");
    }
    assert!(backend.seen().is_empty());
}

#[test]
fn the_longest_prefix_on_whole_segments_decides() {
    let backend = Backend::start();
    let routes = "  - { path: /, upstream: secrets, query: reject }\n  \
                  - { path: /v1/kv, upstream: secrets, query: signed }\n"
        .into();
    let gateway = Gateway::with(
        &backend,
        Options {
            routes,
            ..Options::default()
        },
    );
    let send = |target: &str| {
        let lines = gateway.sign(&machine(), "GET", target, b"").lines();
        exchange(gateway.address, raw("GET", target, &lines, b""))
    };
    assert_eq!(send("/v1/kv/a?x").status, 200);
    assert_eq!(send("/v1/kv?x").status, 200);
    assert_eq!(send("/v1/kvx?x").code(), "query_not_allowed");
}
