//! Forwarding to backends that are slow, early, wrong or gone, for clients that are too.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::backend::{self, Backend, read_head, scripted};
use crate::support::client::Client;
use crate::support::gateway::{Gateway, Options, machine, raw, registry, wait_for};
use crate::support::signer::Machine;

/// A gateway before this server, with these lines of the upstream and of the top level.
fn before(server: SocketAddr, upstream: &str, more: &str) -> Gateway {
    Gateway::with(
        &Backend::start(),
        Options {
            servers: Some(vec![format!("http://{server}")]),
            routes: "  - { path: /, upstream: secrets, max_body: 32MiB }\n".into(),
            upstream: upstream.into(),
            more: more.into(),
            ..Options::default()
        },
    )
}

/// What a signed request is answered with.
fn signed(gateway: &Gateway, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let lines = gateway.sign(&machine(), method, path, body).lines();
    raw(method, path, &lines, body)
}

/// Reads so many bytes and throws them away.
fn take(stream: &mut TcpStream, mut bytes: usize) {
    let mut piece = vec![0; 64 * 1024];
    while bytes > 0 {
        let most = bytes.min(piece.len());
        match stream.read(&mut piece[..most]) {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes -= count,
        }
    }
}

// Both directions at the same time

#[test]
fn an_early_answer_arrives_while_the_body_is_still_unread() {
    let server = scripted(|mut stream| {
        read_head(&mut stream);
        let refusal = backend::response("413 Content Too Large", "", b"too large");
        stream.write_all(&refusal).unwrap();
        std::thread::sleep(Duration::from_secs(30));
    });
    let gateway = before(server, "", "");
    let mut client = Client::connect(gateway.address);
    // The server keeps the body waiting for longer than the client waits for an answer.
    let answer = client.exchange(&signed(&gateway, "PUT", "/a", &vec![b'x'; 16 << 20]));
    assert_eq!((answer.status, &*answer.body), (413, &b"too large"[..]));
}

#[test]
fn a_backend_that_echoes_a_large_body_is_heard_whole() {
    let server = scripted(|mut stream| {
        let head = read_head(&mut stream).unwrap();
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        });
        let mut left: usize = length.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut piece = vec![0; 64 * 1024];
        while left > 0 {
            let count = stream.read(&mut piece).unwrap();
            stream.write_all(&piece[..count]).unwrap();
            left -= count;
        }
    });
    let gateway = before(server, "", "");
    let mut client = Client::connect(gateway.address);
    let body: Vec<u8> = (0..32 << 20).map(|at: u32| at.to_be_bytes()[3]).collect();
    let answer = client.exchange(&signed(&gateway, "PUT", "/a", &body));
    assert!(answer.status == 200 && answer.body == body);
}

#[test]
fn a_slow_backend_that_keeps_taking_is_not_given_up() {
    let pause = Duration::from_millis(50);
    let server = scripted(move |mut stream| {
        read_head(&mut stream);
        // Eight pieces of a second's length each, but for the pauses.
        for _ in 0..32 {
            std::thread::sleep(pause);
            take(&mut stream, 256 << 10);
        }
        stream.write_all(&backend::ok(b"all of it")).unwrap();
    });
    // The whole takes over a second and a half, and no wait for progress half a second.
    let gateway = before(
        server,
        "    write_timeout: 500ms\n    read_timeout: 500ms\n",
        "",
    );
    let mut client = Client::connect(gateway.address);
    let answer = client.exchange(&signed(&gateway, "PUT", "/a", &vec![b'x'; 8 << 20]));
    assert_eq!((answer.status, &*answer.body), (200, &b"all of it"[..]));
}

#[test]
fn a_backend_that_takes_nothing_any_more_is_given_up() {
    let server = scripted(|mut stream| {
        read_head(&mut stream);
        std::thread::sleep(Duration::from_secs(60));
    });
    let gateway = before(server, "    write_timeout: 300ms\n", "");
    let mut client = Client::connect(gateway.address);
    let answer = client.exchange(&signed(&gateway, "PUT", "/a", &vec![b'x'; 16 << 20]));
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "upstream_timeout")
    );
}

