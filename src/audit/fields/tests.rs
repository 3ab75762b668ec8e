#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::audit::testing::{accepted, machine, read_back, refused, request, response, signed};
use crate::audit::token_hash::TokenNames;
use crate::audit::untrusted::{DroppedHeaders, PathOnly, SentMethod};
use countersign_core::refusal::Code;

fn line(record: &impl Serialize) -> String {
    String::from_utf8(encode(record, 0).unwrap()).unwrap()
}

fn body() -> BodyDigest<'static> {
    BodyDigest {
        sha256: &[0xab; 32],
        bytes: 12,
    }
}

#[test]
fn an_accepted_record_reads_as_published() {
    let machine = machine();
    let expected = concat!(
        r#"{"ts":"2025-06-15T15:06:40.123Z","request_id":"r1","decision":"accepted","#,
        r#""auth":"signature","machine":{"id":"m-1","name":"prod-api-7","vault":"vault_prod","#,
        r#""owner":"payments","key":"21fe31dfa154a261","#,
        r#""public_key":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},"#,
        r#""client_ip":"192.0.2.7","peer_ip":"127.0.0.1","method":"GET","path":"/v1/secret/a","#,
        r#""signed_path":"/v1/secret/a","route":"/v1","timestamp":1750000000,"#,
        r#""nonce":"AAAAAAAAAAAAAAAAAAAAAA==","#,
        r#""body_sha256":"abababababababababababababababababababababababababababababababab","#,
        r#""body_bytes":12,"signature":"//////////////////////////////////////////////////////////"#,
        r#"///////////////////////////w=="}"#,
        "\n"
    );
    assert_eq!(line(&accepted("r1", &machine)), expected);
}

#[test]
fn a_refusal_before_anything_was_read_says_only_what_is_known() {
    let expected = concat!(
        r#"{"ts":"2025-06-15T15:06:40.123Z","request_id":"r1","decision":"refused","auth":"none","#,
        r#""code":"bad_signature","client_ip":"192.0.2.7","peer_ip":"127.0.0.1","method":"GET","#,
        r#""path":"/v1/secret/a","route":"/v1"}"#,
        "\n"
    );
    assert_eq!(line(&refused("r1")), expected);
}

#[test]
fn an_open_record_reads_as_published() {
    let record = OpenRecord {
        request: request("r1"),
        body: body(),
    };
    let expected = concat!(
        r#"{"ts":"2025-06-15T15:06:40.123Z","request_id":"r1","decision":"accepted","auth":"none","#,
        r#""client_ip":"192.0.2.7","peer_ip":"127.0.0.1","method":"GET","path":"/v1/secret/a","#,
        r#""route":"/v1","#,
        r#""body_sha256":"abababababababababababababababababababababababababababababababab","#,
        r#""body_bytes":12}"#,
        "\n"
    );
    assert_eq!(line(&record), expected);
}

#[test]
fn an_observed_record_with_all_that_a_client_can_make_up_reads_as_published() {
    let names = ["x-b", "a`b"].map(|name| name.parse().unwrap());
    let mut request = request("r1");
    request.client_ip = Some("2001:db8::1".parse().unwrap());
    request.method = SentMethod::of(b"GET\"\\\x7f\t");
    request.path = PathOnly::of("/\u{e9}\u{1f511}\u{202e}\u{9b}31m".as_bytes());
    request.query = Some(Query::Forwarded);
    request.dropped = DroppedHeaders {
        names: &names,
        and_more: true,
    };
    let claim = ClaimedFacts {
        machine: Some(ClaimedMachine::of(&[b'm'; 129])),
        machine_known: Some(true),
        timestamp: Some(u64::MAX),
        nonce: Some(ClaimedNonce::of(b"n\xff\r\n\0")),
        body: None,
    };
    let record = UnsignedRecord {
        request,
        body: body(),
        token: None,
        observed: Some((Code::ClockSkew, claim)),
    };
    let expected = [
        r#"{"ts":"2025-06-15T15:06:40.123Z","request_id":"r1","decision":"observed","auth":"none","#,
        r#""code":"clock_skew","claimed_machine":""#,
        &"m".repeat(128),
        r#"\u2026","machine_known":true,"client_ip":"2001:db8::1","peer_ip":"127.0.0.1","#,
        r#""method":"GET\"\\\u007f\t","path":"/\u00e9\ud83d\udd11\u202e\u009b31m","#,
        r#""query":"forwarded","route":"/v1","dropped_headers":["x-b","a`b","\u2026"],"#,
        r#""timestamp":18446744073709551615,"nonce":"n\ufffd\r\n\u0000","#,
        r#""body_sha256":"abababababababababababababababababababababababababababababababab","#,
        r#""body_bytes":12}"#,
        "\n",
    ];
    assert_eq!(line(&record), expected.concat());
}

