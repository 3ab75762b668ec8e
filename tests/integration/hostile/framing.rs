//! Requests whose end, or whose lines, have two readings.

use super::{Field, GET, Meant, POST};

/// A POST of `abc` with these lines behind the signing headers, and this body as it is sent.
fn post(lines: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: gw\r\n{{S}}{lines}\r\n{body}")
}

fn get(lines: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: gw\r\n{{S}}{lines}\r\n")
}

const CHUNKED: &str = "3\r\nabc\r\n0\r\n\r\n";

#[test]
fn a_content_length_beside_a_transfer_encoding_is_refused() {
    let field = Field::start();
    for lines in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "transfer-encoding: chunked\r\nCONTENT-LENGTH: 13\r\n",
    ] {
        field.refuses(POST, post(lines, CHUNKED), 400);
    }
    field.goes_on();
}

#[test]
fn a_transfer_encoding_other_than_one_chunked_is_refused() {
    let field = Field::start();
    for value in [
        "gzip, chunked",
        "chunked, chunked",
        "chunked, identity",
        "identity",
        ",chunked",
        "chunked,",
        "xchunked",
        "\"chunked\"",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "\x0bchunked",
        "",
    ] {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        field.refuses(POST, post(&lines, CHUNKED), 400);
    }
    field.goes_on();
}

#[test]
fn a_content_length_with_a_second_reading_is_refused() {
    let field = Field::start();
    for value in [
        "3\r\nContent-Length: 3",
        "3, 3",
        "3\r\nContent-Length: 4",
        "0003",
        "+3",
        "-3",
        "0x3",
        "3 3",
        "3;",
        "",
    ] {
        let lines = format!("Content-Length: {value}\r\n");
        field.refuses(POST, post(&lines, "abc"), 400);
    }
    field.goes_on();
}

#[test]
fn a_content_length_beyond_all_numbers_is_refused_before_a_byte_is_read() {
    let field = Field::start();
    for value in ["18446744073709551615", "9223372036854775807", "1048577"] {
        let lines = format!("Content-Length: {value}\r\n");
        field.refuses(POST, post(&lines, ""), 413);
    }
    field.goes_on();
}

#[test]
fn a_bare_line_feed_ends_no_line() {
    let field = Field::start();
    for lines in [
        "X-A: b\nX-Machine-Identity: admin\r\n",
        "X-A: b\n\r\n",
        "Content-Length: 0\nTransfer-Encoding: chunked\r\n",
    ] {
        field.refuses(GET, get(lines), 400);
    }
    field.refuses(GET, "GET /a HTTP/1.1\nHost: gw\r\n{S}\r\n", 400);
    field.goes_on();
}

#[test]
fn controls_folded_lines_and_spaces_before_the_colon_are_refused() {
    let field = Field::start();
    for lines in [
        &b"X-A: b\rX-B: c\r\n"[..],
        b"X-A: b\0c\r\n",
        b"X-A: b\x7fc\r\n",
        b"X-A: b\x01c\r\n",
        b"X-A: b\r\n folded\r\n",
        b"X-A: b\r\n\tfolded\r\n",
        b"X-A : b\r\n",
        b"X A: b\r\n",
        b": b\r\n",
        b"X-A\r\n",
        b"\xffX: b\r\n",
    ] {
        let raw = [b"GET /a HTTP/1.1\r\nHost: gw\r\n{S}", lines, b"\r\n"].concat();
        field.refuses(GET, raw, 400);
    }
    field.goes_on();
}

#[test]
fn trailers_and_chunk_extensions_are_read_and_dropped() {
    let field = Field::start();
    let lines = "Transfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n";
    for body in [
        "3\r\nabc\r\n0\r\nX-Checksum: 1\r\nX-Vault-Token: root\r\nX-Empty:\r\n\r\n",
        "3;ext=1\r\nabc\r\n0;last\r\n\r\n",
        "3;a=\"b c\";d\r\nabc\r\n0\r\n\r\n",
        "03\r\nabc\r\n0\r\n\r\n",
        "2\r\nab\r\n1\r\nc\r\n000\r\n\r\n",
    ] {
        for seen in field.forwards(POST, post(lines, body)) {
            assert!(seen.all("x-vault-token").is_empty());
            assert!(seen.all("x-checksum").is_empty());
            assert!(seen.all("trailer").is_empty());
            assert_eq!(seen.one("content-length"), "3");
        }
    }
    field.goes_on();
}

