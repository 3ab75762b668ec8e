//! Tokens that the gateway lets go of are revoked at the backend, and no earlier.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::login_faults::{LOGIN, ask, gateway};
use crate::support::backend::{Backend, Seen, ok, response};
use crate::support::gateway::{Gateway, machine, registry, wait_for};
use crate::support::signer::Machine;

const REVOKE: &str = "/v1/auth/token/revoke-self";
const NO_MACHINES: &str = "machines: []\n";

/// A backend that grants tokens, the n-th of them `t-<n>`, with `more` in each grant, and answers
/// revocations so.
fn revoking(more: &Value, answer: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Backend {
    let (logins, revocations) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let more = more.clone();
    Backend::answering(move |seen| match &*seen.target {
        LOGIN => {
            let token = format!("t-{}", logins.fetch_add(1, Ordering::SeqCst));
            let mut auth = json!({"client_token": token, "lease_duration": 3600});
            let fields = auth.as_object_mut().unwrap();
            fields.extend(more.as_object().unwrap().clone());
            ok(json!({ "auth": auth }).to_string().as_bytes())
        }
        REVOKE => answer(revocations.fetch_add(1, Ordering::SeqCst)),
        _ => ok(b"{}"),
    })
}

fn well(_: usize) -> Vec<u8> {
    response("204 No Content", "", b"")
}

fn revocations(backend: &Backend) -> Vec<Seen> {
    let mut seen = backend.seen();
    seen.retain(|seen| seen.target == REVOKE);
    seen
}

fn revoked(backend: &Backend, count: usize) -> Vec<Seen> {
    wait_for("the revocations", || {
        let seen = revocations(backend);
        (seen.len() >= count).then_some(seen)
    })
}

fn counted(gateway: &Gateway, result: &str) -> f64 {
    let labels = format!("result=\"{result}\",upstream=\"secrets\"");
    gateway.metric(&format!("countersign_token_revocations_total{{{labels}}}"))
}

fn wait_for_count(gateway: &Gateway, result: &str, count: f64) {
    wait_for(result, || (counted(gateway, result) == count).then_some(()));
}

/// Removes all machines from the registry, and waits until none of their tokens is held.
fn let_go(gateway: &Gateway) {
    gateway.write_registry(NO_MACHINES);
    let held = "countersign_backend_tokens{upstream=\"secrets\"}";
    wait_for("no token", || (gateway.metric(held) == 0.0).then_some(()));
}

#[test]
fn the_token_of_a_removed_machine_is_revoked_by_itself_alone() {
    let backend = revoking(&json!({}), well);
    let gateway = gateway(&backend, registry(&[&machine()]), ", namespace: team-a", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    let_go(&gateway);
    let seen = revoked(&backend, 1);
    assert_eq!(seen[0].method, "POST");
    assert_eq!(seen[0].one("x-token"), "t-0");
    assert_eq!(seen[0].one("x-vault-namespace"), "team-a");
    assert!(seen[0].body.is_empty() && seen[0].all("x-machine-identity").is_empty());
    wait_for_count(&gateway, "revoked", 1.0);
}

#[test]
fn a_token_is_not_revoked_before_the_last_request_that_carries_it() {
    let over = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&over);
    let logins = AtomicUsize::new(0);
    let backend = Backend::answering(move |seen| match &*seen.target {
        LOGIN => {
            let token = format!("t-{}", logins.fetch_add(1, Ordering::SeqCst));
            let auth = json!({"client_token": token, "lease_duration": 3600});
            ok(json!({ "auth": auth }).to_string().as_bytes())
        }
        "/slow" => {
            while !its.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
            }
            ok(b"{}")
        }
        _ => ok(b"{}"),
    });
    let other = Machine::new("machine-2", 2);
    let gateway = gateway(&backend, registry(&[&machine(), &other]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| ask(&gateway, &machine(), "/slow"));
        wait_for("the slow request", || {
            backend.connections().ge(&2).then_some(())
        });
        assert_eq!(ask(&gateway, &other, "/a").status, 200);
        // Neither is in the registry any more. That of the other one tells that the sweep has run.
        gateway.write_registry(NO_MACHINES);
        let seen = revoked(&backend, 1);
        std::thread::sleep(Duration::from_millis(1_500));
        assert_eq!(seen[0].one("x-token"), "t-1");
        assert_eq!(revocations(&backend).len(), 1);
        over.store(true, Ordering::SeqCst);
        assert_eq!(slow.join().unwrap().status, 200);
    });
    assert_eq!(revoked(&backend, 2)[1].one("x-token"), "t-0");
}

