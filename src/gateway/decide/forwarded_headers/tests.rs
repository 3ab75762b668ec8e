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

fn route(forward_headers: &str) -> Route {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:1 }}]\nregistry: {{ file: m }}\n\
         upstreams: {{ a: {{ servers: ['http://127.0.0.1:1'] }} }}\n\
         routes: [{{ path: /, upstream: a, forward_headers: {forward_headers} }}]\n"
    );
    let environment = crate::config::Environment::of_process(1_800_000_000);
    let loaded = crate::config::read(&text, std::path::Path::new("x.yaml"), &environment);
    loaded.unwrap().config.routes[0].clone()
}

fn nothing_is_withheld(_: &HeaderName) -> bool {
    false
}

fn nothing_is_set(_: &HeaderName, _: &HeaderValue) -> bool {
    false
}

#[test]
fn a_header_without_which_a_request_means_something_else_refuses_it_unless_it_crosses() {
    let sent = headers(&["x-vault-wrap-ttl"]);
    let lost = LostHeader::of("x-vault-wrap-ttl");
    let dropped = check(&sent, &route("[]"), nothing_is_set, nothing_is_withheld).unwrap();
    assert_eq!(dropped.check(), Err(Refusal::HeaderNotForwarded(lost)));
    let dropped = check(
        &sent,
        &route("[X-Vault-Wrap-TTL]"),
        nothing_is_set,
        nothing_is_withheld,
    )
    .unwrap();
    assert_eq!(dropped.check(), Ok(()));
    // An alias does not cross even where the name itself does.
    let alias = headers(&["x.vault.wrap.ttl"]);
    let dropped = check(
        &alias,
        &route("[X-Vault-Wrap-TTL]"),
        nothing_is_set,
        nothing_is_withheld,
    )
    .unwrap();
    assert_eq!(dropped.check(), Err(Refusal::HeaderNotForwarded(lost)));
}

#[test]
fn a_header_that_the_upstream_sets_to_what_the_client_sent_is_not_lost() {
    let sent = headers(&["x-vault-namespace"]); // "a"
    for (value, is_lost) in [("a", false), ("b", true)] {
        let is_set =
            |name: &HeaderName, sent: &HeaderValue| name == "x-vault-namespace" && sent == value;
        let dropped = check(&sent, &route("[]"), is_set, nothing_is_withheld).unwrap();
        assert_eq!(dropped.check().is_err(), is_lost, "{value}");
    }
}

#[test]
fn what_the_gateway_consumes_or_writes_anew_is_not_dropped_and_the_rest_is_named_once() {
    let mut sent = headers(&[
        "host",
        "x-machine-id",
        "x-nonce",
        "x-forwarded-for",
        "x-request-id",
        "connection",
        "accept",
        "cookie",
        "x-team",
    ]);
    sent.append(header::COOKIE, HeaderValue::from_static("b"));
    let dropped = check(&sent, &route("[]"), nothing_is_set, nothing_is_withheld).unwrap();
    assert_eq!(dropped.names().names, ["cookie", "x-team"]);
    assert!(!dropped.names().and_more);
}

#[test]
fn so_many_dropped_headers_are_named_and_the_rest_is_told_to_be_there() {
    let mut sent = HeaderMap::new();
    for index in 0..NAMED + 3 {
        let name: HeaderName = format!("x-{index}").parse().unwrap();
        sent.append(name, HeaderValue::from_static("a"));
    }
    let dropped = check(&sent, &route("[]"), nothing_is_set, nothing_is_withheld).unwrap();
    assert_eq!(dropped.names().names.len(), NAMED);
    assert!(dropped.names().and_more);
    let metrics = Metrics::new("", "").unwrap();
    dropped.count(&metrics);
    let sample = format!("headers_dropped_total{{name=\"other\"}} {}", NAMED + 3);
    assert!(metrics.render().contains(&sample));
}

#[test]
fn an_answer_that_shows_the_token_is_not_wrapped() {
    let wrap = HeaderName::from_static("x-vault-wrap-ttl");
    for shows in [
        "lookup-self",
        "lookup-self?a=b",
        "renew-self",
        "renew",
        "lookup",
        "lookup/",
    ] {
        assert!(
            wraps_own_token(&wrap, format!("/v1/auth/token/{shows}").as_bytes()),
            "{shows}"
        );
    }
    for other in [
        "/v1/auth/token/create",
        "/v1/secret/data/lookup-self",
        "/v1/auth/token/",
    ] {
        assert!(!wraps_own_token(&wrap, other.as_bytes()), "{other}");
    }
    let other = HeaderName::from_static("x-other");
    assert!(!wraps_own_token(&other, b"/v1/auth/token/lookup-self"));
    // The route forwards the header, and the request is refused all the same.
    let sent = headers(&["x-vault-wrap-ttl"]);
    let route = route("[X-Vault-Wrap-TTL]");
    let withheld = |name: &HeaderName| wraps_own_token(name, b"/v1/auth/token/renew-self");
    let dropped = check(&sent, &route, nothing_is_set, withheld).unwrap();
    assert!(dropped.check().is_err());
}
