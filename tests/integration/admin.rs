//! The admin listener: probes are answered whatever else is connected, and only to whom they are
//! meant.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::gateway::{Gateway, Options, ask_admin, get};
use crate::support::process::clock;

/// Opens connections that send this and then nothing more.
fn half_open(gateway: &Gateway, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(gateway.admin).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    (0..count).map(connect).collect()
}

#[test]
fn two_hundred_half_open_connections_do_not_delay_a_probe() {
    let gateway = Gateway::start(&Backend::start());
    for bytes in [
        &b""[..],
        b"GET /metr",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n",
    ] {
        let held = half_open(&gateway, 200, bytes);
        for _ in 0..10 {
            let began = clock();
            assert_eq!(get(gateway.admin, "/livez").0, 200);
            assert!(clock() - began < Duration::from_secs(1));
        }
        drop(held);
    }
}

#[test]
fn connections_that_keep_a_served_one_open_do_not_delay_a_probe() {
    let gateway = Gateway::start(&Backend::start());
    let held = half_open(&gateway, 200, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(300));
    let began = clock();
    assert_eq!(get(gateway.admin, "/livez").0, 200);
    assert!(clock() - began < Duration::from_secs(1));
    drop(held);
}

/// A GET with this `Host` line.
fn asked_as(gateway: &Gateway, path: &str, host: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    ask_admin(gateway.admin, &request)
}

#[test]
fn metrics_are_for_loopback_names_addresses_and_configured_hosts() {
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            admin: ", hosts: [countersign.internal]".into(),
            ..Options::default()
        },
    );
    let port = gateway.admin.port();
    for host in [
        "localhost".to_owned(),
        format!("localhost:{port}"),
        "LOCALHOST".into(),
        format!("127.0.0.1:{port}"),
        "10.1.2.3:9790".into(),
        format!("[::1]:{port}"),
        "[::1]".into(),
        "countersign.internal".into(),
        "Countersign.Internal:9790".into(),
    ] {
        let line = format!("Host: {host}\r\n");
        assert_eq!(asked_as(&gateway, "/metrics", &line).0, 200, "{host}");
    }
    for line in [
        "Host: rebound.example\r\n",
        "Host: localhost.rebound.example\r\n",
        "Host: 127.0.0.1.rebound.example\r\n",
        "Host: other.countersign.internal\r\n",
        "Host: localhost:x\r\n",
        "Host: \r\n",
        "",
    ] {
        for path in ["/metrics", "/", "/status.json", "/reload", "/anything"] {
            let (status, body) = asked_as(&gateway, path, line);
            assert_eq!(status, 421, "{path} {line:?}");
            assert!(body.contains("admin.hosts"), "{body}");
        }
        // A probe comes under any name, and learns nothing but a word.
        for path in ["/livez", "/readyz"] {
            assert_eq!(asked_as(&gateway, path, line).0, 200, "{path} {line:?}");
        }
    }
}

#[test]
fn a_malformed_request_is_told_so() {
    let gateway = Gateway::start(&Backend::start());
    for line in [
        "Host: user@localhost\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host : localhost\r\n",
    ] {
        assert_eq!(asked_as(&gateway, "/metrics", line).0, 400, "{line:?}");
    }
}

#[test]
fn what_is_out_of_service_is_told_under_the_gateways_own_names_alone() {
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            servers: Some(vec![
                format!("http://{}", backend.address),
                "http://no-such-name.invalid:9".into(),
            ]),
            ..Options::default()
        },
    );
    let (_, own) = asked_as(&gateway, "/readyz", "Host: localhost\r\n");
    assert!(own.contains("no-such-name.invalid"), "{own}");
    let (_, other) = asked_as(&gateway, "/readyz", "Host: rebound.example\r\n");
    assert_eq!(other, "ready\n");
}
