//! The trail tampered with, and `audit verify`, which names each fault.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{another_trail, trail};
use crate::support::process::run;
use crate::support::signer::Machine;

/// Numbers and hashes made anew, by the format as it is documented.
fn rewritten(lines: &[String]) -> Vec<String> {
    let mut hash = [0; 32];
    let relink = |(index, line): (usize, &String)| {
        let record = line.split(",\"seq\":").next().unwrap();
        let body = format!("{record},\"seq\":{}", index + 1);
        hash = Sha256::new()
            .chain_update(hash)
            .chain_update(&body)
            .finalize()
            .into();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{body},\"hash\":\"{hex}\"}}\n")
    };
    lines.iter().enumerate().map(relink).collect()
}

#[test]
fn a_flipped_byte_is_named() {
    let at = trail().accepted();
    let (line, word) = trail().first_fault(|lines| {
        lines[at] = lines[at].replace("POST", "PUST");
    });
    assert_eq!((line, &*word), (at as u64 + 1, "altered"));
}

#[test]
fn a_dropped_record_is_named() {
    let at = trail().accepted();
    let fault = trail().first_fault(|lines| drop(lines.remove(at)));
    assert_eq!(fault, (at as u64 + 1, "missing".to_owned()));
}

#[test]
fn swapped_records_are_named() {
    let at = trail().accepted();
    let fault = trail().first_fault(|lines| lines.swap(at, at + 1));
    assert_eq!(fault, (at as u64 + 1, "reordered".to_owned()));
}

#[test]
fn a_doubled_record_is_named() {
    let at = trail().accepted();
    let fault = trail().first_fault(|lines| lines.insert(at + 1, lines[at].clone()));
    assert_eq!(fault, (at as u64 + 2, "doubled".to_owned()));
}

#[test]
fn a_beginning_that_is_cut_off_is_named() {
    let fault = trail().first_fault(|lines| drop(lines.drain(..7)));
    assert_eq!(fault, (1, "beginning_cut_off".to_owned()));
}

#[test]
fn an_end_that_is_cut_off_is_found_by_the_head_of_an_earlier_run() {
    let left = trail();
    let whole = left.verify(&left.file("audit.jsonl"), &[]);
    let head = whole["head"].as_str().unwrap();
    let shorter = left.tampered(&left.lines[..left.lines.len() - 3]);
    let verdict = left.verify(shorter.path(), &["--head", head]);
    assert_eq!(verdict["findings"][0]["fault"], "end_cut_off", "{verdict}");
}

#[test]
fn a_whole_trail_has_the_head_of_an_earlier_run() {
    let left = trail();
    let whole = left.verify(&left.file("audit.jsonl"), &[]);
    let head = whole["head"].as_str().unwrap();
    let verdict = left.verify(&left.file("audit.jsonl"), &["--head", head]);
    assert_eq!(verdict["good"], true, "{verdict}");
}

#[test]
fn records_of_another_gateway_are_named() {
    let (at, other) = (trail().accepted(), &another_trail().lines);
    let (line, word) = trail().first_fault(|lines| {
        lines.splice(at..at + 3, other[at..at + 3].iter().cloned());
    });
    assert_eq!((line, &*word), (at as u64 + 1, "altered"));
}

#[test]
fn the_rest_of_another_gateways_trail_has_checkpoints_of_a_foreign_key() {
    let (at, other) = (trail().accepted(), &another_trail().lines);
    let mut lines = trail().lines[..at].to_vec();
    lines.extend_from_slice(&other[at..]);
    let verdict = trail().verify(trail().tampered(&lines).path(), &[]);
    let words = verdict["findings"].as_array().unwrap().iter();
    let words: Vec<_> = words
        .map(|finding| finding["fault"].as_str().unwrap())
        .collect();
    assert!(words.contains(&"foreign_key"), "{words:?}");
}

#[test]
fn a_trail_that_was_written_anew_without_a_record_contradicts_a_checkpoint() {
    let at = trail().accepted();
    let (_, word) = trail().first_fault(|lines| {
        lines.remove(at);
        *lines = rewritten(lines);
    });
    assert_eq!(word, "rewritten");
}

#[test]
fn a_record_forged_with_another_machines_key_is_named() {
    let left = trail();
    let at = left.accepted();
    let mut record: Value = serde_json::from_str(&left.lines[at]).unwrap();
    let thief = Machine::new("machine-1", 99);
    let time = record["timestamp"].as_u64().unwrap();
    let nonce = record["nonce"].as_str().unwrap().to_owned();
    let path = record["signed_path"].as_str().unwrap().to_owned();
    let signed = thief.sign_with_nonce("POST", &path, time, &nonce, b"other");
    record["signature"] = signed.signature.into();
    record["machine"]["public_key"] = thief.public_key().into();
    let hash: String = Sha256::digest(b"other")
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    record["body_sha256"] = hash.into();
    let fields = record.as_object_mut().unwrap();
    fields.remove("seq");
    fields.remove("hash");
    let forged = record.to_string();
    let (line, word) = left.first_fault(|lines| {
        lines[at] = format!("{},\"seq\":", forged.strip_suffix('}').unwrap());
        *lines = rewritten(lines);
    });
    assert_eq!((line, &*word), (at as u64 + 1, "unknown_key"));
}

#[test]
fn a_changed_request_does_not_verify_under_its_machines_key() {
    let at = trail().accepted();
    let (line, word) = trail().first_fault(|lines| {
        lines[at] = lines[at].replace("/gateway-1/", "/gateway-7/");
        *lines = rewritten(lines);
    });
    assert_eq!((line, &*word), (at as u64 + 1, "client_signature"));
}

#[test]
fn verify_says_in_words_what_is_wrong_and_where() {
    let left = trail();
    let mut lines = left.lines.clone();
    lines.remove(10);
    let log = left.tampered(&lines);
    let output = run(&["audit", "verify", "--log", log.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = format!("{}:11: missing: record 11 between", log.path().display());
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("\nhead "), "{text}");
    assert_eq!(output.status.code(), Some(1));
}
