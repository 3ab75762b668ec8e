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
}
