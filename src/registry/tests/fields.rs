//! One wrong value a test, told with its machine, key and line.

use std::sync::Arc;

use crate::registry::IdCase;
use crate::registry::fixtures::{build, entry, file, key, load, refusal, registry};
use countersign_core::identity::PublicKey;

/// Asserts that one machine with `lines` under it is refused, once, in these words.
fn refused(lines: &str, words: &str) {
    let told = refusal(&file(&(entry("a", 1) + lines)));
    assert!(told.contains(words), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn every_field_reaches_the_machine() {
    let registry = registry(
        &(entry("web-1", 1)
            + "    name: prod api 7\n    vault: vault_prod\n    owner: payments\n    enabled: false\n    \
               not_before: 2026-01-01\n    expires: 2027-01-31T12:00:01Z\n"),
    );
    let machine = registry.find("web-1").unwrap();
    assert_eq!(machine.id.as_str(), "web-1");
    assert_eq!(machine.name.as_deref(), Some("prod api 7"));
    assert_eq!(machine.vault.as_deref(), Some("vault_prod"));
    assert_eq!(machine.owner.as_deref(), Some("payments"));
    assert_eq!(machine.keys.len(), 1);
    assert!(!machine.enabled);
    assert_eq!(machine.not_before, Some(1_767_225_600));
    assert_eq!(machine.expires, Some(1_801_396_801));
}

#[test]
fn what_is_left_out_is_nothing_and_a_machine_is_enabled() {
    let registry = registry(&entry("a", 1));
    let machine = registry.find("a").unwrap();
    assert!(machine.enabled);
    assert_eq!(
        (&machine.name, &machine.vault, &machine.owner),
        (&None, &None, &None)
    );
    assert_eq!((machine.not_before, machine.expires), (None, None));
}

#[test]
fn a_lookup_is_exact() {
    let registry = registry(&entry("Web-1", 1));
    assert!(registry.find("Web-1").is_some());
    for other in ["web-1", "Web-1 ", "Web-", "", "Wеb-1"] {
        assert!(registry.find(other).is_none(), "{other:?}");
    }
}

#[test]
fn a_machine_may_name_a_credential() {
    let registry = registry(&(entry("a", 1) + "    credential: team-a_1\n" + &entry("b", 2)));
    let machine = registry.find("a").unwrap();
    assert_eq!(machine.credential.as_deref(), Some("team-a_1"));
    assert_eq!(registry.find("b").unwrap().credential, None);
    assert_eq!(Vec::from_iter(registry.credentials()), ["team-a_1"]);
}

#[test]
fn what_is_no_name_of_a_credential_is_refused_and_not_repeated() {
    for text in ["hvs.CAESIJ", "''", "Team", "'a b'"] {
        let told = refusal(&file(
            &(entry("a", 1) + &format!("    credential: {text}\n")),
        ));
        assert!(told.contains("credential: must be the name of"), "{told}");
        assert!(!told.contains("hvs"), "{told}");
    }
}

#[test]
fn vaults_and_owners_are_kept_once() {
    let lines = "    vault: v\n    owner: o\n";
    let registry = registry(&(entry("a", 1) + lines + &entry("b", 2) + lines));
    let [a, b] = ["a", "b"].map(|id| registry.find(id).unwrap());
    assert!(Arc::ptr_eq(
        a.vault.as_ref().unwrap(),
        b.vault.as_ref().unwrap()
    ));
    assert!(Arc::ptr_eq(
        a.owner.as_ref().unwrap(),
        b.owner.as_ref().unwrap()
    ));
}

#[test]
fn a_missing_id_is_told_by_position_and_line() {
    let text = file(&(entry("a", 1) + &format!("  - public_keys: [{}]\n", key(2))));
    assert!(refusal(&text).starts_with("m.yaml:4: machine no. 2: id: is missing"));
}

#[test]
fn an_id_outside_the_grammar_is_refused() {
    for id in ["\"a b\"", "a:b", "é", "\"\"", "a/b", "'a\n\n      b'"] {
        let told = refusal(&file(&entry(id, 1)));
        assert!(told.contains("id: an id is 1 to 128"), "{id}: {told}");
    }
}

#[test]
fn an_id_of_128_is_the_longest() {
    assert!(load(&file(&entry(&"a".repeat(128), 1))).is_ok());
    refusal(&file(&entry(&"a".repeat(129), 1)));
}

#[test]
fn an_id_that_yaml_reads_as_something_else_must_be_quoted() {
    for id in ["12345", "1e3", "0x1f", "true", "1.5"] {
        assert!(
            refusal(&file(&entry(id, 1))).contains("put it in quotes"),
            "{id}"
        );
        assert!(load(&file(&entry(&format!("{id:?}"), 1))).is_ok(), "{id}");
    }
}

#[test]
fn an_id_used_twice_is_refused_with_both_places() {
    let told = refusal(&file(&(entry("a", 1) + &entry("a", 2))));
    assert_eq!(
        told,
        "m.yaml:4: \"a\": id: the id is used twice; \"a\" (line 2) has it already"
    );
}

#[test]
fn ids_that_differ_in_case_are_two_machines() {
    assert_eq!(registry(&(entry("a", 1) + &entry("A", 2))).len(), 2);
}

#[test]
fn labels_must_fit_a_header() {
    for label in ["name", "vault", "owner"] {
        for value in [
            "\"a\\nb\"",
            "\"a\\x7f\"",
            "é",
            "\"\"",
            "\" a\"",
            "\"a \"",
            "\"\\t\"",
        ] {
            refused(
                &format!("    {label}: {value}\n"),
                &format!("{label}: becomes a header"),
            );
        }
    }
}

#[test]
fn a_label_of_128_is_the_longest() {
    let line = |length| format!("    name: {}\n", "n".repeat(length));
    assert!(load(&file(&(entry("a", 1) + &line(128)))).is_ok());
    refused(
        &line(129),
        "at most 128".replace("at most", "1 to").as_str(),
    );
}

#[test]
fn an_empty_value_is_refused() {
    for key in ["name", "vault", "owner", "enabled", "not_before", "expires"] {
        refused(&format!("    {key}:\n"), &format!("{key}: has no value"));
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused() {
    refused("    name: [a]\n", "name: must be a text, not a list");
    refused("    name: {a: b}\n", "name: must be a text, not a mapping");
    refused("    name: 2024\n", "put it in quotes");
}

#[test]
fn enabled_is_true_or_false_and_nothing_like_it() {
    for value in [
        "yes", "no", "\"true\"", "1", "off", "[true]", "True", "FALSE",
    ] {
        refused(
            &format!("    enabled: {value}\n"),
            "enabled: must be true or false",
        );
    }
}

#[test]
fn an_unknown_key_is_refused_because_it_would_not_be_obeyed() {
    for key in ["at", "permit", "Name", "public_key", "enable", "<<"] {
        let shown = if key == "<<" { "\"<<\"" } else { key };
        let words = format!("m.yaml:4: \"a\": {shown}: is an unknown key");
        refused(&format!("    {key}: [x]\n"), &words);
    }
}

#[test]
fn an_unknown_key_that_is_near_a_known_one_is_told_which() {
    for (key, meant) in [
        ("public_key", "public_keys"),
        ("publickeys", "public_keys"),
        ("enable", "enabled"),
        ("Name", "name"),
        ("cidr", "cidrs"),
        ("not_befor", "not_before"),
    ] {
        let words = format!("\"a\": {key}: is an unknown key; did you mean `{meant}`?");
        refused(&format!("    {key}: [x]\n"), &words);
    }
    refused(
        "    permit: [x]\n",
        "permit: is an unknown key; known here: id, name, ",
    );
    let text = file(&entry("a", 1)) + "group: []\n";
    assert!(
        refusal(&text).contains("did you mean `groups`?"),
        "{}",
        refusal(&text)
    );
}

#[test]
fn a_key_that_is_no_word_is_refused() {
    refused("    1: x\n", "1: is an unknown key");
    refused("    ~: x\n", "\"a\": has a key that is not plain text");
}

#[test]
fn a_key_given_twice_is_refused() {
    refused(
        "    enabled: false\n    enabled: true\n",
        "enabled: is given twice, first on line 4",
    );
}

#[test]
fn an_instant_must_be_one() {
    for key in ["not_before", "expires"] {
        refused(
            &format!("    {key}: tomorrow\n"),
            &format!("{key}: must be an instant such as"),
        );
        refused(&format!("    {key}: 1801396801\n"), "put it in quotes");
    }
}

#[test]
fn expiry_must_come_after_the_beginning() {
    for expires in [
        "2026-01-01",
        "2025-12-31T23:59:59Z",
        "2026-01-01T01:00:00+01:00",
    ] {
        let lines = format!("    not_before: 2026-01-01\n    expires: {expires}\n");
        refused(&lines, "expires: is not after not_before");
    }
    let second = "    not_before: 2026-01-01\n    expires: 2026-01-01T00:00:01Z\n";
    assert!(load(&file(&(entry("a", 1) + second))).is_ok());
}

#[test]
fn an_item_that_is_no_mapping_is_refused() {
    for item in ["a", "~", "[a]", "1", "true"] {
        let told = refusal(&format!("machines:\n  - {item}\n"));
        assert!(told.contains("m.yaml:2: machine no. 1: "), "{told}");
    }
}

#[test]
fn all_mistakes_are_told_together_each_with_its_place() {
    let text = format!(
        "machines:\n  - id: web 1\n    public_keys: []\n  - id: b\n    name: \"\"\n    \
         public_keys: [\"{}\"]\n    enabled: maybe\n    color: red\n",
        key(1)
    );
    let told = refusal(&text);
    let fields: Vec<&str> = told
        .lines()
        .map(|line| line.split_inclusive(": ").take(3).map(str::len).sum())
        .zip(told.lines())
        .map(|(length, line): (usize, &str)| &line[..length])
        .collect();
    assert_eq!(fields.len(), 5, "{told}");
    for (field, expected) in fields.iter().zip([
        "m.yaml:2: \"web 1\": id: ",
        "m.yaml:3: \"web 1\": public_keys: ",
        "m.yaml:5: \"b\": name: ",
        "m.yaml:7: \"b\": enabled: ",
        "m.yaml:8: \"b\": color: ",
    ]) {
        assert!(field.starts_with(expected), "{told}");
    }
}

#[test]
fn flow_style_is_read_and_its_mistakes_have_a_line() {
    let good = format!("machines: [{{id: a, public_keys: [{}]}}]\n", key(1));
    assert_eq!(load(&good).unwrap().len(), 1);
    let told = refusal("machines: [{id: a, public_keys: []}]\n");
    assert!(told.starts_with("m.yaml:1: \"a\": public_keys: "), "{told}");
}

#[test]
fn lines_are_right_where_the_layout_deceives() {
    let text = format!(
        "machines:\n- name: \"x\n   - id: fake\n   y\"\n  id: a\n  public_keys: [{}]\n  bad: 1\n",
        key(1)
    );
    assert!(refusal(&text).starts_with("m.yaml:7: \"a\": bad: is an unknown key"));
}

#[test]
fn no_message_repeats_a_value() {
    let secret = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v";
    let text = format!(
        "machines:\n  - id: a\n    name: \"{secret}\\n\"\n    enabled: {secret}\n    \
         not_before: {secret}\n    public_keys: [{secret}, {{k: {secret}}}]\n"
    );
    let told = refusal(&text);
    assert!(told.lines().count() >= 5, "{told}");
    assert!(!told.contains(secret), "{told}");
}

#[test]
fn with_a_login_ids_that_differ_in_case_only_are_all_mistakes() {
    let ids = ["Case-1", "case-1", "b", "CASE-1", "B"];
    let entries = ids.iter().zip(1..).map(|(id, number)| entry(id, number));
    let text = file(&entries.collect::<String>());
    let check = PublicKey::from_bytes;
    assert_eq!(build(&text, None, IdCase::Exact, &check).unwrap().len(), 5);
    let told = build(&text, None, IdCase::Folded, &check).unwrap_err();
    assert_eq!(told.list.len(), 3, "{told}");
    assert!(
        told.to_string()
            .contains("\"case-1\": id: differs from \"Case-1\" in case only"),
        "{told}"
    );
}

#[test]
fn a_machine_knows_its_groups_in_the_order_of_its_entry() {
    let groups = "groups:\n  - name: a\n    rate: { per_minute: 5 }\n  - name: b\n    rate: { per_minute: 6 }\n";
    let machines = entry("one", 1)
        + "    groups: [b, a]\n"
        + &entry("two", 2)
        + "    groups: [b, a]\n"
        + &entry("three", 3);
    let registry = load(&format!("{groups}{}", file(&machines))).unwrap();
    let of = |id| Vec::from_iter(registry.find(id).unwrap().groups.iter().map(|name| &**name));
    assert_eq!(of("one"), ["b", "a"]);
    assert_eq!(of("three"), [""; 0]);
    let shared = |id| registry.find(id).unwrap().groups.as_ptr();
    assert_eq!(shared("one"), shared("two"));
}
