//! A million live nonces: what they take of memory, how long a claim takes among them, and how long
//! while they expire at once.
//!
//!     make bench-nonces
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign::nonces::{JournaledNonces, MemoryNonces, NonceQuotas};
use countersign_client::clock::Clock;
use countersign_core::identity::PublicKey;
use countersign_core::message::Timestamp;
use countersign_core::replay::{Claim, ClaimError, NonceStore, Window};
use ed25519_dalek::SigningKey;
use futures::FutureExt;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Live nonces at which claims are timed.
const LEVELS: [u64; 3] = [1_000, 100_000, 1_000_000];
const TIMED: u64 = 100_000;
const MACHINES: u16 = 1000;
const WINDOW: Window = Window {
    past: 300,
    future: 300,
};
/// Its nonces expire 62 seconds after they were claimed.
const SHORT: Window = Window { past: 1, future: 1 };
/// Claims a second while a million nonces expire.
const RATE: u64 = 2_000;
const QUOTAS: NonceQuotas = NonceQuotas {
    all: u64::MAX,
    per_machine: u32::MAX,
};

/// A process of its own for each store: memory that one has freed would hide what the next takes.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["memory"] => memory(),
        ["journal", folder] => journal(Path::new(folder)),
        ["expiry"] => expiry(),
        _ => {
            println!(
                "store   live nonces  bytes each  claim p50, p99, p99.9, max       two at once p50, p99, max   four at once"
            );
            let itself = || Command::new(std::env::current_exe().unwrap());
            assert!(itself().arg("memory").status().unwrap().success());
            let folder = tempfile::tempdir().unwrap();
            // It ends as killed.
            let _ = itself().arg("journal").arg(folder.path()).status().unwrap();
            start_again(folder.path());
            assert!(itself().arg("expiry").status().unwrap().success());
        }
    }
}

fn memory() {
    let machines = machines();
    let before = resident();
    let memory = MemoryNonces::new(WINDOW, QUOTAS, Clock::system()).unwrap();
    // Its first second is refused.
    thread::sleep(Duration::from_millis(1100));
    levels("memory", &memory, &machines, before);
}

fn journal(folder: &Path) {
    let machines = machines();
    let before = resident();
    let journal = open(folder);
    levels("journal", &journal, &machines, before);
    std::process::abort();
}

