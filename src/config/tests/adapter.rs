//! Adapters of routes.

use super::*;

/// A configuration with an adapter that has no mistake.
fn adapted(adapter: &str, more: &str) -> String {
    MINIMAL
        .replace("8200'] }", "8200'], check: GET /v1/auth/token/lookup-self, credential: { header: X-Vault-Token, env: VAULT_TOKEN } }")
        .replace(
            "{ path: /, upstream: secrets }",
            &format!("{{ path: /v1, upstream: secrets, adapter: {adapter}{more} }}"),
        )
}

const SIKKERKEY: &str = "{ kind: sikkerkey, kv: secret }";

#[test]
fn an_adapter_has_a_kind_and_a_mount() {
    let config = good(&adapted(SIKKERKEY, ""));
    let adapter = config.routes[0].adapter.clone().unwrap();
    assert_eq!(adapter.kind, AdapterKind::Sikkerkey);
    assert_eq!(adapter.kv, "secret");
    for kv in ["team/kv", "kv-v2", "system", "author/x"] {
        let text = adapted(&format!("{{ kind: sikkerkey, kv: {kv} }}"), "");
        assert_eq!(good(&text).routes[0].adapter.clone().unwrap().kv, kv);
    }
}

#[test]
fn a_route_has_no_adapter_unless_it_says_so() {
    assert_eq!(good(MINIMAL).routes[0].adapter, None);
}

#[test]
fn a_kind_that_nobody_knows_is_a_mistake_that_says_what_was_meant() {
    let text = only(&adapted("{ kind: sikkerky, kv: secret }", ""));
    assert!(text.contains("routes[0].adapter.kind"), "{text}");
    assert!(text.contains("did you mean `sikkerkey`?"), "{text}");
    let text = only(&adapted("{ kind: vault, kv: secret }", ""));
    assert!(text.contains("is not one of: sikkerkey"), "{text}");
}

#[test]
fn kind_and_mount_must_be_there_and_nothing_else() {
    assert!(only(&adapted("{ kv: secret }", "")).contains("adapter.kind: is missing"));
    assert!(only(&adapted("{ kind: sikkerkey }", "")).contains("adapter.kv: is missing"));
    let text = only(&adapted("{ kind: sikkerkey, kv: secret, kw: 1 }", ""));
    assert!(text.contains("adapter.kw: is an unknown key"), "{text}");
}

#[test]
fn a_mount_cannot_lead_elsewhere() {
    for kv in [
        "''",
        "/secret",
        "secret/",
        "/v1/secret",
        "../sys",
        "a/../b",
        "a//b",
        "'a?b'",
        "'a#b'",
        "'a b'",
        "a%2Fb",
        "sys",
        "auth/token",
        "SYS/x",
        "identity",
        "cubbyhole",
        "é",
        "'a;b'",
        "'a\\b'",
    ] {
        let text = only(&adapted(&format!("{{ kind: sikkerkey, kv: {kv} }}"), ""));
        assert!(text.contains("routes[0].adapter.kv"), "{kv}: {text}");
    }
    let long = "a".repeat(300);
    assert!(only(&adapted(&format!("{{ kind: sikkerkey, kv: {long} }}"), "")).contains("256"));
}

#[test]
fn an_adapter_excludes_what_would_forward_a_request_of_the_client() {
    for (more, key) in [
        (", query: strip", "query"),
        (", query: signed", "query"),
        (", methods: [SCAN]", "methods"),
        (", forward_headers: [Range]", "forward_headers"),
        (", mode: open", "adapter"),
        (", mode: observe, observe_until: 2027-01-31", "adapter"),
        (", bearer_until: 2027-01-31", "adapter"),
    ] {
        let text = only(&adapted(SIKKERKEY, more));
        assert!(
            text.contains(&format!("routes[0].{key}: ")),
            "{more}: {text}"
        );
    }
}

#[test]
fn a_query_is_refused_on_a_route_with_an_adapter() {
    let config = good(&adapted(SIKKERKEY, ""));
    assert_eq!(config.routes[0].query.to_string(), "reject");
}

#[test]
fn the_upstream_must_carry_a_credential() {
    let without = |text: String| {
        text.replace(
            ", credential: { header: X-Vault-Token, env: VAULT_TOKEN }",
            "",
        )
    };
    let text = only(
        &without(adapted(SIKKERKEY, ""))
            .replace("check: GET /v1/auth/token/lookup-self", "reuse: machine"),
    );
    assert!(
        text.contains("give the upstream a login or a credential"),
        "{text}"
    );
    // A machine's own will do.
    let named = "credentials: { a: { header: X-Vault-Token, env: VAULT_TOKEN } }\n";
    good(&(without(adapted(SIKKERKEY, "")) + named));
}

#[test]
fn the_upstream_must_have_a_check() {
    let text = adapted(SIKKERKEY, "").replace("check: GET /v1/auth/token/lookup-self, ", "");
    let text = only(&text);
    assert!(
        text.contains("needs `check` at the upstream secrets"),
        "{text}"
    );
}

#[test]
fn a_route_that_no_call_comes_to_is_a_mistake() {
    for path in ["/", "/v1", "/v1/secret", "/v1/secrets/export", "/v1/cli"] {
        good(&adapted(SIKKERKEY, "").replace("path: /v1,", &format!("path: {path},")));
    }
    for path in ["/v2", "/v1/kv", "/edge/v1", "/v1/secre"] {
        let text = only(&adapted(SIKKERKEY, "").replace("path: /v1,", &format!("path: {path},")));
        assert!(text.contains("would never be asked"), "{path}: {text}");
    }
    let text = adapted(SIKKERKEY, ", strip_prefix: /edge");
    good(&text.replace("path: /v1,", "path: /edge/v1,"));
}
