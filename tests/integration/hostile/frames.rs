//! Raw HTTP/2 frames: what no client library would send.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustls::{ClientConnection, StreamOwned};

use super::Field;
use crate::support::backend::{self, Backend};
use crate::support::gateway::{Gateway, Options, machine, wait_for};
use crate::support::tls;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types and flags (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection on which the frames are written by hand.
struct Frames(StreamOwned<ClientConnection, TcpStream>);

impl Frames {
    fn connect(field: &Field) -> Frames {
        let address = field.gateway.tls_address.unwrap();
        let stream = tls::dial(address, field.gateway.folder.path(), b"h2");
        let mut frames = Frames(stream);
        let _ = frames.0.write_all(PREFACE);
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    /// Whether it could be sent: the gateway may have closed already.
    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        let bytes = [&head, payload].concat();
        (self.0.write_all(&bytes).and_then(|()| self.0.flush())).is_ok()
    }

    /// The next frame: its type, its flags, its stream and its payload.
    fn receive(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, payload))
    }

    /// Reads until the stream, or the connection, is at its end; whether it was the gateway that
    /// broke it off, and not an answer.
    fn is_broken_off(&mut self, stream: u32) -> bool {
        loop {
            match self.receive() {
                None | Some((GOAWAY, ..)) => return true,
                Some((RST_STREAM, _, of, _)) if of == stream => return true,
                Some((HEADERS | DATA, flags, of, _)) if of == stream && flags & END_STREAM > 0 => {
                    return false;
                }
                Some(_) => {}
            }
        }
    }
}

/// A header block of literals without indexing or Huffman coding (RFC 7541, section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            string(&mut out, text.as_bytes());
        }
    }
    out
}

/// A length in seven bits and more (RFC 7541, section 5.1), and the bytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push((length % 128) as u8 | 128);
            length /= 128;
        }
        out.push(length as u8);
    }
    out.extend_from_slice(bytes);
}

/// The pseudo-headers and signing headers of a request that would be served.
fn good(field: &Field, method: &str, path: &str, body: &[u8]) -> Vec<(String, String)> {
    let signed = field.gateway.sign(&machine(), method, path, body);
    let own = [
        (":method", method),
        (":scheme", "https"),
        (":path", path),
        (":authority", "gw"),
    ];
    let signing = signed
        .pairs()
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    (own.into_iter())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .chain(signing)
        .collect()
}

fn encoded(fields: &[(String, String)]) -> Vec<u8> {
    let fields: Vec<_> = (fields.iter())
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    block(&fields)
}

/// Sends a bodyless request whose good header fields were changed; the backend must not hear of it.
#[track_caller]
fn refuses(field: &Field, what: &str, change: impl FnOnce(&mut Vec<(String, String)>)) {
    let mut fields = good(field, "GET", "/a", b"");
    change(&mut fields);
    let mut frames = Frames::connect(field);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &encoded(&fields));
    frames.is_broken_off(1);
    assert!(
        field.backend.seen().is_empty(),
        "{what}: {:?}",
        field.backend.seen()
    );
    assert_eq!(field.backend.connections(), 0, "{what}");
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn good_frames_are_served_so_the_others_fail_for_what_they_are() {
    let field = Field::start();
    let mut frames = Frames::connect(&field);
    let fields = good(&field, "GET", "/a", b"");
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &encoded(&fields));
    assert!(!frames.is_broken_off(1));
    assert_eq!(field.backend.only().target, "/a");
}

#[test]
fn pseudo_headers_that_are_doubled_missing_misplaced_or_odd_reach_no_backend() {
    let field = Field::start();
    for name in [":method", ":scheme", ":path", ":authority"] {
        refuses(&field, &format!("{name} twice"), |fields| {
            let again = fields.iter().find(|field| field.0 == name).cloned();
            fields.insert(0, again.unwrap());
        });
        refuses(&field, &format!("{name} last"), |fields| {
            let at = fields.iter().position(|field| field.0 == name).unwrap();
            let late = fields.remove(at);
            fields.push(late);
        });
    }
    for name in [":method", ":path", ":authority"] {
        refuses(&field, &format!("no {name}"), |fields| {
            fields.retain(|field| field.0 != name);
        });
    }
    for (name, value) in [
        (":status", "200"),
        (":protocol", "websocket"),
        (":host", "gw"),
        (":", "x"),
    ] {
        refuses(&field, name, |fields| fields.insert(0, pair(name, value)));
    }
    field.goes_on();
}