#[test]
fn a_backend_that_answers_well_before_it_reads_gets_the_whole_request() {
    let (tell, told) = std::sync::mpsc::channel();
    let server = scripted(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(&backend::ok(b"ok")).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let mut body = vec![0; 8 << 20];
        tell.send(stream.read_exact(&mut body).is_ok()).unwrap();
    });
    let gateway = before(server, "", "");
    let mut client = Client::connect(gateway.address);
    let answer = client.exchange(&signed(&gateway, "PUT", "/a", &vec![b'x'; 8 << 20]));
    assert_eq!((answer.status, &*answer.body), (200, &b"ok"[..]));
    assert!(told.recv_timeout(Duration::from_secs(20)).unwrap());
}

#[test]
fn the_head_of_an_answer_does_not_wait_for_its_body() {
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = scripted(move |mut stream| {
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            .unwrap();
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
        let _ = stream.write_all(b"ok");
    });
    let gateway = before(server, "", "");
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
        .write_all(&signed(&gateway, "GET", "/a", b""))
        .unwrap();
    assert!(read_head(&mut stream).is_some_and(|head| head.starts_with("HTTP/1.1 200")));
    go_on.send(()).unwrap();
    let mut body = [0; 2];
    stream.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"ok");
}

#[test]
fn a_body_that_was_sent_is_not_held_until_the_answer_ends() {
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = scripted(move |mut stream| {
        read_head(&mut stream);
        take(&mut stream, 1 << 20);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
            .unwrap();
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
        let _ = stream.write_all(b"k");
    });
    let gateway = before(server, "", "");
    let mut client = Client::connect(gateway.address);
    client.send(&signed(&gateway, "PUT", "/a", &vec![b'x'; 1 << 20]));
    gateway.decisions("accepted", 1);
    wait_for("the body to be let go", || {
        (gateway.metric("countersign_body_buffer_bytes") == 0.0).then_some(())
    });
    go_on.send(()).unwrap();
    assert_eq!(client.receive().body, b"ok");
}

// Answers that are none, and connections that end

