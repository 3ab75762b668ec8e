//! Calls wait in the database for a lock, and the follower does not wait behind them.

use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::Duration;

use super::{BOUND, add, ask, refused_in_time, revoked_in_time, wait_until};
use crate::support::backend::Backend;
use crate::support::client::exchange;
use crate::support::gateway::{Gateway, Options, raw, registry, wait_for};
use crate::support::postgres::Postgres;
use crate::support::process::clock;
use crate::support::signer::Machine;

/// More than a gateway has connections.
const CALLS: usize = 20;

fn operator() -> Machine {
    Machine::new("alice", 200)
}

fn machine(number: u8) -> Machine {
    Machine::new(&format!("web-{number}"), number + 1)
}

/// A gateway that takes calls, and for which a registry counts only while it is confirmed.
fn gateway(backend: &Backend, postgres: &Postgres) -> Gateway {
    let options = Options {
        registry: postgres.registry("state_dir: none, max_stale: 0, operators: operators.yaml"),
        routes: "  - { path: /, upstream: secrets, query: signed }\n  \
                 - { path: /countersign/v1, management: true }\n"
            .into(),
        files: vec![("operators.yaml", registry(&[&operator()]))],
        more: "throttle: { failures_per_minute: 0 }\n".into(),
        ..Options::default()
    };
    Gateway::with(backend, options)
}

/// Makes calls that all wait for a lock.
fn waiting_calls<'scope>(
    scope: &'scope Scope<'scope, '_>,
    gateway: &'scope Gateway,
    (method, path, body): (&'static str, &'static str, &'static str),
) -> Vec<ScopedJoinHandle<'scope, u16>> {
    let path = format!("/countersign/v1{path}");
    let call = |_| {
        let path = path.clone();
        scope.spawn(move || {
            let lines = gateway
                .sign(&operator(), method, &path, body.as_bytes())
                .lines();
            exchange(gateway.address, raw(method, &path, &lines, body.as_bytes())).status
        })
    };
    (0..CALLS).map(call).collect()
}

/// Waits until the calls hold all connections that they may have.
fn all_wait(postgres: &Postgres) {
    wait_for("calls that wait for the lock", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        (postgres.number(sql) >= 7).then_some(())
    });
}

/// A table that is locked elsewhere, until SQL says so.
fn locked<'scope>(
    scope: &'scope Scope<'scope, '_>,
    postgres: &'scope Postgres,
    lock: &str,
    then: &str,
) {
    let sql = format!("BEGIN; {lock}; SELECT pg_sleep(8); {then}; COMMIT");
    scope.spawn(move || postgres.sql(&sql));
    wait_for("the lock", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        (postgres.number(sql) == 1).then_some(())
    });
}

#[test]
fn signed_requests_pass_and_a_revocation_counts_while_calls_wait_for_the_table_of_tokens() {
    let (backend, postgres) = (Backend::start(), Postgres::with_registry());
    let database = postgres.database();
    add(&database, &[&machine(0), &machine(1)]);
    let gateway = gateway(&backend, &postgres);
    wait_until(&gateway, &machine(1), "");
    std::thread::scope(|scope| {
        locked(
            scope,
            &postgres,
            "LOCK TABLE enrolment_token IN ACCESS EXCLUSIVE MODE",
            "SELECT 1",
        );
        let calls = waiting_calls(scope, &gateway, ("GET", "/enrolment-tokens", ""));
        all_wait(&postgres);
        revoked_in_time(&database, &machine(0), &[&gateway]);
        passes_throughout(&gateway);
        assert!(
            calls.iter().any(|call| !call.is_finished()),
            "calls still wait"
        );
    });
}

#[test]
fn signed_requests_pass_while_changes_wait_for_the_row_of_the_revision() {
    let (backend, postgres) = (Backend::start(), Postgres::with_registry());
    add(&postgres.database(), &[&machine(0), &machine(1)]);
    let gateway = gateway(&backend, &postgres);
    wait_until(&gateway, &machine(1), "");
    std::thread::scope(|scope| {
        // Whoever holds the row revokes a machine.
        let revoke = "UPDATE machine SET entry = NULL, removed = 1 WHERE id = 'web-0'; \
             UPDATE registry SET revision = 2, head = 'x'; INSERT INTO change_log VALUES \
             (2, 'x', 0, 'me', '', 0, '{\"removed\":[\"web-0\"]}')";
        locked(
            scope,
            &postgres,
            "SELECT 1 FROM registry FOR UPDATE",
            revoke,
        );
        let change = ("PATCH", "/machines/web-1", "{\"owner\":\"ops\"}");
        let calls = waiting_calls(scope, &gateway, change);
        all_wait(&postgres);
        passes_throughout(&gateway);
        assert!(
            calls.iter().any(|call| !call.is_finished()),
            "calls still wait"
        );
        wait_for("the revocation", || {
            let sql = "SELECT count(*) FROM registry WHERE revision >= 2";
            (postgres.number(sql) == 1).then_some(())
        });
        refused_in_time(&machine(0), &[&gateway]);
    });
}

/// Holds that requests pass for longer than a follower without an answer would let them.
fn passes_throughout(gateway: &Gateway) {
    let end = clock() + BOUND;
    while clock() < end {
        assert_eq!(ask(gateway, &machine(1)), "");
        sleep(Duration::from_millis(50));
    }
}
