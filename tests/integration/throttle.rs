//! Sources that fail again and again, or open connection after connection.

use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::{Client, Response, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw, registry, wait_for};
use crate::support::signer::Machine;

/// A gateway behind a load balancer, so that a test can ask from any address.
fn gateway(backend: &Backend) -> Gateway {
    Gateway::with(
        backend,
        Options {
            more: "throttle: { failures_per_minute: 5, ban: 60s }\ntrusted_proxies: [127.0.0.1]\n"
                .into(),
            machines: registry(&[&machine(), &other()]),
            ..Options::default()
        },
    )
}

fn other() -> Machine {
    Machine::new("machine-2", 2)
}

fn ask(gateway: &Gateway, from: &str, machine: &Machine) -> Response {
    let lines = gateway.sign(machine, "GET", "/a", b"").lines();
    let lines = format!("{lines}X-Forwarded-For: {from}\r\n");
    exchange(gateway.address, raw("GET", "/a", &lines, b""))
}

/// Five bad signatures, and one more.
fn ban(gateway: &Gateway, from: &str) {
    for _ in 0..6 {
        let forged = Machine::new("machine-1", 9);
        assert_eq!(ask(gateway, from, &forged).code(), "bad_signature");
    }
    wait_for("the ban", || {
        (gateway.metric("countersign_source_bans_total") >= 1.0).then_some(())
    });
}

#[test]
fn a_source_with_too_many_failures_is_told_to_wait_and_served_after_its_ban() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    ban(&gateway, "192.0.2.1");
    let answer = ask(&gateway, "192.0.2.1", &machine());
    assert_eq!((answer.status, answer.code().as_str()), (429, "throttled"));
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert!(backend.seen().is_empty());
    gateway.hands.advance(Duration::from_secs(60));
    assert_eq!(ask(&gateway, "192.0.2.1", &machine()).status, 200);
}

#[test]
fn other_sources_are_served_meanwhile_as_the_very_machine_that_was_named() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    ban(&gateway, "192.0.2.1");
    assert_eq!(ask(&gateway, "192.0.2.2", &machine()).status, 200);
}

#[test]
fn a_machine_that_verified_from_the_source_before_goes_on_there_and_others_do_not() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    assert_eq!(ask(&gateway, "192.0.2.1", &machine()).status, 200);
    ban(&gateway, "192.0.2.1");
    assert_eq!(ask(&gateway, "192.0.2.1", &machine()).status, 200);
    assert_eq!(ask(&gateway, "192.0.2.1", &other()).code(), "throttled");
    // Its name alone is worth nothing.
    let forged = Machine::new("machine-1", 9);
    assert_eq!(ask(&gateway, "192.0.2.1", &forged).code(), "bad_signature");
}

#[test]
fn replays_count_and_do_not_make_whom_they_name_familiar() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let send = |from: &str| {
        let lines = format!("{lines}X-Forwarded-For: {from}\r\n");
        exchange(gateway.address, raw("GET", "/a", &lines, b""))
    };
    assert_eq!(send("192.0.2.1").status, 200);
    for _ in 0..6 {
        assert_eq!(send("192.0.2.2").code(), "replayed");
    }
    wait_for("the ban", || {
        (gateway.metric("countersign_source_bans_total") >= 1.0).then_some(())
    });
    assert_eq!(send("192.0.2.2").code(), "throttled");
    backend.only();
}

#[test]
fn a_clock_that_is_off_is_no_failure() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for _ in 0..20 {
        let lines = machine()
            .sign("GET", "/a", gateway.now() - 400, b"")
            .lines();
        let lines = format!("{lines}X-Forwarded-For: 192.0.2.1\r\n");
        let answer = exchange(gateway.address, raw("GET", "/a", &lines, b""));
        assert_eq!(answer.code(), "clock_skew");
    }
    assert_eq!(ask(&gateway, "192.0.2.1", &machine()).status, 200);
}

#[test]
fn a_source_has_no_more_connections_than_one_may_have() {
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            more: "limits: { connections_per_source: 2 }\n".into(),
            ..Options::default()
        },
    );
    let kept = [(); 2].map(|()| Client::connect(gateway.address));
    wait_for("both", || {
        (gateway.metric("countersign_connections") == 2.0).then_some(())
    });
    assert!(Client::connect(gateway.address).is_closed());
    wait_for("the count", || {
        let sample = "countersign_refusals_total{code=\"overloaded\"}";
        (gateway.metric(sample) == 1.0).then_some(())
    });
    drop(kept);
    wait_for("a place", || {
        (gateway.metric("countersign_connections") == 0.0).then_some(())
    });
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
}

#[test]
fn a_trusted_proxy_has_as_many_connections_as_it_wants() {
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            more: "limits: { connections_per_source: 1 }\ntrusted_proxies: [127.0.0.1]\n".into(),
            ..Options::default()
        },
    );
    let _kept = [(); 3].map(|()| Client::connect(gateway.address));
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
}
