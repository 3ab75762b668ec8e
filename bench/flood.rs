//! Bad requests from 64 connections at one address, as fast as they go, beside fifty honest ones a
//! second from another: what the honest ones notice, and what becomes of the audit trail.
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
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod support;

use support::{Gateway, Honest, ask_honestly, connect_from, request, strangers_key};

const ATTACKERS: usize = 64;
/// Between two honest requests.
const PAUSE: Duration = Duration::from_millis(20);
const THEIR_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const HONEST_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// When a flood ends.
#[derive(Clone, Copy)]
enum Until {
    Requests(u64),
    Seconds(u64),
}

fn main() {
    let signed = request("bench", &strangers_key(), "flood", 0);
    let unsigned = b"GET /v1/secret/a HTTP/1.1\r\nHost: gw\r\n\r\n";
    let off = "throttle: { failures_per_minute: 0 }";
    run(
        "a million, half without a signature, half with a bad one; no throttle",
        off,
        &[&signed, unsigned],
        Until::Requests(1_000_000),
    );
    run(
        "60 s of bad signatures; no throttle",
        off,
        &[&signed],
        Until::Seconds(60),
    );
    run(
        "60 s of bad signatures; the throttle as it is by default",
        "",
        &[&signed],
        Until::Seconds(60),
    );
}

fn run(title: &str, more: &str, kinds: &[&[u8]], until: Until) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), more);
    let (sent, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (began, cpu) = (Instant::now(), gateway.cpu_time());
    let is_over = |n: u64| match until {
        Until::Requests(most) => n >= most,
        Until::Seconds(most) => began.elapsed() >= Duration::from_secs(most),
    };
    let mut honest = thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let mut seen = Honest::default();
            ask_honestly(
                gateway.address,
                HONEST_ADDRESS,
                PAUSE,
                "honest",
                || over.load(Ordering::Relaxed),
                |took| match took {
                    Some(took) => seen.latencies.push(took),
                    None => seen.failed += 1,
                },
            );
            seen
        });
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|_| scope.spawn(|| attack(gateway.address, kinds, &sent, is_over)))
            .collect();
        for attacker in attackers {
            attacker.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        honest.join().unwrap()
    });
    let took = began.elapsed();
    let cpu = gateway.cpu_time() - cpu;
    let (memory, metrics) = (gateway.resident(), gateway.metrics());
    gateway.stop();

    let sent = sent.load(Ordering::Relaxed);
    println!("\n{title}");
    println!(
        "  {sent} in {:.0} s, {:.0} a second, {:.0} us of CPU each; the gateway has {} MB",
        took.as_secs_f64(),
        sent as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / sent as f64,
        memory / 1_000_000
    );
    for line in metrics.lines() {
        if line.starts_with("countersign_refusals_total") && !line.ends_with(" 0") {
            println!("  {}", line.trim_start_matches("countersign_"));
        }
    }
    println!(
        "  honest: {} of {} with 200 ({:.2} %), p50 {:.1?}, p99 {:.1?}",
        honest.latencies.len(),
        honest.latencies.len() + honest.failed,
        honest.rate(),
        honest.at(500),
        honest.at(990)
    );
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let (trail, strangers) = (read("audit.jsonl"), read("audit.refused.jsonl"));
    let accepted = trail.matches("\"decision\":\"accepted\"").count();
    println!(
        "  audit: {accepted} accepted records; {} refusals recorded in {} bytes, the others in {} summaries",
        strangers.matches("\"decision\":\"refused\"").count(),
        strangers.len(),
        strangers.matches("\"decision\":\"summary\"").count()
    );
    assert_eq!(accepted, honest.latencies.len());
}

/// Each request takes a connection of its own, because the gateway closes it.
fn attack(address: SocketAddr, kinds: &[&[u8]], sent: &AtomicU64, is_over: impl Fn(u64) -> bool) {
    loop {
        let n = sent.fetch_add(1, Ordering::Relaxed);
        if is_over(n) {
            sent.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // Where the system has no port left for a moment, it is tried again.
        let mut stream = loop {
            match connect_from(THEIR_ADDRESS, address) {
                Ok(stream) => break stream,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        };
        let _ = stream.write_all(kinds[n as usize % kinds.len()]);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.starts_with(b"HTTP/1.1 401") || answer.starts_with(b"HTTP/1.1 429"),
            "{}",
            answer.escape_ascii()
        );
    }
}
