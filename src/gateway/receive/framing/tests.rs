#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

/// Parses as leniently as Pingora does, for heads that httparse lets through: names and values
/// as they stand, Content-Length dropped beside Transfer-Encoding.
fn head_of(raw: &str) -> RequestHeader {
    let (line, rest) = raw.split_once('\n').unwrap();
    let mut words = line.trim_end().split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let target = target.split('#').next().unwrap();
    let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    head.set_version(match words.next() {
        Some("HTTP/1.0") => http::Version::HTTP_10,
        Some("HTTP/1.1") => http::Version::HTTP_11,
        _ => http::Version::HTTP_09,
    });
    for line in rest.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        head.append_header(name.to_owned(), value.trim()).unwrap();
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        head.remove_header(&header::CONTENT_LENGTH);
    }
    head
}

fn check(raw: &str) -> Result<Framing, Refusal> {
    let line = raw.split(['\r', '\n']).next().unwrap();
    check_h1(&head_of(raw), line.as_bytes(), raw.as_bytes(), 32 * 1024)
}

/// A good request with more header lines (each with its line end).
fn with(lines: &str) -> Result<Framing, Refusal> {
    check(&format!("GET /a HTTP/1.1\r\nHost: gw\r\n{lines}\r\n"))
}

fn is_bad_request(verdict: &Result<Framing, Refusal>) -> bool {
    matches!(verdict, Err(Refusal::BadRequest(_)))
}

#[test]
fn a_request_without_a_body_has_length_zero() {
    let framing = with("").unwrap();
    assert_eq!(
        (framing.content_length, framing.expects_continue),
        (Some(0), false)
    );
}

#[test]
fn one_plain_content_length_is_taken() {
    assert_eq!(
        with("Content-Length: 12\r\n").unwrap().content_length,
        Some(12)
    );
    assert_eq!(
        with("Content-Length: 0\r\n").unwrap().content_length,
        Some(0)
    );
}

#[test]
fn one_chunked_line_is_taken() {
    assert_eq!(
        with("Transfer-Encoding: chunked\r\n")
            .unwrap()
            .content_length,
        None
    );
}

#[test]
fn both_lengths_at_once_are_refused_in_either_order_and_any_case() {
    for lines in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\ncOnTeNt-LeNgTh: 3\r\n",
    ] {
        assert!(is_bad_request(&with(lines)), "{lines}");
    }
}

#[test]
fn any_transfer_encoding_but_one_line_of_chunked_is_refused() {
    for value in [
        "gzip, chunked",
        "chunked, chunked",
        ",chunked",
        "Chunked",
        "identity",
        "\"chunked\"",
    ] {
        assert!(
            is_bad_request(&with(&format!("Transfer-Encoding: {value}\r\n"))),
            "{value}"
        );
    }
    assert!(is_bad_request(&with(
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"
    )));
}

#[test]
fn content_length_has_one_line_and_one_spelling() {
    for value in ["3, 3", "0003", "+3", "-3", "0x3", "3 ", "", "three", "3;"] {
        let verdict = with(&format!("Content-Length:{value}\r\n"));
        // Trailing spaces are not part of a value; everything else is refused.
        assert_eq!(is_bad_request(&verdict), value != "3 ", "{value}");
    }
    assert!(is_bad_request(&with(
        "Content-Length: 3\r\nContent-Length: 3\r\n"
    )));
}

#[test]
fn a_length_beyond_all_numbers_is_left_to_the_limit() {
    for value in ["18446744073709551615", "99999999999999999999999999"] {
        let framing = with(&format!("Content-Length: {value}\r\n")).unwrap();
        assert_eq!(framing.content_length, Some(u64::MAX));
    }
}

#[test]
fn a_bare_line_feed_is_refused() {
    for raw in [
        "GET /a HTTP/1.1\nHost: gw\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: gw\nX-Signature: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: gw\r\n\n",
    ] {
        assert!(is_bad_request(&check(raw)), "{raw:?}");
    }
}

#[test]
fn a_block_over_the_limit_is_too_large() {
    let padding = "a".repeat(32 * 1024);
    assert_eq!(
        with(&format!("X-A: {padding}\r\n")),
        Err(Refusal::HeaderTooLarge)
    );
}

#[test]
fn a_fragment_is_not_dropped_in_silence() {
    let verdict = check("GET /a#b HTTP/1.1\r\nHost: gw\r\n\r\n");
    assert!(matches!(verdict, Err(Refusal::BadTarget(_))));
}

