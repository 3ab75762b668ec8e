//! A backend that writes the credential of a request into its answer does not hand it to the client.

mod lookup;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::backend::{Backend, read_head, response, scripted};
use crate::support::client::{Client, Response};
use crate::support::gateway::{Gateway, Options, machine, raw};
use crate::support::http2::{Http2, Received};
use crate::support::signer::Machine;

/// Overlaps itself, and has the three marks that some encoders of JSON escape.
const TOKEN: &str = "hvs.hvs.hv+AESIJ/Zmx0b2tlbg==";

const FOUND: &str = "countersign_credential_echoes_total{upstream=\"secrets\"}";
const UNREAD: &str = "countersign_echo_unread_total{upstream=\"secrets\"}";

/// A gateway before this backend, which sends it [`TOKEN`].
fn before(backend: &Backend) -> Gateway {
    with(backend, Options::default())
}

fn with(backend: &Backend, options: Options) -> Gateway {
    let credential = "    credential: { header: X-Vault-Token, file: token }\n";
    Gateway::with(
        backend,
        Options {
            upstream: format!("{credential}{}", options.upstream),
            token: options.token.or_else(|| Some(TOKEN.into())),
            tls: true,
            ..options
        },
    )
}

/// A backend that answers everything with these bytes.
fn saying(answer: impl Into<Vec<u8>>) -> Backend {
    let answer = answer.into();
    Backend::answering(move |_| answer.clone())
}

fn signed(gateway: &Gateway, method: &str, path: &str) -> Vec<u8> {
    let lines = gateway.sign(&machine(), method, path, b"").lines();
    raw(method, path, &lines, b"")
}

/// All that an HTTP/1.1 client gets on a connection, to its end.
fn bytes_to_the_end(stream: &mut TcpStream) -> Vec<u8> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
    }
    bytes
}

fn over_http2(gateway: &Gateway, path: &str) -> Received {
    let signed = gateway.sign(&machine(), "GET", path, b"");
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    client.receive(path, &signed.pairs())
}

/// Fails if eight bytes of the token, from anywhere in it, stand in a text.
fn holds_no_part(text: &[u8]) {
    for part in TOKEN.as_bytes().windows(8) {
        let stands = text.windows(8).any(|window| window == part);
        assert!(!stands, "{} passed", part.escape_ascii());
    }
}

fn is_refused(answer: &Response) {
    assert_eq!(
        (answer.status, &*answer.code()),
        (502, "upstream_error"),
        "{answer:?}"
    );
    holds_no_part(format!("{answer:?}").as_bytes());
}

/// Clients of both versions get 502 in place of this answer.
fn does_not_pass(answer: impl Into<Vec<u8>>) {
    let backend = saying(answer);
    let gateway = before(&backend);
    is_refused(&gateway.request("GET", "/a", b""));
    let received = over_http2(&gateway, "/a");
    assert_eq!(received.reset, None);
    is_refused(&received.response);
    assert_eq!(gateway.metric(FOUND), 2.0);
    // Nothing of the connection on which it came is used again.
    assert_eq!(backend.connections(), 2);
}

/// Clients of both versions get this answer with this body.
fn passes(answer: impl Into<Vec<u8>>, body: &[u8]) {
    let gateway = before(&saying(answer));
    let over_http1 = gateway.request("GET", "/a", b"");
    assert_eq!((over_http1.status, &*over_http1.body), (200, body));
    let received = over_http2(&gateway, "/a");
    assert_eq!(received.reset, None);
    assert!(received.trailers.is_none());
    assert_eq!(
        (received.response.status, &*received.response.body),
        (200, body)
    );
    holds_no_part(format!("{over_http1:?}{:?}", received.response).as_bytes());
    assert_eq!(gateway.metric(FOUND), 0.0);
}

// Together with its head

#[test]
fn a_credential_in_a_header_value_does_not_pass() {
    for line in [
        format!("X-Echo: {TOKEN}\r\n"),
        format!("X-Echo: one, Bearer {TOKEN}; two\r\n"),
        format!("Set-Cookie: a=b\r\nSet-Cookie: t={TOKEN}\r\n"),
        format!("X-Vault-Token: {TOKEN}\r\n"),
        format!("Location: https://example/?t={TOKEN}\r\n"),
    ] {
        does_not_pass(response("200 OK", &line, b"{}"));
    }
}

#[test]
fn a_credential_in_a_header_name_does_not_pass_in_any_case() {
    let backend = saying(response("200 OK", "X-TOKEN-OF-8: 1\r\n", b"{}"));
    let options = Options {
        token: Some("Token-of-8".into()),
        ..Options::default()
    };
    let gateway = with(&backend, options);
    is_refused(&gateway.request("GET", "/a", b""));
    assert_eq!(gateway.metric(FOUND), 1.0);
}

