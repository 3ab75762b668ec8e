//! How many instructions each part of the decision takes, as callgrind counts them. Unlike times,
//! these do not depend on what else the machine does.
//!
//!     make bench-instructions
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
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign::audit::{
    AcceptedRecord, BodyDigest, DroppedHeaders, PathOnly, RequestFacts, SentMethod, SignatureFacts,
};
use countersign::metrics::curve25519_backend;
use countersign::nonces::{MemoryNonces, NonceQuotas};
use countersign::registry::RegistryStore;
use countersign_client::clock::Clock;
use countersign_core::decision::Attempt;
use countersign_core::headers::{Occurrence, SigningHeaders};
use countersign_core::identity::{Machine, MachineId, PublicKey};
use countersign_core::message::BodyHash;
use countersign_core::message::Timestamp;
use countersign_core::method::Method;
use countersign_core::replay::{Claim, NonceStore, Window};
use countersign_core::target::{QueryPolicy, SignedTarget, Target};
use ed25519_dalek::{Signer, SigningKey};
use futures::FutureExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: u64 = 1_800_000_000;
const PATH: &str = "/v1/secret/5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b";
const ID: &str = "5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b";
const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
const WINDOW: Window = Window {
    past: 300,
    future: 300,
};

/// Each part is run so often, after a first run that is not counted.
const TIMES: u64 = 100;

const PARTS: [(&str, &str); 9] = [
    ("target", "parse the target"),
    ("headers", "parse the four headers"),
    ("message", "build the message"),
    ("verify_strict", "`verify_strict` alone"),
    ("decide", "decide: headers to verified, no body"),
    ("decide_1k", "decide, body of 1 KiB (hashing included)"),
    ("claim", "claim a nonce, in memory"),
    ("find_1k", "look a machine up among 1,000"),
    ("record", "encode the audit record"),
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["backend"] => println!("{}", curve25519_backend()),
        ["part", name] => run(name),
        _ => table(),
    }
}

/// Counts every part in a process of its own under callgrind, and writes the table.
fn table() {
    let mut text = String::from(
        "# Instructions\n\n`make bench-instructions` writes this file: the instructions of each part of the decision as\n\
         callgrind counts them, release profile, the mean of ",
    );
    let backend = under_valgrind("none", &["backend"]).0;
    let _ = write!(
        text,
        "{TIMES} runs. valgrind knows no AVX-512, so\nthe `{}` backend verifies signatures here. With \
         AVX-512 a gateway takes about two thirds of its time.\n\n\
         | part | instructions |\n|---|---:|\n",
        backend.trim()
    );
    for (name, what) in PARTS {
        let (_, said) = under_valgrind("callgrind", &["part", name]);
        let line = said
            .lines()
            .find_map(|line| line.split_once("Collected : "));
        let collected: u64 = line
            .expect("callgrind says what it collected")
            .1
            .trim()
            .parse()
            .unwrap();
        println!("{what:<45} {:>10}", grouped(collected / TIMES));
        let _ = writeln!(text, "| {what} | {} |", grouped(collected / TIMES));
    }
    fs::write("bench/INSTRUCTIONS.md", text).unwrap();
    println!("\nwritten to bench/INSTRUCTIONS.md");
}

