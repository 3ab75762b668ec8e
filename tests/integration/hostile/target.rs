//! Request targets, hosts and methods that two programs would read in two ways.

use super::{Field, GET, Meant};

/// A GET of this target, signed for exactly it.
fn refuses(field: &Field, target: &str, status: u16) {
    let meant = Meant {
        path: target,
        ..GET
    };
    let raw = format!("GET {target} HTTP/1.1\r\nHost: gw\r\n{{S}}\r\n");
    field.refuses(meant, raw, status);
}

#[test]
fn targets_that_pingora_would_rewrite_are_refused_as_sent() {
    let field = Field::start();
    for target in [
        "/x y", "/x\ty", "/x\0y", "/x\"y", "/x<y>", "/x{y}", "/x|y", "/x^y", "/x`y",
    ] {
        refuses(&field, target, 400);
    }
    field.goes_on();
}

#[test]
fn a_fragment_is_refused_and_not_dropped() {
    let field = Field::start();
    for target in ["/a#b", "/a#", "/#/a", "/a?b#c"] {
        refuses(&field, target, 400);
    }
    // Nor is it dropped before the signature is checked.
    field.refuses(GET, "GET /a#b HTTP/1.1\r\nHost: gw\r\n{S}\r\n", 400);
}

#[test]
fn only_the_origin_form_is_taken() {
    let field = Field::start();
    for target in [
        "http://gw/a",
        "https://gw/a",
        "gw/a",
        "a",
        "*",
        "gw:443",
        "//gw/a",
        "",
    ] {
        refuses(&field, target, 400);
    }
    field.refuses(
        Meant {
            method: "OPTIONS",
            path: "*",
            body: b"",
        },
        "OPTIONS * HTTP/1.1\r\nHost: gw\r\n{S}\r\n",
        400,
    );
    field.goes_on();
}

#[test]
fn encodings_that_hide_a_delimiter_are_refused() {
    let field = Field::start();
    for part in [
        "%2e%2e", "%2E%2e", "..", ".", "%2f", "%2F", "%5c", "%00", "%0d%0a", "%0a", "%3F", "%3b",
        "%7f", "%zz", "%2", "%", "%%32e", ";", "\\", "%c0%ae", "\u{e9}", "\u{ff0e}",
    ] {
        refuses(&field, &format!("/a/{part}/b"), 400);
        refuses(&field, &format!("/{part}"), 400);
    }
    for target in ["/a//b", "//", "/./a", "/a/.", "/a/..", "/../a"] {
        refuses(&field, target, 400);
    }
    field.goes_on();
}

#[test]
fn a_query_that_was_not_signed_does_not_cross() {
    let field = Field::start();
    for query in ["?", "?b", "?b=c&d", "??", "?/../x"] {
        field.forwards(
            GET,
            format!("GET /a{query} HTTP/1.1\r\nHost: gw\r\n{{S}}\r\n"),
        );
    }
}

#[test]
fn a_host_that_is_missing_doubled_or_odd_is_refused() {
    let field = Field::start();
    for lines in [
        "",
        "Host: gw\r\nHost: gw\r\n",
        "Host: gw\r\nHost: other\r\n",
        "Host: gw, other\r\n",
        "Host: \r\n",
        "Host: user@gw\r\n",
        "Host: gw/a\r\n",
        "Host: gw:80:80\r\n",
        "Host: gw:x\r\n",
        "Host: gw:\r\n",
        "Host: :80\r\n",
        "Host: [::1\r\n",
        "Host: []\r\n",
        "Host: [::1]x\r\n",
        "Host: ::1\r\n",
        "Host: gw]\r\n",
        "Host: g w\r\n",
    ] {
        field.refuses(GET, format!("GET /a HTTP/1.1\r\n{lines}{{S}}\r\n"), 400);
    }
    field.goes_on();
}

#[test]
fn methods_that_are_not_on_the_list_are_refused() {
    let field = Field::start();
    for method in [
        "TRACE", "get", "Get", "GETT", "BREW", "PROPFIND", "M-SEARCH",
    ] {
        let meant = Meant { method, ..GET };
        field.refuses(
            meant,
            format!("{method} /a HTTP/1.1\r\nHost: gw\r\n{{S}}\r\n"),
            405,
        );
    }
    field.refuses(GET, "CONNECT /a HTTP/1.1\r\nHost: gw\r\n{S}\r\n", 405);
    field.goes_on();
}
