#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

fn identity() -> HeaderName {
    HeaderName::from_static("x-machine-identity")
}

fn upstream() -> Upstream {
    let text = "listeners: [{ address: 127.0.0.1:1 }]\nregistry: { file: m }\nupstreams: { a: { servers: ['http://127.0.0.1:1'], \
                set_headers: { X-Vault-Namespace: a } } }\nroutes: [{ path: /, upstream: a }]\n";
    let environment = crate::config::Environment::of_process(1_800_000_000);
    let loaded = crate::config::read(text, std::path::Path::new("x.yaml"), &environment);
    loaded.unwrap().config.upstreams[0].clone()
}

#[test]
fn of_an_unsigned_request_only_what_the_gateway_says_or_makes_anew_is_removed() {
    let upstream = upstream();
    let is_removed = |name: &'static str| {
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
        assert!(is_removed(name), "{name}");
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
        assert!(!is_removed(name), "{name}");
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