#[test]
fn an_interim_answer_is_no_answer_where_the_backend_then_fails() {
    type Ending = fn(&mut TcpStream);
    let endings: [(&str, Ending, u16); 3] = [
        ("closes", |_| {}, 502),
        (
            "stalls",
            |_| std::thread::sleep(Duration::from_secs(30)),
            504,
        ),
        (
            "redirects",
            |stream| {
                let redirect = backend::response("307 Temporary Redirect", "Location: /b\r\n", b"");
                stream.write_all(&redirect).unwrap();
            },
            502,
        ),
    ];
    for (what, ending, status) in endings {
        let server = scripted(move |mut stream| {
            read_head(&mut stream);
            take(&mut stream, 3);
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            ending(&mut stream);
        });
        let gateway = before(server, "    read_timeout: 500ms\n", "");
        let lines = gateway.sign(&machine(), "PUT", "/a", b"abc").lines();
        let head = format!(
            "PUT /a HTTP/1.1\r\nHost: gw\r\n{lines}Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        );
        let mut client = Client::connect(gateway.address);
        client.send(head.as_bytes());
        assert_eq!(client.receive_any().unwrap().status, 100);
        client.send(b"abc");
        let answer = client.try_receive(false).expect(what);
        assert_eq!(answer.status, status, "{what}");
        let record = gateway.decisions("response", 1).remove(0);
        assert_eq!(record["status"], status, "{what}");
    }
}

#[test]
fn a_failure_of_the_backend_keeps_the_clients_connection_as_the_answer_says() {
    let server = scripted(|mut stream| {
        read_head(&mut stream);
    });
    let gateway = before(server, "", "");
    let mut client = Client::connect(gateway.address);
    for _ in 0..3 {
        let answer = client.exchange(&signed(&gateway, "GET", "/a", b""));
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn an_answer_cut_off_before_its_end_is_no_whole_answer_to_any_client() {
    let server = scripted(|mut stream| {
        read_head(&mut stream);
        let half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        stream.write_all(half).unwrap();
    });
    let gateway = before(server, "", "");
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let bytes = String::from_utf8(signed(&gateway, "GET", "/a", b"")).unwrap();
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .write_all(bytes.replace("HTTP/1.1", version).as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        match version {
            "HTTP/1.0" => {
                assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
            _ => assert!(!answer.ends_with(b"0\r\n\r\n")),
        }
    }
}

#[test]
fn answers_with_a_strange_status_or_framing_do_not_cross() {
    for answer in [
        "HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let backend = Backend::answering(move |_| answer.as_bytes().to_vec());
        let gateway = Gateway::start(&backend);
        let got = gateway.request("GET", "/a", b"");
        assert_eq!(
            (got.status, got.code().as_str()),
            (502, "upstream_error"),
            "{answer}"
        );
    }
}

#[test]
fn the_status_line_is_the_gateways_own() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.0 403 Ask bob@example\r\nContent-Length: 2\r\n\r\nno".to_vec()
    });
    let gateway = Gateway::start(&backend);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream
        .write_all(&signed(&gateway, "GET", "/a", b""))
        .unwrap();
    let mut line = [0; 24];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 403 Forbidden\r\n");
}

#[test]
fn an_answer_without_a_body_crosses_without_framing_of_one() {
    for (method, head) in [
        ("GET", "204 No Content\r\nTransfer-Encoding: chunked"),
        ("GET", "304 Not Modified\r\nTransfer-Encoding: chunked"),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked"),
    ] {
        let backend = Backend::answering(move |_| format!("HTTP/1.1 {head}\r\n\r\n").into_bytes());
        let gateway = Gateway::start(&backend);
        let mut client = Client::connect(gateway.address);
        for _ in 0..2 {
            client.send(&signed(&gateway, method, "/a", b""));
            let answer = client.try_receive(method == "HEAD").unwrap();
            assert!(answer.all("transfer-encoding").is_empty(), "{head}");
            assert!(answer.all("content-length").is_empty(), "{head}");
        }
    }
}

// Connections that are used again, and those that are not

/// A server that answers each request and then, a moment later on the same connection, sends an
/// answer that names whom the one before was for; and how many of those it has sent so far.
fn sending_more(answer: fn(&str) -> String, late: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let address = scripted(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let line = |name: &str| {
                let value = head.lines().find_map(|line| {
                    let (found, value) = line.split_once(": ")?;
                    found.eq_ignore_ascii_case(name).then_some(value)
                });
                value.unwrap_or("nobody").to_owned()
            };
            let who = line("x-machine-identity");
            let _ = stream.write_all(answer(&head).as_bytes());
            std::thread::sleep(late);
            let length = who.len();
            let more = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{who}");
            let _ = stream.write_all(more.as_bytes());
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, sent)
}

/// Has machines ask in turn, so that each would meet the connection of the one before, and gives
/// the answers that named another machine or were not there.
fn mixed_up(
    gateway: &Gateway,
    machines: &[Machine],
    methods: &[&str],
    sent: &AtomicUsize,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for round in 0..24 {
        let machine = &machines[round % machines.len()];
        let method = methods[round % methods.len()];
        let lines = gateway.sign(machine, method, "/a", b"").lines();
        let mut client = Client::connect(gateway.address);
        client.send(&raw(method, "/a", &lines, b""));
        let Some(answer) = client.try_receive(method == "HEAD") else {
            wrong.push(format!("{method} of {}: no answer", machine.id));
            continue;
        };
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        if !answer.status.to_string().starts_with('2') || (!body.is_empty() && body != "true") {
            wrong.push(format!(
                "{method} of {}: {} {body}",
                machine.id, answer.status
            ));
        }
        // What comes late has come, and rests are over.
        wait_for("what comes late", || {
            (sent.load(Ordering::SeqCst) > round).then_some(())
        });
        std::thread::sleep(Duration::from_millis(1));
        gateway.hands.advance(Duration::from_millis(50));
    }
    wrong
}

/// What an answer is called, the answer to a head, and the methods that are asked with.
type Framed = (&'static str, fn(&str) -> String, &'static [&'static str]);

/// Answers with four bytes, framed in these ways.
const ANSWERS: [Framed; 4] = [
    (
        "HEAD",
        |head| match head.starts_with("HEAD") {
            true => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".into(),
            false => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue".into(),
        },
        &["HEAD", "GET"],
    ),
    (
        "204",
        |_| "HTTP/1.1 204 No Content\r\n\r\n".into(),
        &["GET"],
    ),
    (
        "Content-Length",
        |_| "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue".into(),
        &["GET"],
    ),
    (
        "the last chunk",
        |_| "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntrue\r\n0\r\n\r\n".into(),
        &["GET"],
    ),
];

/// A gateway for two machines before a server that sends more than its answers.
fn before_a_talkative(server: SocketAddr, machines: &[Machine; 2]) -> Gateway {
    let options = Options {
        servers: Some(vec![format!("http://{server}")]),
        machines: registry(&[&machines[0], &machines[1]]),
        ..Options::default()
    };
    Gateway::with(&Backend::start(), options)
}

#[test]
fn bytes_behind_an_answer_reach_no_later_request() {
    let machines = [Machine::new("alice", 1), Machine::new("bob", 2)];
    for (what, answer, methods) in ANSWERS {
        for late in [Duration::ZERO, Duration::from_millis(1)] {
            let (server, sent) = sending_more(answer, late);
            let gateway = before_a_talkative(server, &machines);
            let wrong = mixed_up(&gateway, &machines, methods, &sent);
            assert!(wrong.is_empty(), "{what}, {late:?} late: {wrong:?}");
        }
    }
}

#[test]
fn bytes_behind_an_answer_to_one_machine_never_reach_another() {
    let machines = [Machine::new("alice", 1), Machine::new("bob", 2)];
    for (what, answer, methods) in ANSWERS {
        let server = scripted(move |mut stream| {
            while let Some(head) = read_head(&mut stream) {
                if head.contains(" /quiet ") {
                    let _ = stream.write_all(&backend::ok(b"true"));
                    continue;
                }
                let _ = stream.write_all(answer(&head).as_bytes());
                std::thread::sleep(Duration::from_millis(5));
                let _ = stream.write_all(&backend::ok(b"alice's"));
            }
        });
        let gateway = before_a_talkative(server, &machines);
        let ask = |machine: &Machine, method: &str, path: &str| {
            let lines = gateway.sign(machine, method, path, b"").lines();
            let mut client = Client::connect(gateway.address);
            client.send(&raw(method, path, &lines, b""));
            client
                .try_receive(method == "HEAD")
                .map(|answer| answer.body)
        };
        // By now the server is known, and its connections need no rest.
        for count in 1..=20 {
            assert!(ask(&machines[0], "GET", "/quiet").is_some());
            gateway.decisions("response", count);
            gateway.hands.advance(Duration::from_millis(50));
        }
        for _ in 0..20 {
            assert!(ask(&machines[0], methods[0], "/late").is_some(), "{what}");
            let bobs = ask(&machines[1], "GET", "/quiet");
            assert_eq!(bobs.as_deref(), Some(&b"true"[..]), "{what}");
        }
    }
}

#[test]
fn each_machine_has_its_own_connections_to_the_backend() {
    let backend = Backend::start();
    let machines = [Machine::new("alice", 1), Machine::new("bob", 2)];
    for (reuse, connections) in [
        ("", 2),
        ("    reuse: machine\n", 2),
        ("    reuse: shared\n", 1),
    ] {
        let before = backend.connections();
        let options = Options {
            machines: registry(&[&machines[0], &machines[1]]),
            upstream: reuse.into(),
            ..Options::default()
        };
        let gateway = Gateway::with(&backend, options);
        for count in 1..=6 {
            let machine = &machines[count % 2];
            let lines = gateway.sign(machine, "GET", "/a", b"").lines();
            let mut client = Client::connect(gateway.address);
            assert_eq!(client.exchange(&raw("GET", "/a", &lines, b"")).status, 200);
            gateway.decisions("response", count);
            gateway.hands.advance(Duration::from_millis(50));
        }
        assert_eq!(backend.connections() - before, connections, "{reuse:?}");
    }
}

#[test]
fn a_connection_whose_body_the_backend_may_have_left_unread_is_not_used_again() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let server = scripted(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        read_head(&mut stream);
        // It answers without reading the body, and is stuck from then on.
        stream
            .write_all(&backend::response("413 Content Too Large", "", b""))
            .unwrap();
        std::thread::sleep(Duration::from_secs(30));
    });
    let gateway = before(server, "", "");
    for count in 1..=3 {
        assert_eq!(gateway.request("PUT", "/a", &[b'x'; 1000]).status, 413);
        gateway.decisions("response", count);
        gateway.hands.advance(Duration::from_millis(50));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

// Clients

/// A client that takes as little as the system lets it.
fn tiny_client(gateway: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&gateway.into()).unwrap();
    socket.into()
}

type Answer = Box<dyn Fn(&backend::Seen) -> Vec<u8> + Send + Sync>;

/// Has a client send a request after the other, and read nothing, until the gateway has no more
/// room for an answer; at first so many for `/fill`, then for `/`. Gives how many had an answer,
/// and the connection.
fn stuck_client(gateway: &Gateway, fill: usize) -> (usize, TcpStream) {
    let mut client = tiny_client(gateway.address);
    let ended = || gateway.metric("countersign_upstream_seconds_count{upstream=\"secrets\"}");
    let before = ended();
    for count in 0..5000 {
        let path = if count < fill { "/fill" } else { "/" };
        let request = signed(gateway, "POST", path, &[b'b'; 512]);
        client.write_all(&request).expect("the connection is open");
        let is_answered = || ended() - before > count as f64;
        let is_answered_in_time = (0..600).any(|_| {
            is_answered() || {
                std::thread::sleep(Duration::from_millis(2));
                false
            }
        });
        if !is_answered_in_time {
            return (count, client);
        }
    }
    panic!("there is always room for an answer");
}

/// Sees a client that reads nothing given up, and what it held free again, when the gateway has no
/// more room for this answer.
fn is_given_up(what: &str, answer: Answer) {
    let backend = Backend::answering(move |seen| match seen.target.as_str() {
        "/fill" => backend::ok(&[b'x'; 64 << 10]),
        _ => answer(seen),
    });
    let gateway = Gateway::with(
        &backend,
        Options {
            more: "limits: { write_timeout: 6s }\n".into(),
            ..Options::default()
        },
    );
    let gone = || {
        wait_for(
            &format!("the end of a client that reads nothing of {what}"),
            || {
                let held = gateway.metric("countersign_body_buffer_bytes");
                (gateway.metric("countersign_connections") == 0.0 && held == 0.0).then_some(())
            },
        );
    };
    // Once to learn how much fits, and once more with that much, but for a little.
    let (fits, _client) = stuck_client(&gateway, usize::MAX);
    gone();
    let (_, _client) = stuck_client(&gateway, fits - 1);
    gone();
}

#[test]
fn a_client_that_reads_no_large_head_is_given_up() {
    let large = "v".repeat(8000);
    let lines: String = (0..7)
        .map(|at| format!("X-Large-{at}: {large}\r\n"))
        .collect();
    let answer = move |_: &backend::Seen| backend::response("200 OK", &lines, b"");
    is_given_up("a large head", Box::new(answer));
}

#[test]
fn a_client_that_reads_no_answer_without_a_body_is_given_up() {
    let answer = |_: &backend::Seen| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    is_given_up("204", Box::new(answer));
}

#[test]
fn a_client_that_reads_no_refusal_after_forwarding_is_given_up() {
    is_given_up("502", Box::new(|_| Vec::new()));
}

#[test]
#[ignore = "it takes half a minute by its nature: make test-slow"]
fn a_backend_that_takes_a_mebibyte_a_second_gets_the_largest_body_with_the_defaults() {
    let server = scripted(|mut stream| {
        read_head(&mut stream);
        for _ in 0..320 {
            take(&mut stream, (32 << 20) / 320);
            std::thread::sleep(Duration::from_millis(100));
        }
        stream.write_all(&backend::ok(b"all of it")).unwrap();
    });
    let gateway = before(server, "", "limits: { body_timeout: 60s }\n");
    let mut client = Client::connect_for(gateway.address, Duration::from_secs(120));
    let answer = client.exchange(&signed(&gateway, "PUT", "/a", &vec![b'x'; 32 << 20]));
    assert_eq!((answer.status, &*answer.body), (200, &b"all of it"[..]));
}

#[test]
fn a_client_that_leaves_after_a_byte_too_many_is_noticed() {
    let server = scripted(|mut stream| {
        read_head(&mut stream);
        std::thread::sleep(Duration::from_secs(60));
    });
    let gateway = before(server, "", "");
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream
        .write_all(&signed(&gateway, "GET", "/a", b""))
        .unwrap();
    gateway.decisions("accepted", 1);
    std::thread::sleep(Duration::from_millis(100));
    stream.write_all(b"G").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    stream.shutdown(Shutdown::Both).unwrap();
    // Without a word from the client it would be the read time-out, thirty seconds later.
    let record = gateway.decisions("response", 1).remove(0);
    assert!(record["status"].is_null());
}

/// A server that takes no connection and refuses none: its queue is full.
fn full() -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let waiting = (0..4).filter_map(connect).collect();
    (socket, waiting)
}

#[test]
fn a_client_that_leaves_while_servers_are_tried_has_nothing_carried_out() {
    let (deaf, _waiting) = full();
    let address = deaf.local_addr().unwrap().as_socket().unwrap();
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            servers: Some(vec![
                format!("http://{address}"),
                format!("http://{}", backend.address),
            ]),
            upstream: "    connect_timeout: 1s\n".into(),
            ..Options::default()
        },
    );
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream
        .write_all(&signed(&gateway, "PUT", "/a", b"x"))
        .unwrap();
    gateway.decisions("accepted", 1);
    drop(stream);
    let record = gateway.decisions("response", 1).remove(0);
    assert!(record["status"].is_null(), "{record}");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(backend.seen().is_empty());
}

#[test]
fn of_two_requests_in_one_segment_the_second_is_served_or_the_connection_said_to_close() {
    let backend = Backend::answering(|seen| backend::ok(seen.target.as_bytes()));
    let gateway = Gateway::start(&backend);
    for body in [&b""[..], b"body"] {
        let mut client = Client::connect(gateway.address);
        let method = if body.is_empty() { "GET" } else { "POST" };
        let both = [
            signed(&gateway, method, "/first", body),
            signed(&gateway, "GET", "/second", b""),
        ];
        let answer = client.exchange(&both.concat());
        assert_eq!(answer.body, b"/first");
        if answer.header("connection") == Some("close") {
            assert!(client.is_closed());
        } else {
            assert_eq!(client.receive().body, b"/second");
        }
    }
}
