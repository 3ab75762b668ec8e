#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

fn identity() -> HeaderName {
    HeaderName::from_static("x-machine-identity")
}

fn headers(names: &[&'static str]) -> HeaderMap {
    names
        .iter()
        .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("a")))
        .collect()
}

#[test]
fn a_claimed_identity_is_noticed_in_every_spelling() {
    for name in [
        "x-machine-identity",
        "x_machine_identity",
        "x-machine_identity",
        "x.machine.identity",
        "x|machine'identity",
        "x-machine-assertion",
        "x-machine-name",
        "x_machine_owner",
        "x-machine-vault",
        "x-machine-key",
    ] {
        assert!(names_an_identity(&headers(&[name]), &identity()), "{name}");
    }
}

#[test]
fn the_signing_headers_claim_no_identity() {
    let signing = headers(&["x-machine-id", "x-timestamp", "x-nonce", "x-signature"]);
    assert!(!names_an_identity(&signing, &identity()));
}

#[test]
fn the_default_name_stays_trusted_under_another_configured_one() {
    let other = HeaderName::from_static("x-client-id");
    assert!(names_an_identity(&headers(&["x-machine-identity"]), &other));
    assert!(names_an_identity(&headers(&["x_client_id"]), &other));
    assert!(names_an_identity(&headers(&["x.client.id"]), &other));
}

fn upstream() -> Upstream {
    let text = "listeners: [{ address: 127.0.0.1:1 }]\nregistry: { file: m }\nupstreams: { a: { servers: ['http://127.0.0.1:1'], \
                set_headers: { X-Vault-Namespace: a } } }\nroutes: [{ path: /, upstream: a }]\n";
    let environment = crate::config::Environment::of_process(1_800_000_000);
    let loaded = crate::config::read(text, std::path::Path::new("x.yaml"), &environment);
    loaded.unwrap().config.upstreams[0].clone()
}

#[test]
fn of_an_unsigned_request_only_what_the_gateway_says_or_makes_anew_is_held_back() {
    let upstream = upstream();
    let is_held_back = |name: &'static str| {
        is_the_gateways(&HeaderName::from_static(name), &upstream, &identity())
    };
    for name in [
        "x-machine-identity",
        "x_machine_identity",
        "x-machine_key",
        "x-machine-id",
        "x_signature",
        "x-nonce",
        "x-timestamp",
        "x-request-id",
        "x_request_id",
        "forwarded",
        "x-forwarded-for",
        "x_forwarded_anything",
        "x-real-ip",
        "x_vault_namespace",
        "x-vault-namespace",
        "connection",
        "content-length",
        "transfer-encoding",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
    ] {
        assert!(is_held_back(name), "{name}");
    }
    for name in [
        "authorization",
        "x-vault-token",
        "x_vault_token",
        "x-vault-request",
        "cookie",
        "range",
        "content-encoding",
        "x-anything",
    ] {
        assert!(!is_held_back(name), "{name}");
    }
}

#[test]
fn several_lines_of_cookies_become_one() {
    let mut headers = HeaderMap::new();
    assert_eq!(cookie(&headers), None);
    for value in ["a=1", "b=2; c=3"] {
        headers.append(header::COOKIE, HeaderValue::from_static(value));
    }
    assert_eq!(cookie(&headers).unwrap(), "a=1; b=2; c=3");
}
