//! A large registry, in a file, in SQLite and in PostgreSQL: the time to load it, to load it again with one machine changed, and to find a
//! machine in it; the memory that it takes, and the peak while it is loaded again.
//!
//! A change counts a second after the write at most, when the watch looks, plus the time of the
//! column "one changed": 2 s in all for 10,000 machines, and 4 s for 100,000, are the limits.
//!
//! Memory is one cause of slower lookups among more machines. So the last column has the time to
//! touch one line of a plain array of as many cache lines, in the same order, each after the one
//! before.
//!
//!     make bench-registry
//!
//! `MACHINES` says how many there are at most; a million take some minutes.
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "support/databases.rs"]
mod databases;

use std::env;
use std::fmt::Write as _;
use std::fs;
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
const LOOKUPS: u32 = 1_000_000;
const ROUNDS: usize = 5;

fn main() {
    let most = env::var("MACHINES").map_or(100_000, |text| text.parse().unwrap());
    let keys: Vec<String> = (0..most + 1000).map(key).collect();
    println!("machines      load   memory   one changed     peak   find one   touch one line");
    for size in SIZES.into_iter().filter(|size| *size <= most) {
        let text = fleet(&keys[..usize::try_from(size).unwrap()]);
        let before = memory("VmRSS:");
        let (load, registry) = timed(|| read(&text, None));
        let taken = memory("VmRSS:").saturating_sub(before);
        let text = text.replacen("name: prod-api-5\n", "name: renamed\n", 1);
        clear_peak();
        let before = memory("VmRSS:");
        let (reload, renamed) = timed(|| read(&text, Some(&registry)));
        let peak = memory("VmHWM:").saturating_sub(before);
        assert_eq!(Change::between(&registry, &renamed).touched(), 1);
        drop(renamed);
        let order: Vec<u64> = order(size).collect();
        println!(
            "{size:>8}  {:>7.3} s  {taken:>4} MB     {:>7.3} s  {peak:>4} MB   {:>5.0} ns         {:>5.0} ns",
            load.as_secs_f64(),
            reload.as_secs_f64(),
            find(&registry, size).as_secs_f64() * 1e9,
            touch(size, &order).as_secs_f64() * 1e9,
        );
    }
    let (fleet_keys, more) = keys.split_at(usize::try_from(most).unwrap());
    let ids: Vec<String> = (0..most).map(id).collect();
    databases::measure(&fleet(fleet_keys), &ids, more);
}

/// Resets the mark of the most memory.
fn clear_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

fn read(text: &str, previous: Option<&Registry>) -> Registry {
    Registry::from_bytes(Path::new("machines.yaml"), text.as_bytes(), previous).unwrap()
}

/// Machines as a fleet has them, each with a key of its own and in a group, and every tenth with a
/// rule of its own.
fn fleet(keys: &[String]) -> String {
    let mut text = String::from(
        "groups:\n  - name: fleet\n    allow: [\"read /v1/secret/data/app/**\"]\n    cidrs: [10.0.0.0/8]\n\
         machines:\n",
    );
    for (number, key) in keys.iter().enumerate() {
        let (id, vault, owner) = (id(number as u64), number % 10, number % 100);
        let _ = writeln!(
            text,
            "  - id: {id}\n    name: prod-api-{number}\n    vault: vault_{vault}\n    owner: team-{owner}\n    \
             groups: [fleet]\n    public_keys: [\"{key}\"]"
        );
        if number % 10 == 0 {
            let _ = writeln!(text, "    allow: [\"any /v1/own/{number}/**\"]");
        }
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

/// Places all over the registry, in an order that caches cannot foresee.
fn order(size: u64) -> impl Iterator<Item = u64> {
    (0..u64::from(LOOKUPS)).map(move |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size)
}

/// The mean over lookups in the order of [`order`].
fn find(registry: &Registry, size: u64) -> Duration {
    let ids: Vec<String> = order(size).map(id).collect();
    undisturbed(|| {
        for id in &ids {
            assert!(registry.find(black_box(id)).is_some());
        }
    })
}

/// The mean over touches of an array's lines in this order.
fn touch(size: u64, order: &[u64]) -> Duration {
    #[repr(align(64))]
    struct Line(u64);
    // Zeros, which the compiler does not know: a place depends on the line before, and is still the
    // one wanted.
    let lines: Vec<Line> = (0..size).map(|_| Line(black_box(0))).collect();
    undisturbed(|| {
        let touch = |before, at: &u64| lines[usize::try_from(at + before).unwrap()].0;
        black_box(order.iter().fold(0, touch))
    })
}

/// The mean time of one of [`LOOKUPS`], in the best of some rounds.
fn undisturbed<T>(mut round: impl FnMut() -> T) -> Duration {
    let rounds = (0..ROUNDS).map(|_| timed(&mut round).0);
    rounds.min().unwrap() / LOOKUPS
}

/// The memory of this process, in MB: `VmRSS:` now, `VmHWM:` at most since the mark was reset.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kibibytes.unwrap().parse::<u64>().unwrap() * 1024 / 1_000_000
}