#[test]
fn targets_that_http1_refuses_are_refused_here_too() {
    let field = Field::start();
    for path in [
        "",
        "*",
        "a",
        "http://gw/a",
        "//a",
        "/a b",
        "/a\tb",
        "/a\r\nX-A: b",
        "/a\0",
        "/a#b",
        "/%2e%2e/a",
        "/a/../b",
        "/a%2fb",
        "/a;b",
        "/a\\b",
        "/\u{e9}",
    ] {
        let mut frames = Frames::connect(&field);
        let fields = good(&field, "GET", path, b"");
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &encoded(&fields));
        frames.is_broken_off(1);
        assert!(field.backend.seen().is_empty(), "{path:?}");
    }
    assert_eq!(field.backend.connections(), 0);
    field.goes_on();
}

#[test]
fn methods_that_http1_refuses_are_refused_here_too() {
    let field = Field::start();
    for method in [
        "CONNECT",
        "TRACE",
        "get",
        "BREW",
        "",
        "GET /b HTTP/1.1\r\nX: ",
    ] {
        let mut frames = Frames::connect(&field);
        let fields = good(&field, method, "/a", b"");
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &encoded(&fields));
        frames.is_broken_off(1);
        assert!(field.backend.seen().is_empty(), "{method:?}");
    }
    field.goes_on();
}

#[test]
fn fields_of_http1_connections_and_fields_with_line_ends_reach_no_backend() {
    let field = Field::start();
    for (name, value) in [
        ("connection", "x-signature"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "5"),
        ("upgrade", "websocket"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
        ("accept", "a\r\nX-Machine-Identity: admin"),
        ("accept", "a\nb"),
        ("accept", "a\0b"),
        ("accept", "a\rb"),
        ("x-a\r\nx-b", "c"),
        ("x-a: b", "c"),
        ("", "c"),
        ("User-Agent", "upper case"),
        ("host", "other"),
        ("content-length", "3"),
        ("content-length", "-1"),
        ("x-signature", "AAAA"),
        ("x-machine-id", "machine-1"),
    ] {
        refuses(&field, name, |fields| fields.push(pair(name, value)));
    }
    field.goes_on();
}

#[test]
fn a_body_of_another_length_than_declared_reaches_no_backend() {
    let field = Field::start();
    for (declared, sent) in [
        ("3", &b"ab"[..]),
        ("3", b"abcd"),
        ("0", b"abc"),
        ("4", b"abc"),
    ] {
        let mut frames = Frames::connect(&field);
        let mut fields = good(&field, "POST", "/a", sent);
        fields.push(pair("content-length", declared));
        frames.send(HEADERS, END_HEADERS, 1, &encoded(&fields));
        frames.send(DATA, END_STREAM, 1, sent);
        frames.is_broken_off(1);
        assert!(field.backend.seen().is_empty(), "{declared} for {sent:?}");
    }
    field.goes_on();
}

#[test]
fn trailers_do_not_cross() {
    let field = Field::start();
    let mut frames = Frames::connect(&field);
    let fields = good(&field, "POST", "/a", b"abc");
    frames.send(HEADERS, END_HEADERS, 1, &encoded(&fields));
    frames.send(DATA, 0, 1, b"abc");
    let trailers = block(&[("x-checksum", "1"), ("x-vault-token", "root")]);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &trailers);
    assert!(!frames.is_broken_off(1));
    let seen = field.backend.only();
    assert_eq!(
        (&*seen.body, seen.one("x-machine-identity")),
        (&b"abc"[..], "machine-1")
    );
    assert!(seen.all("x-vault-token").is_empty() && seen.all("x-checksum").is_empty());
    field.goes_on();
}

/// Everything in DATA frames of the stream until its end, and whether it ended by an answer.
fn answered(frames: &mut Frames, stream: u32) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        match frames.receive() {
            None | Some((GOAWAY, ..)) => return (body, false),
            Some((RST_STREAM, _, of, _)) if of == stream => return (body, false),
            Some((kind @ (HEADERS | DATA), flags, of, payload)) if of == stream => {
                if kind == DATA {
                    body.extend(payload);
                }
                if flags & END_STREAM > 0 {
                    return (body, true);
                }
            }
            Some(_) => {}
        }
    }
}