#[test]
fn a_registry_record_reads_as_published() {
    let ids = ["a", "b"].map(|id| MachineId::parse(id).unwrap());
    let record = RegistryRecord {
        wall_ms: 0,
        digest: &[1; 32],
        machines: 7,
        added: &ids,
        removed: &[],
        keys_changed: &[],
        changed: &ids[1..],
        keys: &[Arc::new(machine())],
        operators: false,
    };
    let expected = concat!(
        r#"{"ts":"1970-01-01T00:00:00.000Z","decision":"registry","#,
        r#""digest":"0101010101010101010101010101010101010101010101010101010101010101","#,
        r#""machines":7,"added":{"count":2,"ids":["a","b"]},"removed":{"count":0,"ids":[]},"#,
        r#""keys_changed":{"count":0,"ids":[]},"changed":{"count":1,"ids":["b"]},"#,
        r#""keys":[{"id":"m-1","public_keys":["11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]}]}"#,
        "\n"
    );
    assert_eq!(line(&record), expected);
}

#[test]
fn a_refusal_shows_what_the_client_claimed_in_a_field_of_its_own() {
    let mut record = refused("r1");
    record.evidence = RefusalEvidence::Claimed(ClaimedFacts {
        machine: Some(ClaimedMachine::of(b"m-1")),
        machine_known: Some(false),
        timestamp: Some(1_750_000_000),
        nonce: Some(ClaimedNonce::of(b"0123456789abcdef")),
        body: Some(BodyDigest {
            sha256: &[0; 32],
            bytes: 0,
        }),
    });
    let json = read_back(&record);
    assert_eq!(json["claimed_machine"], "m-1");
    assert_eq!(json["machine_known"], false);
    assert_eq!(json["timestamp"], 1_750_000_000);
    assert_eq!(json["nonce"], "0123456789abcdef");
    assert_eq!(json["body_bytes"], 0);
    assert_eq!(json["auth"], "none");
    assert_eq!(json.get("machine"), None);
}

#[test]
fn a_refusal_after_the_signature_names_the_machine_and_shows_no_signature() {
    let machine = machine();
    let mut record = refused("r1");
    record.code = Code::Replayed;
    record.evidence = RefusalEvidence::Signed(signed(&machine));
    let json = read_back(&record);
    assert_eq!(json["auth"], "signature");
    assert_eq!(json["machine"]["id"], "m-1");
    assert_eq!(json.get("claimed_machine"), None);
    assert_eq!(json.get("signature"), None);
}

#[test]
fn every_refusal_code_is_written_as_its_word() {
    for code in Code::ALL {
        let mut record = refused("r1");
        record.code = code;
        assert_eq!(read_back(&record)["code"], code.as_str());
    }
}

#[test]
fn a_machine_without_name_vault_and_owner_has_no_such_fields() {
    let mut machine = machine();
    (machine.name, machine.vault, machine.owner) = (None, None, None);
    let json = read_back(&accepted("r1", &machine));
    let fields: Vec<_> = json["machine"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "key", "public_key"]);
}

