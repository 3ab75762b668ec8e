//! Stopping in order: nothing in flight is lost, and an idle gateway does not wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::backend::{self, Backend};
use crate::support::client::Client;
use crate::support::gateway::{PATIENCE, machine, raw};
use crate::support::process::{Process, unix_seconds};

#[test]
fn an_idle_gateway_ends_at_once_on_each_signal() {
    for signal in ["TERM", "QUIT", "INT"] {
        let mut process = Process::serve(&Backend::start(), "{ delay: 0s, grace: 60s }");
        // A kept-alive connection without a request is idle too.
        let mut client = Client::connect(process.address);
        let lines = machine().sign("GET", "/a", unix_seconds(), b"").lines();
        assert_eq!(client.exchange(&raw("GET", "/a", &lines, b"")).status, 200);
        process.signal(signal);
        // Far from the grace period; how fast is not asserted.
        assert!(process.wait(PATIENCE / 2).success(), "{signal}");
    }
}

#[test]
fn it_is_not_ready_during_the_delay_and_still_serves() {
    let mut process = Process::serve(&Backend::start(), "{ delay: 2s, grace: 10s }");
    process.signal("TERM");
    crate::support::gateway::wait_for("unreadiness", || (!process.is_ready()).then_some(()));
    let lines = machine().sign("GET", "/a", unix_seconds(), b"").lines();
    let answer = Client::connect(process.address).exchange(&raw("GET", "/a", &lines, b""));
    assert_eq!(answer.status, 200);
    // The client is told, so that its next request goes elsewhere.
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(process.wait(PATIENCE).success());
}

#[test]
fn a_request_in_flight_finishes() {
    let backend = Backend::answering(|_| {
        std::thread::sleep(Duration::from_millis(1500));
        backend::ok(b"slow")
    });
    let mut process = Process::serve(&backend, "{ delay: 0s, grace: 20s }");
    let mut client = Client::connect(process.address);
    let lines = machine().sign("GET", "/a", unix_seconds(), b"").lines();
    client.send(&raw("GET", "/a", &lines, b""));
    crate::support::gateway::wait_for("the backend", || (backend.connections() > 0).then_some(()));
    process.signal("TERM");
    let answer = client.receive();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"slow"[..]));
    assert!(process.wait(PATIENCE).success());
}

#[test]
fn the_grace_period_ends_what_does_not_finish() {
    let backend = Backend::answering(|_| {
        std::thread::sleep(Duration::from_secs(30));
        backend::ok(b"never")
    });
    let mut process = Process::serve(&backend, "{ delay: 0s, grace: 1s }");
    let mut client = Client::connect(process.address);
    let lines = machine().sign("GET", "/a", unix_seconds(), b"").lines();
    client.send(&raw("GET", "/a", &lines, b""));
    crate::support::gateway::wait_for("the backend", || (backend.connections() > 0).then_some(()));
    process.signal("TERM");
    assert!(process.wait(PATIENCE).success());
}

/// Kept-alive connections under load while the gateway stops: each client hears `Connection: close`
/// before its connection ends, so that none sends a request that nobody answers.
#[test]
fn under_load_no_request_goes_unanswered() {
    let backend = Backend::answering(|_| {
        std::thread::sleep(Duration::from_millis(20));
        backend::ok(b"ok")
    });
    let mut process = Process::serve(&backend, "{ delay: 1s, grace: 20s }");
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = Client::connect(process.address);
                loop {
                    let lines = machine().sign("GET", "/a", unix_seconds(), b"").lines();
                    client.send(&raw("GET", "/a", &lines, b""));
                    let answer = client.receive();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered.fetch_add(1, Ordering::SeqCst);
                    if answer.header("connection") == Some("close") {
                        return;
                    }
                }
            });
        }
        crate::support::gateway::wait_for("load", || {
            (answered.load(Ordering::SeqCst) > 100).then_some(())
        });
        process.signal("TERM");
    });
    assert!(process.wait(PATIENCE).success());
    assert_eq!(backend.seen().len(), answered.load(Ordering::SeqCst));
}