#[test]
fn malformed_heads_are_refused_like_everything_else() {
    let field = Field::start();
    type Change = fn(&mut Vec<(String, String)>);
    let cases: [(&str, Change, &str); 7] = [
        (
            "no authority",
            |all| all.retain(|it| it.0 != ":authority"),
            "bad_request",
        ),
        (
            "user information",
            |all| all[3].1 = "user@gw".into(),
            "bad_request",
        ),
        (
            "Host unlike it",
            |all| all.push(pair("host", "other")),
            "bad_request",
        ),
        (
            "Host in another case",
            |all| all.push(pair("host", "GW")),
            "bad_request",
        ),
        (
            "two Hosts",
            |all| {
                all.push(pair("host", "gw"));
                all.push(pair("host", "gw"));
            },
            "bad_request",
        ),
        (
            "user information in Host alone",
            |all| {
                all.retain(|it| it.0 != ":authority");
                all.push(pair("host", "user@gw"));
            },
            "bad_request",
        ),
        (
            "two lengths",
            |all| {
                all.push(pair("content-length", "0"));
                all.push(pair("content-length", "0"));
            },
            "bad_request",
        ),
    ];
    for (count, (what, change, code)) in cases.into_iter().enumerate() {
        let mut fields = good(&field, "GET", "/a", b"");
        change(&mut fields);
        let mut frames = Frames::connect(&field);
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &encoded(&fields));
        let (body, whole) = answered(&mut frames, 1);
        let text = String::from_utf8(body).unwrap();
        assert!(whole, "{what}: {text}");
        assert!(
            text.contains(&format!("\"code\":\"{code}\"")),
            "{what}: {text}"
        );
        let record = field.gateway.decisions("refused", count + 1).pop().unwrap();
        assert_eq!(record["code"], code, "{what}");
        assert!(
            text.contains(record["request_id"].as_str().unwrap()),
            "{what}"
        );
        let both = ["bad_request", "bad_target"].map(|code| {
            let sample = format!("countersign_refusals_total{{code=\"{code}\"}}");
            field.gateway.metric(&sample)
        });
        wait_for("the count", || {
            (both.iter().sum::<f64>() == (count + 1) as f64).then_some(())
        });
    }
    assert_eq!(field.backend.connections(), 0);
    field.goes_on();
}

#[test]
fn one_stream_that_is_refused_leaves_the_connection_to_the_others() {
    let field = Field::start();
    let mut frames = Frames::connect(&field);
    let mut bad = good(&field, "GET", "/a", b"");
    bad.retain(|it| it.0 != ":authority");
    // More of them than a client that errs would send.
    for stream in (1..201).step_by(2) {
        frames.send(HEADERS, END_STREAM | END_HEADERS, stream, &encoded(&bad));
        let (body, whole) = answered(&mut frames, stream);
        assert!(whole && !body.is_empty(), "{stream}");
    }
    let fields = good(&field, "GET", "/a", b"");
    frames.send(HEADERS, END_STREAM | END_HEADERS, 201, &encoded(&fields));
    assert!(!frames.is_broken_off(201));
    assert_eq!(field.backend.only().target, "/a");
}

#[test]
fn trailers_that_name_a_reserved_field_are_refused() {
    let field = Field::start();
    for (name, value) in [
        ("x-machine-identity", "admin"),
        ("x_machine_identity", "admin"),
        ("x-signature", "AAAA"),
        ("x-forwarded-for", "192.0.2.1"),
        ("content-length", "3"),
        ("host", "other"),
        ("x-a", "caf\u{e9}"),
    ] {
        let mut frames = Frames::connect(&field);
        let fields = good(&field, "POST", "/a", b"abc");
        frames.send(HEADERS, END_HEADERS, 1, &encoded(&fields));
        frames.send(DATA, 0, 1, b"abc");
        let trailers = block(&[(name, value)]);
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &trailers);
        let (body, whole) = answered(&mut frames, 1);
        let text = String::from_utf8(body).unwrap();
        assert!(whole && text.contains("bad_request"), "{name}: {text}");
    }
    assert_eq!(field.backend.connections(), 0);
    field.goes_on();
}

