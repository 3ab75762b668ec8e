//! Waits that would have no end without a deadline of our own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::backend::{self, Backend};
use crate::support::client::Client;
use crate::support::gateway::{Gateway, Options, machine, raw, wait_for};
use crate::support::http2::Http2;

fn with_tls(backend: &Backend) -> Gateway {
    let more = "limits: { header_timeout: 300ms }\n".into();
    Gateway::with(
        backend,
        Options {
            more,
            tls: true,
            ..Options::default()
        },
    )
}

#[test]
fn a_tls_client_that_never_shakes_hands_is_closed() {
    let backend = Backend::start();
    let gateway = with_tls(&backend);
    let mut stream = TcpStream::connect(gateway.tls_address.unwrap()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn an_http2_client_that_never_sends_its_preface_is_closed() {
    let backend = Backend::start();
    let gateway = with_tls(&backend);
    assert!(Http2::is_closed_in_silence(
        gateway.tls_address.unwrap(),
        gateway.folder.path()
    ));
}

#[test]
fn a_silent_http2_client_does_not_hold_up_an_idle_shutdown() {
    let backend = Backend::start();
    let mut gateway = Gateway::with(
        &backend,
        Options {
            tls: true,
            ..Options::default()
        },
    );
    let _client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    // The grace period is ten seconds; the harness waits for the end.
    gateway.stop();
}

/// A gateway with these limits, and these lines of its upstream and route.
fn limited(backend: &Backend, limits: &str, upstream: &str, route: &str) -> Gateway {
    Gateway::with(
        backend,
        Options {
            more: format!("limits: {{ {limits} }}\n"),
            upstream: upstream.into(),
            routes: format!("  - {{ path: /, upstream: secrets{route} }}\n"),
            tls: true,
            ..Options::default()
        },
    )
}

fn wait_for_no_connection(gateway: &Gateway) {
    wait_for("the end of the connection", || {
        (gateway.metric("countersign_connections") == 0.0).then_some(())
    });
}

#[test]
fn an_idle_http1_connection_is_closed() {
    let backend = Backend::start();
    let gateway = limited(&backend, "keepalive: 200ms", "", "");
    let mut client = Client::connect(gateway.address);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    assert_eq!(client.exchange(&raw("GET", "/a", &lines, b"")).status, 200);
    assert!(client.is_closed());
}

#[test]
fn an_idle_http2_connection_is_closed() {
    let backend = Backend::start();
    let gateway = limited(&backend, "keepalive: 200ms", "", "");
    let _client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    wait_for_no_connection(&gateway);
}

#[test]
fn a_client_that_does_not_read_its_answer_is_closed() {
    let backend = Backend::answering(|_| backend::ok(&vec![b'a'; 64 << 20]));
    let gateway = limited(&backend, "write_timeout: 300ms", "", "");
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(&raw("GET", "/a", &lines, b"")).unwrap();
    wait_for("the request", || (backend.connections() == 1).then_some(()));
    wait_for_no_connection(&gateway);
    drop(stream);
}

#[test]
fn a_refused_client_that_goes_on_sending_slowly_is_closed() {
    let backend = Backend::start();
    let gateway = limited(&backend, "drain_timeout: 300ms", "", "");
    let mut client = Client::connect(gateway.address);
    client.send(b"POST /a HTTP/1.1\r\nHost: gw\r\nContent-Length: 1000\r\n\r\na");
    assert_eq!(client.receive().status, 401);
    wait_for_no_connection(&gateway);
}

#[test]
fn a_backend_that_never_shakes_hands_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            servers: Some(vec![format!("https://{}", silent.local_addr().unwrap())]),
            upstream: "    connect_timeout: 200ms\n".into(),
            ..Options::default()
        },
    );
    let answer = gateway.request("GET", "/a", b"");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "upstream_unreachable")
    );
}

/// Its answer, which might say why, is still waited for, but no longer than for any.
#[test]
fn a_backend_that_does_not_read_the_body_is_given_up() {
    // With little room of its own, so that a body of some megabytes does not fit in between.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(16).unwrap();
    let deaf = TcpListener::from(socket);
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            servers: Some(vec![format!("http://{}", deaf.local_addr().unwrap())]),
            upstream: "    write_timeout: 300ms\n    read_timeout: 300ms\n".into(),
            routes: "  - { path: /, upstream: secrets, max_body: 8MiB }\n".into(),
            ..Options::default()
        },
    );
    let answer = gateway.request("POST", "/a", &vec![b'a'; 8 << 20]);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "upstream_timeout")
    );
}

/// The one deadline that is not configured: a minute.
#[test]
fn a_client_of_the_admin_listener_that_says_nothing_is_closed() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut stream = TcpStream::connect(gateway.admin).unwrap();
    stream.write_all(b"GET /metr").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(90)))
        .unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}
