//! The audit trail of a running gateway.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::support::backend::Backend;
use crate::support::client::exchange;
use crate::support::gateway::{Gateway, Options, machine, raw, wait_for};
use crate::support::process::{Process, run, unix_seconds};
use crate::support::signer::Machine;

#[test]
fn an_accepted_request_leaves_a_record_that_anyone_can_verify() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let answer = gateway.request("POST", "/v1/secret/a", b"body");
    let record = gateway.decisions("accepted", 1).remove(0);
    assert_eq!(
        record["request_id"],
        *answer.header("x-request-id").unwrap()
    );
    assert_eq!(record["auth"], "signature");
    assert_eq!(record["machine"]["id"], "machine-1");
    assert_eq!(record["client_ip"], "127.0.0.1");
    assert_eq!(record["body_bytes"], 4);
    assert_eq!(record["ts"], "2027-01-15T08:00:01.000Z");

    let text = |name: &str| record[name].as_str().unwrap().to_owned();
    let message = format!(
        "{}:{}:{}:{}:{}",
        text("method"),
        text("signed_path"),
        record["timestamp"],
        text("nonce"),
        text("body_sha256")
    );
    let bytes = |text: &str| STANDARD.decode(text).unwrap();
    let key = bytes(record["machine"]["public_key"].as_str().unwrap());
    let key = VerifyingKey::from_bytes(&key.try_into().unwrap()).unwrap();
    let signature = Signature::from_slice(&bytes(&text("signature"))).unwrap();
    key.verify_strict(message.as_bytes(), &signature).unwrap();
}

#[test]
fn a_forwarded_request_has_two_records() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    gateway.request("GET", "/a", b"");
    let response = gateway.decisions("response", 1).remove(0);
    assert_eq!(
        (response["status"].as_u64(), response["bytes"].as_u64()),
        (Some(200), Some(11))
    );
    assert_eq!(gateway.decisions("accepted", 1).len(), 1);
}

#[test]
fn a_refused_request_has_one_record() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    exchange(gateway.address, raw("GET", "/a", "", b""));
    let refused = gateway.decisions("refused", 1).remove(0);
    assert_eq!(
        (refused["code"].as_str(), refused["auth"].as_str()),
        (Some("missing_header"), Some("none"))
    );
    assert!(gateway.decisions("accepted", 0).is_empty());
    assert!(gateway.decisions("response", 0).is_empty());
}

#[test]
fn the_record_is_there_before_the_backend_is_asked() {
    let log = std::sync::Arc::new(std::sync::OnceLock::<std::path::PathBuf>::new());
    let its_log = std::sync::Arc::clone(&log);
    let backend = Backend::answering(move |_| {
        let text = fs::read_to_string(its_log.get().unwrap()).unwrap();
        crate::support::backend::ok(text.matches("\"accepted\"").count().to_string().as_bytes())
    });
    let gateway = Gateway::start(&backend);
    log.set(gateway.folder.path().join("audit.jsonl")).unwrap();
    for expected in ["1", "2", "3"] {
        assert_eq!(gateway.request("GET", "/a", b"").body, expected.as_bytes());
    }
}

#[test]
fn a_refusal_after_the_signature_names_the_machine() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let bytes = raw("GET", "/a", &lines, b"");
    exchange(gateway.address, &bytes);
    exchange(gateway.address, &bytes);
    let replayed = gateway.decisions("refused", 1).remove(0);
    assert_eq!(
        (&replayed["code"], &replayed["machine"]["id"]),
        (&"replayed".into(), &"machine-1".into())
    );
    assert!(replayed.get("signature").is_none());
}

#[test]
fn a_refusal_before_the_signature_names_only_the_claimed_machine() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let forged = Machine::new("nobody-knows-me", 9).sign("GET", "/a", gateway.now(), b"");
    exchange(gateway.address, raw("GET", "/a", &forged.lines(), b""));
    let refused = gateway.decisions("refused", 1).remove(0);
    assert_eq!(refused["claimed_machine"], "nobody-knows-me");
    assert!(refused.get("machine").is_none());
}

/// SHA-256 of "body".
const BODY_HASH: &str = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";

