//! What a token may do, the token's holder may ask; the answer comes without the token.

use serde_json::{Value, json};

use super::{FOUND, TOKEN, holds_no_part, is_refused, over_http2, signed, with};
use crate::support::backend::{Backend, response};
use crate::support::client::Client;
use crate::support::gateway::{Gateway, Options};

const LOOKUP: &str = "/v1/auth/token/lookup-self";

const ROUTES: &str = "  - { path: /, upstream: secrets }\n  \
    - { path: /v1/auth/token, upstream: secrets, query: signed }\n";

/// As OpenBao writes it, in the order of the alphabet.
fn answer() -> String {
    format!(
        "{{\"request_id\":\"1\",\"data\":{{\"accessor\":\"8BHPbBfBTwOHY5wS\",\"creation_ttl\":0,\
         \"id\":\"{TOKEN}\",\"meta\":null,\"policies\":[\"root\"]}},\"wrap_info\":null,\"auth\":null}}\n"
    )
}

fn gateway(backend: &Backend, upstream: &str) -> Gateway {
    let options = Options {
        routes: ROUTES.into(),
        upstream: upstream.into(),
        ..Options::default()
    };
    with(backend, options)
}

/// A backend that answers every request with this body, by its length or in chunks.
fn answering(body: String) -> Backend {
    Backend::answering(
        move |seen| match (&*seen.method, seen.target.contains("chunked")) {
            ("HEAD", _) => {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes()
            }
            (_, true) => {
                let (one, two) = body.split_at(body.len() / 2);
                let lengths = (one.len(), two.len());
                format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                lengths.0, lengths.1
            )
            .into_bytes()
            }
            (_, false) => response("200 OK", "ETag: \"a\"\r\n", body.as_bytes()),
        },
    )
}

fn emptied() -> String {
    answer().replace(TOKEN, "").replace("8BHPbBfBTwOHY5wS", "")
}

#[test]
fn the_answer_comes_without_token_and_accessor_and_with_every_other_byte() {
    let gateway = gateway(&answering(answer()), "");
    for target in [LOOKUP.to_owned(), format!("{LOOKUP}?x=chunked")] {
        let got = gateway.request("GET", &target, b"");
        assert_eq!(got.status, 200, "{target}");
        assert_eq!(String::from_utf8(got.body.clone()).unwrap(), emptied());
        assert_eq!(
            got.header("content-length"),
            Some(&*emptied().len().to_string())
        );
        assert_eq!(got.header("etag"), None);
        let received = over_http2(&gateway, &target);
        assert_eq!(received.response.body, emptied().as_bytes());
    }
    assert_eq!(gateway.metric(FOUND), 0.0);
}

#[test]
fn a_head_of_it_does_not_tell_the_length() {
    let gateway = gateway(&answering(answer()), "");
    let mut client = Client::connect(gateway.address);
    client.send(&signed(&gateway, "HEAD", LOOKUP));
    let got = client.receive_head();
    assert_eq!((got.status, got.header("content-length")), (200, None));
}

#[test]
fn the_token_elsewhere_in_the_answer_keeps_it_from_the_client() {
    let elsewhere = answer().replace("\"meta\":null", &format!("\"meta\":{{\"t\":\"{TOKEN}\"}}"));
    let gateway = gateway(&answering(elsewhere), "");
    is_refused(&gateway.request("GET", LOOKUP, b""));
    assert_eq!(gateway.metric(FOUND), 1.0);
}

#[test]
fn an_answer_that_cannot_be_emptied_does_not_pass() {
    let wrapped = json!({"data": Value::Null, "wrap_info": {"token": "hvs.wrapping"}});
    let large = answer().replace(
        "\"meta\":null",
        &format!("\"meta\":\"{}\"", "x".repeat(65_536)),
    );
    for body in [
        "not JSON".to_owned(),
        String::new(),
        wrapped.to_string(),
        large,
    ] {
        let gateway = gateway(&answering(body), "");
        is_refused(&gateway.request("GET", &format!("{LOOKUP}?x=chunked"), b""));
    }
}

#[test]
fn a_refusal_of_the_look_up_passes_as_it_is() {
    let body = b"{\"errors\":[\"permission denied\"]}\n";
    let backend = Backend::answering(move |_| response("403 Forbidden", "", body));
    let got = gateway(&backend, "").request("GET", LOOKUP, b"");
    assert_eq!((got.status, &*got.body), (403, &body[..]));
}

#[test]
fn other_paths_that_hand_the_token_back_do_not_pass() {
    let body = json!({"auth": {"client_token": TOKEN}}).to_string();
    let gateway = gateway(&answering(body), "");
    for path in ["renew-self", "lookup-self/", "lookup"] {
        is_refused(&gateway.request("POST", &format!("/v1/auth/token/{path}"), b"{}"));
    }
    is_refused(&gateway.request("POST", LOOKUP, b"{}"));
}

#[test]
fn without_the_echo_check_the_token_is_emptied_all_the_same() {
    let gateway = gateway(&answering(answer()), "    echo_check: off\n");
    let got = gateway.request("GET", LOOKUP, b"");
    assert_eq!(got.body, emptied().as_bytes());
    holds_no_part(&got.body);
}