#[test]
fn a_shutdown_revokes_all_tokens() {
    let backend = revoking(&json!({}), well);
    let machines: Vec<Machine> = (0..20)
        .map(|n| Machine::new(&format!("m-{n}"), 50 + n))
        .collect();
    let all = registry(&machines.iter().collect::<Vec<_>>());
    let mut gateway = gateway(&backend, all, "", "");
    for machine in &machines {
        assert_eq!(ask(&gateway, machine, "/a").status, 200);
    }
    gateway.stop();
    let mut tokens: Vec<String> = (revocations(&backend).iter())
        .map(|seen| seen.one("x-token").to_owned())
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 20);
}

#[test]
fn a_login_that_the_configuration_no_longer_has_loses_its_tokens() {
    let backend = revoking(&json!({}), well);
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    gateway.edit_config(|text| text.replace("audience: api", "audience: another"));
    assert_eq!(revoked(&backend, 1)[0].one("x-token"), "t-0");
}

#[test]
fn a_token_that_no_machine_can_use_is_revoked() {
    let backend = revoking(&json!({"num_uses": 3}), well);
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 503);
    assert_eq!(revoked(&backend, 1)[0].one("x-token"), "t-0");
}

#[test]
fn a_batch_token_is_not_revoked_and_is_counted() {
    let backend = revoking(&json!({"token_type": "batch"}), well);
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    let_go(&gateway);
    wait_for_count(&gateway, "unsupported", 1.0);
    assert!(revocations(&backend).is_empty());
}

#[test]
fn no_token_is_revoked_where_the_configuration_says_off() {
    let backend = revoking(&json!({}), well);
    let mut gateway = gateway(&backend, registry(&[&machine()]), ", revoke: off", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    let_go(&gateway);
    gateway.stop();
    assert!(revocations(&backend).is_empty());
}

#[test]
fn a_revocation_that_the_role_may_not_make_is_counted_and_not_tried_again() {
    let denial = |_| {
        let text = json!({"errors": ["1 error occurred:\n\t* permission denied\n\n"]});
        response("403 Forbidden", "", text.to_string().as_bytes())
    };
    let backend = revoking(&json!({}), denial);
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    let_go(&gateway);
    wait_for_count(&gateway, "refused", 1.0);
    assert_eq!(revocations(&backend).len(), 1);
}

#[test]
fn a_token_that_the_backend_does_not_know_counts_as_revoked() {
    let unknown = |_| response("403 Forbidden", "", b"{\"errors\":[\"permission denied\"]}");
    let backend = revoking(&json!({}), unknown);
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    let_go(&gateway);
    wait_for_count(&gateway, "revoked", 1.0);
}

#[test]
fn a_revocation_is_tried_again_at_a_backend_that_was_out_of_service() {
    let backend = revoking(&json!({}), |nth| match nth {
        0 => response("503 Service Unavailable", "", b"{}"),
        _ => well(nth),
    });
    let gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    gateway.write_registry(NO_MACHINES);
    wait_for_count(&gateway, "revoked", 1.0);
    assert_eq!(revocations(&backend).len(), 2);
    assert_eq!(counted(&gateway, "unavailable"), 0.0);
}

#[test]
fn a_shutdown_does_not_wait_long_for_a_backend_that_is_gone() {
    let over = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&over);
    let backend = revoking(&json!({}), move |_| {
        while !its.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        well(0)
    });
    let mut gateway = gateway(&backend, registry(&[&machine()]), "", "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    // It ends within the patience of the fixture.
    gateway.stop();
    over.store(true, Ordering::SeqCst);
}