fn start_again(folder: &Path) {
    let files: u64 = (fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    let start = Instant::now();
    let journal = open(folder);
    let took = start.elapsed().as_secs_f64();
    let (live, files) = (journal.live(), files / 1_000_000);
    println!("a start after kill -9 knows {live} nonces, {files} MB of files, in {took:.1} s");
    assert!(live >= LEVELS[2]);
}

/// Claims, at a steady rate, while a million nonces that were claimed within seconds expire.
fn expiry() {
    let machines = machines();
    let memory = MemoryNonces::new(SHORT, QUOTAS, Clock::system()).unwrap();
    thread::sleep(Duration::from_millis(1100));
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let next = AtomicU64::new(0);
    let start = Instant::now();
    while next.load(Ordering::Relaxed) < LEVELS[2] {
        spend(&memory, &runtime, || claim(&machines, &next));
    }
    let (filled, full) = (start.elapsed(), memory.live());
    thread::sleep(Duration::from_secs(60).saturating_sub(filled));
    let (mut took, mut first, mut last) = (Vec::new(), None, start);
    while first.is_none() || memory.live() > LEVELS[2] / 10 {
        let due = Instant::now() + Duration::from_micros(1_000_000 / RATE);
        took.push(spend(&memory, &runtime, || claim(&machines, &next)));
        last = Instant::now();
        if first.is_none() && memory.live() < full {
            first = Some(last);
        }
        thread::sleep(due.saturating_duration_since(last));
    }
    took.sort_unstable();
    let at = |of: usize| took[(took.len() * of / 1000).min(took.len() - 1)].as_secs_f64() * 1e6;
    println!(
        "a million claimed within {:.1} s expire within {:.1} s; {} claims meanwhile: p50 {:.2} us, p99 {:.1}, \
         p99.9 {:.1}, max {:.0}",
        filled.as_secs_f64(),
        last.duration_since(first.unwrap_or(last)).as_secs_f64(),
        took.len(),
        at(500),
        at(990),
        at(999),
        at(1000),
    );
}

fn open(folder: &Path) -> JournaledNonces {
    let journal = JournaledNonces::start(folder, WINDOW, QUOTAS, Clock::system()).unwrap();
    while journal.ready().is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    journal
}

fn machines() -> Vec<PublicKey> {
    let key = |n: u16| {
        let mut seed = [7; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        let key = SigningKey::from_bytes(&seed).verifying_key();
        PublicKey::from_bytes(key.as_bytes()).unwrap()
    };
    (0..MACHINES).map(key).collect()
}

/// Fills the store to each level and times claims there.
fn levels(name: &str, store: &dyn NonceStore, machines: &[PublicKey], before: u64) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let next = AtomicU64::new(0);
    for level in LEVELS {
        let mut live = next.load(Ordering::Relaxed);
        while live < level {
            spend(store, &runtime, || claim(machines, &next));
            live += 1;
        }
        let bytes = resident().saturating_sub(before) / level;
        let alone = timed(store, machines, &next, 1);
        let together = timed(store, machines, &next, 2);
        let four = timed(store, machines, &next, 4);
        let at = |sorted: &[Duration], of: usize| {
            let index = (sorted.len() * of / 1000).min(sorted.len() - 1);
            sorted[index].as_nanos() as f64 / 1000.0
        };
        println!(
            "{name:<7} {level:>11}  {bytes:>10}  {:>6.2} us, {:.1}, {:.1}, {:<10.0} {:>6.2} us, {:.1}, {:<8.0}  {:>6.2} us, {:.1}, {:.0}",
            at(&alone, 500),
            at(&alone, 990),
            at(&alone, 999),
            at(&alone, 1000),
            at(&together, 500),
            at(&together, 990),
            at(&together, 1000),
            at(&four, 500),
            at(&four, 990),
            at(&four, 1000),
        );
    }
}

/// How long each of [`TIMED`] claims took, by so many threads at once, shortest first.
fn timed(
    store: &dyn NonceStore,
    machines: &[PublicKey],
    next: &AtomicU64,
    threads: u64,
) -> Vec<Duration> {
    let work = || {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let one = |_| spend(store, &runtime, || claim(machines, next));
        (0..TIMED / threads).map(one).collect::<Vec<_>>()
    };
    let mut all: Vec<Duration> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Vec<Duration>>| worker.join().unwrap();
        workers.into_iter().flat_map(join).collect()
    });
    all.sort_unstable();
    all
}

/// Spends a fresh nonce, and tells how long the claim that succeeded took. A bench fills a journal
/// faster than segments are made; it then waits for the next, which no gateway has to.
fn spend(store: &dyn NonceStore, runtime: &Runtime, next: impl Fn() -> Claim) -> Duration {
    loop {
        let claim = next();
        let start = Instant::now();
        // Neither store waits, as a rule; the journal does where two write at once.
        let mut claiming = store.claim(claim);
        let spent = match (&mut claiming).now_or_never() {
            Some(spent) => spent,
            None => runtime.block_on(claiming),
        };
        let took = start.elapsed();
        match spent {
            Ok(()) => return took,
            // The refused nonce stays spent.
            Err(ClaimError::Unavailable { .. }) => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("a fresh nonce: {error:?}"),
        }
    }
}

fn claim(machines: &[PublicKey], next: &AtomicU64) -> Claim {
    let n = next.fetch_add(1, Ordering::Relaxed);
    let machine = &machines[n as usize % machines.len()];
    Claim::new(machine, &format!("{n:020}"), now())
}

fn now() -> Timestamp {
    let now = Clock::system().now().unix_seconds();
    Timestamp::parse(now.to_string().as_bytes()).unwrap()
}

/// Resident memory of this process, in bytes (proc(5), `VmRSS`).
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
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
