//! Helpers of the tests: a sink under their control, a place for files, and
//! records to write.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde::Serialize;

use super::line::encode;
use super::*;
use countersign_core::identity::{Machine, MachineId, PublicKey};

/// Longer than any test should take, so that a failure is no hang.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A writer that remembers what it was given, and blocks or fails when told to.
#[derive(Clone, Default)]
pub(super) struct Tape(Arc<(Mutex<TapeState>, Condvar)>);

#[derive(Default)]
struct TapeState {
    writes: Vec<Vec<u8>>,
    script: VecDeque<TapeStep>,
    blocked: bool,
    waiting: bool,
}

/// The next write; without a step it takes everything.
pub(super) enum TapeStep {
    Take(usize),
    Fail(io::ErrorKind),
    Panic,
}

impl Tape {
    pub(super) fn sink(&self) -> Sink {
        Sink::over("tape", Box::new(self.clone()))
    }

    pub(super) fn then(&self, step: TapeStep) {
        self.0.0.lock().unwrap().script.push_back(step);
    }

    /// Forgets the steps that were not taken.
    pub(super) fn mend(&self) {
        self.0.0.lock().unwrap().script.clear();
    }

    pub(super) fn block(&self) {
        self.0.0.lock().unwrap().blocked = true;
    }

    pub(super) fn unblock(&self) {
        self.0.0.lock().unwrap().blocked = false;
        self.0.1.notify_all();
    }

    /// Waits until a write is blocked.
    pub(super) fn wait_for_blocked_write(&self) {
        let (state, changed) = &*self.0;
        let guard = state.lock().unwrap();
        let (_guard, timeout) = changed
            .wait_timeout_while(guard, PATIENCE, |state| !state.waiting)
            .unwrap();
        assert!(!timeout.timed_out(), "nothing was written");
    }

    /// The bytes that each call of `write` took, in order.
    pub(super) fn writes(&self) -> Vec<String> {
        let state = self.0.0.lock().unwrap();
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
        state.writes.iter().map(text).collect()
    }

    pub(super) fn text(&self) -> String {
        self.writes().concat()
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        if state.blocked {
            state.waiting = true;
            changed.notify_all();
            state = changed.wait_while(state, |state| state.blocked).unwrap();
            state.waiting = false;
        }
        let step = state.script.pop_front();
        let taken = match step {
            None => bytes,
            Some(TapeStep::Take(n)) => &bytes[..n.min(bytes.len())],
            Some(TapeStep::Fail(kind)) => return Err(kind.into()),
            Some(TapeStep::Panic) => {
                drop(state);
                panic!("the sink broke, as the test wants")
            }
        };
        state.writes.push(taken.to_vec());
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory of its own that goes with the test.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "countersign-audit-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A record as a reader of JSON has it.
pub(super) fn read_back(record: &impl Serialize) -> serde_json::Value {
    serde_json::from_slice(&encode(record, 0).unwrap()).unwrap()
}

/// The key of RFC 8032, section 7.1, test 1.
pub(super) fn key() -> PublicKey {
    PublicKey::from_bytes(&[
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07,
        0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07,
        0x51, 0x1a,
    ])
    .unwrap()
}

pub(super) fn machine() -> Machine {
    Machine {
        id: MachineId::parse("m-1").unwrap(),
        name: Some("prod-api-7".into()),
        vault: Some("vault_prod".into()),
        owner: Some("payments".into()),
        credential: None,
        keys: Box::new([key().into()]),
        enabled: true,
        not_before: None,
        expires: None,
        policy: None,
        groups: Arc::default(),
    }
}

pub(super) fn request(id: &str) -> RequestFacts<'_> {
    RequestFacts {
        wall_ms: 1_750_000_000_123,
        request_id: id,
        client_ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        peer_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        method: SentMethod::of(b"GET"),
        path: PathOnly::of(b"/v1/secret/a?version=2"),
        query: None,
        route: Some("/v1"),
        dropped: DroppedHeaders::default(),
    }
}

pub(super) fn signed<'a>(machine: &'a Machine) -> SignatureFacts<'a> {
    SignatureFacts {
        machine,
        key: &machine.keys[0].public,
        path: "/v1/secret/a",
        timestamp: 1_750_000_000,
        nonce: "AAAAAAAAAAAAAAAAAAAAAA==",
        body: BodyDigest {
            sha256: &[0xab; 32],
            bytes: 12,
        },
    }
}

pub(super) fn accepted<'a>(id: &'a str, machine: &'a Machine) -> AcceptedRecord<'a> {
    AcceptedRecord {
        request: request(id),
        signed: signed(machine),
        signature: &[0xff; 64],
    }
}

pub(super) fn refused(id: &str) -> RefusedRecord<'_> {
    RefusedRecord {
        request: request(id),
        code: countersign_core::refusal::Code::BadSignature,
        evidence: RefusalEvidence::Claimed(ClaimedFacts::default()),
    }
}

pub(super) fn response(id: &str) -> ResponseRecord<'_> {
    ResponseRecord {
        wall_ms: 1_750_000_000_456,
        request_id: id,
        status: Some(200),
        upstream_ms: Some(12),
        bytes: 345,
        login: None,
    }
}
