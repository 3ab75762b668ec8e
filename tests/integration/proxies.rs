//! Behind load balancers: where requests come from, what cannot be spoofed, and what a retry costs.
//! nginx and HAProxy are the real ones, with the configurations in conf/.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::{Client, Response, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw, wait_for};
use crate::support::http2::Http2;
use crate::support::process::{Process, clock, free_address, unix_seconds};

/// Where the test's clients connect from. Proxies connect from 127.0.0.1, which is trusted.
const CLIENT: &str = "127.0.0.2";
const TRUSTED: &str = "trusted_proxies: [127.0.0.1]\n";

fn behind(backend: &Backend, listener: &str) -> Gateway {
    let options = Options {
        more: TRUSTED.to_owned(),
        listener: listener.to_owned(),
        ..Options::default()
    };
    Gateway::with(backend, options)
}

/// A connection from [`CLIENT`].
fn connect(to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{CLIENT}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

/// A signed GET with more header lines.
fn signed(gateway: &Gateway, more: &str) -> Vec<u8> {
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    raw("GET", "/a", &format!("{lines}{more}"), b"")
}

/// The address of the last accepted request, and of the connection it came over.
fn recorded(gateway: &Gateway) -> (String, String) {
    let record = gateway.decisions("accepted", 1).pop().unwrap();
    let text = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    (text(&record, "client_ip"), text(&record, "peer_ip"))
}

fn pair(client: &str, peer: &str) -> (String, String) {
    (client.to_owned(), peer.to_owned())
}

/// Forwarding headers as a client might write them.
const FORGED: &str = "X-Forwarded-For: 198.51.100.1\r\nX-Real-Ip: 198.51.100.2\r\n\
                      Forwarded: for=198.51.100.3\r\nX-Forwarded-Proto: https\r\n";

fn assert_nothing_forged(backend: &Backend, client: &str, scheme: &str) {
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.all("x-forwarded-for"), [client]);
    assert_eq!(seen.all("x-forwarded-proto"), [scheme]);
    assert_eq!(seen.all("x-real-ip").len() + seen.all("forwarded").len(), 0);
}

#[test]
fn a_trusted_proxy_is_believed_and_a_client_is_not() {
    let backend = Backend::start();
    let gateway = behind(&backend, "");
    let from_proxy = "X-Forwarded-For: 198.51.100.1, 192.0.2.9\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(
        exchange(gateway.address, signed(&gateway, from_proxy)).status,
        200
    );
    assert_eq!(recorded(&gateway), pair("192.0.2.9", "127.0.0.1"));
    assert_nothing_forged(&backend, "192.0.2.9", "https");

    let mut client = Client::over(connect(gateway.address));
    assert_eq!(client.exchange(&signed(&gateway, FORGED)).status, 200);
    assert_nothing_forged(&backend, CLIENT, "http");
}

#[test]
fn a_refused_request_is_recorded_under_the_clients_address_too() {
    let gateway = behind(&Backend::start(), "");
    exchange(
        gateway.address,
        raw("GET", "/a", "X-Forwarded-For: 192.0.2.9\r\n", b""),
    );
    let record = gateway.decisions("refused", 1).remove(0);
    assert_eq!(
        (&record["client_ip"], &record["peer_ip"]),
        (&"192.0.2.9".into(), &"127.0.0.1".into())
    );
}

