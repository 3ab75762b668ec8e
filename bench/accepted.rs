//! The CPU cost of a request, user and system time of the server's process, against
//! `verify_strict` alone, all in the same run: a bare Pingora proxy, a route that is open, and one
//! that enforces, without and with the journal.
//!
//!     cargo bench --bench accepted
//!
//! `ROUNDS`, `CONNECTIONS` and `REQUESTS` (of each connection) may be set.
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may panic"
)]

use std::env;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};

mod support;

use support::{Gateway, bare, key, request, status};

/// As in the gateway, for the bare proxy's sake.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A route that asks for no signature. The same requests go there.
const OPEN: &str = "routes:\n  - { path: /, upstream: secrets, mode: open }";
const ENFORCED: &str = "routes:\n  - { path: /, upstream: secrets }";
const NO_JOURNAL: &str = "replay: { state_dir: none }";

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, word, listener, backend] = &arguments[..]
        && word == "bare"
    {
        bare::serve(listener.parse().unwrap(), None, backend.parse().unwrap());
    }
    let load = Load {
        connections: number("CONNECTIONS", 8),
        requests: number("REQUESTS", 5_000),
    };
    println!(
        "CPU of the server's process for each bodyless request, in microseconds; {} connections, {} requests each;\n\
         file audit and metrics on\n",
        load.connections, load.requests
    );
    println!(
        "round  verify_strict   bare   open  enforce  +journal   (enforce-open)/verify  (+journal-open)/verify"
    );
    for round in 1..=number("ROUNDS", 3) {
        let verify = micros(verify_strict());
        let bare = micros(load.bare());
        let open = micros(load.gateway(OPEN, NO_JOURNAL));
        let enforce = micros(load.gateway(ENFORCED, NO_JOURNAL));
        let journal = micros(load.gateway(ENFORCED, ""));
        println!(
            "{round:>5}  {verify:>13.1}  {bare:>5.1}  {open:>5.1}  {enforce:>7.1}  {journal:>8.1}   {:>21.2}  {:>22.2}",
            (enforce - open) / verify,
            (journal - open) / verify,
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

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// CPU time of one signature check, on one thread, without anything else.
fn verify_strict() -> Duration {
    const TIMES: u32 = 40_000;
    let key = SigningKey::from_bytes(&[7; 32]);
    let message = [b'a'; 160];
    let (signature, public) = (key.sign(&message), key.verifying_key());
    let start = support::cpu_time(std::process::id());
    for _ in 0..TIMES {
        assert!(
            public
                .verify_strict(std::hint::black_box(&message), &signature)
                .is_ok()
        );
    }
    (support::cpu_time(std::process::id()) - start) / TIMES
}

#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    requests: usize,
}

impl Load {
    /// CPU time of the gateway for each request.
    fn gateway(self, routes: &str, more: &str) -> Duration {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway::start_with(folder.path(), routes, more);
        let spent = self.spent(gateway.address, || gateway.cpu_time());
        gateway.stop();
        spent
    }

    /// The same of a bare proxy.
    fn bare(self) -> Duration {
        let (listener, backend) = (support::free_address(), support::start_backend());
        let mut proxy = Command::new(env::current_exe().unwrap())
            .args(["bare", &listener.to_string(), &backend.to_string()])
            .spawn()
            .unwrap();
        while TcpStream::connect(listener).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        let spent = self.spent(listener, || support::cpu_time(proxy.id()));
        end(&mut proxy);
        spent
    }

    fn spent(self, server: SocketAddr, cpu_time: impl Fn() -> Duration) -> Duration {
        // Some first, for connections and caches.
        self.send(server, "warm-up", 200);
        let batches = self.batches("measured", self.requests);
        let before = cpu_time();
        send_all(server, &batches);
        let all = u32::try_from(self.connections * self.requests).unwrap();
        (cpu_time() - before) / all
    }

    fn send(self, server: SocketAddr, tag: &str, count: usize) {
        send_all(server, &self.batches(tag, count));
    }

    fn batches(self, tag: &str, count: usize) -> Vec<Vec<Vec<u8>>> {
        (0..self.connections)
            .map(|connection| {
                let tag = format!("{tag}-{connection:04}");
                (0..count as u64)
                    .map(|n| request("bench", &key(), &tag, n))
                    .collect()
            })
            .collect()
    }
}

fn end(process: &mut Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

fn send_all(server: SocketAddr, batches: &[Vec<Vec<u8>>]) {
    thread::scope(|scope| {
        for batch in batches {
            scope.spawn(|| send(server, batch));
        }
    });
}

fn send(server: SocketAddr, batch: &[Vec<u8>]) {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    for request in batch {
        reader.get_mut().write_all(request).unwrap();
        assert_eq!(status(&mut reader), Some(200));
    }
}
