//! What the agent costs: requests straight to the gateway against the same through the agent, over
//! plain HTTP and over TLS, one client and eight at once. Signing is inside both.
//!
//!     make bench-agent
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

mod support;

use support::{Gateway, Honest, PATH, free_address, key, request, status};

/// Requests of each client.
const REQUESTS: u64 = 1000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "throttle: { failures_per_minute: 0 }");
    let pem = folder.path().join("machine.pem");
    write_key(&pem);
    let tls = format!("https://localhost:{}", gateway.tls_address.port());
    let plain = Agent::start(folder.path(), &format!("http://{}", gateway.address), &pem);
    let over_tls = Agent::start(folder.path(), &tls, &pem);
    println!("{REQUESTS} GETs of each client, on one kept connection\n");
    println!("| way | clients | p50 | p99 | requests a second |");
    println!("|---|---|---|---|---|");
    for clients in [1, 8] {
        let direct = |tag: &str, n| request("bench", &key(), tag, n);
        measure("straight to the gateway", clients, gateway.address, direct);
        for (way, agent) in [
            ("through the agent", &plain),
            ("through the agent, TLS to the gateway", &over_tls),
        ] {
            let head = format!("GET {PATH} HTTP/1.1\r\nHost: {}\r\n\r\n", agent.address);
            measure(way, clients, agent.address, |_, _| {
                head.clone().into_bytes()
            });
        }
    }
    drop((plain, over_tls));
    gateway.stop();
}

/// Prints one row.
fn measure(
    way: &str,
    clients: usize,
    address: SocketAddr,
    request: impl Fn(&str, u64) -> Vec<u8> + Sync,
) {
    let (mut all, began) = (Honest::default(), Instant::now());
    thread::scope(|scope| {
        let request = &request;
        let ask = |client: usize| {
            scope.spawn(move || {
                let tag = format!("agent-{client}-{}", address.port());
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(stream);
                let ask = |n| {
                    let began = Instant::now();
                    let request = request(&tag, n);
                    reader.get_mut().write_all(&request).unwrap();
                    assert_eq!(status(&mut reader), Some(200));
                    began.elapsed()
                };
                let nonces = clients as u64 * 1_000_000;
                (nonces..nonces + REQUESTS).map(ask).collect::<Vec<_>>()
            })
        };
        let asking: Vec<_> = (0..clients).map(ask).collect();
        for asked in asking {
            all.latencies.extend(asked.join().unwrap());
        }
    });
    let rate = all.latencies.len() as f64 / began.elapsed().as_secs_f64();
    let (p50, p99) = (all.at(500), all.at(990));
    println!("| {way} | {clients} | {p50:.1?} | {p99:.1?} | {rate:.0} |");
}

struct Agent {
    address: SocketAddr,
    child: Child,
}

impl Agent {
    fn start(folder: &Path, gateway: &str, key: &Path) -> Agent {
        let address = free_address();
        let child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args([
                "agent",
                "--listen",
                &address.to_string(),
                "--gateway",
                gateway,
            ])
            .args(["--machine-id", "bench", "--key"])
            .arg(key)
            .arg("--cacert")
            .arg(folder.join("cert.pem"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(address).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        Agent { address, child }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In PKCS#8 PEM (RFC 8410, section 7), for its owner alone.
fn write_key(file: &Path) {
    const HEAD: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let der = STANDARD.encode([HEAD, &key().to_bytes()].concat());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    fs::write(file, pem).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}
