//! The settings of a new configuration that a running gateway takes over.

use super::*;

/// The keys that wait for a restart after `more` is added to the common configuration.
fn waiting(more: &str) -> Vec<&'static str> {
    let (config, waiting) = good(&minimal_and(more)).taken_over(&good(MINIMAL));
    // A key that waits keeps its running value, so it does not wait again the next time.
    let (_, again) = config.clone().taken_over(&good(MINIMAL));
    assert!(again.is_empty(), "{again:?}");
    waiting
}

#[test]
fn the_same_configuration_leaves_nothing_waiting() {
    assert!(waiting("").is_empty());
}

#[test]
fn each_key_that_needs_a_restart_is_named_and_keeps_its_value() {
    for (key, more) in [
        ("trusted_proxies", "trusted_proxies: [10.0.0.0/8]"),
        ("admin", "admin: { address: 127.0.0.1:9999 }"),
        ("admin", "admin: { tls: { cert: a, key: b } }"),
        ("replay", "replay: { window: 1m }"),
        ("limits.header_timeout", "limits: { header_timeout: 1s }"),
        ("limits.keepalive", "limits: { keepalive: 1s }"),
        ("limits.body_budget", "limits: { body_budget: 1GiB }"),
        ("limits.connections", "limits: { connections: 1 }"),
        (
            "limits.connections_per_source",
            "limits: { connections_per_source: 1 }",
        ),
        ("audit", "audit: { deadline: 1s }"),
        ("log", "log: { level: debug }"),
        ("shutdown", "shutdown: { delay: 1s }"),
        ("threads", "threads: 7"),
    ] {
        assert_eq!(waiting(more), [key], "{more}");
    }
    for (key, from, to) in [
        ("listeners", "0.0.0.0:8080", "0.0.0.0:8081"),
        ("registry", "machines.yaml", "others.yaml"),
        ("registry", "registry: { file", "registry: { directory"),
    ] {
        let (_, waiting) = good(&MINIMAL.replace(from, to)).taken_over(&good(MINIMAL));
        assert_eq!(waiting, [key]);
    }
}

#[test]
fn what_requests_are_judged_by_is_taken_over() {
    let new = minimal_and(
        "hosts: [a]\nidentity: { header: X-Caller }\nlimits: { body_timeout: 1s, write_timeout: 1s }\n\
         credentials: { a: { header: X-Vault-Token, env: VAULT_TOKEN } }",
    )
    .replace("path: /", "path: /v1");
    let (config, waiting) = good(&new).taken_over(&good(MINIMAL));
    assert!(waiting.is_empty(), "{waiting:?}");
    assert_eq!(config.hosts, ["a"]);
    assert_eq!(config.identity_header, "x-caller");
    assert_eq!(config.limits.body_timeout.as_secs(), 1);
    assert_eq!(config.limits.write_timeout.as_secs(), 1);
    assert_eq!(config.routes[0].path, "/v1");
    assert_eq!(config.credentials[0].name, "a");
}