#[test]
fn a_proxy_line_names_the_client_in_both_versions() {
    let backend = Backend::start();
    let gateway = behind(&backend, "proxy_protocol: true");
    let mut two = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    two.extend([192, 0, 2, 8, 127, 0, 0, 1, 0x10, 0, 0, 80]);
    let one = b"PROXY TCP4 192.0.2.9 127.0.0.1 4711 80\r\n".to_vec();
    for (line, address) in [(one, "192.0.2.9"), (two, "192.0.2.8")] {
        let mut client = Client::connect(gateway.address);
        client.send(&line);
        // The line counts for the whole connection.
        for _ in 0..2 {
            assert_eq!(client.exchange(&signed(&gateway, FORGED)).status, 200);
            assert_eq!(recorded(&gateway), pair(address, "127.0.0.1"));
            assert_nothing_forged(&backend, address, "http");
        }
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_is_the_client() {
    let gateway = behind(&Backend::start(), "proxy_protocol: true");
    let mut client = Client::connect(gateway.address);
    client.send(b"PROXY UNKNOWN\r\n");
    assert_eq!(client.exchange(&signed(&gateway, "")).status, 200);
    assert_eq!(recorded(&gateway), pair("127.0.0.1", "127.0.0.1"));
}

#[test]
fn without_its_line_or_from_anybody_else_a_connection_is_closed_unheard() {
    let backend = Backend::start();
    let gateway = behind(&backend, "proxy_protocol: true");
    let line = "PROXY TCP4 192.0.2.9 127.0.0.1 4711 80\r\n";
    let without = signed(&gateway, "");
    let behind_another = [b"PROXY TCP4 nonsense\r\n", &without[..]].concat();
    for bytes in [&without, &behind_another] {
        let mut client = Client::connect(gateway.address);
        client.send(bytes);
        assert!(client.try_receive(false).is_none());
    }
    let mut stranger = Client::over(connect(gateway.address));
    stranger.send(&[line.as_bytes(), &without[..]].concat());
    assert!(stranger.try_receive(false).is_none());
    assert_eq!(backend.connections(), 0);
    assert_eq!(
        gateway.metric("countersign_refusals_total{code=\"bad_request\"}"),
        3.0
    );
}

#[test]
fn a_proxy_line_with_a_second_reading_closes_the_connection_and_is_counted() {
    let backend = Backend::start();
    let gateway = behind(&backend, "proxy_protocol: true");
    let two = |family: u8, more: &[u8]| {
        let mut line = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
        line.push(family);
        line.extend(u16::try_from(12 + more.len()).unwrap().to_be_bytes());
        line.extend([192, 0, 2, 8, 127, 0, 0, 1, 0x10, 0, 0, 80]);
        line.extend(more);
        line
    };
    let lines = [
        b"PROXY TCP4 192.0.2.9 127.0.0.1 +4711 80\r\n".to_vec(),
        two(0x11, &[3, 0, 4, 1, 2, 3, 4]), // a CRC32C that is another's
        two(0x11, &[5, 0, 9, b'a']),       // a TLV that overruns
        two(0x10, &[]),                    // a family without a protocol
    ];
    for (count, line) in lines.iter().enumerate() {
        let mut client = Client::connect(gateway.address);
        client.send(&[line, &signed(&gateway, "")[..]].concat());
        assert!(
            client.try_receive(false).is_none(),
            "{}",
            line.escape_ascii()
        );
        let counted = gateway.metric("countersign_refusals_total{code=\"bad_request\"}");
        assert_eq!(counted, (count + 1) as f64);
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_proxy_line_to_a_listener_without_them_is_a_bad_request() {
    let gateway = behind(&Backend::start(), "");
    let line = b"PROXY TCP4 192.0.2.9 127.0.0.1 4711 80\r\n";
    let answer = exchange(gateway.address, [line, &signed(&gateway, "")[..]].concat());
    assert_eq!(answer.status, 400);
}

#[test]
fn http2_requests_are_recorded_under_the_clients_address() {
    let backend = Backend::start();
    let options = Options {
        more: TRUSTED.to_owned(),
        tls: true,
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    let signed = gateway.sign(&machine(), "GET", "/a", b"");
    assert_eq!(client.request("GET", "/a", &signed, b"", true).status, 200);
    assert_eq!(recorded(&gateway), pair("127.0.0.1", "127.0.0.1"));
    assert_nothing_forged(&backend, "127.0.0.1", "https");
}

#[test]
fn a_health_check_needs_no_host_and_no_signature_and_leaves_no_record() {
    let gateway = behind(&Backend::start(), "health: /livez");
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    for request in [
        "GET /livez HTTP/1.0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: 10.0.0.7\r\n\r\n",
        "HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = ask(request);
        assert!(
            answer.split_once(' ').unwrap().1.starts_with("200"),
            "{answer}"
        );
        assert_eq!(
            answer.ends_with("ready\n"),
            request.starts_with("GET"),
            "{answer}"
        );
    }
    assert!(ask("GET /livez/ HTTP/1.1\r\nHost: x\r\n\r\n").contains(" 401 "));
    assert!(ask("POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").contains(" 401 "));
    assert_eq!(gateway.decisions("refused", 2).len(), 2);
}

/// nginx or HAProxy, ended with the test.
struct Front {
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Front {
    /// `program` with the configuration that `adapt` makes of the reference; it listens at the
    /// address given to it.
    fn start(
        program: &str,
        reference: &str,
        adapt: impl FnOnce(&str, SocketAddr) -> String,
    ) -> Front {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let file = folder.path().join("front.conf");
        let at = folder.path().display();
        let own = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let own: String = own
            .map(|name| format!("{name}_temp_path {at}/{name};"))
            .concat();
        let text = adapt(reference, address)
            .replace("/run/nginx.pid", &format!("{at}/pid"))
            .replace("http {", &format!("http {{ {own}"));
        fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let (check, run): (&[&str], &[&str]) = match program {
            "nginx" => (
                &["-t", "-c", file],
                &["-g", "daemon off; master_process off;", "-c", file],
            ),
            _ => (&["-c", "-f", file], &["-db", "-f", file]),
        };
        let checked = Command::new(tool(program)).args(check).output().unwrap();
        assert!(
            checked.status.success(),
            "{}",
            String::from_utf8_lossy(&checked.stderr)
        );
        let child = Command::new(tool(program))
            .args(run)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(program, || TcpStream::connect(address).ok());
        Front {
            address,
            child,
            _folder: folder,
        }
    }

    fn send(&self, bytes: &[u8]) -> Answer {
        let mut client = Client::over(connect(self.address));
        client.send(bytes);
        // Not every answer is the gateway's.
        Answer(client.receive_any().expect("an answer"))
    }
}

struct Answer(Response);

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where scripts/setup has put a program, or else wherever it is.
fn tool(name: &str) -> String {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_countersign"));
    let unpacked = binary
        .ancestors()
        .nth(2)
        .unwrap()
        .join("tools/usr/bin")
        .join(name);
    match unpacked.exists() {
        true => unpacked.to_str().unwrap().to_owned(),
        false => name.to_owned(),
    }
}

fn nginx(gateway: &Gateway, retries: bool) -> Front {
    Front::start(
        "nginx",
        include_str!("../../conf/nginx.conf"),
        |text, address| {
            let text = nginx_before(&[gateway.address, gateway.address], text, address);
            match retries {
                true => text.replace("proxy_next_upstream off;", "proxy_next_upstream http_502;"),
                false => text,
            }
        },
    )
}

/// The reference configuration with these gateways.
fn nginx_before(gateways: &[SocketAddr], text: &str, address: SocketAddr) -> String {
    const SERVER: &str = "server 127.0.0.1:8080 ";
    let line = text.lines().find(|line| line.contains(SERVER)).unwrap();
    let lines = gateways.iter().map(|gateway| {
        let server = format!("server {gateway} ");
        line.replace(SERVER, &server) + "\n"
    });
    text.replace(line, &lines.collect::<String>())
        .replace("listen 0.0.0.0:80;", &format!("listen {address};"))
}

/// `fail_timeout` of the reference configuration.
const FAIL_TIMEOUT: Duration = Duration::from_secs(5);

/// Two gateways, each of which has a listener with these settings, behind a backend.
fn two_gateways(backend: &Backend, listener: &str) -> [Process; 2] {
    [(); 2].map(|()| {
        let mut process = Process::serve(backend, "{ delay: 5s, grace: 5s }");
        process.kill();
        let file = process.folder.path().join("countersign.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let plain = format!("  - address: {}\n", process.address);
        let own = format!("  - {{ address: {}, {listener} }}\n", process.address);
        fs::write(file, text.replace(&plain, &own) + TRUSTED).unwrap();
        process.start_again();
        process.wait_until_ready();
        process
    })
}

/// How many of so many requests, each on a connection of its own, did not come back with 200.
fn lost(front: &Front, requests: usize) -> usize {
    let ask = || {
        let lines = machine().sign("GET", "/a", unix_seconds(), b"").lines();
        let mut client = Client::over(connect(front.address));
        client.send(&raw("GET", "/a", &lines, b""));
        client
            .receive_any()
            .is_some_and(|answer| answer.status == 200)
    };
    (0..requests).filter(|_| !ask()).count()
}

/// How many requests a gateway has accepted.
fn accepted(process: &Process) -> usize {
    let audit = fs::read_to_string(process.folder.path().join("audit.jsonl")).unwrap_or_default();
    audit.matches("\"decision\":\"accepted\"").count()
}

#[test]
fn behind_nginx_a_gateway_that_is_killed_costs_one_request_and_one_more_each_fail_timeout() {
    let backend = Backend::start();
    let [mut one, other] = two_gateways(&backend, "");
    let nginx = Front::start(
        "nginx",
        include_str!("../../conf/nginx.conf"),
        |text, address| {
            assert!(text.contains(&format!("fail_timeout={FAIL_TIMEOUT:?};")));
            nginx_before(&[one.address, other.address], text, address)
        },
    );
    assert_eq!(lost(&nginx, 20), 0);
    assert!(accepted(&one) > 5 && accepted(&other) > 5);

    let killed = clock();
    one.kill();
    let failed = lost(&nginx, 60);
    let trials = killed.elapsed().as_secs() / FAIL_TIMEOUT.as_secs();
    assert!(failed as u64 <= 1 + trials, "{failed} of 60");

    // It comes back: nginx tries it again, without being told.
    let before = accepted(&one);
    one.start_again();
    one.wait_until_ready();
    wait_for("the gateway to be used again", || {
        lost(&nginx, 1);
        std::thread::sleep(Duration::from_millis(100));
        (accepted(&one) > before).then_some(())
    });
    assert_eq!(lost(&nginx, 20), 0);
}

#[test]
fn behind_nginx_the_client_is_the_client_whatever_it_claims() {
    let backend = Backend::start();
    let gateway = behind(&backend, "");
    let nginx = nginx(&gateway, false);
    for _ in 0..3 {
        let Answer(answer) = nginx.send(&signed(&gateway, FORGED));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(recorded(&gateway), pair(CLIENT, "127.0.0.1"));
        assert_nothing_forged(&backend, CLIENT, "http");
    }
}

#[test]
fn what_was_signed_crosses_nginx_byte_for_byte() {
    let backend = Backend::start();
    let gateway = behind(&backend, "");
    let nginx = nginx(&gateway, false);
    for path in ["/v1/secret/a%20b", "/a:b@c/", "/v1/x!$&'()*+,=y"] {
        let lines = gateway.sign(&machine(), "PUT", path, b"body").lines();
        let Answer(answer) = nginx.send(&raw("PUT", path, &lines, b"body"));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(backend.seen().pop().unwrap().target, path);
    }
}

#[test]
fn a_retry_in_front_turns_a_failed_request_into_a_replay_and_none_leaves_it_as_it_is() {
    // Nobody listens there.
    let gone = Options {
        servers: Some(vec![format!("http://{}", free_address())]),
        more: TRUSTED.to_owned(),
        ..Options::default()
    };
    let gateway = Gateway::with(&Backend::start(), gone);
    for (retries, status, code) in [
        (true, 401, "replayed"),
        (false, 502, "upstream_unreachable"),
    ] {
        let Answer(answer) = nginx(&gateway, retries).send(&signed(&gateway, ""));
        assert_eq!(
            (answer.status, &*answer.code()),
            (status, code),
            "{answer:?}"
        );
    }
}

fn haproxy(gateway: &Gateway) -> Front {
    Front::start(
        "haproxy",
        include_str!("../../conf/haproxy.cfg"),
        |text, address| haproxy_before(&[gateway.address], text, address),
    )
}

/// The reference configuration with these gateways.
fn haproxy_before(gateways: &[SocketAddr], text: &str, address: SocketAddr) -> String {
    const SERVER: &str = "    server gateway-1 127.0.0.1:8080";
    let lines = gateways.iter().enumerate();
    let lines = lines.map(|(number, gateway)| format!("    server gateway-{number} {gateway}\n"));
    text.replace(SERVER, &lines.collect::<String>())
        .replace("bind 0.0.0.0:443", &format!("bind {address}"))
}

/// HAProxy before two gateways, once both are used.
fn haproxy_with_two(gateways: &[Process; 2]) -> Front {
    let haproxy = Front::start(
        "haproxy",
        include_str!("../../conf/haproxy.cfg"),
        |text, address| {
            let addresses = gateways.each_ref().map(|gateway| gateway.address);
            haproxy_before(&addresses, text, address)
        },
    );
    wait_for("both health checks", || {
        lost(&haproxy, 4);
        let used = gateways.iter().all(|gateway| accepted(gateway) > 0);
        used.then_some(())
    });
    haproxy
}

#[test]
fn behind_haproxy_a_gateway_that_is_killed_costs_no_request() {
    let backend = Backend::start();
    let mut gateways = two_gateways(&backend, "proxy_protocol: true, health: /livez");
    let haproxy = haproxy_with_two(&gateways);
    gateways[0].kill();
    assert_eq!(lost(&haproxy, 60), 0);
}

#[test]
fn behind_haproxy_a_gateway_that_is_stopped_in_order_costs_no_request() {
    let backend = Backend::start();
    let mut gateways = two_gateways(&backend, "proxy_protocol: true, health: /livez");
    let haproxy = haproxy_with_two(&gateways);
    gateways[0].signal("TERM");
    let mut sent = 0;
    while !gateways[0].has_ended() {
        assert_eq!(lost(&haproxy, 1), 0, "after {sent}");
        sent += 1;
    }
    assert!(sent > 20, "{sent}");
    assert_eq!(lost(&haproxy, 20), 0);
}

#[test]
fn behind_haproxy_with_proxy_v2_the_client_is_the_client_whatever_it_claims() {
    let backend = Backend::start();
    let gateway = behind(&backend, "proxy_protocol: true, health: /livez");
    let haproxy = haproxy(&gateway);
    // It sends requests once its health check has passed.
    wait_for("the health check", || {
        let mut client = Client::over(connect(haproxy.address));
        client.send(&signed(&gateway, ""));
        client.receive_any().filter(|answer| answer.status == 200)
    });
    // A second PROXY line is the client's own, and no request.
    let forged_line = b"PROXY TCP4 198.51.100.1 127.0.0.1 4711 80\r\n";
    let Answer(answer) = haproxy.send(&[forged_line, &signed(&gateway, "")[..]].concat());
    assert_eq!(answer.status, 400, "{answer:?}");
    let Answer(answer) = haproxy.send(&signed(&gateway, FORGED));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(recorded(&gateway), pair(CLIENT, "127.0.0.1"));
    assert_nothing_forged(&backend, CLIENT, "http");
}

#[test]
fn haproxy_stops_sending_to_a_gateway_that_is_leaving() {
    let backend = Backend::start();
    let options = Options {
        more: TRUSTED.to_owned(),
        listener: "proxy_protocol: true, health: /livez".to_owned(),
        audit: "/dev/full".to_owned(), // not ready from the first record on
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let haproxy = haproxy(&gateway);
    wait_for("nobody to answer", || {
        let mut stream = connect(haproxy.address);
        stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        stream.write_all(&signed(&gateway, "")).unwrap();
        let mut byte = [0];
        matches!(std::io::Read::read(&mut stream, &mut byte), Ok(0) | Err(_)).then_some(())
    });
}
