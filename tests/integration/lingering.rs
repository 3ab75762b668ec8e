//! A refusal reaches a client that is still sending its body: the gateway reads the rest of the
//! upload, within limits, before it ends the connection or the stream.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::{Client, Response};
use crate::support::gateway::{Gateway, Options, machine, raw, wait_for};
use crate::support::http2::Http2;
use crate::support::process::clock;
use crate::support::tls;

const MIB: usize = 1 << 20;

/// Time enough for the slowest machine that runs the tests: what is shown is the bound on bytes.
const PATIENT: &str = "drain_timeout: 60s";

fn start(limits: &str) -> (Backend, Gateway) {
    let backend = Backend::start();
    let more = match limits {
        "" => String::new(),
        limits => format!("limits: {{ {limits} }}\n"),
    };
    let options = Options {
        more,
        tls: true,
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    (backend, gateway)
}

/// Sends the head and all of the body, and only then reads: as Python's http.client does. Gives
/// what came back; panics where the body could not be sent whole.
fn upload(mut stream: impl Read + Write, head: &str, size: usize) -> String {
    stream.write_all(head.as_bytes()).unwrap();
    let piece = vec![b'a'; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let now = left.min(piece.len());
        stream
            .write_all(&piece[..now])
            .expect("the upload is taken");
        left -= now;
    }
    stream.flush().unwrap();
    let mut answer = Vec::new();
    // The end of a TLS connection may lack its close_notify where the client closes first.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn head(lines: &str, size: usize) -> String {
    format!("POST /a HTTP/1.1\r\nHost: gw\r\n{lines}Content-Length: {size}\r\n\r\n")
}

fn plain(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

#[track_caller]
fn assert_refusal(answer: &str, status: u16, code: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer:?}"
    );
    assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    assert!(answer.contains("Connection: close"), "{answer}");
}

#[test]
fn a_refusal_reaches_a_client_that_sends_its_whole_body_first() {
    let (backend, gateway) = start(PATIENT);
    for size in [200 * 1024, 5 * MIB, 20 * MIB] {
        let answer = upload(plain(&gateway), &head("", size), size);
        assert_refusal(&answer, 401, "missing_header");
        let lines = gateway.sign(&machine(), "POST", "/a", b"").lines();
        if size > MIB {
            let answer = upload(plain(&gateway), &head(&lines, size), size);
            assert_refusal(&answer, 413, "body_too_large");
        }
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_refusal_reaches_such_a_client_over_tls() {
    let (backend, gateway) = start(PATIENT);
    let address = gateway.tls_address.unwrap();
    for size in [200 * 1024, 5 * MIB, 20 * MIB] {
        let stream = tls::dial(address, gateway.folder.path(), b"http/1.1");
        let answer = upload(stream, &head("", size), size);
        assert_refusal(&answer, 401, "missing_header");
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_chunked_upload_without_end_gets_its_413() {
    let (_backend, gateway) = start(PATIENT);
    let lines = gateway.sign(&machine(), "POST", "/a", b"").lines();
    let mut stream = plain(&gateway);
    let head = format!("POST /a HTTP/1.1\r\nHost: gw\r\n{lines}Transfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend([b'a'; 0x10000]);
    chunk.extend(b"\r\n");
    for _ in 0..100 {
        stream.write_all(&chunk).expect("the upload is taken");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_refusal(&answer, 413, "body_too_large");
}

#[test]
fn a_refusal_reaches_an_http2_client_that_sends_its_whole_body() {
    let (backend, gateway) = start(PATIENT);
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    for size in [60 * 1024, 200 * 1024, 20 * MIB] {
        let upload = client.upload("/a", &[], size);
        let answer: Response = upload.answer;
        assert_eq!((answer.status, &*answer.code()), (401, "missing_header"));
        assert_eq!((upload.sent, upload.reset), (size, None));
    }
    // The connection goes on.
    let signed = gateway.sign(&machine(), "GET", "/a", b"");
    assert_eq!(client.request("GET", "/a", &signed, b"", true).status, 200);
    assert_eq!(backend.seen().len(), 1);
}

#[test]
fn an_http2_stream_beyond_the_limit_ends_with_no_error() {
    let (_backend, gateway) = start("drain_bytes: 1MiB");
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    let upload = client.upload("/a", &[], 20 * MIB);
    assert_eq!(upload.answer.code(), "missing_header");
    assert!(upload.sent < 20 * MIB);
    assert_eq!(upload.reset, Some(h2::Reason::NO_ERROR));
    let signed = gateway.sign(&machine(), "GET", "/a", b"");
    assert_eq!(client.request("GET", "/a", &signed, b"", true).status, 200);
}

#[test]
fn a_client_that_waits_for_its_answer_does_not_wait_for_the_drain() {
    let (_backend, gateway) = start("");
    for lines in ["", "Expect: 100-continue\r\n"] {
        let began = clock();
        let mut client = Client::connect(gateway.address);
        client.send(head(lines, 5 * MIB).as_bytes());
        let answer = client.receive_any().unwrap();
        assert_eq!((answer.status, &*answer.code()), (401, "missing_header"));
        assert!(client.is_closed());
        assert!(clock() - began < Duration::from_secs(1), "{lines}");
    }
}

#[test]
fn the_last_answer_of_a_connection_is_not_lost_to_a_pipelined_request() {
    let (backend, gateway) = start("requests_per_connection: 2");
    let request = |path: &str, lines: &str, body: &[u8]| {
        let lines = gateway.sign(&machine(), "POST", path, body).lines() + lines;
        raw("POST", path, &lines, body)
    };
    for _ in 0..10 {
        // The third stays unread when the second is answered.
        let requests = [
            request("/1", "", b"a"),
            request("/2", "", b"a"),
            request("/3", "", &[b'a'; 100_000]),
        ];
        let mut client = Client::connect(gateway.address);
        client.send(&requests.concat());
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(client.receive().status, 200);
        let last = client.receive();
        assert_eq!(
            (last.status, last.header("connection")),
            (200, Some("close"))
        );
        assert!(client.is_closed());
    }
    assert!(backend.seen().iter().all(|seen| seen.target != "/3"));
}

#[test]
fn a_head_that_is_refused_before_its_end_is_read_on() {
    let (_backend, gateway) = start("");
    let padding = format!("X-Padding: {}\r\n", "a".repeat(2 * MIB));
    let answer = upload(plain(&gateway), &head(&padding, 0), 0);
    assert_refusal(&answer, 431, "header_too_large");
}

#[test]
fn a_refused_client_that_stops_sending_is_let_go_before_the_deadline() {
    let (_backend, gateway) = start("drain_timeout: 60s");
    let mut client = Client::connect(gateway.address);
    client.send(head("", 1000).as_bytes());
    assert_eq!(client.receive().status, 401);
    // As long as it may send, it counts.
    assert_eq!(gateway.metric("countersign_connections"), 1.0);
    wait_for("the end of the connection", || {
        (gateway.metric("countersign_connections") == 0.0).then_some(())
    });
    drop(client);
}

#[test]
fn a_refused_client_that_sends_without_end_is_cut_off() {
    let (_backend, gateway) = start("drain_bytes: 1MiB");
    let mut stream = plain(&gateway);
    stream.write_all(head("", 1 << 40).as_bytes()).unwrap();
    let piece = vec![b'a'; 64 * 1024];
    // What the two kernels hold comes on top.
    let taken = (0..2000).take_while(|_| stream.write_all(&piece).is_ok());
    assert!(taken.count() < 2000, "128 MiB were taken");
}