#[test]
fn a_signed_query_shows_in_the_signed_path_alone() {
    let machine = machine();
    let mut record = accepted("r1", &machine);
    record.request.query = Some(Query::Signed);
    record.signed.path = "/v1/secret/a?version=2";
    let json = read_back(&record);
    assert_eq!(json["query"], "signed");
    assert_eq!(json["path"], "/v1/secret/a");
    assert_eq!(json["signed_path"], "/v1/secret/a?version=2");
}

#[test]
fn headers_that_did_not_cross_are_named_and_cut_without_their_values() {
    let machine = machine();
    let mut record = accepted("r1", &machine);
    let long = "x".repeat(70);
    let names = ["x-vault-request", "a`b", &long].map(|name| name.parse().unwrap());
    record.request.dropped = DroppedHeaders {
        names: &names,
        and_more: true,
    };
    let cut = format!("{}\u{2026}", &long[..64]);
    let expected = json!(["x-vault-request", "a`b", cut, "\u{2026}"]);
    assert_eq!(read_back(&record)["dropped_headers"], expected);
    record.request.dropped = DroppedHeaders::default();
    assert_eq!(read_back(&record).get("dropped_headers"), None);
}

#[test]
fn a_stripped_query_is_noted_and_not_shown() {
    let machine = machine();
    let mut record = accepted("r1", &machine);
    record.request.path = PathOnly::of(b"/v1/secret/a?token=hush");
    record.request.query = Some(Query::Stripped);
    let line = line(&record);
    assert!(line.contains(r#""query":"stripped""#), "{line}");
    assert!(!line.contains("hush"), "{line}");
}

#[test]
fn a_query_in_the_signed_path_is_not_shown_unless_the_route_signs_queries() {
    let machine = machine();
    for query in [None, Some(Query::Stripped)] {
        let mut record = accepted("r1", &machine);
        record.request.query = query;
        record.signed.path = "/v1/secret/a?token=hush";
        assert_eq!(read_back(&record)["signed_path"], "/v1/secret/a");
    }
}

#[test]
fn what_a_client_sends_cannot_forge_a_second_line() {
    let mut record = refused("r1");
    record.request.method = SentMethod::of(b"GET\n{}");
    record.request.path = PathOnly::of(b"/a\r\n{\"decision\":\"accepted\"}");
    record.evidence = RefusalEvidence::Claimed(ClaimedFacts {
        machine: Some(ClaimedMachine::of(
            b"x\"}\n{\"decision\":\"accepted\"\x00\x1b[2J",
        )),
        ..ClaimedFacts::default()
    });
    let line = line(&record);
    assert_eq!(line.lines().count(), 1);
    assert!(line.trim_end().bytes().all(|b| matches!(b, b' '..=b'~')));
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["decision"], "refused");
    assert_eq!(json["method"], "GET\n{}");
}

#[test]
fn the_longest_claims_make_a_line_of_bounded_length() {
    let junk = [0xff; 100_000];
    let mut target = vec![b'/'];
    target.extend(junk);
    let mut record = refused("r1");
    record.request.method = SentMethod::of(&junk);
    record.request.path = PathOnly::of(&target);
    record.evidence = RefusalEvidence::Claimed(ClaimedFacts {
        machine: Some(ClaimedMachine::of(&junk)),
        nonce: Some(ClaimedNonce::of(&junk)),
        ..ClaimedFacts::default()
    });
    assert!(line(&record).len() < 28 * 1024);
}

#[test]
fn ipv6_addresses_are_written_as_text() {
    let mut record = refused("r1");
    record.request.client_ip = Some("2001:db8::1".parse().unwrap());
    record.request.peer_ip = None;
    let json = read_back(&record);
    assert_eq!(json["client_ip"], "2001:db8::1");
    assert_eq!(json.get("peer_ip"), None);
}

#[test]
fn a_request_without_a_route_has_no_such_field() {
    let mut record = refused("r1");
    record.request = RequestFacts {
        route: None,
        ..request("r1")
    };
    assert_eq!(read_back(&record).get("route"), None);
}

#[test]
fn a_response_line_reads_as_published() {
    let expected = concat!(
        r#"{"ts":"2025-06-15T15:06:40.456Z","request_id":"r1","decision":"response","#,
        r#""status":200,"upstream_ms":12,"bytes":345}"#,
        "\n"
    );
    assert_eq!(line(&response("r1")), expected);
}

#[test]
fn a_response_without_an_upstream_has_no_upstream_time() {
    let mut record = response("r1");
    record.upstream_ms = None;
    assert_eq!(read_back(&record).get("upstream_ms"), None);
}

#[test]
fn a_registry_record_names_what_changed() {
    let ids = ["a", "b", "c"].map(|id| MachineId::parse(id).unwrap());
    let record = RegistryRecord {
        wall_ms: 0,
        digest: &[1; 32],
        machines: 7,
        added: &ids[..2],
        removed: &ids[2..],
        keys_changed: &[],
        changed: &[],
        keys: &[Arc::new(machine())],
        operators: false,
    };
    let expected = json!({
        "ts": "1970-01-01T00:00:00.000Z",
        "decision": "registry",
        "digest": "01".repeat(32),
        "machines": 7,
        "added": { "count": 2, "ids": ["a", "b"] },
        "removed": { "count": 1, "ids": ["c"] },
        "keys_changed": { "count": 0, "ids": [] },
        "changed": { "count": 0, "ids": [] },
        "keys": [{ "id": "m-1", "public_keys": ["11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="] }],
    });
    assert_eq!(read_back(&record), expected);
}

#[test]
fn a_registry_record_of_many_machines_names_the_first_and_counts_all() {
    let ids = vec![MachineId::parse("m").unwrap(); LISTED + 1];
    let record = RegistryRecord {
        wall_ms: 0,
        digest: &[1; 32],
        machines: ids.len(),
        added: &ids,
        removed: &[],
        keys_changed: &[],
        changed: &[],
        keys: &[],
        operators: false,
    };
    let json = read_back(&record);
    assert_eq!(json["added"]["count"], LISTED + 1);
    assert_eq!(json["added"]["ids"].as_array().unwrap().len(), LISTED);
}

fn unsigned(
    observed: Option<(Code, ClaimedFacts<'_>)>,
    token: Option<TokenHash>,
) -> serde_json::Value {
    let mut request = request("r1");
    request.query = Some(Query::Forwarded);
    read_back(&UnsignedRecord {
        request,
        body: body(),
        token,
        observed,
    })
}

#[test]
fn a_bearer_token_is_named_by_its_hash_and_nothing_is_said_of_a_machine() {
    let token = TokenNames::new(None).of(b"s.VerySecretToken");
    let record = unsigned(None, Some(token));
    assert_eq!(record["decision"], "accepted");
    assert_eq!(record["auth"], "bearer");
    assert_eq!(record["token_hash"], token.to_string());
    assert_eq!(record["query"], "forwarded");
    assert_eq!(record["body_bytes"], 12);
    for absent in [
        "machine",
        "claimed_machine",
        "code",
        "signature",
        "signed_path",
    ] {
        assert_eq!(record.get(absent), None, "{absent}");
    }
    assert!(!record.to_string().contains("VerySecretToken"));
}

#[test]
fn an_observed_request_says_what_it_would_have_been_refused_for_and_what_it_claimed() {
    let claim = ClaimedFacts {
        machine: Some(ClaimedMachine::of(b"m-1")),
        timestamp: Some(1_750_000_000),
        ..ClaimedFacts::default()
    };
    let record = unsigned(Some((Code::BadSignature, claim)), None);
    assert_eq!(record["decision"], "observed");
    assert_eq!(record["auth"], "none");
    assert_eq!(record["code"], "bad_signature");
    assert_eq!(record["claimed_machine"], "m-1");
    assert_eq!(record["timestamp"], 1_750_000_000);
    assert_eq!(record.get("token_hash"), None);
    assert_eq!(record.get("machine"), None);
}
