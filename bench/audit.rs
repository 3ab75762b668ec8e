//! The audit trail: what a record costs, and how long a million of them take to check.
//!
//!     make bench-audit
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::audit::checkpoint::CheckpointSigner;
use countersign::audit::verify::{VerifyOptions, verify};
use countersign::audit::{
    AcceptedRecord, AuditLog, BodyDigest, Bounds, Checkpoints, DroppedHeaders, PathOnly,
    RequestFacts, SentMethod, SignatureFacts, Sink, UnauthenticatedSink,
};
use countersign::metrics::Metrics;
use countersign_client::clock::Clock;
use countersign_core::identity::{Machine, MachineId, PublicKey};
use ed25519_dalek::{Signer as _, SigningKey};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS: u32 = 1_000_000;
/// Requests that wait for their records at once.
const AT_ONCE: u32 = 64;
const PATH: &str = "/v1/secret/5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b";
const TIME: u64 = 1_800_000_000;
const EMPTY: [u8; 32] = [0xe3; 32];

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let signatures = signatures();
    write(&file, &signatures);
    read(&file);
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn gateway_key() -> SigningKey {
    SigningKey::from_bytes(&[8; 32])
}

fn nonce(n: u32) -> String {
    format!("{n:024}")
}

/// Signed before anything is measured.
fn signatures() -> Arc<[[u8; 64]]> {
    let (key, hash) = (key(), "e3".repeat(32));
    let sign = |n| {
        let message = format!("GET:{PATH}:{TIME}:{}:{hash}", nonce(n));
        key.sign(message.as_bytes()).to_bytes()
    };
    (0..RECORDS).map(sign).collect()
}

/// A log in which every task waits for the file, as requests do.
fn write(file: &Path, signatures: &Arc<[[u8; 64]]>) {
    let metrics = Arc::new(Metrics::new("bench", "bench").unwrap());
    let checkpoints = Checkpoints {
        signer: Some(Arc::new(CheckpointSigner::new(gateway_key()))),
        records: 1000,
        interval: Duration::from_secs(60),
    };
    let strangers = UnauthenticatedSink {
        sink: None,
        per_second: 100,
    };
    let sink = Sink::file(file, Bounds::default()).unwrap();
    let deadline = Duration::from_secs(10);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // As in the gateway, whose requests write their own records.
    let inside = runtime.enter();
    let log = AuditLog::start(
        sink,
        strangers,
        checkpoints,
        deadline,
        Clock::system(),
        metrics,
    )
    .unwrap();
    let log = Arc::new(log);
    drop(inside);
    let (start, cpu) = (Instant::now(), cpu_time());
    runtime.block_on(async {
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|task| {
                let (log, signatures) = (Arc::clone(&log), Arc::clone(signatures));
                tokio::spawn(async move {
                    let machine = machine();
                    for n in (task..RECORDS).step_by(AT_ONCE as usize) {
                        let (id, nonce) = (format!("{n:020}"), nonce(n));
                        let record = accepted(&machine, &id, &nonce, &signatures[n as usize]);
                        let _receipt = log.accepted(&record).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    log.close(Duration::from_secs(10)).unwrap();
    let (took, cpu) = (start.elapsed(), cpu_time() - cpu);
    println!(
        "written: {RECORDS} records, {AT_ONCE} waiting at once: {:.1} us of CPU each, {:.0} a second, {} bytes each",
        cpu.as_secs_f64() * 1e6 / f64::from(RECORDS),
        f64::from(RECORDS) / took.as_secs_f64(),
        fs::metadata(file).unwrap().len() / u64::from(RECORDS)
    );
}

fn machine() -> Machine {
    Machine {
        id: MachineId::parse("5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b").unwrap(),
        name: Some("prod-api-7".into()),
        vault: Some("vault_prod".into()),
        owner: Some("payments".into()),
        credential: None,
        keys: [PublicKey::from_bytes(key().verifying_key().as_bytes())
            .unwrap()
            .into()]
        .into(),
        enabled: true,
        not_before: None,
        expires: None,
        policy: None,
        groups: Arc::default(),
    }
}

fn accepted<'a>(
    machine: &'a Machine,
    id: &'a str,
    nonce: &'a str,
    signature: &'a [u8; 64],
) -> AcceptedRecord<'a> {
    AcceptedRecord {
        request: RequestFacts {
            wall_ms: TIME * 1000,
            request_id: id,
            client_ip: Some([192, 0, 2, 7].into()),
            peer_ip: Some([192, 0, 2, 1].into()),
            method: SentMethod::of(b"GET"),
            path: PathOnly::of(PATH.as_bytes()),
            query: None,
            route: Some("/"),
            dropped: DroppedHeaders::default(),
        },
        signed: SignatureFacts {
            machine,
            key: &machine.keys[0].public,
            path: PATH,
            timestamp: TIME,
            nonce,
            body: BodyDigest {
                sha256: &EMPTY,
                bytes: 0,
            },
        },
        signature,
    }
}

fn read(file: &Path) {
    let keys = HashSet::from([key().verifying_key().to_bytes()]);
    let believed = VerifyOptions {
        keys: HashMap::from([(machine().id.as_str().to_owned(), keys)]),
        gateway_key: Some(gateway_key().verifying_key()),
        ..VerifyOptions::default()
    };
    let reader = BufReader::with_capacity(256 * 1024, File::open(file).unwrap());
    let start = Instant::now();
    let files = [("audit.jsonl".to_owned(), reader)];
    let verdict = verify(files, believed, |finding| println!("{finding}"), |_| {}).unwrap();
    println!(
        "checked: {} records, {} signatures of machines and {} of the gateway, in {:.1} s on {} cores",
        verdict.lines,
        verdict.accepted,
        verdict.checkpoints,
        start.elapsed().as_secs_f64(),
        std::thread::available_parallelism().unwrap()
    );
}

/// User and system time of this process so far (proc(5), fields 14 and 15 of `stat`), in
/// hundredths of a second.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}
