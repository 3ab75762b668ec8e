#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::{HashMap, HashSet};
use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;

use super::super::chain::ChainHead;
use super::super::checkpoint::{CheckpointSigner, Domain};
use super::super::testing::read_back;
use super::*;

/// A log as a gateway writes it, line by line.
struct Log {
    lines: Vec<Vec<u8>>,
    head: ChainHead,
}

fn machine_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn gateway_key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

impl Log {
    fn empty() -> Log {
        Log {
            lines: Vec::new(),
            head: ChainHead::START,
        }
    }

    fn new() -> Log {
        let mut log = Log::empty();
        log.push(&json!({"decision": "log", "event": "begin"}));
        log
    }

    /// Twenty requests, a checkpoint after ten and one at the end: records 1 to 23.
    fn good() -> Log {
        let mut log = Log::new();
        for half in 0..2 {
            for n in 0..10 {
                log.accept(half * 10 + n);
            }
            log.sign(&gateway_key());
        }
        log
    }

    fn push(&mut self, record: &serde_json::Value) {
        let mut line = format!("{record}\n").into_bytes();
        self.head = self.head.link(&mut line);
        self.lines.push(line);
    }

    fn accept(&mut self, n: u32) {
        self.push(&accepted(n, &machine_key()));
    }

    fn sign(&mut self, key: &SigningKey) {
        let line =
            CheckpointSigner::new(key.clone()).sign(Domain::Trail, self.head, 1_750_000_000_000);
        self.push(&read_back(&line));
    }

    /// All hashes made anew, as an attacker without the key can do it.
    fn rewritten(self) -> Log {
        let mut log = Log::empty();
        for line in self.lines {
            let mut record: serde_json::Value = serde_json::from_slice(&line).unwrap();
            let fields = record.as_object_mut().unwrap();
            fields.remove("seq");
            fields.remove("hash");
            log.push(&record);
        }
        log
    }
}

fn accepted(n: u32, key: &SigningKey) -> serde_json::Value {
    let (nonce, hash) = (format!("nonce-{n:016}"), "ab".repeat(32));
    let message = format!("GET:/v1/secret/{n}:1750000000:{nonce}:{hash}");
    json!({
        "decision": "accepted",
        "machine": {"id": "m-1", "public_key": base64(key.verifying_key().as_bytes())},
        "method": "GET",
        "signed_path": format!("/v1/secret/{n}"),
        "timestamp": 1_750_000_000,
        "nonce": nonce,
        "body_sha256": hash,
        "signature": base64(&key.sign(message.as_bytes()).to_bytes()),
    })
}

fn believed() -> VerifyOptions {
    let keys = HashSet::from([machine_key().verifying_key().to_bytes()]);
    VerifyOptions {
        keys: HashMap::from([("m-1".to_owned(), keys)]),
        gateway_key: Some(gateway_key().verifying_key()),
        trusts_log: true,
        ..VerifyOptions::default()
    }
}