#[test]
fn a_credential_in_a_body_does_not_pass() {
    does_not_pass(response(
        "200 OK",
        "",
        format!("{{\"token\":\"{TOKEN}\"}}").as_bytes(),
    ));
    does_not_pass(response("404 Not Found", "", TOKEN.as_bytes()));
}

#[test]
fn a_credential_in_chunks_does_not_pass() {
    let (one, two) = TOKEN.split_at(11);
    let chunks = format!(
        "{:x}\r\nsee {one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        one.len() + 4,
        two.len()
    );
    does_not_pass(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
    ));
}

#[test]
fn a_credential_as_json_spells_it_does_not_pass() {
    for spelling in [
        TOKEN.replace('/', "\\/"),
        TOKEN.replace('+', "\\u002B"),
        TOKEN.replace('=', "\\u003d"),
    ] {
        does_not_pass(response("200 OK", "", format!("\"{spelling}\"").as_bytes()));
    }
}

#[test]
fn an_answer_without_a_body_does_not_pass_with_a_credential_in_its_head() {
    for (method, status) in [
        ("HEAD", "200 OK"),
        ("GET", "204 No Content"),
        ("GET", "304 Not Modified"),
    ] {
        let head = format!("HTTP/1.1 {status}\r\nX-Echo: {TOKEN}\r\n\r\n");
        let gateway = before(&saying(head));
        let mut client = Client::connect(gateway.address);
        client.send(&signed(&gateway, method, "/a"));
        let answer = match method {
            "HEAD" => client.receive_head(),
            _ => client.receive(),
        };
        assert_eq!(answer.status, 502, "{method} {status}");
        holds_no_part(format!("{answer:?}").as_bytes());
        assert_eq!(gateway.metric(FOUND), 1.0);
    }
}

#[test]
fn the_password_of_a_basic_credential_does_not_pass() {
    // gateway:correct horse
    let options = Options {
        upstream: "    credential: { header: Authorization, prefix: 'Basic ', file: token }\n"
            .into(),
        token: Some("Z2F0ZXdheTpjb3JyZWN0IGhvcnNl".into()),
        ..Options::default()
    };
    let backend = saying(response(
        "200 OK",
        "",
        b"user gateway, password correct horse",
    ));
    let gateway = Gateway::with(&backend, options);
    is_refused(&gateway.request("GET", "/a", b""));
}

#[test]
fn the_record_and_the_counters_tell_of_a_failed_request() {
    let gateway = before(&saying(response("200 OK", "", TOKEN.as_bytes())));
    is_refused(&gateway.request("GET", "/a", b""));
    let record = &gateway.decisions("response", 1)[0];
    assert_eq!(record["status"], 502);
    let failed = "countersign_requests_total{auth=\"signature\",outcome=\"failed\",route=\"/\"}";
    assert_eq!(gateway.metric(failed), 1.0);
    assert_eq!(
        gateway.metric("countersign_refusals_total{code=\"upstream_error\"}"),
        1.0
    );
    for record in gateway.records() {
        holds_no_part(record.to_string().as_bytes());
    }
}

#[test]
fn the_client_goes_on_after_an_answer_that_did_not_pass() {
    let backend = Backend::answering(|seen| match &*seen.target {
        "/echo" => response("200 OK", "", TOKEN.as_bytes()),
        _ => response("200 OK", "", b"fine"),
    });
    let gateway = before(&backend);
    let mut client = Client::connect(gateway.address);
    is_refused(&client.exchange(&signed(&gateway, "GET", "/echo")));
    assert_eq!(
        client.exchange(&signed(&gateway, "GET", "/a")).body,
        b"fine"
    );
}

// Where nothing of the backend's passes anyway

#[test]
fn a_credential_in_a_reason_phrase_or_an_interim_answer_is_dropped_with_it() {
    passes(
        format!("HTTP/1.1 200 {TOKEN}\r\nContent-Length: 2\r\n\r\nok"),
        b"ok",
    );
    passes(
        format!(
            "HTTP/1.1 103 Early Hints\r\nLink: <{TOKEN}>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        ),
        b"ok",
    );
}

#[test]
fn a_credential_in_trailers_is_dropped_with_them() {
    passes(
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Echo\r\n\r\n\
             2\r\nok\r\n0\r\nX-Echo: {TOKEN}\r\n\r\n"
        ),
        b"ok",
    );
}

#[test]
fn a_credential_in_a_chunk_extension_is_dropped_with_it() {
    passes(
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;t={TOKEN}\r\nok\r\n0\r\n\r\n"
        ),
        b"ok",
    );
}

// What passes unchanged

