//! A configuration that changes under a running gateway.

use std::fs;
use std::process::Output;

use crate::support::backend::Backend;
use crate::support::client::{Client, exchange};
use crate::support::gateway::{Gateway, Options, ask_admin, get, machine, raw, registry, wait_for};
use crate::support::process::{Process, run};
use crate::support::signer::Machine;

fn reloads(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric(&format!(
        "countersign_config_reloads_total{{result=\"{result}\"}}"
    ))
}

fn wait_for_reload(gateway: &Gateway, result: &str) {
    wait_for("the reload", || {
        (reloads(gateway, result) >= 1.0).then_some(())
    });
}

#[test]
fn routes_and_upstreams_change_without_a_restart_also_on_an_open_connection() {
    let (one, other) = (Backend::start(), Backend::start());
    let gateway = Gateway::start(&one);
    let mut client = Client::connect(gateway.address);
    let mut ask = |path: &str| {
        let lines = gateway.sign(&machine(), "GET", path, b"").lines();
        client.exchange(&raw("GET", path, &lines, b"")).status
    };
    assert_eq!(ask("/a"), 200);
    gateway.edit_config(|config| {
        config
            .replace(
                "upstreams:\n",
                &format!(
                    "upstreams:\n  other: {{ servers: ['http://{}'] }}\n",
                    other.address
                ),
            )
            .replace("routes:\n", "routes:\n  - { path: /b, upstream: other }\n")
    });
    wait_for_reload(&gateway, "loaded");
    assert_eq!((ask("/b"), ask("/a")), (200, 200));
    assert_eq!((one.seen().len(), other.seen().len()), (2, 1));
    let sample =
        "countersign_requests_total{auth=\"signature\",outcome=\"forwarded\",route=\"/b\"}";
    wait_for("the count of the new route", || {
        (gateway.metric(sample) == 1.0).then_some(())
    });
}

#[test]
fn a_configuration_with_a_mistake_changes_nothing_and_is_counted() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    gateway.edit_config(|config| config.replace("upstream: secrets", "upstream: nowhere"));
    wait_for_reload(&gateway, "rejected");
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    assert_eq!(reloads(&gateway, "loaded"), 0.0);
}

#[test]
fn a_request_that_has_begun_ends_by_the_configuration_it_began_with() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = Client::connect(gateway.address);
    let lines = gateway.sign(&machine(), "POST", "/a", b"abc").lines();
    let bytes = raw("POST", "/a", &lines, b"abc");
    client.send(&bytes[..bytes.len() - 1]);
    wait_for("the head to be judged", || {
        (gateway.metric("countersign_body_buffer_bytes") > 0.0).then_some(())
    });
    gateway.edit_config(|config| config.replace("{ path: /,", "{ path: /elsewhere, max_body: 1,"));
    wait_for_reload(&gateway, "loaded");
    client.send(&bytes[bytes.len() - 1..]);
    assert_eq!(client.receive().status, 200);
    assert_eq!(gateway.request("GET", "/a", b"").code(), "no_route");
}

fn reload(gateway: &Process, more: &[&str]) -> Output {
    let admin = gateway.admin.to_string();
    run(&[&["reload", "--admin", &admin], more].concat())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_command_says_what_was_loaded_and_what_waits_for_a_restart() {
    let backend = Backend::start();
    let gateway = Process::serve(&backend, "{ delay: 0s, grace: 1s }");
    let output = reload(&gateway, &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        text(&output.stdout).contains("the configuration was loaded\n"),
        "{output:?}"
    );
    assert!(
        text(&output.stdout).contains("the registry has not changed"),
        "{output:?}"
    );

    let file = gateway.folder.path().join("countersign.yaml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("{config}threads: 3\nhosts: [other.example]\n"),
    )
    .unwrap();
    let output = reload(&gateway, &[]);
    assert!(
        text(&output.stdout).contains("needs a restart: threads\n"),
        "{output:?}"
    );
    let answer = exchange(gateway.address, "GET /a HTTP/1.1\r\nHost: gw\r\n\r\n");
    assert_eq!(answer.code(), "bad_request");
}

#[test]
fn the_command_fails_and_names_each_mistake() {
    let backend = Backend::start();
    let gateway = Process::serve(&backend, "{ delay: 0s, grace: 1s }");
    let file = gateway.folder.path().join("countersign.yaml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{config}thread: 3\nhots: []\n")).unwrap();
    let output = reload(&gateway, &[]);
    assert_eq!(output.status.code(), Some(1));
    for words in ["last good one stays", "thread", "hots", "countersign.yaml"] {
        assert!(text(&output.stderr).contains(words), "{words}: {output:?}");
    }
}

#[test]
fn a_registry_that_lost_most_of_its_machines_is_taken_only_by_force() {
    let backend = Backend::start();
    let gateway = Process::serve(&backend, "{ delay: 0s, grace: 1s }");
    let file = gateway.folder.path().join("machines.yaml");
    let all: Vec<Machine> = (1..=5)
        .map(|n| Machine::new(&format!("m-{n}"), n))
        .collect();
    let all: Vec<&Machine> = all.iter().collect();
    fs::write(&file, registry(&all)).unwrap();
    assert!(reload(&gateway, &[]).status.success());

    fs::write(&file, registry(&all[..2])).unwrap();
    let output = reload(&gateway, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("3 of 5 machines are gone"),
        "{output:?}"
    );
    assert!(
        text(&output.stderr).contains("countersign reload --force"),
        "{output:?}"
    );
    let machines = || {
        get(gateway.admin, "/metrics")
            .1
            .contains("\ncountersign_registry_machines 5\n")
    };
    assert!(machines());
    assert!(reload(&gateway, &["--force"]).status.success());
    assert!(!machines());
}

#[test]
fn nothing_is_reloaded_for_a_page_in_a_browser_or_by_a_get() {
    let backend = Backend::start();
    let gateway = Gateway::with(&backend, Options::default());
    let meant = "X-Countersign-Reload: yes\r\nContent-Length: 0\r\n";
    let host = format!("Host: {}\r\n", gateway.admin);
    let order = |method: &str, headers: &str| {
        let head = format!("{method} /reload HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        ask_admin(gateway.admin, &head).0
    };
    for (line, headers) in [
        ("POST", host.clone()),
        ("POST", format!("{host}{meant}Origin: http://a.example\r\n")),
        ("GET", format!("{host}{meant}")),
        ("OPTIONS", format!("{host}Origin: http://a.example\r\n")),
    ] {
        assert_eq!(order(line, &headers), 403, "{line} {headers}");
    }
    let rebound = format!("Host: rebound.example\r\n{meant}");
    assert_eq!(order("POST", &rebound), 421);
    assert_eq!(reloads(&gateway, "loaded"), 0.0);
    assert_eq!(order("POST", &format!("{host}{meant}")), 200);
    assert_eq!(reloads(&gateway, "loaded"), 1.0);
}