#[test]
fn a_request_line_with_two_spaces_is_refused() {
    let mut head = head_of("GET /a HTTP/1.1\r\nHost: gw\r\n\r\n");
    head.set_version(http::Version::HTTP_11);
    let raw = b"GET  /a HTTP/1.1\r\nHost: gw\r\n\r\n";
    let verdict = check_h1(&head, b"GET  /a HTTP/1.1", raw, 1024);
    assert!(matches!(verdict, Err(Refusal::BadTarget(_))));
}

#[test]
fn host_is_there_once_and_well_formed() {
    for lines in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: \r\n",
        "Host: a b\r\n",
        "Host: u@a\r\n",
        "Host: a/b\r\n",
    ] {
        let verdict = check(&format!("GET /a HTTP/1.1\r\n{lines}\r\n"));
        assert!(is_bad_request(&verdict), "{lines:?}");
    }
    for host in ["a", "a.example:8443", "127.0.0.1", "[::1]:80"] {
        assert!(check(&format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n")).is_ok());
    }
}

#[test]
fn connection_may_name_nothing_but_close_and_keep_alive() {
    for value in ["close", "keep-alive", "Keep-Alive, close", ""] {
        assert!(with(&format!("Connection: {value}\r\n")).is_ok(), "{value}");
    }
    for value in [
        "X-Machine-Identity",
        "close, x-signature",
        "content-length",
        "upgrade",
        "te",
    ] {
        assert!(
            is_bad_request(&with(&format!("Connection: {value}\r\n"))),
            "{value}"
        );
    }
}

#[test]
fn an_unasked_h2c_upgrade_is_ignored_and_every_other_refused() {
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    assert!(with(h2c).is_ok());
    for value in ["websocket", "TLS/1.0", "h2c, websocket"] {
        let lines = format!("Connection: upgrade\r\nUpgrade: {value}\r\n");
        assert!(is_bad_request(&with(&lines)), "{value}");
    }
}

#[test]
fn te_and_expect_are_taken_only_in_their_one_use() {
    assert!(with("TE: trailers\r\n").is_ok());
    assert!(is_bad_request(&with("TE: gzip\r\n")));
    assert!(with("Expect: 100-continue\r\n").unwrap().expects_continue);
    assert!(is_bad_request(&with("Expect: 200-ok\r\n")));
}

#[test]
fn connect_and_trace_are_not_allowed() {
    for method in ["CONNECT", "TRACE"] {
        let verdict = check(&format!("{method} /a HTTP/1.1\r\nHost: gw\r\n\r\n"));
        assert!(matches!(verdict, Err(Refusal::MethodNotAllowed { .. })));
    }
}

#[test]
fn an_unknown_version_is_refused() {
    let verdict = check("GET /a HTTP/2.0\r\nHost: gw\r\n\r\n");
    assert!(is_bad_request(&verdict));
}

fn h2(headers: &[(&'static str, &'static str)]) -> Result<Framing, Refusal> {
    let mut head = RequestHeader::build("GET", b"/a", None).unwrap();
    head.set_uri("https://gw/a".parse().unwrap());
    head.set_version(http::Version::HTTP_2);
    for (name, value) in headers {
        head.append_header(*name, *value).unwrap();
    }
    check_h2(&head, 32 * 1024)
}

#[test]
fn http2_needs_no_host_and_takes_an_equal_one() {
    assert!(h2(&[]).is_ok());
    assert!(h2(&[("host", "gw")]).is_ok());
    assert!(is_bad_request(&h2(&[("host", "other")])));
}

#[test]
fn http2_knows_no_connection_headers() {
    for name in ["connection", "upgrade", "transfer-encoding"] {
        assert!(is_bad_request(&h2(&[(name, "close")])), "{name}");
    }
    assert!(is_bad_request(&h2(&[("te", "gzip")])));
    assert!(h2(&[("te", "trailers")]).is_ok());
}

#[test]
fn http10_knows_no_transfer_encoding() {
    let verdict = check("GET /a HTTP/1.0\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(is_bad_request(&verdict));
}

#[test]
fn a_line_that_the_parser_rewrote_is_refused() {
    let mut head = head_of("GET /a%20b HTTP/1.1\r\nHost: gw\r\n\r\n");
    head.set_version(http::Version::HTTP_11);
    let raw = b"GET /a%20b HTTP/1.1\r\nHost: gw\r\n\r\n";
    let verdict = check_h1(&head, b"GET /a b HTTP/1.1", raw, 1024);
    assert!(matches!(verdict, Err(Refusal::BadTarget(_))));
}

#[test]
fn http2_counts_its_header_list() {
    assert!(h2(&[("x-a", "short")]).is_ok());
    let mut head = RequestHeader::build("GET", b"/a", None).unwrap();
    head.append_header("x-a", "a".repeat(40_000)).unwrap();
    assert_eq!(check_h2(&head, 32 * 1024), Err(Refusal::HeaderTooLarge));
}