#[test]
fn an_answer_without_the_credential_passes_byte_for_byte() {
    // Beginnings of the token everywhere, and never all of it.
    let part = |index: usize| format!("{}#{index}\n", &TOKEN[..index % TOKEN.len()]);
    let body: String = (0..40_000).map(part).collect();
    let gateway = before(&saying(response("200 OK", "", body.as_bytes())));
    let over_http1 = gateway.request("GET", "/a", b"");
    let over_http2 = over_http2(&gateway, "/a").response;
    assert!(over_http1.body == body.as_bytes() && over_http2.body == body.as_bytes());
    assert_eq!(gateway.metric(FOUND), 0.0);
}

#[test]
fn the_beginning_of_a_credential_at_the_end_of_a_body_passes() {
    let body = &TOKEN.as_bytes()[..7];
    passes(response("200 OK", "", body), body);
    passes(
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n",
            body,
            b"\r\n0\r\n\r\n",
        ]
        .concat(),
        body,
    );
}

#[test]
fn a_body_with_a_coding_passes_unread_and_is_counted() {
    // The backend does as it likes: it was asked for no coding.
    let answer = response(
        "200 OK",
        "Content-Encoding: gzip\r\n",
        b"\x1f\x8b, as it were",
    );
    let backend = saying(answer);
    let gateway = before(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let asking = format!("{lines}Accept-Encoding: gzip, br\r\n");
    let mut client = Client::connect(gateway.address);
    let answer = client.exchange(&raw("GET", "/a", &asking, b""));
    assert_eq!(answer.body, b"\x1f\x8b, as it were");
    assert_eq!(gateway.metric(UNREAD), 1.0);
    assert_eq!(backend.only().one("accept-encoding"), "identity");
}

#[test]
fn a_request_without_a_credential_keeps_its_codings_and_its_answer() {
    let backend = saying(response("200 OK", "", TOKEN.as_bytes()));
    let gateway = Gateway::start(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let asking = format!("{lines}Accept-Encoding: gzip\r\n");
    let mut client = Client::connect(gateway.address);
    let answer = client.exchange(&raw("GET", "/a", &asking, b""));
    assert_eq!(answer.body, TOKEN.as_bytes());
    assert_eq!(backend.only().one("accept-encoding"), "gzip");
}

#[test]
fn an_assertion_that_the_backend_repeats_does_not_pass() {
    let backend = Backend::answering(|request| {
        response("200 OK", "", request.one("x-machine-assertion").as_bytes())
    });
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("assertion.pem");
    std::fs::write(&key, Machine::new("gateway", 200).pem()).unwrap();
    let options = Options {
        routes: "  - { path: /, upstream: secrets, assertion: true }\n".into(),
        upstream: "    audience: api\n".into(),
        more: format!(
            "assertion: {{ issuer: 'https://gw.example', keys: [{}] }}\n",
            key.display()
        ),
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let answer = gateway.request("GET", "/a", b"");
    assert_eq!((answer.status, &*answer.code()), (502, "upstream_error"));
    assert_eq!(gateway.metric(FOUND), 1.0);
    assert_eq!(backend.only().one("accept-encoding"), "identity");
}

#[test]
fn without_the_check_the_credential_passes() {
    let backend = saying(response("200 OK", "", TOKEN.as_bytes()));
    let options = Options {
        upstream: "    echo_check: off\n".into(),
        ..Options::default()
    };
    let gateway = with(&backend, options);
    let answer = gateway.request("GET", "/a", b"");
    assert_eq!((answer.status, &*answer.body), (200, TOKEN.as_bytes()));
    assert!(backend.only().all("accept-encoding").is_empty());
}

#[test]
fn a_secret_too_short_to_be_told_from_other_text_does_not_break_answers() {
    let backend = saying(response("200 OK", "", b"a root, 7 bytes: rootkey"));
    let options = Options {
        token: Some("rootkey".into()),
        ..Options::default()
    };
    let answer = with(&backend, options).request("GET", "/a", b"");
    assert_eq!(answer.status, 200);
}

// After its head

/// A server that sends the next piece of its answer each time it is told to.
fn in_steps(pieces: Vec<Vec<u8>>) -> (SocketAddr, Sender<()>) {
    let (go, told): (_, Receiver<()>) = channel();
    let told = Arc::new(Mutex::new(told));
    let server = scripted(move |mut stream| {
        if read_head(&mut stream).is_none() {
            return;
        }
        let told = told.lock().unwrap();
        for piece in &pieces {
            if told.recv_timeout(Duration::from_secs(30)).is_err()
                || stream.write_all(piece).is_err()
            {
                return;
            }
        }
        drop(told);
        // It keeps the connection: an end would break the answer off by itself.
        let _ = stream.read(&mut [0]);
    });
    (server, go)
}

fn before_server(server: SocketAddr) -> Gateway {
    let options = Options {
        servers: Some(vec![format!("http://{server}")]),
        ..Options::default()
    };
    with(&Backend::start(), options)
}

#[test]
fn a_credential_after_the_head_breaks_the_answer_off() {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\nbefore ";
    let (server, go) = in_steps(vec![begun.into(), TOKEN.into()]);
    let gateway = before_server(server);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(&signed(&gateway, "GET", "/a")).unwrap();
    go.send(()).unwrap();
    let mut seen = read_head(&mut stream).unwrap().into_bytes();
    go.send(()).unwrap();
    seen.extend(bytes_to_the_end(&mut stream));
    assert!(seen.ends_with(b"before "), "{}", seen.escape_ascii());
    assert_eq!(gateway.metric(FOUND), 1.0);
    let record = &gateway.decisions("response", 1)[0];
    assert_eq!(record["status"], 200);
}

#[test]
fn a_credential_after_the_head_resets_the_stream_of_http_2() {
    let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nbefore \r\n";
    let chunk = format!("{:x}\r\n{TOKEN}\r\n0\r\n\r\n", TOKEN.len());
    let (server, go) = in_steps(vec![begun.into(), chunk.into()]);
    let gateway = before_server(server);
    go.send(()).unwrap();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        go.send(()).unwrap();
    });
    let received = over_http2(&gateway, "/a");
    later.join().unwrap();
    assert_eq!(received.response.status, 200);
    assert_eq!(received.response.body, b"before ");
    assert!(received.reset.is_some());
    assert_eq!(gateway.metric(FOUND), 1.0);
}

#[test]
fn a_credential_that_comes_byte_by_byte_never_begins_to_pass() {
    let mut pieces: Vec<Vec<u8>> = vec![
        b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n".to_vec(),
        b"hvs.hvs.".to_vec(), // a beginning that fails: the token begins in its middle
    ];
    pieces.extend(TOKEN.bytes().map(|byte| vec![byte]));
    let steps = pieces.len();
    let (server, go) = in_steps(pieces);
    let gateway = before_server(server);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(&signed(&gateway, "GET", "/a")).unwrap();
    go.send(()).unwrap();
    let head = read_head(&mut stream).unwrap();
    holds_no_part(head.as_bytes());
    for _ in 1..steps {
        go.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let body = bytes_to_the_end(&mut stream);
    assert_eq!(body, b"hvs.hvs.", "{}", body.escape_ascii());
    assert_eq!(gateway.metric(FOUND), 1.0);
}

#[test]
fn half_a_credential_does_not_pass_where_the_backend_breaks_off() {
    let mut half = b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\nsee ".to_vec();
    half.extend_from_slice(&TOKEN.as_bytes()[..20]);
    let server = scripted(move |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(&half);
    });
    let gateway = before_server(server);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(&signed(&gateway, "GET", "/a")).unwrap();
    let bytes = bytes_to_the_end(&mut stream);
    assert!(bytes.ends_with(b"see "), "{}", bytes.escape_ascii());
}

#[test]
fn an_http_1_0_client_cannot_take_the_part_for_the_whole() {
    let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nbefore \r\n";
    let chunk = format!("{:x}\r\n{TOKEN}\r\n0\r\n\r\n", TOKEN.len());
    let (server, go) = in_steps(vec![begun.into(), chunk.into()]);
    let gateway = before_server(server);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    let request = String::from_utf8(signed(&gateway, "GET", "/a")).unwrap();
    (stream.write_all(request.replace("HTTP/1.1", "HTTP/1.0").as_bytes())).unwrap();
    go.send(()).unwrap();
    read_head(&mut stream).unwrap();
    go.send(()).unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert_eq!(
        ended.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    assert_eq!(rest, b"before ");
}

// Streams

#[test]
fn each_event_of_a_stream_arrives_before_the_next_is_sent() {
    // Each ends, but for its line breaks, like a beginning of the token.
    let events: Vec<String> = (1..TOKEN.len())
        .map(|length| format!("data: {}\n\n", &TOKEN[..length]))
        .collect();
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n".to_vec()];
    pieces.extend(events.iter().map(|event| event.clone().into_bytes()));
    let (server, go) = in_steps(pieces);
    let gateway = before_server(server);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(&signed(&gateway, "GET", "/a")).unwrap();
    go.send(()).unwrap();
    read_head(&mut stream).unwrap();
    for event in events {
        go.send(()).unwrap();
        let chunk = format!("{:X}\r\n{event}\r\n", event.len());
        let mut arrived = vec![0; chunk.len()];
        stream.read_exact(&mut arrived).unwrap();
        assert_eq!(
            arrived.escape_ascii().to_string(),
            chunk.as_bytes().escape_ascii().to_string()
        );
    }
}
