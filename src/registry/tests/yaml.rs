//! Files that are wrong as a whole, and what YAML can do to a reader.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::registry::fixtures::{entry, file, key, load, refusal};
use crate::registry::{MAX_FILE, Registry};

#[test]
fn an_empty_list_is_a_registry_without_machines() {
    assert!(load("machines: []\n").unwrap().is_empty());
}

#[test]
fn an_empty_file_is_refused() {
    for text in ["", "\n\n", "# only a comment\n", "---\n", "~\n"] {
        assert!(refusal(text).contains("the file is empty"), "{text:?}");
    }
}

#[test]
fn a_file_without_machines_is_refused() {
    assert!(refusal("{}").contains("the key `machines` is missing"));
}

#[test]
fn nothing_under_machines_is_refused_and_the_empty_list_offered() {
    assert!(refusal("machines:\n").contains("`machines: []`"));
}

#[test]
fn a_file_that_is_no_mapping_is_refused() {
    for text in ["[]", "machines", "42", "- id: a\n"] {
        assert!(refusal(text).contains("must be a mapping"), "{text}");
    }
}

#[test]
fn machines_that_are_no_list_are_refused() {
    for text in ["machines: a\n", "machines: {a: b}\n", "machines: 1\n"] {
        assert!(refusal(text).contains("must be a list"), "{text}");
    }
}

#[test]
fn an_unknown_key_beside_machines_is_refused_by_name() {
    let text = file(&entry("a", 1)) + "group: []\n";
    assert!(refusal(&text).contains("\"group\""));
}

#[test]
fn a_missing_list_and_an_unknown_key_are_told_together() {
    let told = refusal("machine: []\n");
    assert!(told.contains("`machines` is missing") && told.contains("\"machine\""));
}

#[test]
fn machines_given_twice_are_refused() {
    let text = file(&entry("a", 1)) + &file(&entry("b", 2));
    assert!(refusal(&text).contains("given twice"));
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_line() {
    let told = refusal("machines:\n  - id: a\n   name: b\n");
    assert!(
        told.starts_with("m.yaml:3: the file is not usable YAML"),
        "{told}"
    );
}

#[test]
fn a_second_document_is_refused() {
    let text = file(&entry("a", 1)) + "---\n" + &file(&entry("b", 2));
    assert!(refusal(&text).contains("more than one document"));
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let bytes = b"machines: []\n# caf\xe9\n";
    let told = Registry::from_bytes(Path::new("m.yaml"), bytes, None).unwrap_err();
    assert_eq!(told.to_string(), "m.yaml:2: the file is not UTF-8 text");
}

#[test]
fn an_alias_may_share_a_value() {
    let text = format!(
        "machines:\n  - {{id: a, owner: &o payments, public_keys: [{}]}}\n  \
         - {{id: b, owner: *o, public_keys: [{}]}}\n",
        key(1),
        key(2)
    );
    let registry = load(&text).unwrap();
    assert_eq!(
        registry.find("b").unwrap().owner.as_deref(),
        Some("payments")
    );
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("machines:\n- &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let alias = format!("*a{}, ", level - 1).repeat(9);
        text += &format!("- &a{level} [{alias}]\n");
    }
    text += "- {id: *a29}\n";
    let told = refusal(&text);
    assert!(told.lines().count() <= 101, "{told}");
}

#[test]
fn an_alias_bomb_of_lists_of_machines_is_refused() {
    let mut text = String::from("a: &a0 [{id: a}, {id: a}, {id: a}]\n");
    for level in 1..40 {
        let alias = format!("*a{}, ", level - 1).repeat(9);
        text += &format!("k{level}: &a{level} [{alias}]\n");
    }
    text += "machines: *a39\n";
    refusal(&text);
}

#[test]
fn a_long_text_repeated_by_aliases_is_not_kept() {
    let long = "x".repeat(1 << 20);
    let mut text = format!("machines:\n- {{id: &a {long}}}\n");
    text += &"- {id: *a}\n".repeat(20_000);
    assert!(refusal(&text).contains("far too long"));
}

#[test]
fn an_alias_to_nothing_is_refused() {
    assert!(refusal("machines: *nobody\n").contains("unknown anchor"));
}

#[test]
fn an_alias_to_itself_is_refused() {
    for text in [
        "machines: &a [*a]\n",
        "machines: &a [{id: *a}]\n",
        "machines: [&a {id: b, x: *a}]\n",
    ] {
        refusal(text);
    }
}

#[test]
fn a_merge_key_is_an_unknown_key() {
    let text = format!(
        "machines:\n  - &m {{id: a, public_keys: [{}]}}\n  - {{<<: *m, id: b}}\n",
        key(1)
    );
    assert!(refusal(&text).contains("\"<<\""));
}

#[test]
fn deep_nesting_is_refused_without_filling_the_stack() {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for text in [
        deep.clone(),
        format!("machines: {deep}"),
        format!("machines: [{{id: {deep}}}]"),
    ] {
        refusal(&text);
    }
}

#[test]
fn a_missing_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let told = Registry::load(&directory.path().join("m.yaml"), None).unwrap_err();
    assert!(told.to_string().contains("cannot be read"));
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for path in [directory.path(), &pipe, Path::new("/dev/zero")] {
        let told = Registry::load(path, None).unwrap_err();
        assert!(told.to_string().contains("not a regular file"), "{told}");
    }
}

#[test]
fn a_file_over_the_limit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.yaml");
    fs::File::create(&path)
        .unwrap()
        .set_len(MAX_FILE + 1)
        .unwrap();
    let told = Registry::load(&path, None).unwrap_err();
    assert!(told.to_string().contains("larger than 64 MiB"), "{told}");
}

#[test]
fn a_file_is_found_through_a_symlink() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("real"), file(&entry("a", 1))).unwrap();
    let link = directory.path().join("m.yaml");
    symlink("real", &link).unwrap();
    assert_eq!(Registry::load(&link, None).unwrap().len(), 1);
}

#[test]
fn the_digest_is_the_sha256_of_the_file() {
    // printf 'machines: []\n' | sha256sum
    let digest = load("machines: []\n").unwrap().digest();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, DIGEST_OF_NO_MACHINES);
}

const DIGEST_OF_NO_MACHINES: &str =
    "6378403fa7f35b0d63a00828741cf350195b13c80ae513efca38ee181249e54e";

#[test]
fn the_reference_registry_loads() {
    let text = include_str!("../../../conf/machines.yaml");
    let registry = load(text).unwrap();
    assert!(registry.len() >= 3, "it shows every spelling of a key");
    assert!(registry.machines().any(|machine| !machine.enabled));
    assert!(registry.machines().any(|machine| machine.expires.is_some()));
    let policies = || {
        registry
            .machines()
            .filter_map(|machine| machine.policy.as_ref())
    };
    assert!(policies().any(|policy| policy.allow.is_some() && policy.cidrs.is_some()));
    assert!(policies().any(|policy| policy.rate.is_some()));
    let keys = || registry.machines().flat_map(|machine| machine.keys.iter());
    assert!(
        keys().any(|key| key.validity.not_before().is_some() && key.validity.not_after().is_some())
    );
    assert_eq!((registry.groups().len(), registry.removed().len()), (1, 1));
}

#[test]
fn the_reference_registry_has_every_key_there_is() {
    let text = include_str!("../../../conf/machines.yaml");
    for section in crate::registry::parse::Section::ALL {
        for key in section.keys() {
            let line = format!("{}:", key.as_str());
            assert!(text.contains(&line), "{section:?} {line}");
        }
    }
}