/// Runs this program again under one of valgrind's tools, and gives what it and valgrind say.
fn under_valgrind(tool: &str, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new("valgrind");
    command.arg(format!("--tool={tool}"));
    if tool == "callgrind" {
        command.args([
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
            "--toggle-collect=*counted_part*",
        ]);
    }
    let output = command
        .arg(env::current_exe().unwrap())
        .args(arguments)
        .output()
        .expect("valgrind runs; `scripts/setup count` installs it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    (text(&output.stdout), said)
}

/// With a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What callgrind counts: it finds this function by its name.
#[inline(never)]
fn counted_part(part: &mut dyn FnMut(u64)) {
    for n in 1..=TIMES {
        part(n);
    }
}

fn count(mut part: impl FnMut(u64)) {
    part(0);
    counted_part(black_box(&mut part));
}

fn run(name: &str) {
    match name {
        "target" => count(|_| {
            black_box(target());
        }),
        "headers" => {
            let values = values(b"");
            count(|_| {
                black_box(headers(black_box(&values)));
            });
        }
        "message" => {
            let values = values(b"");
            let (headers, target) = (headers(&values), target());
            let method = Method::accept("GET", &[]).unwrap();
            count(|_| {
                black_box(Attempt::new(method, target, black_box(headers.clone())));
            });
        }
        "verify_strict" => {
            let message = [b'a'; 160];
            let (signature, public) = (key().sign(&message), key().verifying_key());
            count(|_| {
                assert!(
                    public
                        .verify_strict(black_box(&message), &signature)
                        .is_ok()
                )
            });
        }
        "decide" => decide(0),
        "decide_1k" => decide(1024),
        "claim" => claim(),
        "find_1k" => find(1_000),
        "record" => record(),
        other => unreachable!("no part is called {other}"),
    }
}

fn decide(size: usize) {
    let body = vec![b'a'; size];
    let (values, machine) = (values(&body), Arc::new(machine()));
    count(|_| {
        let method = Method::accept("GET", &[]).unwrap();
        let verified = Attempt::new(method, target(), headers(black_box(&values)))
            .check_time(NOW, &WINDOW)
            .unwrap()
            .look_up(|_| Some(Arc::clone(&machine)))
            .verify(BodyHash::of(&body))
            .unwrap()
            .check_state(NOW)
            .unwrap();
        black_box(verified);
    });
}

fn claim() {
    let (clock, _) = Clock::manual(NOW * 1000);
    let quotas = NonceQuotas {
        all: u64::MAX,
        per_machine: u32::MAX,
    };
    let store = MemoryNonces::new(WINDOW, quotas, clock).unwrap();
    let public = machine().keys[0].public;
    let stamp = Timestamp::parse((NOW + 1).to_string().as_bytes()).unwrap();
    let nonces: Vec<String> = (0..=TIMES).map(|n| format!("{n:020}")).collect();
    count(|n| {
        let claim = Claim::new(&public, &nonces[usize::try_from(n).unwrap()], stamp);
        assert!(store.claim(claim).now_or_never().unwrap().is_ok());
    });
}

fn find(machines: u64) {
    let folder = tempfile::tempdir().unwrap();
    let store = registry(folder.path(), machines);
    let id = id_of(machines / 2);
    count(|_| assert!(store.find(black_box(&id)).is_some()));
}

fn registry(folder: &Path, machines: u64) -> RegistryStore {
    let mut text = String::from("machines:\n");
    for number in 0..machines {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let public = STANDARD.encode(SigningKey::from_bytes(&seed).verifying_key().as_bytes());
        let id = id_of(number);
        let _ = writeln!(text, "  - id: {id}\n    public_keys: [\"{public}\"]");
    }
    let file = folder.join("machines.yaml");
    fs::write(&file, text).unwrap();
    RegistryStore::open(
        &countersign::config::RegistrySource::File(file),
        countersign::registry::IdCase::Exact,
    )
    .unwrap()
    .0
}

fn id_of(number: u64) -> String {
    format!("5b0c6f3e-8a1d-4f0e-9a57-{number:012x}")
}

fn record() {
    let machine = machine();
    let signature = key().sign(b"any").to_bytes();
    let hash = BodyHash::EMPTY;
    count(|_| {
        let record = AcceptedRecord {
            request: RequestFacts {
                wall_ms: NOW * 1000,
                request_id: "00000000000000000000000000000000",
                client_ip: Some([192, 0, 2, 7].into()),
                peer_ip: Some([192, 0, 2, 1].into()),
                method: SentMethod::of(b"GET"),
                path: PathOnly::of(PATH.as_bytes()),
                query: None,
                route: Some("/"),
                dropped: DroppedHeaders::default(),
            },
            signed: SignatureFacts {
                machine: &machine,
                key: &machine.keys[0].public,
                path: PATH,
                timestamp: NOW,
                nonce: NONCE,
                body: BodyDigest {
                    sha256: hash.as_bytes(),
                    bytes: 0,
                },
            },
            signature: &signature,
        };
        black_box(black_box(&record).line().unwrap());
    });
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn machine() -> Machine {
    Machine {
        id: MachineId::parse(ID).unwrap(),
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

/// The values of the four headers, signed for `body`.
fn values(body: &[u8]) -> [String; 4] {
    let hash = BodyHash::of(body);
    let hash: String = hash.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let message = format!("GET:{PATH}:{NOW}:{NONCE}:{hash}");
    [
        ID.to_owned(),
        NOW.to_string(),
        NONCE.to_owned(),
        STANDARD.encode(key().sign(message.as_bytes()).to_bytes()),
    ]
}

fn headers(values: &[String; 4]) -> SigningHeaders<'_> {
    SigningHeaders::parse(|header| Occurrence::Once(values[header as usize].as_bytes())).unwrap()
}

fn target() -> SignedTarget<'static> {
    Target::parse(black_box(PATH.as_bytes()))
        .unwrap()
        .under(QueryPolicy::Strip)
        .unwrap()
}