/// The faults in order, as line and word.
fn faults(log: &Log, believed: VerifyOptions) -> (Vec<(u64, &'static str)>, Verification) {
    let file = ("audit".to_owned(), Cursor::new(log.lines.concat()));
    let mut found = Vec::new();
    let verdict = verify(
        [file],
        believed,
        |finding| found.push((finding.line, finding.fault.word())),
        |_| {},
    );
    (found, verdict.unwrap())
}

fn first(log: &Log) -> Option<(u64, &'static str)> {
    faults(log, believed()).0.first().copied()
}

#[test]
fn a_good_log_has_no_fault_and_tells_its_head() {
    let log = Log::good();
    let (found, verdict) = faults(&log, believed());
    assert_eq!(found, []);
    assert_eq!(verdict.head, Some(log.head));
    assert_eq!((verdict.lines, verdict.accepted), (23, 20));
    assert_eq!((verdict.checkpoints, verdict.unsigned), (2, 0));
}

#[test]
fn a_flipped_bit_of_a_record_is_found_in_its_line() {
    let good = Log::good();
    for bit in (0..good.lines[4].len() * 8 - 8).step_by(5) {
        let mut log = Log::good();
        log.lines[4][bit / 8] ^= 1 << (bit % 8);
        let (line, word) = first(&log).unwrap();
        // A bit of its number moves it to another place; one that makes a line feed cuts it.
        assert!((5..=6).contains(&line), "bit {bit}: {line} {word}");
    }
}

#[test]
fn a_changed_record_is_altered() {
    let mut log = Log::good();
    let text = String::from_utf8(log.lines[4].clone()).unwrap();
    log.lines[4] = text.replace("1750000000", "1750000001").into_bytes();
    assert_eq!(first(&log), Some((5, "altered")));
}

#[test]
fn a_dropped_record_is_missing() {
    let mut log = Log::good();
    log.lines.remove(4);
    assert_eq!(faults(&log, believed()).0, [(5, "missing")]);
}

#[test]
fn swapped_records_are_reordered() {
    let mut log = Log::good();
    log.lines.swap(4, 5);
    assert_eq!(faults(&log, believed()).0, [(5, "reordered")]);
}

#[test]
fn a_record_that_is_there_twice_is_doubled() {
    let mut log = Log::good();
    log.lines.insert(9, log.lines[4].clone());
    assert_eq!(faults(&log, believed()).0, [(10, "doubled")]);
}

#[test]
fn a_beginning_that_is_cut_off_is_told_unless_it_is_said_what_it_continues() {
    let mut log = Log::good();
    let (_, before) = super::super::chain::claimed(log.lines[4].trim_ascii_end()).unwrap();
    log.lines.drain(..5);
    assert_eq!(faults(&log, believed()).0, [(1, "beginning_cut_off")]);
    let continues = |hash| VerifyOptions {
        continues: Some(hash),
        ..believed()
    };
    assert_eq!(faults(&log, continues(before.hash)).0, []);
    assert_eq!(
        faults(&log, continues([0; 32])).0,
        [(1, "continues_another")]
    );
}

#[test]
fn an_end_that_is_cut_off_is_found_by_an_earlier_head() {
    let mut log = Log::good();
    let head = log.head;
    let expecting = || VerifyOptions {
        head: Some(head),
        ..believed()
    };
    assert_eq!(faults(&log, expecting()).0, []);
    log.lines.truncate(15);
    assert_eq!(faults(&log, expecting()).0, [(15, "end_cut_off")]);
    assert_eq!(faults(&log, believed()).0, []);
}

#[test]
fn an_earlier_head_is_found_in_a_log_that_has_grown() {
    let mut log = Log::good();
    let head = log.head;
    log.accept(99);
    let (found, verdict) = faults(
        &log,
        VerifyOptions {
            head: Some(head),
            ..believed()
        },
    );
    assert_eq!(found, []);
    assert_eq!(verdict.unsigned, 1);
}

#[test]
fn a_log_that_was_written_anew_contradicts_the_checkpoint() {
    let mut log = Log::good();
    log.lines.remove(4);
    assert_eq!(first(&log.rewritten()), Some((11, "rewritten")));
}

#[test]
fn a_log_that_was_written_anew_with_another_key_is_foreign() {
    let mut log = Log::new();
    log.accept(1);
    log.sign(&SigningKey::from_bytes(&[9; 32]));
    assert_eq!(first(&log), Some((3, "foreign_key")));
}

#[test]
fn a_checkpoint_whose_signature_was_changed_is_forged() {
    let mut log = Log::new();
    log.accept(1);
    let line =
        CheckpointSigner::new(gateway_key()).sign(Domain::Trail, log.head, 1_750_000_000_000);
    let mut record = read_back(&line);
    record["signature"] = base64(&[0; 64]).into();
    log.push(&record);
    assert_eq!(first(&log), Some((3, "checkpoint_forged")));
}

#[test]
fn records_of_another_gateway_do_not_fit_in() {
    let mut log = Log::good();
    let mut other = Log::new();
    (100..130).for_each(|n| other.accept(n));
    log.lines.splice(5..8, other.lines[5..8].iter().cloned());
    assert_eq!(first(&log), Some((6, "altered")));
}

#[test]
fn a_log_that_goes_on_as_another_gateways_is_found() {
    let mut log = Log::good();
    log.lines.extend(Log::good().lines);
    // The same records again are doubled; a new chain with other ones begins anew.
    assert_eq!(first(&log), Some((24, "doubled")));
    let (mut log, mut other) = (Log::good(), Log::new());
    other.lines.clear();
    other.head = ChainHead::START;
    other.push(&json!({"decision": "log", "event": "begin", "ts": "later"}));
    other.accept(77);
    other.sign(&gateway_key());
    log.lines.extend(other.lines);
    assert_eq!(faults(&log, believed()).0, [(24, "begins_anew")]);
    let restarts = VerifyOptions {
        restarts: true,
        ..believed()
    };
    assert_eq!(faults(&log, restarts).0, []);
}

#[test]
fn a_request_that_its_machine_did_not_sign_is_found_in_a_sound_chain() {
    let mut log = Log::new();
    let mut record = accepted(1, &machine_key());
    record["signed_path"] = "/v1/secret/2".into();
    log.push(&record);
    log.sign(&gateway_key());
    assert_eq!(first(&log), Some((2, "client_signature")));
}

#[test]
fn a_request_that_another_machine_signed_has_an_unknown_key() {
    let mut log = Log::new();
    log.push(&accepted(1, &SigningKey::from_bytes(&[3; 32])));
    log.sign(&gateway_key());
    assert_eq!(first(&log), Some((2, "unknown_key")));
}

/// The faults of a log of one request recorded at this time, of a key that was good until the
/// second 1,000,000.
fn after(ts: Option<&str>) -> Vec<(u64, &'static str)> {
    let mut record = accepted(1, &machine_key());
    match ts {
        Some(ts) => record["ts"] = ts.into(),
        None => drop(record.as_object_mut().unwrap().remove("ts")),
    }
    let mut log = Log::new();
    log.push(&record);
    log.sign(&gateway_key());
    let ends = HashMap::from([(machine_key().verifying_key().to_bytes(), 1_000_000)]);
    faults(&log, VerifyOptions { ends, ..believed() }).0
}

#[test]
fn a_key_that_has_ended_counts_for_what_was_recorded_before_and_a_little_later() {
    for good in [
        "1970-01-01T00:00:00.000Z",
        "1970-01-12T13:46:40.000Z",
        "1970-01-12T14:47:40.999Z",
    ] {
        assert_eq!(after(Some(good)), [], "{good}");
    }
    assert_eq!(after(Some("1970-01-12T14:47:41.000Z")), [(2, "after_end")]);
    assert_eq!(after(Some("2027-01-31T00:00:00.000Z")), [(2, "after_end")]);
}

#[test]
fn without_a_time_nobody_can_tell_whether_the_key_had_ended() {
    assert_eq!(after(None), [(2, "incomplete")]);
    assert_eq!(after(Some("soon")), [(2, "incomplete")]);
}

#[test]
fn a_registry_record_gives_a_machine_its_keys_from_there_on() {
    let key = SigningKey::from_bytes(&[3; 32]);
    let mut log = Log::new();
    log.push(&accepted(1, &key));
    let public = base64(key.verifying_key().as_bytes());
    log.push(&json!({"decision": "registry", "keys": [{"id": "m-1", "public_keys": [public]}]}));
    log.push(&accepted(2, &key));
    log.sign(&gateway_key());
    assert_eq!(faults(&log, believed()).0, [(2, "unknown_key")]);
}

#[test]
fn an_accepted_request_without_its_proof_is_incomplete() {
    let mut log = Log::new();
    let mut record = accepted(1, &machine_key());
    record.as_object_mut().unwrap().remove("signature");
    log.push(&record);
    log.sign(&gateway_key());
    assert_eq!(first(&log), Some((2, "incomplete")));
}

#[test]
fn a_request_that_nobody_signed_needs_no_proof_unless_it_names_a_machine() {
    let kinds = [
        ("none", false),
        ("none", true),
        ("bearer", false),
        ("bearer", true),
    ];
    for (auth, names_a_machine) in kinds {
        let mut log = Log::new();
        let mut record = accepted(1, &machine_key());
        let fields = record.as_object_mut().unwrap();
        fields.insert("auth".into(), auth.into());
        fields.remove("signature");
        if !names_a_machine {
            fields.remove("machine");
        }
        log.push(&record);
        log.sign(&gateway_key());
        let expected = names_a_machine.then_some((2, "incomplete"));
        assert_eq!(first(&log), expected);
    }
}

#[test]
fn a_line_that_was_cut_off_is_no_fault_where_the_next_one_says_so() {
    for said in [true, false] {
        let mut log = Log::new();
        log.accept(1);
        log.lines.push(b"{\"decision\":\"accep\n".to_vec());
        log.push(&json!({"decision": "log", "event": "restart", "torn": said}));
        log.sign(&gateway_key());
        let (found, verdict) = faults(&log, believed());
        assert_eq!(found.is_empty(), said, "{found:?}");
        assert_eq!(verdict.torn, u64::from(said));
    }
}

#[test]
fn an_unfinished_last_line_is_told() {
    let mut log = Log::good();
    log.lines.push(b"{\"decision\":\"accep".to_vec());
    assert_eq!(faults(&log, believed()).0, [(24, "not_a_line")]);
}

#[test]
fn a_log_without_any_checkpoint_is_no_proof_to_who_holds_the_gateways_key() {
    let mut log = Log::new();
    log.accept(1);
    assert_eq!(faults(&log, believed()).0, [(2, "no_checkpoint")]);
    let unsigned = VerifyOptions {
        gateway_key: None,
        ..believed()
    };
    assert_eq!(faults(&log, unsigned).0, []);
}

#[test]
fn several_files_are_one_log() {
    let log = Log::good();
    let files = log.lines.chunks(7).enumerate();
    let files = files.map(|(n, lines)| (format!("audit.{n}"), Cursor::new(lines.concat())));
    let verdict = verify(files, believed(), |finding| panic!("{finding}"), |_| {});
    assert_eq!(verdict.unwrap().head, Some(log.head));
}

#[test]
fn one_signed_request_that_was_accepted_twice_is_named() {
    let mut log = Log::new();
    log.accept(1);
    log.accept(2);
    log.accept(1);
    log.sign(&gateway_key());
    assert_eq!(faults(&log, believed()).0, [(4, "replayed")]);
}

#[test]
fn a_registry_record_of_the_log_is_believed_only_where_the_log_is() {
    let thief = SigningKey::from_bytes(&[9; 32]);
    let mut log = Log::new();
    let key = base64(thief.verifying_key().as_bytes());
    log.push(&json!({"decision": "registry", "keys": [{"id": "m-1", "public_keys": [key]}]}));
    log.push(&accepted(1, &thief));
    log.sign(&gateway_key());
    assert!(faults(&log, believed()).0.is_empty());
    let registry_only = VerifyOptions {
        trusts_log: false,
        ..believed()
    };
    assert_eq!(faults(&log, registry_only).0, [(3, "unknown_key")]);
}

#[test]
fn the_file_of_refusals_does_not_pass_for_the_trail() {
    let mut log = Log::new();
    log.push(&json!({"decision": "refused"}));
    let line =
        CheckpointSigner::new(gateway_key()).sign(Domain::Refusals, log.head, 1_750_000_000_000);
    log.push(&read_back(&line));
    let found = faults(&log, believed()).0;
    assert_eq!(found, [(3, "checkpoint_forged"), (3, "no_checkpoint")]);
    let refusals = VerifyOptions {
        domain: Domain::Refusals,
        ..believed()
    };
    assert!(faults(&log, refusals).0.is_empty());
}

#[test]
fn with_restarts_each_chain_needs_a_checkpoint_and_leaves_its_own_tail_unsigned() {
    let restarts = || VerifyOptions {
        restarts: true,
        ..believed()
    };
    let (mut first, mut second) = (Log::good(), Log::empty());
    first.accept(100);
    second.push(&json!({"decision": "log", "event": "begin", "at": "another time"}));
    second.accept(200);
    second.sign(&gateway_key());
    first.lines.append(&mut second.lines);
    let (found, verdict) = faults(&first, restarts());
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(verdict.unsigned, 1);

    let (mut forged, mut genuine) = (Log::empty(), Log::good());
    forged.push(&json!({"decision": "log", "event": "begin", "at": "another time"}));
    forged.accept(100);
    forged.lines.append(&mut genuine.lines);
    let (found, verdict) = faults(&forged, restarts());
    assert_eq!(found, [(3, "no_checkpoint")]);
    assert_eq!(verdict.unsigned, 2);
}

#[test]
fn several_lines_that_were_cut_off_in_a_row_are_no_fault_where_the_log_says_so() {
    let mut log = Log::good();
    log.lines.push(b"{\"decision\":\"acc \n".to_vec());
    log.lines.push(b"{\"decision\":\"lo \n".to_vec());
    log.push(&json!({"decision": "log", "event": "restart", "torn": true}));
    log.sign(&gateway_key());
    let (found, verdict) = faults(&log, believed());
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(verdict.torn, 2);
}
