//! Keys: their spellings in YAML, which are refused, and that each belongs to one machine.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::registry::fixtures::{build, entry, file, key, load, refusal, registry};
use crate::registry::{IdCase, Registry};
use crate::yaml::Mistakes;
use countersign_core::identity::{KeyError, PublicKey};
use countersign_core::validity::Validity;

fn with_keys(yaml: &str) -> String {
    file(&format!("  - id: a\n    public_keys: {yaml}\n"))
}

#[test]
fn the_four_spellings_are_one_key() {
    let raw = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let spki = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let ssh = "AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    for yaml in [
        format!("[{raw}]"),
        format!("[\"{spki}\"]"),
        format!("\n      - ssh-ed25519 {ssh} root@web"),
        format!(
            "\n      - |\n        -----BEGIN PUBLIC KEY-----\n        {spki}\n        -----END PUBLIC KEY-----"
        ),
        format!("[\"-----BEGIN PUBLIC KEY-----\\n{spki}\\n-----END PUBLIC KEY-----\\n\"]"),
    ] {
        let registry = load(&with_keys(&yaml)).unwrap_or_else(|told| panic!("{yaml}: {told}"));
        let machine = registry.find("a").unwrap();
        assert_eq!(
            machine.keys[0].public.fingerprint().to_string(),
            "21fe31dfa154a261"
        );
    }
}

#[test]
fn a_machine_may_have_four_keys_and_no_fifth() {
    let list = |count| format!("[{}]", (1..=count).map(key).collect::<Vec<_>>().join(", "));
    let registry = load(&with_keys(&list(4))).unwrap();
    assert_eq!(registry.find("a").unwrap().keys.len(), 4);
    assert!(
        refusal(&with_keys(&list(5))).contains("public_keys: has 5 items; at most 4 are allowed")
    );
}

#[test]
fn a_machine_without_a_key_is_refused() {
    for text in [with_keys("[]"), file("  - id: a\n")] {
        assert!(refusal(&text).contains("needs at least one key"), "{text}");
    }
}

#[test]
fn keys_that_are_no_list_are_refused() {
    for yaml in [key(1).as_str(), "{a: b}", "7"] {
        assert!(
            refusal(&with_keys(yaml)).contains("public_keys: must be a list"),
            "{yaml}"
        );
    }
}

#[test]
fn a_text_that_is_no_key_is_refused_with_its_place_in_the_list() {
    let yaml = format!("[\"{}\", nonsense]", key(1));
    assert!(refusal(&with_keys(&yaml)).starts_with("m.yaml:3: \"a\": public_keys[1]: "));
}

#[test]
fn a_list_item_of_another_kind_is_no_key() {
    for (item, words) in [
        ("~", "has no value"),
        ("7", "YAML reads it as a number or a truth value"),
        ("true", "YAML reads it as a number or a truth value"),
        ("[a]", "must be a text, not a list"),
    ] {
        let told = refusal(&with_keys(&format!("[{item}]")));
        assert!(told.contains(&format!("public_keys[0]: {words}")), "{told}");
    }
}

#[test]
fn a_weak_key_is_refused() {
    let zero = format!("[\"{}=\"]", "A".repeat(43));
    assert!(refusal(&with_keys(&zero)).contains("public_keys[0]: it is a weak key"));
}

#[test]
fn bytes_that_are_no_point_are_refused() {
    let two = format!("[\"Ag{}=\"]", "A".repeat(41));
    assert!(refusal(&with_keys(&two)).contains("public_keys[0]: it is not a point"));
}

#[test]
fn a_key_listed_twice_in_a_machine_is_refused() {
    let yaml = format!("[\"{0}\", \"{0}\"]", key(1));
    assert!(refusal(&with_keys(&yaml)).contains("public_keys[1]: the same key is listed twice"));
}

#[test]
fn a_key_of_two_machines_is_refused_with_both_named() {
    let told = refusal(&file(&(entry("a", 1) + &entry("b", 1))));
    assert!(told.starts_with("m.yaml:5: \"b\": public_keys[0]: the key belongs to \"a\" (line 2)"));
}

#[test]
fn two_spellings_of_one_key_are_one_key() {
    let spki = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let raw = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let text = format!(
        "machines:\n- {{id: a, public_keys: [{raw}]}}\n- {{id: b, public_keys: [{spki}]}}\n"
    );
    assert!(refusal(&text).contains("belongs to \"a\""));
}

#[test]
fn a_key_of_a_disabled_machine_cannot_be_used_by_another() {
    let text = file(&(entry("a", 1) + "    enabled: false\n" + &entry("b", 1)));
    assert!(refusal(&text).contains("belongs to \"a\""));
}

