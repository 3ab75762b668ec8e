#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use super::super::fixtures::key;
use super::*;
use crate::registry::key_format;

fn parse(text: &str) -> Result<Vec<CheckedEntry>, String> {
    let new = NewMachines::parse(Path::new("new"), text).map_err(|told| told.to_string())?;
    new.check().map_err(|told| told.to_string())
}

fn ids(text: &str) -> Vec<String> {
    let entries = parse(text).unwrap();
    entries.iter().map(|entry| entry.id().to_string()).collect()
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err()
}

fn ssh(number: u64) -> String {
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend(key_format::parse(&key(number)).unwrap());
    let blob = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, blob);
    format!("ssh-ed25519 {blob}")
}

/// Two machines in each format.
fn every_format() -> [(ListFormat, String); 6] {
    let (one, two) = (key(1), key(2));
    let list =
        format!("- {{ id: a, public_keys: [\"{one}\"] }}\n- id: b\n  public_keys: [{two}]\n");
    let json = |id, key| format!("{{\"id\": \"{id}\", \"public_keys\": [\"{key}\"]}}");
    let lines = format!("{}\n\n{}\n", json("a", &one), json("b", &two));
    let document = format!(
        "{{\"machines\": [{}, {}]}}\n",
        json("a", &one),
        json("b", &two)
    );
    [
        (ListFormat::Yaml, format!("# ours\n{list}")),
        (ListFormat::Yaml, format!("machines:\n{list}")),
        (ListFormat::Yaml, document),
        (ListFormat::JsonLines, lines),
        (
            ListFormat::Csv,
            format!("id,public_key\na,{one}\nb,{two}\n"),
        ),
        (
            ListFormat::AuthorizedKeys,
            format!("# keys\n{} a\n\n{}  b\n", ssh(1), ssh(2)),
        ),
    ]
}

#[test]
fn the_content_tells_the_format() {
    for (format, text) in every_format() {
        assert_eq!(ListFormat::of(&text), format, "{text}");
    }
}

#[test]
fn every_format_gives_the_same_machines() {
    let [(_, yaml), others @ ..] = every_format();
    let expected = parse(&yaml).unwrap();
    for (format, text) in others {
        assert_eq!(parse(&text), Ok(expected.clone()), "{format:?}");
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
    for (format, text) in every_format() {
        let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        assert_eq!(ids(&text), ["a", "b"], "{format:?}");
    }
}

#[test]
fn csv_has_every_field() {
    let text = format!(
        "name,id,vault,owner,credential,public_key,enabled,not_before,expires,groups,allow,cidrs,rate\n\
         \"Smith, web\",a,v,o,c,{};{},false,2026-01-01,2027-01-01,g1; g2,\
         read /v1/secret/data/a/**;LIST /v1/secret/metadata/a,10.0.0.0/8;::1/128,60\n",
        key(1),
        key(2)
    );
    let entry = &parse(&text).unwrap()[0];
    let expected = serde_json::json!({
        "id": "a", "name": "Smith, web", "vault": "v", "owner": "o", "credential": "c",
        "public_keys": [key(1), key(2)], "enabled": false,
        "not_before": "2026-01-01", "expires": "2027-01-01", "groups": ["g1", "g2"],
        "allow": ["read /v1/secret/data/a/**", "LIST /v1/secret/metadata/a"],
        "cidrs": ["10.0.0.0/8", "::1/128"], "rate": {"per_minute": 60},
    });
    assert_eq!(entry.fields(), expected.as_object().unwrap());
}

#[test]
fn an_empty_cell_is_a_field_that_is_left_out() {
    let text = format!("id,name,public_key,rate\na,,{},\n", key(1));
    assert_eq!(parse(&text).unwrap()[0].fields().len(), 2);
}

#[test]
fn a_machine_without_an_id_gets_a_random_one() {
    let text = format!("public_key\n{}\n{}\n", key(1), key(2));
    let ids = ids(&text);
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
    }
}

#[test]
fn a_mistake_is_named_with_the_line_of_its_own_file_in_every_format() {
    let bad = "AAAA";
    for (text, line) in [
        (format!("- id: a\n  public_keys: [\"{bad}\"]\n"), 2),
        (
            format!("\n{{\"id\": \"a\", \"public_keys\": [\"{bad}\"]}}"),
            2,
        ),
        (
            format!("# x\n\nid,public_key\nb,{}\n\n# y\na,{bad}\n", key(1)),
            7,
        ),
        (format!("# x\n{} b\nssh-ed25519 {bad} a\n", ssh(1)), 3),
    ] {
        let told = refused(&text);
        let start = format!("new:{line}: \"a\": public_keys[0]: ");
        assert!(told.starts_with(&start), "{told} for {text}");
    }
}

