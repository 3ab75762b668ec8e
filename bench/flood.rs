//! A million bad requests, as fast as they go, beside fifty honest ones a second: what the honest
//! ones notice, and what becomes of the audit trail.
//!
//!     make bench-flood
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

const FLOOD: u64 = 1_000_000;
const ATTACKERS: usize = 8;
/// Between two honest requests.
const PAUSE: Duration = Duration::from_millis(20);
const PATH: &str = "/v1/secret/a";

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (honest_key, stranger) = (
        SigningKey::from_bytes(&[7; 32]),
        SigningKey::from_bytes(&[9; 32]),
    );
    let (mut gateway, address) = start(folder.path(), &honest_key, start_backend());
    let (sent, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let mut latencies = thread::scope(|scope| {
        let honest = scope.spawn(|| honest(address, &honest_key, &over));
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|_| scope.spawn(|| attack(address, &stranger, &sent)))
            .collect();
        attackers
            .into_iter()
            .for_each(|attacker| attacker.join().unwrap());
        over.store(true, Ordering::Relaxed);
        honest.join().unwrap()
    });
    let took = began.elapsed();
    let memory = resident(&gateway);
    let id = gateway.id().to_string();
    Command::new("kill").args(["-TERM", &id]).status().unwrap();
    gateway.wait().unwrap();

    latencies.sort_unstable();
    let at = |of: usize| latencies[latencies.len() * of / 1000];
    println!(
        "{FLOOD} bad requests in {:.0} s, {:.0} a second; the gateway has {} MB",
        took.as_secs_f64(),
        FLOOD as f64 / took.as_secs_f64(),
        memory / 1_000_000
    );
    println!(
        "{} honest requests beside them, all answered with 200: p50 {:.1?}, p99 {:.1?}",
        latencies.len(),
        at(500),
        at(990)
    );
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let (trail, strangers) = (read("audit.jsonl"), read("audit.refused.jsonl"));
    println!(
        "audit: {} accepted records, {} bytes of trail; {} refusals recorded in {} bytes, the others in {} summaries",
        trail.matches("\"decision\":\"accepted\"").count(),
        trail.len(),
        strangers.matches("\"decision\":\"refused\"").count(),
        strangers.len(),
        strangers.matches("\"decision\":\"summary\"").count()
    );
    assert_eq!(
        trail.matches("\"decision\":\"accepted\"").count(),
        latencies.len()
    );
}

fn start(folder: &Path, key: &SigningKey, backend: SocketAddr) -> (Child, SocketAddr) {
    let (address, admin) = (free_address(), free_address());
    let public = STANDARD.encode(key.verifying_key().as_bytes());
    fs::write(
        folder.join("machines.yaml"),
        format!("machines:\n  - id: honest\n    public_keys: [\"{public}\"]\n"),
    )
    .unwrap();
    let config = folder.join("countersign.yaml");
    fs::write(
        &config,
        format!(
            "listeners:\n  - address: {address}\nadmin: {{ address: {admin} }}\n\
             registry: {{ file: machines.yaml }}\n\
             upstreams: {{ secrets: {{ servers: [\"http://{backend}\"] }} }}\n\
             routes:\n  - {{ path: /, upstream: secrets }}\naudit: {{ file: audit.jsonl }}\n\
             shutdown: {{ delay: 0s, grace: 5s }}\n"
        ),
    )
    .unwrap();
    let gateway = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["serve", "--config", config.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Past the first second, whose stamps are refused.
    thread::sleep(Duration::from_millis(2500));
    (gateway, address)
}

/// Sends one request after another until it is over, and tells how long each took.
fn honest(address: SocketAddr, key: &SigningKey, over: &AtomicBool) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut reader = BufReader::new(TcpStream::connect(address).unwrap());
    reader.get_ref().set_nodelay(true).unwrap();
    for n in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let request = request("honest", key, n);
        let began = Instant::now();
        reader.get_mut().write_all(&request).unwrap();
        let status = status(&mut reader);
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        latencies.push(began.elapsed());
        thread::sleep(PAUSE);
    }
    latencies
}

/// Half of the flood has no signature, half has a wrong one; each takes a connection of its own,
/// because the gateway closes it.
fn attack(address: SocketAddr, key: &SigningKey, sent: &AtomicU64) {
    let signed = request("honest", key, 0);
    let unsigned = b"GET /v1/secret/a HTTP/1.1\r\nHost: gw\r\n\r\n";
    loop {
        let n = sent.fetch_add(1, Ordering::Relaxed);
        if n >= FLOOD {
            return;
        }
        let bytes = if n.is_multiple_of(2) {
            &unsigned[..]
        } else {
            &signed
        };
        // Where the system has no port left for a moment, it is tried again.
        let mut stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        };
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.starts_with(b"HTTP/1.1 401"),
            "{}",
            answer.escape_ascii()
        );
    }
}

fn request(machine: &str, key: &SigningKey, n: u64) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let empty: String = Sha256::digest(b"")
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let nonce = format!("flood-{n:020}");
    let message = format!("GET:{PATH}:{now}:{nonce}:{empty}");
    let signature = STANDARD.encode(key.sign(message.as_bytes()).to_bytes());
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: gw\r\nX-Machine-Id: {machine}\r\nX-Timestamp: {now}\r\n\
         X-Nonce: {nonce}\r\nX-Signature: {signature}\r\n\r\n"
    )
    .into_bytes()
}

/// Reads an answer of which only the first line is of interest.
fn status(reader: &mut BufReader<TcpStream>) -> String {
    let (mut status, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut status).unwrap();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    status
}

/// Answers every request with the same few bytes, on kept-alive connections.
fn start_backend() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                    if line == "\r\n" {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        if reader.get_mut().write_all(answer).is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

/// Resident memory of a process, in bytes (proc(5), `VmRSS`).
fn resident(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
}
