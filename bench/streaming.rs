//! The time from an event of the backend to the client, of server-sent events that stream: straight,
//! and through the gateway without a secret, without the echo check, and with it. They take turns.
//!
//!     make bench-streaming
//!
//! `ROUNDS` and `EVENTS` (of each round) may be set.
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

mod support;

use support::{Gateway, key, read_head, request};

/// As long as those of well-known APIs.
const TOKEN: &str =
    "sk-proj-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Pause between two events, as of a model that writes fast.
const PAUSE: Duration = Duration::from_millis(2);

const CREDENTIAL: &str = ", credential: { header: Authorization, prefix: 'Bearer ', file: token }";
const ROUTES: &str = "routes: [{ path: /, upstream: secrets }]";

static START: LazyLock<Instant> = LazyLock::new(|| {
    #[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
    Instant::now()
});

fn main() {
    let (rounds, events) = (number("ROUNDS", 5), number("EVENTS", 2_000));
    let _ = *START;
    let backend = start_backend(events);
    let settings = [
        ("straight to the backend", None),
        ("no secret", Some(String::new())),
        (
            "echo_check: off",
            Some(format!("{CREDENTIAL}, echo_check: off")),
        ),
        ("echo_check: on", Some(CREDENTIAL.to_owned())),
    ];
    let mut of: Vec<Vec<Duration>> = vec![Vec::new(); settings.len()];
    for _ in 0..rounds {
        for ((_, upstream), of) in settings.iter().zip(&mut of) {
            of.extend(match upstream {
                None => latencies(backend, events),
                Some(more) => through_gateway(backend, more, events),
            });
        }
    }
    println!(
        "server-sent events of 200 bytes, one in {PAUSE:?}; {} of each, in {rounds} turns\n",
        rounds * events
    );
    println!("{:<24} {:>9} {:>9} {:>9}", "", "median", "p99", "p99.9");
    for ((name, _), mut of) in settings.iter().zip(of) {
        of.sort_unstable();
        let at = |thousandth: usize| of[(of.len() - 1) * thousandth / 1000].as_secs_f64() * 1e6;
        println!(
            "{name:<24} {:>6.0} us {:>6.0} us {:>6.0} us",
            at(500),
            at(990),
            at(999)
        );
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a benchmark is told by its environment how long to run"
)]
fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn through_gateway(backend: SocketAddr, more: &str, events: usize) -> Vec<Duration> {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let upstream = format!("servers: [\"http://{backend}\"]{more}");
    let gateway = Gateway::start_under(&[], folder.path(), &upstream, ROUTES);
    let latencies = latencies(gateway.address, events);
    gateway.stop();
    latencies
}

/// The time from each event until it is here.
fn latencies(server: SocketAddr, events: usize) -> Vec<Duration> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .write_all(&request("bench", &key(), "streaming-nonce", 0))
        .unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut latencies = Vec::with_capacity(events);
    while latencies.len() < events {
        line.clear();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "the stream ended early"
        );
        if let Some((_, sent)) = line.split_once("data: ") {
            let sent = sent.split(' ').next().unwrap().parse().unwrap();
            latencies.push(START.elapsed().saturating_sub(Duration::from_nanos(sent)));
        }
    }
    // To the end of it, so that the gateway ends well.
    reader.read_to_end(&mut Vec::new()).unwrap();
    latencies
}

/// Answers each request with a stream of events that tell when they were sent, in chunks, and closes
/// the connection.
fn start_backend(events: usize) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(stream);
                if read_head(&mut reader).is_some() {
                    // The client may leave.
                    let _ = send_events(reader.get_mut(), events);
                }
            });
        }
    });
    address
}

fn send_events(stream: &mut TcpStream, events: usize) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\
          Transfer-Encoding: chunked\r\n\r\n",
    )?;
    for _ in 0..events {
        thread::sleep(PAUSE);
        let event = format!("data: {} ", START.elapsed().as_nanos());
        let event = format!("{event:a<198}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
    }
    stream.write_all(b"0\r\n\r\n")
}