/// Requests with wrong signatures: of a machine that the registry does not have, and of one it has.
fn wrong_signatures() -> [(Machine, bool); 2] {
    let stranger = Machine::new("nobody-knows-me", 9);
    let wrong_key = Machine::new(&machine().id, 9);
    [(stranger, false), (wrong_key, true)]
}

#[test]
fn a_wrong_signature_is_on_record_with_the_body_and_whether_the_machine_is_known() {
    for (claimed, known) in wrong_signatures() {
        let backend = Backend::start();
        let gateway = Gateway::start(&backend);
        let lines = claimed.sign("PUT", "/a", gateway.now(), b"body").lines();
        exchange(gateway.address, raw("PUT", "/a", &lines, b"body"));
        let record = gateway.decisions("refused", 1).remove(0);
        assert_eq!(record["code"], "bad_signature");
        assert_eq!(record["machine_known"], known);
        assert_eq!(record["body_sha256"], BODY_HASH);
        assert_eq!(record["body_bytes"], 4);
    }
}

#[test]
fn the_answer_to_a_wrong_signature_does_not_tell_whether_the_machine_is_known() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let answers = wrong_signatures().map(|(claimed, _)| {
        let lines = claimed.sign("PUT", "/a", gateway.now(), b"body").lines();
        let answer = exchange(gateway.address, raw("PUT", "/a", &lines, b"body"));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status, body["code"].clone(), body["error"].clone())
    });
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_client_cannot_forge_a_line() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let before = gateway.records().len();
    exchange(
        gateway.address,
        "GET /a\u{2028}{\"decision\":\"accepted\"} HTTP/1.1\r\nHost: gw\r\nX-Machine-Id: \"},\\n{\"decision\":\"accepted\"}\r\n\r\n",
    );
    wait_for("the record", || {
        (gateway.records().len() > before).then_some(())
    });
    assert!(
        gateway
            .records()
            .iter()
            .all(|r| r["decision"] != "accepted")
    );
}

#[test]
fn the_registry_at_the_start_is_a_record() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let record = &gateway.decisions("registry", 1)[0];
    assert_eq!(record["machines"], 1);
}

#[test]
fn a_log_that_cannot_be_written_makes_the_gateway_unready_and_refuses() {
    let backend = Backend::start();
    let audit = "/dev/full".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            audit,
            ..Options::default()
        },
    );
    assert_eq!(
        gateway.request("GET", "/a", b"").code(),
        "audit_unavailable"
    );
    let (status, why) = gateway.admin_get("/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("audit"), "{why}");
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_log_that_was_moved_away_is_opened_again() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    gateway.request("GET", "/a", b"");
    let log = gateway.folder.path().join("audit.jsonl");
    fs::rename(&log, gateway.folder.path().join("audit.1")).unwrap();
    wait_for("a new file", || {
        gateway.request("GET", "/a", b"");
        fs::read_to_string(&log)
            .is_ok_and(|text| text.contains("\"accepted\""))
            .then_some(())
    });
}

#[test]
fn a_second_process_on_the_same_configuration_leaves_the_trail_whole() {
    let backend = Backend::start();
    let mut process = Process::serve(&backend, "{ delay: 0s, grace: 1s }");
    let ask = |process: &Process, path: &str| {
        let lines = machine().sign("GET", path, unix_seconds(), b"").lines();
        exchange(process.address, raw("GET", path, &lines, b"")).status
    };
    assert_eq!(ask(&process, "/a"), 200);
    let config = process.folder.path().join("countersign.yaml");
    let second = run(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert_eq!(ask(&process, "/b"), 200);
    process.kill();
    process.start_again();
    process.wait_until_ready();
    assert_eq!(ask(&process, "/c"), 200);

    let folder = process.folder.path();
    let (log, registry) = (folder.join("audit.jsonl"), folder.join("machines.yaml"));
    let arguments = [
        "audit",
        "verify",
        "--log",
        log.to_str().unwrap(),
        "--registry",
        registry.to_str().unwrap(),
    ];
    let verified = run(&arguments);
    assert!(verified.status.success(), "{verified:?}");
    let text = String::from_utf8(verified.stdout).unwrap();
    assert!(text.contains(" 3 accepted requests"), "{text}");
}