#[test]
fn a_bad_key_and_a_bad_field_are_told_together() {
    let weak = format!("[\"{}=\"]", "A".repeat(43));
    let told = refusal(&(with_keys(&weak) + "    name: \"\"\n"));
    assert!(told.contains("weak") && told.contains("header"), "{told}");
}

/// Loads, and tells how many keys were checked on the way.
fn counted(text: &str, previous: Option<&Registry>) -> (Result<Registry, Mistakes>, usize) {
    let checked = Mutex::new(0);
    let check = |bytes: &[u8; 32]| -> Result<PublicKey, KeyError> {
        *checked.lock().unwrap() += 1;
        PublicKey::from_bytes(bytes)
    };
    let built = build(text, previous, IdCase::Exact, &check);
    let count = *checked.lock().unwrap();
    (built, count)
}

#[test]
fn a_first_load_checks_every_key_once() {
    let text = file(
        &(1..=100)
            .map(|n| entry(&format!("m{n}"), n))
            .collect::<String>(),
    );
    assert_eq!(counted(&text, None).1, 100);
}

#[test]
fn a_reload_checks_new_keys_alone() {
    let mut items: Vec<String> = (1..=100).map(|n| entry(&format!("m{n}"), n)).collect();
    let old = registry(&items.concat());
    items[50] = entry("m51", 1000);
    let (new, checked) = counted(&file(&items.concat()), Some(&old));
    assert_eq!(checked, 1);
    let (old, new) = (old, new.unwrap());
    assert_ne!(old.find("m51").unwrap().keys, new.find("m51").unwrap().keys);
}

#[test]
fn a_machine_under_a_new_id_needs_no_new_check() {
    let old = registry(&entry("a", 1));
    let (new, checked) = counted(&file(&entry("b", 1)), Some(&old));
    assert_eq!(checked, 0);
    assert_eq!(
        new.unwrap().find("b").unwrap().keys,
        old.find("a").unwrap().keys
    );
}

#[test]
fn a_key_that_is_known_is_still_refused_to_a_second_machine() {
    let old = registry(&entry("a", 1));
    let (new, _) = counted(&file(&(entry("a", 1) + &entry("b", 1))), Some(&old));
    assert!(new.unwrap_err().to_string().contains("belongs to \"a\""));
}

#[test]
fn each_key_goes_to_its_own_machine() {
    let items: String = (1..=200).map(|n| entry(&format!("m{n}"), n)).collect();
    let registry = registry(&items);
    let mut seen = HashSet::new();
    for n in 1..=200 {
        let machine = registry.find(&format!("m{n}")).unwrap();
        let base64 = crate::registry::key_format::to_base64(machine.keys[0].public.as_bytes());
        assert_eq!(base64, key(n));
        assert!(seen.insert(base64));
    }
}

fn dated(dates: &str) -> String {
    with_keys(&format!("[{{ key: \"{}\"{dates} }}]", key(1)))
}

#[test]
fn a_key_may_have_dates() {
    let registry = load(&dated(
        ", not_before: 2027-01-01, not_after: \"2027-01-31T12:00:00Z\"",
    ))
    .unwrap();
    let validity = registry.find("a").unwrap().keys[0].validity;
    assert_eq!(validity.not_before(), Some(1_798_761_600));
    assert_eq!(validity.not_after(), Some(1_801_396_800));
}

#[test]
fn a_key_without_dates_is_good_at_any_time_in_either_form() {
    for text in [dated(""), with_keys(&format!("[\"{}\"]", key(1)))] {
        let registry = load(&text).unwrap();
        assert_eq!(
            registry.find("a").unwrap().keys[0].validity,
            Validity::ALWAYS
        );
    }
}

#[test]
fn the_mistakes_of_a_dated_key_are_told() {
    for (dates, words) in [
        (
            ", not_after: soon",
            "public_keys[0].not_after: must be an instant",
        ),
        (
            ", not_before: 7",
            "public_keys[0].not_before: YAML reads it as a number",
        ),
        (
            ", not_before: 2027-02-01, not_after: 2027-01-01",
            "not_after is before not_before",
        ),
        (
            ", expires: 2027-02-01",
            "public_keys[0].expires: is an unknown key",
        ),
        (
            ", not_after: 2027-01-01, not_after: 2028-01-01",
            "public_keys[0].not_after: is given twice",
        ),
    ] {
        let told = refusal(&dated(dates));
        assert!(told.contains(words), "{told}");
    }
    let told = refusal(&with_keys("[{ not_after: 2027-01-01 }]"));
    assert!(told.contains("public_keys[0].key: is missing"), "{told}");
}

#[test]
fn another_date_of_a_key_is_a_changed_key() {
    let (old, new) = (
        load(&dated("")).unwrap(),
        load(&dated(", not_after: 2027-01-01")).unwrap(),
    );
    assert_eq!(
        crate::registry::Change::between(&old, &new)
            .keys_changed
            .len(),
        1
    );
}
