//! Machines that were removed.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::fixtures::{build, entry, file, key, load, refusal};
use crate::registry::IdCase;
use countersign_core::identity::PublicKey;

fn tombstone(id: &str, number: u64) -> String {
    format!(
        "  - id: {id}\n    at: 2027-01-31\n    public_keys: [\"{}\"]\n",
        key(number)
    )
}

fn with_removed(machines: &str, removed: &str) -> String {
    format!("{}removed:\n{removed}", file(machines))
}

#[test]
fn a_tombstone_keeps_id_keys_and_time() {
    let registry = load(&with_removed(&entry("a", 1), &tombstone("b", 2))).unwrap();
    assert_eq!(registry.len(), 1);
    assert!(registry.find("b").is_none());
    let gone = &registry.removed()[0];
    assert_eq!((gone.id.as_str(), gone.at), ("b", 1_801_353_600));
    assert_eq!(gone.keys.len(), 1);
}

#[test]
fn an_id_is_not_given_away_again() {
    let told = refusal(&with_removed(&entry("b", 1), &tombstone("b", 2)));
    let words = "m.yaml:2: \"b\": id: the id was that of removed machine \"b\" (line 5)";
    assert!(told.contains(words), "{told}");
    assert!(told.contains("take that entry out of `removed`"), "{told}");
}

#[test]
fn a_key_is_not_given_away_again() {
    let told = refusal(&with_removed(&entry("a", 2), &tombstone("b", 2)));
    let words =
        "m.yaml:3: \"a\": public_keys[0]: the key was that of removed machine \"b\" (line 5)";
    assert!(told.contains(words), "{told}");
}

#[test]
fn two_tombstones_share_neither_id_nor_key() {
    let twice = tombstone("b", 2) + &tombstone("b", 3);
    assert!(refusal(&with_removed(&entry("a", 1), &twice)).contains("the id is used twice"));
    let twice = tombstone("b", 2) + &tombstone("c", 2);
    assert!(
        refusal(&with_removed(&entry("a", 1), &twice)).contains("belongs to removed machine \"b\"")
    );
}

#[test]
fn the_mistakes_of_tombstones_are_told_with_their_lines() {
    let weak = format!("{}=", "A".repeat(43));
    for (lines, words) in [
        (
            "  - id: b\n    at: 2027-01-31\n".to_owned(),
            "public_keys: the keys of the removed machine are missing",
        ),
        (
            format!("  - id: b\n    public_keys: [\"{}\"]\n", key(2)),
            "m.yaml:5: removed machine \"b\": at: is missing",
        ),
        (
            tombstone("b", 2).replace("2027-01-31", "soon"),
            "m.yaml:6: removed machine \"b\": at: must be an instant",
        ),
        (
            tombstone("b", 2) + "    enabled: true\n",
            "enabled: is an unknown key",
        ),
        (
            format!("  - id: b\n    at: 2027-01-31\n    public_keys: [\"{weak}\"]\n"),
            "it is a weak key",
        ),
        (
            format!(
                "  - id: b\n    at: 2027-01-31\n    public_keys: [{{ key: \"{}\" }}]\n",
                key(2)
            ),
            "must be the key alone",
        ),
        ("  - b\n".to_owned(), "must be a mapping"),
    ] {
        let told = refusal(&with_removed(&entry("a", 1), &lines));
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn a_list_of_nothing_is_told() {
    let told = refusal(&(file(&entry("a", 1)) + "removed:\n"));
    assert!(
        told.contains("removed: has no value; give it one or remove the key"),
        "{told}"
    );
}

#[test]
fn keys_of_machines_removed_before_are_not_checked_again() {
    let text = with_removed(&entry("a", 1), &(tombstone("b", 2) + &tombstone("c", 3)));
    let old = load(&text).unwrap();
    let text = text + &tombstone("d", 4);
    let checked = AtomicUsize::new(0);
    let count = |bytes: &[u8; 32]| {
        checked.fetch_add(1, Ordering::Relaxed);
        PublicKey::from_bytes(bytes)
    };
    let new = build(&text, Some(&old), IdCase::Exact, &count).unwrap();
    assert_eq!(new.removed().len(), 3);
    assert_eq!(checked.into_inner(), 1);
}

#[test]
fn with_a_login_an_id_may_not_differ_from_a_removed_one_in_case_only() {
    let text = with_removed(&entry("web", 1), &tombstone("WEB", 2));
    let check = PublicKey::from_bytes;
    let told = build(&text, None, IdCase::Folded, &check).unwrap_err();
    assert!(
        told.to_string()
            .contains("\"web\": id: differs from \"WEB\" in case only"),
        "{told}"
    );
    let exact = build(&text, None, IdCase::Exact, &check).unwrap();
    let [one, other] = exact.differing_in_case().unwrap();
    assert!(one.as_str().eq_ignore_ascii_case(other.as_str()) && one != other);
}