#[test]
fn every_mistake_of_a_file_is_named() {
    let rows: String = (0..20).map(|n| format!("m {n},{}\n", key(n + 1))).collect();
    let told = refused(&format!("id,public_key\n{rows}"));
    assert_eq!(told.lines().count(), 20, "{told}");
    for (line, text) in (2..).zip(told.lines()) {
        assert!(text.starts_with(&format!("new:{line}: ")), "{text}");
    }
}

#[test]
fn an_id_or_a_key_given_twice_is_a_mistake() {
    let told = refused(&format!("id,public_key\na,{}\na,{}\n", key(1), key(2)));
    assert!(
        told.contains("new:3: \"a\": id: the id is used twice; \"a\" (line 2)"),
        "{told}"
    );
    let told = refused(&format!("id,public_key\na,{0}\nb,{0}\n", key(1)));
    assert!(
        told.contains("new:3: \"b\": public_keys[0]: the key belongs to \"a\" (line 2)"),
        "{told}"
    );
}

#[test]
fn a_csv_header_names_known_columns_once() {
    for (header, words) in [
        (
            "id,public_key,nme",
            "new:1: has an unknown column; did you mean `name`?",
        ),
        ("id,public_key,xyzzyx", "known columns: id, name"),
        ("id,public_key,id", "has the column id twice"),
        ("id;public_key", "use commas"),
    ] {
        let told = refused(&format!("{header}\na,b,c\n"));
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn a_row_with_too_many_or_too_few_cells_is_a_mistake() {
    let rows = format!("a,{0},x\n\"b\"\nc,{0}\n", key(1));
    let told = refused(&format!("id,public_key\n{rows}"));
    assert!(
        told.contains("new:2: has 3 cells, and the header has 2"),
        "{told}"
    );
    assert!(told.contains("new:3: has 1 cells"), "{told}");
    assert_eq!(told.lines().count(), 2);
}

#[test]
fn a_cell_of_several_lines_does_not_shift_the_lines_after_it() {
    let pem = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----";
    let told = refused(&format!("id,public_key\na,\"{pem}\"\nb,AAAA\n"));
    assert!(
        told.contains("new:2: \"a\"") && told.contains("new:5: \"b\""),
        "{told}"
    );
}

#[test]
fn a_line_of_authorized_keys_needs_a_comment_that_is_an_id() {
    let told = refused(&format!("{}\n{} root@web-1\n", ssh(1), ssh(2)));
    assert!(told.contains("new:1: has no comment"), "{told}");
    assert!(
        told.contains("new:2: \"root@web-1\": id: an id is 1 to 128"),
        "{told}"
    );
}

#[test]
fn options_of_authorized_keys_are_refused_because_they_would_be_lost() {
    let told = refused(&format!("from=\"10.0.0.0/8\",no-pty {} a\n", ssh(1)));
    assert!(told.contains("new:1: does not begin with a key"), "{told}");
}

#[test]
fn ssh_keys_of_other_types_are_named_beside_good_ones() {
    let told = refused(&format!("ssh-rsa AAAAB3 a\n{} b\n", ssh(1)));
    assert!(
        told.contains("new:1: \"a\": public_keys[0]: it is an SSH key, but not"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1);
}

#[test]
fn a_broken_line_of_json_is_named_and_its_values_are_not() {
    let good = format!("{{\"id\": \"a\", \"public_keys\": [\"{}\"]}}", key(1));
    let told = refused(&format!("{good}\n{{\"id\": \"s3cr3t\" \"x\"}}\n[]\n"));
    assert!(
        told.contains("new:2: is no JSON object on one line; see column 17"),
        "{told}"
    );
    assert!(
        told.contains("new:3: machine no. 2: must be a mapping"),
        "{told}"
    );
    assert!(!told.contains("s3cr3t"), "{told}");
}

#[test]
fn groups_and_tombstones_are_not_taken_from_here() {
    let told = refused("machines: []\ngroups:\n- {name: a, rate: {per_minute: 1}}\n");
    assert!(
        told.contains("new:2: only `machines` is added from here"),
        "{told}"
    );
}

#[test]
fn a_text_without_machines_is_a_mistake() {
    for text in ["", "# nothing\n", "machines: []\n", "id,public_key\n", "[]"] {
        assert!(refused(text).contains("has no machine to add"), "{text}");
    }
    assert!(refused("just words\n").contains("must be a list of machines"));
    assert!(refused("fleet:\n- id: a\n").contains("machines: is missing"));
}

#[test]
fn a_private_key_is_refused_and_not_repeated() {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend([7; 32]);
    let private = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let told = refused(&format!("id,public_key\na,{private}\n"));
    assert!(told.contains("PRIVATE"), "{told}");
    assert!(!told.contains(&private[20..]), "{told}");
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn no_csv_breaks_the_reader(rows in "[ab,;\"\n\r\t ]{0,80}") {
            let _ = parse(&format!("id,public_key\n{rows}"));
        }
    }
}
