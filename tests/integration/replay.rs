//! Nothing passes twice.

use std::sync::Barrier;

use crate::support::backend::Backend;
use crate::support::client::{Client, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw};
use crate::support::http2::Http2;
use crate::support::signer::{Machine, fresh_nonce};

#[test]
fn of_64_copies_at_once_one_passes_and_63_are_replayed() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let bytes = raw("GET", "/a", &lines, b"");
    let start = Barrier::new(64);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let copies: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(gateway.address);
                    start.wait();
                    client.exchange(&bytes)
                })
            })
            .collect();
        copies
            .into_iter()
            .map(|copy| copy.join().unwrap())
            .collect()
    });
    assert_eq!(answers.iter().filter(|a| a.status == 200).count(), 1);
    assert_eq!(
        answers.iter().filter(|a| a.code() == "replayed").count(),
        63
    );
    backend.only();
}

#[test]
fn a_request_from_http1_is_a_replay_on_http2() {
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            tls: true,
            ..Options::default()
        },
    );
    let signed = gateway.sign(&machine(), "GET", "/a", b"");
    assert_eq!(
        exchange(gateway.address, raw("GET", "/a", &signed.lines(), b"")).status,
        200
    );
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    assert_eq!(
        client.request("GET", "/a", &signed, b"", true).code(),
        "replayed"
    );
    backend.only();
}

#[test]
fn a_forged_request_does_not_spend_the_nonce_that_it_names() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let nonce = fresh_nonce();
    let forged =
        Machine::new("machine-1", 9).sign_with_nonce("GET", "/a", gateway.now(), &nonce, b"");
    let answer = exchange(gateway.address, raw("GET", "/a", &forged.lines(), b""));
    assert_eq!(answer.code(), "bad_signature");
    let honest = machine().sign_with_nonce("GET", "/a", gateway.now(), &nonce, b"");
    assert_eq!(
        exchange(gateway.address, raw("GET", "/a", &honest.lines(), b"")).status,
        200
    );
    backend.only();
}

#[test]
fn two_machines_may_use_one_nonce() {
    let other = Machine::new("machine-2", 2);
    let backend = Backend::start();
    let machines = crate::support::gateway::registry(&[&machine(), &other]);
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            ..Options::default()
        },
    );
    let nonce = fresh_nonce();
    for machine in [machine(), other] {
        let signed = machine.sign_with_nonce("GET", "/a", gateway.now(), &nonce, b"");
        assert_eq!(
            exchange(gateway.address, raw("GET", "/a", &signed.lines(), b"")).status,
            200
        );
    }
}

#[test]
fn a_nonce_stays_spent_when_the_backend_fails() {
    let backend = Backend::answering(|_| Vec::new());
    let gateway = Gateway::start(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let bytes = raw("GET", "/a", &lines, b"");
    assert_eq!(exchange(gateway.address, &bytes).code(), "upstream_error");
    assert_eq!(exchange(gateway.address, &bytes).code(), "replayed");
}

#[test]
fn a_replay_is_refused_until_its_timestamp_leaves_the_window_and_after() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let bytes = raw("GET", "/a", &lines, b"");
    assert_eq!(exchange(gateway.address, &bytes).status, 200);
    for seconds in 0..40u64 {
        gateway.hands.advance(std::time::Duration::from_secs(20));
        let expected = if (seconds + 1) * 20 <= 300 {
            "replayed"
        } else {
            "clock_skew"
        };
        assert_eq!(exchange(gateway.address, &bytes).code(), expected);
    }
    // The wall clock goes back to where it was: nothing reopens.
    gateway
        .hands
        .set((crate::support::gateway::START + 1) * 1000);
    assert_ne!(exchange(gateway.address, &bytes).status, 200);
    backend.only();
}

#[test]
fn a_denied_request_keeps_its_connection() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = Client::connect(gateway.address);
    let lines = gateway.sign(&machine(), "POST", "/a", b"abc").lines();
    let bytes = raw("POST", "/a", &lines, b"abc");
    assert_eq!(client.exchange(&bytes).status, 200);
    assert_eq!(client.exchange(&bytes).code(), "replayed");
    let lines = gateway.sign(&machine(), "GET", "/b", b"").lines();
    assert_eq!(client.exchange(&raw("GET", "/b", &lines, b"")).status, 200);
}
