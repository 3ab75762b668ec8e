//! Files that are wrong as a whole, and what YAML can do to a reader.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::config::RegistrySource;
use crate::config::{self, Environment};
use crate::registry::entry::Lists;
use crate::registry::fixtures::{entry, file, key, load, refusal};
use crate::registry::{IdCase, MAX_FILE, Registry, fields};
use crate::yaml::{Notes, document};

#[test]
fn an_empty_list_is_a_registry_without_machines() {
    assert!(load("machines: []\n").unwrap().is_empty());
}

#[test]
fn an_empty_file_is_refused() {
    for text in ["", "\n\n", "# only a comment\n", "---\n", "~\n"] {
        assert!(
            refusal(text).contains("is empty; for a registry"),
            "{text:?}"
        );
    }
}

#[test]
fn a_file_without_machines_is_refused() {
    assert!(refusal("{}").contains("machines: is missing"));
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
    assert!(refusal(&text).contains("group: is an unknown key"));
}

#[test]
fn a_missing_list_and_an_unknown_key_are_told_together() {
    let told = refusal("machine: []\n");
    assert!(told.contains("machines: is missing") && told.contains("machine: is an unknown key"));
}

#[test]
fn machines_given_twice_are_refused() {
    let text = file(&entry("a", 1)) + &file(&entry("b", 2));
    assert!(refusal(&text).contains("machines: is given twice"));
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_line() {
    let told = refusal("machines:\n  - id: a\n   name: b\n");
    assert!(told.starts_with("m.yaml:3: is not YAML"), "{told}");
}

#[test]
fn a_second_document_is_refused() {
    let text = file(&entry("a", 1)) + "---\n" + &file(&entry("b", 2));
    assert!(refusal(&text).contains("a second document starts here"));
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let bytes = b"machines: []\n# caf\xe9\n";
    let told = Registry::from_bytes(Path::new("m.yaml"), bytes, None).unwrap_err();
    assert_eq!(
        told.to_string(),
        "m.yaml:2: is not UTF-8 text; save it as UTF-8"
    );
}

#[test]
fn aliases_anchors_and_tags_are_refused_at_their_lines() {
    let keys = format!("public_keys: [\"{}\"]", key(1));
    for (text, line, word) in [
        (
            format!("machines:\n- {{id: a, {keys}}}\n- *x\n"),
            3,
            "an alias",
        ),
        (
            format!("machines:\n- id: a\n  owner: &o b\n  {keys}\n"),
            3,
            "an anchor",
        ),
        (
            format!("machines:\n- &m\n  id: a\n  {keys}\n"),
            2,
            "an anchor",
        ),
        (format!("machines: &m\n- id: a\n  {keys}\n"), 1, "an anchor"),
        (
            format!("machines:\n- id: a\n  owner: !!str b\n  {keys}\n"),
            3,
            "a tag",
        ),
        (
            format!("machines:\n- id: a\n  owner: ! b\n  {keys}\n"),
            3,
            "a tag",
        ),
        (
            format!("machines:\n- id: a\n  owner: !x b\n  {keys}\n"),
            3,
            "a tag",
        ),
        (format!("machines: !!seq\n- id: a\n  {keys}\n"), 1, "a tag"),
        (
            format!("? *x\n: b\nmachines:\n- id: a\n  {keys}\n"),
            1,
            "an alias",
        ),
    ] {
        let told = refusal(&text);
        assert!(
            told.starts_with(&format!("m.yaml:{line}: ")),
            "{told}\n{text}"
        );
        assert!(
            told.contains(word) && told.contains("not supported"),
            "{told}"
        );
    }
}

#[test]
fn the_configuration_and_the_registry_are_one_dialect() {
    let path = Path::new("m.yaml");
    let environment = Environment::of_process(0);
    let machines = file(&entry("a", 1));
    let configuration = "listeners: [{ address: 127.0.0.1:8080 }]\nregistry: { file: m.yaml }\nupstreams: { \
                         a: { servers: ['http://127.0.0.1:1'] } }\nroutes: [{ path: /, upstream: a }]\n";
    for (end, words) in [
        (
            "groups: &g []\nhosts: &g [a]\n",
            "has an anchor (&), which is not supported",
        ),
        (
            "groups: *g\nhosts: *g\n",
            "is an alias (*), which is not supported",
        ),
        (
            "groups: !!seq []\nhosts: !!seq [a]\n",
            "has a tag (!), which is not supported",
        ),
        (
            "colour: red\ncolour: blue\n",
            "colour: is given twice, first on line",
        ),
        ("<<: { a: b }\n", "\"<<\": is an unknown key"),
        ("? [a]\n: b\n", "has a key that is not plain text"),
        ("colour: red\n", "colour: is an unknown key"),
        (
            "groups: ~\nhosts: ~\n",
            "has no value; give it one or remove the key",
        ),
        ("---\nmachines: []\n", "a second document starts here"),
        ("a: b: c\n", "is not YAML: "),
    ] {
        let registry = refusal(&format!("{machines}{end}"));
        let read = config::read(&format!("{configuration}{end}"), path, &environment);
        for told in [registry, read.unwrap_err().to_string()] {
            assert!(told.contains(words), "{end}: {told}");
        }
    }
}

#[test]
fn the_characters_of_aliases_anchors_and_tags_may_stand_in_values() {
    let item = |owner: &str| {
        format!(
            "machines:\n- id: a\n  owner: {owner}\n  public_keys: [\"{}\"]\n  \
             allow: [\"read /v1/*\"] # R & D *now* !\n",
            key(1)
        )
    };
    for owner in [
        "R & D",
        "'&a *b !c'",
        "\"*\"",
        "a*b",
        "a &b",
        "a !b",
        "a:!b",
    ] {
        assert!(
            load(&item(owner)).is_ok(),
            "{owner}: {:?}",
            load(&item(owner))
        );
    }
}

#[test]
fn every_alias_of_a_file_is_told_of_up_to_a_hundred() {
    let text = format!("machines:\n- &a {{id: b}}\n{}", "- *a\n".repeat(500));
    let told = refusal(&text);
    assert_eq!(told.lines().count(), 101);
    assert!(told.ends_with("and 401 more"), "{told}");
}

#[test]
fn an_alias_bomb_is_refused_without_being_followed() {
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
    for path in [&pipe, Path::new("/dev/zero")] {
        let told = Registry::load(path, None).unwrap_err();
        assert!(told.to_string().contains("not a regular file"), "{told}");
    }
    let file = RegistrySource::File(directory.path().to_owned());
    let told = Registry::load_source(&file, None, IdCase::Exact).unwrap_err();
    assert!(told.to_string().contains("a directory, not a regular file"));
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
    let notes = Notes::new(Path::new("machines.yaml"));
    let document = document(text, &notes, "").unwrap();
    let lists = Lists::of([(&document, &notes)].into_iter());
    fields::read(&lists, None, IdCase::Exact);
    let absent = notes.absent_keys();
    for (noun, entries) in [
        ("\"", &lists.machines),
        ("group ", &lists.groups),
        ("removed machine ", &lists.removed),
    ] {
        let mut lacking: HashMap<&str, usize> = HashMap::new();
        for path in absent.iter().filter(|path| path.starts_with(noun)) {
            *lacking.entry(path.split_once(": ").unwrap().1).or_default() += 1;
        }
        let nowhere = lacking
            .iter()
            .find(|(key, count)| **count == entries.len() && !text.contains(&format!("#{key}: ")));
        assert_eq!(nowhere, None, "{noun}");
    }
}
