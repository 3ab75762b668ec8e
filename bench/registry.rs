//! A large registry: how long it takes to load, to load again with one machine changed, and to find a
//! machine in it.
//!
//!     make bench-registry
//!
//! `MACHINES` says how many there are at most; a million take some minutes.
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::env;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign::registry::{Change, Registry};
use ed25519_dalek::SigningKey;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [u64; 6] = [10, 100, 1_000, 10_000, 100_000, 1_000_000];
const LOOKUPS: u64 = 1_000_000;

fn main() {
    let most = env::var("MACHINES").map_or(100_000, |text| text.parse().unwrap());
    let keys: Vec<String> = (0..most).map(key).collect();
    println!("machines      load     one changed   find one");
    for size in SIZES.into_iter().filter(|size| *size <= most) {
        let text = fleet(&keys[..usize::try_from(size).unwrap()]);
        let (load, registry) = timed(|| read(&text, None));
        let text = text.replacen("name: prod-api-5\n", "name: renamed\n", 1);
        let (reload, renamed) = timed(|| read(&text, Some(&registry)));
        assert_eq!(Change::between(&registry, &renamed).touched(), 1);
        let find = find(&registry, size);
        println!(
            "{size:>8}  {:>7.3} s     {:>7.3} s   {:>5.0} ns",
            load.as_secs_f64(),
            reload.as_secs_f64(),
            find.as_secs_f64() * 1e9
        );
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

fn read(text: &str, previous: Option<&Registry>) -> Registry {
    Registry::from_bytes(Path::new("machines.yaml"), text.as_bytes(), previous).unwrap()
}

/// Machines as a fleet has them, each with a key of its own.
fn fleet(keys: &[String]) -> String {
    let mut text = String::from("machines:\n");
    for (number, key) in keys.iter().enumerate() {
        let (id, vault, owner) = (id(number as u64), number % 10, number % 100);
        let _ = writeln!(
            text,
            "  - id: {id}\n    name: prod-api-{number}\n    vault: vault_{vault}\n    owner: team-{owner}\n    \
             public_keys: [\"{key}\"]"
        );
    }
    text
}

fn id(number: u64) -> String {
    format!("5b0c6f3e-8a1d-4f0e-9a57-{number:012x}")
}

fn key(number: u64) -> String {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    STANDARD.encode(SigningKey::from_bytes(&seed).verifying_key().as_bytes())
}

/// The mean over lookups all over the registry, in an order that caches cannot foresee.
fn find(registry: &Registry, size: u64) -> Duration {
    let ids: Vec<String> = (0..LOOKUPS.min(100_000))
        .map(|n| id(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size))
        .collect();
    let start = Instant::now();
    for _ in 0..LOOKUPS / ids.len() as u64 {
        for id in &ids {
            assert!(registry.find(black_box(id)).is_some());
        }
    }
    start.elapsed() / u32::try_from(LOOKUPS).unwrap()
}
