//! Bodies of every size, framing and protocol reach the backend whole, and only verified ones do.

use sha2::{Digest, Sha256};

use crate::support::backend::Backend;
use crate::support::client::{Client, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw};
use crate::support::http2::Http2;

/// Around Pingora's retry buffer (64 KiB), a body of many reads, and one of many megabytes.
const SIZES: [usize; 7] = [0, 1, 65_535, 65_536, 65_537, 300_000, 8 * 1024 * 1024];

fn gateway(backend: &Backend) -> Gateway {
    let routes = "  - { path: /, upstream: secrets, max_body: 8MiB }\n".into();
    Gateway::with(
        backend,
        Options {
            routes,
            tls: true,
            ..Options::default()
        },
    )
}

/// Bytes that differ from place to place, so that a piece lost or doubled shows.
fn body(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at % 251) as u8 ^ (at / 65_536) as u8)
        .collect()
}

#[track_caller]
fn assert_arrived(backend: &Backend, body: &[u8]) {
    let seen = backend.seen();
    let last = seen.last().expect("the request arrived");
    assert_eq!(last.body.len(), body.len());
    assert_eq!(Sha256::digest(&last.body), Sha256::digest(body));
    assert_eq!(last.one("content-length"), body.len().to_string());
}

#[test]
fn http1_with_a_content_length() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for size in SIZES {
        let body = body(size);
        assert_eq!(gateway.request("POST", "/a", &body).status, 200, "{size}");
        assert_arrived(&backend, &body);
    }
    assert_eq!(gateway.metric("countersign_body_buffer_bytes"), 0.0);
}

#[test]
fn http1_chunked() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for size in SIZES {
        let body = body(size);
        let lines = gateway.sign(&machine(), "PUT", "/a", &body).lines();
        let mut bytes =
            format!("PUT /a HTTP/1.1\r\nHost: gw\r\n{lines}Transfer-Encoding: chunked\r\n\r\n")
                .into_bytes();
        for chunk in body.chunks(50_001) {
            bytes.extend_from_slice(format!("{:x};ext=1\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\nX-Checksum: 1\r\n\r\n");
        assert_eq!(exchange(gateway.address, bytes).status, 200, "{size}");
        assert_arrived(&backend, &body);
        assert_eq!(
            backend.seen().last().unwrap().one("x-machine-identity"),
            "machine-1"
        );
    }
}

#[test]
fn http2_with_and_without_a_content_length() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    for declared in [true, false] {
        for size in SIZES {
            let body = body(size);
            let signed = gateway.sign(&machine(), "POST", "/a", &body);
            let answer = client.request("POST", "/a", &signed, &body, declared);
            assert_eq!(answer.status, 200, "{size}");
            assert_arrived(&backend, &body);
            assert_eq!(
                backend.seen().last().unwrap().one("x-forwarded-proto"),
                "https"
            );
        }
    }
}

#[test]
fn http2_refuses_as_http1_does() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    let signed = gateway.sign(&machine(), "POST", "/a", b"one");
    let answer = client.request("POST", "/a", &signed, b"two", true);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (401, "bad_signature")
    );
    assert_eq!(backend.connections(), 0);
    // The connection lives on; only the stream is over.
    let signed = gateway.sign(&machine(), "GET", "/a", b"");
    assert_eq!(client.request("GET", "/a", &signed, b"", true).status, 200);
}

#[test]
fn a_body_in_single_bytes_is_put_together() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let body = body(300);
    let lines = gateway.sign(&machine(), "POST", "/a", &body).lines();
    let bytes = raw("POST", "/a", &lines, &body);
    let mut client = Client::connect(gateway.address);
    for byte in bytes {
        client.send(&[byte]);
    }
    assert_eq!(client.receive().status, 200);
    assert_arrived(&backend, &body);
}

#[test]
fn bodies_on_get_head_and_delete_are_hashed_and_forwarded_like_any() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for method in ["GET", "DELETE", "LIST", "OPTIONS"] {
        assert_eq!(
            gateway.request(method, "/a", b"body").status,
            200,
            "{method}"
        );
        assert_arrived(&backend, b"body");
    }
}

#[test]
fn an_empty_body_is_announced_where_the_method_means_one() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    gateway.request("POST", "/a", b"");
    assert_eq!(backend.seen()[0].one("content-length"), "0");
    gateway.request("GET", "/a", b"");
    assert!(backend.seen()[1].all("content-length").is_empty());
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_once_its_headers_have_passed() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let lines = gateway.sign(&machine(), "POST", "/a", b"abc").lines();
    let head = format!(
        "POST /a HTTP/1.1\r\nHost: gw\r\n{lines}Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    );
    let mut client = Client::connect(gateway.address);
    client.send(head.as_bytes());
    assert_eq!(client.receive_any().unwrap().status, 100);
    client.send(b"abc");
    assert_eq!(client.receive().status, 200);
    assert_arrived(&backend, b"abc");
}

#[test]
fn a_client_whose_headers_do_not_pass_is_not_told_to_continue() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let head = "POST /a HTTP/1.1\r\nHost: gw\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let mut client = Client::connect(gateway.address);
    client.send(head.as_bytes());
    assert_eq!(client.receive_any().unwrap().status, 401);
}

#[test]
fn large_answers_come_back_whole() {
    let answer = body(3_000_000);
    let expected = answer.clone();
    let backend = Backend::answering(move |_| crate::support::backend::ok(&answer));
    let gateway = gateway(&backend);
    assert!(gateway.request("GET", "/a", b"").body == expected);
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    let signed = gateway.sign(&machine(), "GET", "/a", b"");
    assert!(client.request("GET", "/a", &signed, b"", true).body == expected);
}

#[test]
fn chunked_answers_come_back_whole() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".to_vec()
    });
    let gateway = gateway(&backend);
    assert_eq!(gateway.request("GET", "/a", b"").body, b"hello world");
}
