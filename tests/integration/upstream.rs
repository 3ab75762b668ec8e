//! Several servers, and at most one delivery.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::support::backend::{self, Backend};
use crate::support::client::{Client, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw, wait_for};
use crate::support::process::clock;

fn url(backend: &Backend) -> String {
    format!("http://{}", backend.address)
}

/// A port at which nobody listens: it takes root to.
fn nobody() -> String {
    "http://127.0.0.1:1".to_owned()
}

#[test]
fn the_servers_take_turns() {
    let servers = [Backend::start(), Backend::start(), Backend::start()];
    let options = Options {
        servers: Some(servers.iter().map(url).collect()),
        ..Options::default()
    };
    let gateway = Gateway::with(&servers[0], options);
    for _ in 0..9 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    }
    for server in &servers {
        assert_eq!(server.seen().len(), 3);
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_passed_over() {
    let backend = Backend::start();
    let options = Options {
        servers: Some(vec![
            nobody(),
            url(&backend),
            "http://127.0.0.1:2".to_owned(),
        ]),
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    for _ in 0..6 {
        assert_eq!(gateway.request("PUT", "/a", b"body").status, 200);
    }
    assert_eq!(backend.seen().len(), 6);
}

#[test]
fn a_request_whose_server_broke_off_goes_nowhere_else() {
    // Idempotent methods on a reused connection are what Pingora would send again.
    let broken = Backend::answering(|seen| match seen.target.as_str() {
        "/break" => Vec::new(),
        _ => backend::ok(b"ok"),
    });
    let other = Backend::start();
    for method in ["GET", "PUT", "DELETE"] {
        let gateway = Gateway::with(
            &broken,
            Options {
                servers: Some(vec![url(&broken)]),
                ..Options::default()
            },
        );
        let before = broken.seen().len();
        assert_eq!(gateway.request("GET", "/warm", b"").status, 200);
        assert_eq!(
            gateway.request(method, "/break", b"").code(),
            "upstream_error"
        );
        assert_eq!(broken.seen().len() - before, 2, "{method}");
    }
    assert!(other.seen().is_empty());
}

#[test]
fn a_kept_alive_connection_to_the_backend_is_used_again() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for count in 1..=5 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
        // Given back when the answer has been sent, which its reader may outrun. The connections of
        // a server that is not known yet rest before they are used again.
        gateway.decisions("response", count);
        gateway.hands.advance(Duration::from_millis(50));
    }
    assert_eq!((backend.seen().len(), backend.connections()), (5, 1));
}

#[test]
fn a_kept_alive_connection_to_the_gateway_carries_many_requests() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = Client::connect(gateway.address);
    for _ in 0..20 {
        let lines = gateway.sign(&machine(), "POST", "/a", b"body").lines();
        let answer = client.exchange(&raw("POST", "/a", &lines, b"body"));
        assert_eq!(answer.status, 200);
        assert_ne!(answer.header("connection"), Some("close"));
    }
    assert_eq!(backend.seen().len(), 20);
}

#[test]
fn a_client_that_asks_to_close_is_obeyed() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines() + "Connection: close\r\n";
    let mut client = Client::connect(gateway.address);
    let answer = client.exchange(&raw("GET", "/a", &lines, b""));
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert!(client.is_closed());
}

#[test]
fn pipelined_requests_are_served_one_after_another() {
    let backend = Backend::answering(|seen| {
        std::thread::sleep(Duration::from_millis(200));
        backend::ok(seen.target.as_bytes())
    });
    let gateway = Gateway::start(&backend);
    let chunked = |path: &str| {
        let lines = gateway.sign(&machine(), "POST", path, b"abc").lines();
        let lines = format!("{lines}Transfer-Encoding: chunked\r\n");
        let mut bytes = raw("POST", path, &lines, b"");
        bytes.extend(b"3\r\nabc\r\n0\r\n\r\n");
        bytes
    };
    let sized = |path: &str| {
        let lines = gateway.sign(&machine(), "PUT", path, b"abc").lines();
        raw("PUT", path, &lines, b"abc")
    };
    let bare = |path: &str| {
        let lines = gateway.sign(&machine(), "GET", path, b"").lines();
        raw("GET", path, &lines, b"")
    };
    // In one packet, and in two; and cut in the middle of the second.
    for cut in [usize::MAX, 0, 30] {
        let requests = [
            bare("/1"),
            chunked("/2"),
            sized("/3"),
            chunked("/4"),
            bare("/5"),
        ];
        let mut client = Client::connect(gateway.address);
        let first = requests[0].len();
        let all = requests.concat();
        let (early, late) = all.split_at(first.saturating_add(cut).min(all.len()));
        client.send(early);
        std::thread::sleep(Duration::from_millis(50));
        client.send(late);
        for path in ["/1", "/2", "/3", "/4", "/5"] {
            let answer = client.receive();
            assert_eq!((answer.status, &*answer.body), (200, path.as_bytes()));
            assert_ne!(answer.all("connection"), ["close"]);
        }
    }
}

