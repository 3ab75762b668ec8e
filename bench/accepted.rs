//! The CPU cost of an accepted request, against `verify_strict` alone in the same run: user and
//! system time of the gateway's process, from its start of serving to its end.
//!
//!     cargo bench --bench accepted
#![allow(missing_docs, reason = "a benchmark has no reader of its documentation")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

const CONNECTIONS: usize = 8;
const REQUESTS_EACH: usize = 2_500;
const ROUNDS: usize = 3;
const PATH: &str = "/v1/secret/5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b";

fn main() {
    let backend = start_backend();
    println!("{CONNECTIONS} connections, {REQUESTS_EACH} bodyless requests each, file audit and metrics on\n");
    println!("round   verify_strict   accepted request   ratio");
    for round in 1..=ROUNDS {
        let verify = verify_strict();
        let accepted = accepted(backend);
        let micros = |d: Duration| d.as_secs_f64() * 1e6;
        println!(
            "{round:>5}   {:>10.1} us   {:>13.1} us   {:>5.2}",
            micros(verify),
            micros(accepted),
            accepted.as_secs_f64() / verify.as_secs_f64()
        );
    }
}

/// One signature check, on one thread, without anything else.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn verify_strict() -> Duration {
    const TIMES: u32 = 20_000;
    let key = SigningKey::from_bytes(&[7; 32]);
    let message = [b'a'; 160];
    let (signature, public) = (key.sign(&message), key.verifying_key());
    let start = Instant::now();
    for _ in 0..TIMES {
        assert!(public.verify_strict(std::hint::black_box(&message), &signature).is_ok());
    }
    start.elapsed() / TIMES
}

/// CPU time of the gateway for each accepted request.
fn accepted(backend: SocketAddr) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::from_bytes(&[7; 32]);
    let (address, admin) = (free_address(), free_address());
    let public = STANDARD.encode(key.verifying_key().as_bytes());
    fs::write(
        folder.path().join("machines.yaml"),
        format!("machines:\n  - id: bench\n    public_keys: [\"{public}\"]\n"),
    )
    .unwrap();
    let config = folder.path().join("countersign.yaml");
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
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["serve", "--config", config.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Past the first second, whose stamps are refused.
    thread::sleep(Duration::from_millis(2500));

    let batches: Vec<Vec<Vec<u8>>> = (0..CONNECTIONS).map(|c| requests(&key, c)).collect();
    let before = cpu_time(&gateway);
    thread::scope(|scope| {
        for batch in &batches {
            scope.spawn(|| send(address, batch));
        }
    });
    let spent = cpu_time(&gateway) - before;
    stop(&mut gateway);
    spent / u32::try_from(CONNECTIONS * REQUESTS_EACH).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "the gateway under test lives in real time")]
fn requests(key: &SigningKey, connection: usize) -> Vec<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let empty: String = Sha256::digest(b"").iter().map(|b| format!("{b:02x}")).collect();
    (0..REQUESTS_EACH)
        .map(|n| {
            let nonce = format!("bench-{connection:04}-{n:016}");
            let message = format!("GET:{PATH}:{now}:{nonce}:{empty}");
            let signature = STANDARD.encode(key.sign(message.as_bytes()).to_bytes());
            format!(
                "GET {PATH} HTTP/1.1\r\nHost: gw\r\nUser-Agent: bench\r\nX-Machine-Id: bench\r\n\
                 X-Timestamp: {now}\r\nX-Nonce: {nonce}\r\nX-Signature: {signature}\r\n\r\n"
            )
            .into_bytes()
        })
        .collect()
}

fn send(address: SocketAddr, batch: &[Vec<u8>]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for request in batch {
        stream.write_all(request).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let lower = line.trim_end().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            }
            if let Some(value) = lower.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
    }
}

/// Answers every request with the same few bytes, on kept-alive connections.
fn start_backend() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                    if line == "\r\n" {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        if stream.write_all(answer).is_err() {
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

/// User and system time of a process so far (proc(5), fields 14 and 15 of `stat`).
fn cpu_time(process: &Child) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    // Linux reports in hundredths of a second, whatever the kernel's own clock does.
    Duration::from_millis(ticks * 10)
}

fn stop(process: &mut Child) {
    let id = process.id().to_string();
    Command::new("kill").args(["-TERM", &id]).status().unwrap();
    process.wait().unwrap();
}

fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}
