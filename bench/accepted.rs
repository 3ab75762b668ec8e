//! The CPU cost of an accepted request, against `verify_strict` alone in the same run: user and
//! system time of the gateway's process, from its start of serving to its end.
//!
//!     cargo bench --bench accepted
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

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer, SigningKey};

mod support;

use support::{Gateway, key, request, status};

const CONNECTIONS: usize = 8;
const REQUESTS_EACH: usize = 2_500;
const ROUNDS: usize = 3;

fn main() {
    println!(
        "{CONNECTIONS} connections, {REQUESTS_EACH} bodyless requests each, file audit, journal and metrics on\n"
    );
    println!("round   verify_strict   accepted request   ratio");
    for round in 1..=ROUNDS {
        let verify = verify_strict();
        let accepted = accepted();
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
        assert!(
            public
                .verify_strict(std::hint::black_box(&message), &signature)
                .is_ok()
        );
    }
    start.elapsed() / TIMES
}

/// CPU time of the gateway for each accepted request.
fn accepted() -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "");
    let batches: Vec<Vec<Vec<u8>>> = (0..CONNECTIONS).map(requests).collect();
    let before = gateway.cpu_time();
    thread::scope(|scope| {
        for batch in &batches {
            scope.spawn(|| send(gateway.address, batch));
        }
    });
    let spent = gateway.cpu_time() - before;
    gateway.stop();
    spent / u32::try_from(CONNECTIONS * REQUESTS_EACH).unwrap()
}

fn requests(connection: usize) -> Vec<Vec<u8>> {
    let tag = format!("bench-{connection:04}");
    (0..REQUESTS_EACH as u64)
        .map(|n| request("bench", &key(), &tag, n))
        .collect()
}

fn send(address: SocketAddr, batch: &[Vec<u8>]) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    for request in batch {
        reader.get_mut().write_all(request).unwrap();
        assert_eq!(status(&mut reader), Some(200));
    }
}
