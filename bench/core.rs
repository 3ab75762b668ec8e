//! Micro benchmarks of the decision: parse, message, verify, claim.
//!
//!     make bench-core
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign::nonces::{JournaledNonces, MemoryNonces, NonceQuotas};
use countersign_client::clock::Clock;
use countersign_core::decision::Attempt;
use countersign_core::header_name::SigningHeader;
use countersign_core::headers::{Occurrence, SigningHeaders};
use countersign_core::identity::{Machine, MachineId, PublicKey};
use countersign_core::message::BodyHash;
use countersign_core::message::Timestamp;
use countersign_core::method::Method;
use countersign_core::replay::{Claim, NonceStore, Window};
use countersign_core::target::{QueryPolicy, SignedTarget, Target};
use divan::{Bencher, black_box};
use ed25519_dalek::{Signer, SigningKey};
use futures::FutureExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: u64 = 1_800_000_000;
const PATH: &str = "/v1/secret/5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b";
const WINDOW: Window = Window {
    past: 300,
    future: 300,
};

fn main() {
    println!(
        "curve25519 backend: {}",
        countersign::metrics::curve25519_backend()
    );
    divan::main();
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn machine() -> Arc<Machine> {
    let public = PublicKey::from_bytes(key().verifying_key().as_bytes()).unwrap();
    Arc::new(Machine {
        id: MachineId::parse("5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b").unwrap(),
        name: None,
        vault: None,
        owner: None,
        credential: None,
        keys: [public.into()].into(),
        enabled: true,
        not_before: None,
        expires: None,
        policy: None,
        groups: Arc::default(),
    })
}

/// The values of the four headers, signed for `body`.
fn values(body: &[u8]) -> [String; 4] {
    let hash: String = BodyHash::of(body)
        .as_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let nonce = "AAAAAAAAAAAAAAAAAAAAAA==";
    let message = format!("GET:{PATH}:{NOW}:{nonce}:{hash}");
    [
        machine().id.to_string(),
        NOW.to_string(),
        nonce.to_owned(),
        STANDARD.encode(key().sign(message.as_bytes()).to_bytes()),
    ]
}

fn headers(values: &[String; 4]) -> SigningHeaders<'_> {
    SigningHeaders::parse(|header| Occurrence::Once(values[header as usize].as_bytes())).unwrap()
}

fn target() -> SignedTarget<'static> {
    Target::parse(PATH.as_bytes())
        .unwrap()
        .under(QueryPolicy::Strip)
        .unwrap()
}

#[divan::bench]
fn parse_target() -> SignedTarget<'static> {
    Target::parse(black_box(PATH.as_bytes()))
        .unwrap()
        .under(QueryPolicy::Strip)
        .unwrap()
}

#[divan::bench]
fn parse_headers(bencher: Bencher<'_, '_>) {
    let values = values(b"");
    assert_eq!(SigningHeader::ALL[2] as usize, 2);
    bencher.bench_local(|| headers(black_box(&values)).signature);
}

#[divan::bench]
fn build_message(bencher: Bencher<'_, '_>) {
    let values = values(b"");
    let headers = headers(&values);
    let method = Method::accept("GET", &[]).unwrap();
    bencher.bench_local(|| Attempt::new(method, target(), black_box(headers.clone())));
}

/// What cannot be saved: the signature alone.
#[divan::bench]
fn verify_strict_alone(bencher: Bencher<'_, '_>) {
    let key = key();
    let message =
        b"GET:/v1/secret/a:1800000000:AAAAAAAAAAAAAAAAAAAAAA==:e3b0c44298fc1c149afbf4c8996fb924";
    let signature = key.sign(message);
    let public = key.verifying_key();
    bencher.bench_local(|| public.verify_strict(black_box(message), &signature).is_ok());
}

/// Headers to verified, for a body of so many bytes; hashing included.
#[divan::bench(args = [0, 1024, 65536, 1_048_576])]
fn decide(bencher: Bencher<'_, '_>, size: usize) {
    let body = vec![b'a'; size];
    let (values, machine) = (values(&body), machine());
    bencher.bench_local(|| {
        let method = Method::accept("GET", &[]).unwrap();
        Attempt::new(method, target(), headers(black_box(&values)))
            .check_time(NOW, &WINDOW)
            .unwrap()
            .look_up(|_| Some(Arc::clone(&machine)))
            .verify(BodyHash::of(&body))
            .unwrap()
            .check_state(NOW)
            .unwrap()
    });
}

/// A fresh claim, in a store that grows as it goes, by one thread and by two.
#[divan::bench(threads = [1, 2], sample_count = 100, sample_size = 1000)]
fn claim(bencher: Bencher<'_, '_>) {
    let (clock, _) = Clock::manual(NOW * 1000);
    let quotas = NonceQuotas {
        all: u64::MAX,
        per_machine: u32::MAX,
    };
    let store = MemoryNonces::new(WINDOW, quotas, clock).unwrap();
    let public = machine().keys[0].public;
    let stamp = Timestamp::parse((NOW + 1).to_string().as_bytes()).unwrap();
    let next = std::sync::atomic::AtomicU64::new(0);
    bencher.bench(|| {
        let nonce = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let claim = Claim::new(&public, &format!("{nonce:020}"), stamp);
        // The memory store never waits.
        store.claim(claim).now_or_never().unwrap().is_ok()
    });
}

/// The same with its record in a journal. A bench that outruns the making of segments would measure
/// refusals, so the samples together stay below the two that are there from the start.
#[divan::bench(sample_count = 25, sample_size = 1000)]
fn journaled_claim(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(NOW * 1000);
    let quotas = NonceQuotas {
        all: u64::MAX,
        per_machine: u32::MAX,
    };
    let store = JournaledNonces::start(folder.path(), WINDOW, quotas, clock.clone()).unwrap();
    // Its first second, whenever that was, is refused.
    while store.ready().is_err() {
        std::thread::sleep(std::time::Duration::from_millis(10));
        hands.advance(std::time::Duration::from_secs(1));
    }
    let public = machine().keys[0].public;
    let now = clock.now().unix_seconds().to_string();
    let stamp = Timestamp::parse(now.as_bytes()).unwrap();
    // The keeper holds the pen now and then, for a microsecond; then a claim waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut nonce = 0;
    bencher.bench_local(|| {
        nonce += 1;
        let claim = Claim::new(&public, &format!("{nonce:020}"), stamp);
        runtime.block_on(store.claim(claim)).unwrap();
    });
}
