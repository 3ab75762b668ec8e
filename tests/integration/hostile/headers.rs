//! Headers by which a client would say more than it may.

use super::{Field, GET, POST};
use crate::support::gateway::Options;

fn get(lines: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: gw\r\n{{S}}{lines}\r\n")
}

#[test]
fn an_identity_that_a_client_gives_itself_is_replaced_in_every_spelling() {
    let field = Field::start();
    for name in [
        "X-Machine-Identity",
        "x-machine-identity",
        "X_Machine_Identity",
        "X-MACHINE_IDENTITY",
        "X-Machine-Name",
        "X_Machine_Owner",
        "X-Machine-Key",
    ] {
        for seen in field.forwards(GET, get(&format!("{name}: admin\r\n{name}: root\r\n"))) {
            let all: Vec<_> = seen.headers.iter().map(|(_, value)| value).collect();
            assert!(
                !all.iter()
                    .any(|value| *value == "admin" || *value == "root"),
                "{name}"
            );
        }
    }
}

#[test]
fn a_connection_header_cannot_take_another_header_away() {
    let field = Field::start();
    for token in [
        "X-Machine-Identity",
        "X-Signature",
        "content-length",
        "close, X-Machine-Id",
        "keep-alive, host",
        "transfer-encoding",
    ] {
        field.refuses(GET, get(&format!("Connection: {token}\r\n")), 400);
    }
    field.goes_on();
}

#[test]
fn upgrades_are_refused_and_an_unasked_h2c_is_ignored() {
    let field = Field::start();
    for protocol in ["websocket", "h2c, websocket", "TLS/1.0", "foo"] {
        let lines = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n");
        field.refuses(GET, get(&lines), 400);
    }
    let field = Field::start();
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    for seen in field.forwards(GET, get(h2c)) {
        for name in ["upgrade", "http2-settings", "connection"] {
            assert!(seen.all(name).is_empty(), "{name}");
        }
    }
}

#[test]
fn signing_headers_are_there_once_and_as_they_are_written() {
    let field = Field::start();
    for lines in [
        "X-Signature: AAAA\r\n",
        "X-Machine-Id: machine-1\r\n",
        "X-Nonce: 0123456789abcdef\r\n",
        "X-Timestamp: 1800000001\r\n",
    ] {
        field.refuses(GET, get(lines), 401);
    }
    let none = "GET /a HTTP/1.1\r\nHost: gw\r\n\r\n";
    field.refuses(GET, none, 401);
    field.goes_on();
}

#[test]
fn nothing_but_the_list_crosses() {
    let field = Field::start();
    for line in [
        "X-Vault-Namespace: root",
        "X-HTTP-Method-Override: DELETE",
        "X.HTTP.Method: DELETE",
        "Content-Encoding: gzip",
        "If_Unmodified_Since: Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        field.refuses(GET, get(&format!("{line}\r\n")), 400);
    }
    let lines = "X-Original-URL: /v1/sys\r\nX-Rewrite-URL: /v1/sys\r\nRange: bytes=0-1\r\nCookie: a=b\r\n\
                 Authorization: Bearer x\r\nX-Vault-Token: x\r\nForwarded: for=1.1.1.1\r\nVia: 1.1 x\r\n\
                 X-Forwarded-Host: evil\r\nX-Real-IP: 1.1.1.1\r\nTE: trailers\r\n";
    for seen in field.forwards(GET, get(lines)) {
        for name in [
            "x-original-url",
            "x-rewrite-url",
            "range",
            "cookie",
            "authorization",
            "x-vault-token",
            "forwarded",
            "via",
            "x-real-ip",
            "te",
        ] {
            assert!(seen.all(name).is_empty(), "{name}");
        }
        assert_eq!(seen.one("x-forwarded-host"), "gw");
        assert_eq!(seen.one("x-forwarded-for"), "127.0.0.1");
    }
}

#[test]
fn a_forwarded_header_with_bytes_outside_visible_ascii_is_refused() {
    let field = Field::with(Options {
        routes: "  - { path: /, upstream: secrets, forward_headers: [X-Wrap] }\n".into(),
        ..Options::default()
    });
    for name in ["User-Agent", "Accept", "X-Wrap"] {
        for value in [&b"\x80"[..], b"a\xffb", b"\xc3\xa9"] {
            let start = b"GET /a HTTP/1.1\r\nHost: gw\r\n{S}";
            let raw = [&start[..], name.as_bytes(), b": ", value, b"\r\n\r\n"].concat();
            field.refuses(GET, raw, 400);
        }
    }
}

#[test]
fn the_length_that_crosses_is_the_gateways_own() {
    let field = Field::start();
    let chunked = "POST /a HTTP/1.1\r\nHost: gw\r\n{S}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n";
    for seen in field.forwards(POST, chunked) {
        assert_eq!(seen.one("content-length"), "3");
        assert!(seen.all("transfer-encoding").is_empty());
    }
}