#[test]
fn an_empty_line_behind_a_body_costs_nothing() {
    let backend = Backend::start();
    let limits = "limits: { header_timeout: 300ms }\n";
    let options = Options {
        more: limits.into(),
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let mut client = Client::connect(gateway.address);
    for rest in [0, 0, 1, 2, 0] {
        let lines = gateway.sign(&machine(), "POST", "/a", b"abc").lines();
        let mut bytes = raw("POST", "/a", &lines, b"abc");
        bytes.extend(&b"\r\n"[..2 - rest]);
        let answer = client.exchange(&bytes);
        assert_eq!(answer.status, 200);
        assert_ne!(answer.all("connection"), ["close"]);
        // It begins no head: the connection is idle.
        std::thread::sleep(Duration::from_millis(500));
        client.send(&b"\r\n"[2 - rest..]);
    }
    assert_eq!(backend.seen().len(), 5);
}

#[test]
fn a_client_that_sends_more_and_leaves_is_noticed() {
    let backend = Backend::answering(|_| {
        std::thread::sleep(Duration::from_secs(8));
        backend::ok(b"late")
    });
    let gateway = Gateway::start(&backend);
    for more in [
        &b""[..],
        b"G",
        b"\r\n",
        b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
        let mut client = Client::connect(gateway.address);
        client.send(&raw("GET", "/a", &lines, b""));
        client.send(more);
        std::thread::sleep(Duration::from_millis(200));
        drop(client);
        let began = clock();
        wait_for("the end of the connection", || {
            (gateway.metric("countersign_connections") == 0.0).then_some(())
        });
        assert!(clock() - began < Duration::from_secs(4), "{more:?}");
    }
}

#[test]
fn interim_answers_of_the_backend_stay_behind() {
    let backend = Backend::answering(|_| {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec();
        bytes.extend(backend::ok(b"final"));
        bytes
    });
    let gateway = Gateway::start(&backend);
    let mut client = Client::connect(gateway.address);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    client.send(&raw("GET", "/a", &lines, b""));
    let first = client.receive_any().unwrap();
    assert_eq!((first.status, first.body.as_slice()), (200, &b"final"[..]));
}

#[test]
fn the_backends_own_refusals_cross_as_they_are() {
    for status in [
        "403 Forbidden",
        "404 Not Found",
        "500 Internal Server Error",
        "304 Not Modified",
    ] {
        let backend = Backend::answering(move |_| match status {
            "304 Not Modified" => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
            _ => backend::response(status, "", b"{\"errors\":[\"mine\"]}"),
        });
        let gateway = Gateway::start(&backend);
        let answer = gateway.request("GET", "/a", b"");
        assert_eq!(answer.status.to_string(), status[..3]);
    }
}

#[test]
fn head_answers_have_no_body_and_keep_the_connection() {
    let backend = Backend::answering(|seen| match seen.method.as_str() {
        "HEAD" => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec(),
        _ => backend::ok(b"hello"),
    });
    let gateway = Gateway::start(&backend);
    let mut client = Client::connect(gateway.address);
    let lines = gateway.sign(&machine(), "HEAD", "/a", b"").lines();
    client.send(&raw("HEAD", "/a", &lines, b""));
    assert_eq!(client.receive_head().header("content-length"), Some("5"));
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    assert_eq!(
        client.exchange(&raw("GET", "/a", &lines, b"")).body,
        b"hello"
    );
}

#[test]
fn an_unsigned_flood_makes_no_connection_to_the_backend() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for _ in 0..50 {
        assert_eq!(
            exchange(gateway.address, raw("GET", "/a", "", b"")).code(),
            "missing_header"
        );
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn an_http10_client_gets_no_chunks() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()
    });
    let gateway = Gateway::start(&backend);
    for more in ["", "Connection: keep-alive\r\n"] {
        let lines = gateway.sign(&machine(), "GET", "/a", b"").lines() + more;
        let bytes = format!("GET /a HTTP/1.0\r\nHost: gw\r\n{lines}\r\n");
        let mut client = Client::connect(gateway.address);
        let answer = client.exchange(bytes.as_bytes());
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, &b"hello"[..])
        );
        assert!(client.is_closed());
    }
}

#[test]
fn an_answer_whose_length_is_uncertain_does_not_cross() {
    for lines in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let backend = Backend::answering(move |_| {
            format!("HTTP/1.1 200 OK\r\n{lines}\r\n2\r\nok\r\n0\r\n\r\n").into_bytes()
        });
        let gateway = Gateway::start(&backend);
        assert_eq!(
            gateway.request("GET", "/a", b"").code(),
            "upstream_error",
            "{lines}"
        );
    }
}

#[test]
fn equal_lengths_of_an_answer_cross_as_one() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let gateway = Gateway::start(&backend);
    let answer = gateway.request("GET", "/a", b"");
    assert_eq!(answer.all("content-length"), ["2"]);
}

#[test]
fn a_blank_line_before_a_request_is_skipped() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let bytes = [b"\r\n".to_vec(), raw("GET", "/a", &lines, b"")].concat();
    assert_eq!(exchange(gateway.address, bytes).status, 200);
}

#[test]
fn a_connection_outlives_an_expectation() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = Client::connect(gateway.address);
    for _ in 0..2 {
        let lines = gateway.sign(&machine(), "POST", "/a", b"abc").lines();
        let head = format!(
            "POST /a HTTP/1.1\r\nHost: gw\r\n{lines}Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        );
        client.send(head.as_bytes());
        assert_eq!(client.receive_any().unwrap().status, 100);
        client.send(b"abc");
        assert_eq!(client.receive().status, 200);
    }
}

/// A server of one connection that answers each request with these bytes, one at a time.
fn trickling(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|count| count == 1) {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                head.clear();
                for byte in answer {
                    stream.write_all(&[*byte]).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    });
    address
}

#[test]
fn an_answer_that_comes_byte_by_byte_crosses_whole_and_its_connection_is_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          5;ext=1\r\nhello\r\n1\r\n \r\n00005\r\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
          HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
    ] {
        let options = Options {
            // It takes one connection only.
            servers: Some(vec![format!("http://{}", trickling(answer))]),
            ..Options::default()
        };
        let gateway = Gateway::with(&Backend::start(), options);
        for count in 1..=3 {
            let got = gateway.request("GET", "/a", b"");
            assert_eq!((got.status, &*got.body), (200, &b"hello world"[..]));
            gateway.decisions("response", count);
            gateway.hands.advance(Duration::from_millis(50));
        }
    }
}