#[test]
fn chunks_with_a_second_reading_are_refused() {
    let field = Field::start();
    for body in [
        "\r\nabc\r\n0\r\n\r\n",
        ";ext\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3;a\0b\r\nabc\r\n0\r\n\r\n",
        "3;a\x7fb\r\nabc\r\n0\r\n\r\n",
        "3;a\tb\r\nabc\r\n0\r\n\r\n",
        "3;\u{e9}\r\nabc\r\n0\r\n\r\n",
        "3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3 ;a\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "\r\n3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3_\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "00000000000000000003\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\r\nabc\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "3\r\nabc\r\n0\r\nNoColon\r\n\r\n",
        "3\r\nabc\r\n0\r\n: empty\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-A : b\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-A: b\r\n folded\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-A: b\n\r\n",
        "3\r\nabc\r\n0\r\nX-A: b\0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-A: \u{e9}\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-A: b\rc\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-Machine-Identity: admin\r\n\r\n",
        "3\r\nabc\r\n0\r\nx_machine_identity: admin\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-Signature: AAAA\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        "3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
        "3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "3\r\nabc\r\n0\r\nHost: other\r\n\r\n",
    ] {
        field.refuses(POST, post("Transfer-Encoding: chunked\r\n", body), 400);
    }
    field.goes_on();
}

#[test]
fn trailers_without_end_are_refused() {
    let field = Field::start();
    let trailers = "X-A: b\r\n".repeat(5000);
    let body = format!("3\r\nabc\r\n0\r\n{trailers}\r\n");
    field.refuses(POST, post("Transfer-Encoding: chunked\r\n", &body), 400);
    // More framing than body: a byte a chunk, each with an extension.
    let chunk = format!("1;{}\r\na\r\n", "e".repeat(1000));
    let body = format!("{}0\r\n\r\n", chunk.repeat(100));
    field.refuses(POST, post("Transfer-Encoding: chunked\r\n", &body), 400);
    field.goes_on();
}

#[test]
fn a_second_request_behind_a_refused_one_is_never_read() {
    let field = Field::start();
    let second = "GET /smuggled HTTP/1.1\r\nHost: gw\r\n\r\n";
    field.refuses(
        POST,
        post("Content-Length: 3\r\nContent-Length: 0\r\n", second),
        400,
    );
    field.refuses(
        GET,
        format!("GET /b HTTP/1.1\r\nHost: gw\r\n{{S}}\r\n{second}"),
        401,
    );
    field.goes_on();
}

#[test]
fn expectations_other_than_100_continue_are_refused() {
    let field = Field::start();
    for value in [
        "200-ok",
        "100-continue, x",
        "100-continue\r\nExpect: 100-continue",
    ] {
        let lines = format!("Content-Length: 3\r\nExpect: {value}\r\n");
        field.refuses(POST, post(&lines, "abc"), 400);
    }
}

#[test]
fn a_header_block_over_32_kib_is_refused() {
    let field = Field::start();
    let one = format!("X-A: {}\r\n", "a".repeat(33 * 1024));
    let many = "X-A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(900);
    for lines in [one, many] {
        field.refuses(GET, get(&lines), 431);
    }
    field.goes_on();
}

#[test]
fn a_body_is_hashed_with_every_method() {
    let field = Field::start();
    for method in ["GET", "DELETE", "OPTIONS", "LIST"] {
        let raw = format!("{method} /a HTTP/1.1\r\nHost: gw\r\n{{S}}Content-Length: 3\r\n\r\nabc");
        let meant = Meant { method, ..POST };
        field.forwards(meant, &raw);
        // Signed for an empty one.
        let empty = Meant { method, ..GET };
        let before = field.backend.seen().len();
        for answer in field.answers(empty, raw.as_bytes()) {
            assert!(
                answer.starts_with(b"HTTP/1.1 401 "),
                "{}",
                answer.escape_ascii()
            );
        }
        assert_eq!(field.backend.seen().len(), before);
    }
}

#[test]
fn http_1_0_with_a_transfer_encoding_a_proxy_line_and_a_preface_are_refused() {
    let field = Field::start();
    field.refuses(
        POST,
        format!("POST /a HTTP/1.0\r\nHost: gw\r\n{{S}}Transfer-Encoding: chunked\r\n\r\n{CHUNKED}"),
        400,
    );
    let request = "GET /a HTTP/1.1\r\nHost: gw\r\n{S}\r\n";
    field.refuses(
        GET,
        format!("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n{request}"),
        400,
    );
    field.refuses(GET, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400);
    for version in [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/2.0",
        "http/1.1",
        "HTTP/1.10",
        "HTTX/1.1",
    ] {
        field.refuses(
            GET,
            format!("GET /a {version}\r\nHost: gw\r\n{{S}}\r\n"),
            400,
        );
    }
    field.goes_on();
}