#[test]
fn a_body_that_stands_still_ends_at_its_deadline() {
    let field = Field::with(Options {
        more: "limits: { body_timeout: 200ms }\n".into(),
        ..Options::default()
    });
    let mut frames = Frames::connect(&field);
    let fields = good(&field, "POST", "/a", b"abc");
    frames.send(HEADERS, END_HEADERS, 1, &encoded(&fields));
    frames.send(DATA, 0, 1, b"a");
    assert!(!frames.is_broken_off(1), "an answer: 408");
    let timeouts = "countersign_refusals_total{code=\"request_timeout\"}";
    wait_for("the count", || {
        (field.gateway.metric(timeouts) == 1.0).then_some(())
    });
    assert_eq!(field.backend.connections(), 0);
    field.goes_on();
}

#[test]
fn a_client_that_opens_no_window_for_its_answer_is_given_up() {
    let backend = Backend::answering(|_| backend::ok(&vec![b'a'; 1 << 20]));
    let options = Options {
        more: "limits: { write_timeout: 300ms, keepalive: 1s }\n".into(),
        tls: true,
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let field = Field { backend, gateway };
    let mut frames = Frames::connect(&field);
    let fields = good(&field, "GET", "/a", b"");
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &encoded(&fields));
    assert!(frames.is_broken_off(1));
    let ended = "countersign_requests_total{auth=\"signature\",outcome=\"failed\",route=\"/\"}";
    wait_for("its end", || {
        (field.gateway.metric(ended) == 1.0).then_some(())
    });
}

#[test]
fn a_header_list_over_the_limit_is_refused() {
    let field = Field::start();
    for size in [33, 60] {
        let value = "a".repeat(1024);
        let mut frames = Frames::connect(&field);
        let mut fields = good(&field, "GET", "/a", b"");
        fields.extend((0..size).map(|n| pair(&format!("x-{n}"), &value)));
        let all = encoded(&fields);
        let mut pieces = all.chunks(16_000).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let flags = match (kind, pieces.peek()) {
                (HEADERS, Some(_)) => END_STREAM,
                (_, Some(_)) => 0,
                _ => END_HEADERS,
            };
            frames.send(kind, flags, 1, piece);
            kind = CONTINUATION;
        }
        frames.is_broken_off(1);
        assert!(field.backend.seen().is_empty(), "{size} KiB");
    }
    field.goes_on();
}

#[test]
fn continuations_without_end_are_cut_off() {
    let field = Field::start();
    let mut frames = Frames::connect(&field);
    let fields = good(&field, "GET", "/a", b"");
    frames.send(HEADERS, END_STREAM, 1, &encoded(&fields));
    let piece = block(&[("x-padding", &"a".repeat(1000))]);
    // Sixteen megabytes, if they were taken.
    let taken = (0..16_000)
        .take_while(|_| frames.send(CONTINUATION, 0, 1, &piece))
        .count();
    assert!(taken < 16_000, "{taken}");
    assert!(frames.is_broken_off(1));
    field.goes_on();
}

#[test]
fn empty_continuations_without_end_are_cut_off() {
    let field = Field::start();
    let mut frames = Frames::connect(&field);
    let fields = good(&field, "GET", "/a", b"");
    frames.send(HEADERS, END_STREAM, 1, &encoded(&fields));
    let taken = (0..100_000)
        .take_while(|_| frames.send(CONTINUATION, 0, 1, b""))
        .count();
    assert!(taken < 100_000, "{taken}");
    field.goes_on();
}

#[test]
fn streams_that_are_reset_as_fast_as_they_are_opened_are_cut_off() {
    let field = Field::start();
    let mut frames = Frames::connect(&field);
    let mut opened = 0;
    for stream in (1..200_000).step_by(2) {
        let fields = block(&[
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/a"),
            (":authority", "gw"),
        ]);
        let sent = frames.send(HEADERS, END_HEADERS, stream, &fields)
            && frames.send(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        if !sent {
            break;
        }
        opened += 1;
    }
    assert!(opened < 100_000, "{opened}");
    assert_eq!(field.backend.connections(), 0);
    field.goes_on();
}
