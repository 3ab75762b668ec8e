//! A reload that takes entries over is the load of the same file from nothing.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::auth::identity::{Machine, PublicKey};
use crate::registry::fixtures::{entry, file, key, registry};
use crate::registry::lists::Listed;
use crate::registry::load::Load;
use crate::registry::{Change, Mistakes, Registry, pieces};

static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=5).map(key).collect());

/// How many machines of a file are taken over and how many are read; `None` if it is not read in pieces.
fn taken_and_read(text: &str, previous: Option<&Registry>) -> Option<(usize, usize)> {
    let machines = pieces::read(text, previous)?.lists.machines;
    let is_known = |listed: &&Listed| matches!(listed, Listed::Known(_));
    let known = machines.iter().filter(is_known).count();
    Some((known, machines.len() - known))
}

/// What the parser makes of the whole text, which nothing is taken over to.
fn whole(text: &str) -> Result<Registry, Mistakes> {
    let load = Load {
        file: Path::new("m.yaml"),
        text,
        previous: None,
        check_key: &PublicKey::from_bytes,
    };
    load.whole()
}

fn reload(text: &str, previous: &Registry) -> Result<Registry, Mistakes> {
    Registry::from_bytes(Path::new("m.yaml"), text.as_bytes(), Some(previous))
}

fn machines(registry: &Registry) -> BTreeMap<&str, &Machine> {
    (registry.machines())
        .map(|machine| (machine.id.as_str(), &**machine))
        .collect()
}

/// That both are the same, mistakes included.
fn assert_same(one: &Result<Registry, Mistakes>, other: &Result<Registry, Mistakes>, text: &str) {
    match (one, other) {
        (Ok(one), Ok(other)) => {
            assert_eq!(machines(one), machines(other), "{text}");
            assert_eq!(one.groups(), other.groups(), "{text}");
            assert_eq!(one.removed(), other.removed(), "{text}");
            assert_eq!(one.digest(), other.digest());
        }
        (Err(one), Err(other)) => assert_eq!(one, other, "{text}"),
        (one, other) => panic!("{one:?} and {other:?} of\n{text}"),
    }
}

/// A change worked out by looking at every id there is.
fn assert_change(old: &Registry, new: &Registry) {
    let (before, after) = (machines(old), machines(new));
    let mut expected = [const { Vec::new() }; 4];
    let ids: HashSet<&str> = before.keys().chain(after.keys()).copied().collect();
    for id in ids {
        match (before.get(id), after.get(id)) {
            (None, _) => expected[0].push(id),
            (_, None) => expected[1].push(id),
            (Some(one), Some(other)) if one.keys != other.keys => expected[2].push(id),
            (Some(one), Some(other)) if one != other => expected[3].push(id),
            _ => {}
        }
    }
    expected.iter_mut().for_each(|ids| ids.sort_unstable());
    let change = Change::between(old, new);
    let told = [
        &change.added,
        &change.removed,
        &change.keys_changed,
        &change.otherwise_changed,
    ]
    .map(|ids| ids.iter().map(|id| id.as_str()).collect::<Vec<_>>());
    assert_eq!(told, expected);
    assert_eq!((change.machines, change.digest), (new.len(), new.digest()));
}

#[test]
fn what_is_written_as_before_is_taken_over() {
    let items: Vec<String> = (1..=9).map(|n| entry(&format!("m{n}"), n)).collect();
    let old = registry(&items.concat());
    let text = file(&items.concat()).replacen("id: m5", "id: other", 1);
    assert_eq!(taken_and_read(&text, None), Some((0, 9)));
    assert_eq!(taken_and_read(&text, Some(&old)), Some((8, 1)));
}

#[test]
fn entries_are_taken_over_in_any_order_and_beside_tombstones() {
    let old = registry(&(entry("a", 1) + &entry("b", 2) + &entry("c", 3)));
    let buried = format!(
        "removed:\n  - id: b\n    at: 2027-01-31\n    public_keys: [\"{}\"]\n",
        key(2)
    );
    let text = buried + &file(&(entry("c", 3) + &entry("a", 1)));
    assert_eq!(taken_and_read(&text, Some(&old)), Some((2, 0)));
}

#[test]
fn what_is_taken_over_is_the_machine_that_was_there() {
    let old = registry(&(entry("a", 1) + &entry("b", 2)));
    let new = reload(&file(&(entry("b", 2) + &entry("a", 3))), &old).unwrap();
    assert!(Arc::ptr_eq(old.find("b").unwrap(), new.find("b").unwrap()));
}

#[test]
fn a_registry_that_took_over_is_taken_over_from() {
    let items = entry("a", 1) + &entry("b", 2);
    let old = reload(&file(&(items.clone() + &entry("c", 3))), &registry(&items)).unwrap();
    assert_eq!(taken_and_read(&file(&items), Some(&old)), Some((2, 0)));
}

#[test]
fn nothing_is_taken_over_where_a_group_changed() {
    let with = |rate: u64| {
        let group = format!("groups:\n  - name: g\n    rate: {{ per_minute: {rate} }}\n");
        group + &file(&(entry("a", 1) + "    groups: [g]\n" + &entry("b", 2)))
    };
    let old = whole(&with(1)).unwrap();
    let old = reload(&with(1), &old).unwrap();
    assert_eq!(taken_and_read(&with(1), Some(&old)), Some((2, 0)));
    assert_eq!(taken_and_read(&with(2), Some(&old)), Some((0, 2)));
    let new = reload(&with(2), &old).unwrap();
    assert_eq!(Change::between(&old, &new).touched(), 1);
}

#[test]
fn what_machines_may_not_share_is_refused_to_one_that_is_taken_over() {
    let old = registry(&entry("b", 2));
    for (first, words) in [
        (entry("b", 1), "the id is used twice; \"b\" (line 2)"),
        (entry("a", 2), "the key belongs to \"a\" (line 2)"),
    ] {
        let text = file(&(first + &entry("b", 2)));
        let told = reload(&text, &old).unwrap_err().to_string();
        assert!(
            told.contains("m.yaml:4: \"b\"") || told.contains("m.yaml:5: \"b\""),
            "{told}"
        );
        assert!(told.contains(words), "{told}");
    }
    let tombstone = entry("a", 2) + "    at: 2027-01-31\n";
    let text = file(&entry("b", 2)) + "removed:\n" + &tombstone;
    let told = reload(&text, &old).unwrap_err().to_string();
    assert!(
        told.contains("the key was that of removed machine \"a\""),
        "{told}"
    );
}

#[test]
fn a_file_whose_lines_are_not_each_for_itself_is_read_whole() {
    let item = entry("a", 1);
    let plain = file(&item);
    assert!(taken_and_read(&plain, None).is_some());
    for text in [
        plain.replacen("id: a", "id: &x a", 1),
        plain.replacen("id: a", "id: !!str a", 1),
        format!("# R & D\n{plain}"),
        format!("%TAG ! tag:x,2000:\n---\n{plain}"),
        plain.replace('\n', "\r\n"),
        plain.replacen("id: a\n", "id: a\r", 1),
        plain.replacen("id: a", "id: a \u{85}", 1),
        plain.replacen("id: a", "id: a # \u{2028}", 1),
        plain.replacen("id: a\n", "id: a\n\t\n", 1),
        format!("\u{feff}{plain}"),
        format!("{plain}---\n"),
        format!("{plain}x: 1\n"),
        format!("x: \"\n{plain}\"\n"),
        format!("x: |\n  machines\n{plain}  b"),
        format!("{{\n{plain}}}\n"),
        file(&(item.replacen("id: a", "id: \"a", 1) + &entry("b", 2))),
        file(&(item.replacen("\"]", "\"", 1) + &entry("b", 2))),
        plain.replacen("machines:", "machines: |", 1),
        "machines: []\n".to_owned(),
        "machines:\n".to_owned(),
        "machines:\n  - 0\n".to_owned() + "---\n",
    ] {
        assert_eq!(taken_and_read(&text, None), None, "{text}");
    }
}

#[test]
fn an_ampersand_in_a_name_is_no_anchor() {
    let text = file(&(entry("a", 1) + "    owner: R&D\n"));
    assert_eq!(taken_and_read(&text, None), Some((0, 1)));
}

/// An entry out of few ids, keys and lines, so that they meet.
fn an_entry() -> impl Strategy<Value = String> {
    let anchors = select(vec![
        "    name: &a x\n",
        "    name: &a y\n",
        "    vault: *a\n",
    ]);
    let lines = select(vec![
        "",
        "",
        "",
        "    enabled: false\n",
        "    name: it's\n",
        "    groups: [g]\n",
        "    vault: \"a b\"  # x\n",
        "    # a note\n",
        "\n",
        "    rate: { per_minute: 6 }\n",
        "    owner: a\n\n  # about the next\n",
        "    expires: 2027-01-31\n    allow:\n      - \"read /v1/*\"\n",
    ]);
    let lines = prop_oneof![9 => lines, 1 => anchors];
    (0..5_usize, 0..5_usize, 0..3_usize, lines).prop_map(|(id, number, form, lines)| {
        let key = &KEYS[if form == 0 { number } else { id }];
        let keys = match form {
            1 => format!("\n      - key: {key}\n        not_after: 2027-01-31"),
            _ => format!(" [\"{key}\"]"),
        };
        format!("  - id: m{id}\n    public_keys:{keys}\n{lines}")
    })
}

fn a_file() -> impl Strategy<Value = String> {
    let group = select(vec![
        "groups:\n  - name: g\n    rate: { per_minute: 5 }\n",
        "# none\n",
    ]);
    let removed = select(vec![
        String::new(),
        String::new(),
        format!(
            "removed:\n  - id: m0\n    at: 2027-01-31\n    public_keys: [\"{}\"]\n",
            KEYS[4]
        ),
    ]);
    (group, prop::collection::vec(an_entry(), 1..5), removed).prop_map(
        |(group, entries, removed)| format!("{group}{}{removed}", file(&entries.concat())),
    )
}

/// What changes the meaning of other lines in YAML, or looks as if it did.
const NASTY: [&str; 33] = [
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "|",
    "|+\n",
    ">",
    "&a ",
    "*a",
    "!x ",
    "!!str ",
    "%",
    "#",
    " #",
    ": ",
    "? ",
    "- ",
    "\n",
    " ",
    "  ",
    "\t",
    "\r",
    "\u{85}",
    "\u{2028}",
    "\u{a0}",
    "\n---\n",
    "\n...\n",
    "\n%TAG ! x\n",
    "\nmachines:\n",
    "\\",
    ",",
];

#[derive(Clone, Debug)]
enum Edit {
    Insert(Index, &'static str),
    Cut(Index),
    Copy(Index, Index),
    Drop(Index),
    Swap(Index, Index),
    Anew(String),
    Entry(String),
    /// What a group allows, and another text under an anchor.
    Reword,
}

fn an_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        2 => (any::<Index>(), select(&NASTY[..])).prop_map(|(at, text)| Edit::Insert(at, text)),
        1 => any::<Index>().prop_map(Edit::Cut),
        1 => any::<(Index, Index)>().prop_map(|(from, to)| Edit::Copy(from, to)),
        2 => any::<Index>().prop_map(Edit::Drop),
        1 => any::<(Index, Index)>().prop_map(|(one, other)| Edit::Swap(one, other)),
        1 => a_file().prop_map(Edit::Anew),
        3 => an_entry().prop_map(Edit::Entry),
        1 => Just(Edit::Reword),
    ]
}

impl Edit {
    fn apply(&self, text: &str) -> String {
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut chars: Vec<char> = text.chars().collect();
        if lines.is_empty() {
            return "machines: []\n".to_owned();
        }
        match self {
            Edit::Insert(at, nasty) => {
                let at = at.index(chars.len());
                chars.splice(at..at, nasty.chars());
                return chars.into_iter().collect();
            }
            Edit::Cut(at) => {
                chars.remove(at.index(chars.len()));
                return chars.into_iter().collect();
            }
            Edit::Copy(from, to) => {
                lines.insert(to.index(lines.len()), lines[from.index(lines.len())])
            }
            Edit::Drop(at) => drop(lines.remove(at.index(lines.len()))),
            Edit::Swap(one, other) => {
                let count = lines.len();
                lines.swap(one.index(count), other.index(count));
            }
            Edit::Reword => {
                return text
                    .replace("minute: 5", "minute: 4")
                    .replace("&a x", "&a z");
            }
            Edit::Anew(text) => return text.clone(),
            Edit::Entry(entry) => return text.replacen("machines:\n", &file(entry), 1),
        }
        lines.concat()
    }
}

proptest! {
    #[test]
    fn a_reload_is_the_load_of_the_same_file_from_nothing(
        first in a_file(),
        edits in prop::collection::vec(an_edit(), 1..10),
    ) {
        let mut text = first;
        let mut current = Registry::from_bytes(Path::new("m.yaml"), text.as_bytes(), None);
        assert_same(&current, &whole(&text), &text);
        for edit in edits {
            let edited = edit.apply(&text);
            let fresh = whole(&edited);
            let reloaded = Registry::from_bytes(Path::new("m.yaml"), edited.as_bytes(), current.as_ref().ok());
            assert_same(&reloaded, &fresh, &edited);
            // A file with a mistake is mended before the next edit.
            if let Ok(new) = &reloaded {
                if let Ok(old) = &current {
                    assert_change(old, new);
                }
                current = reloaded;
                text = edited;
            }
        }
    }
}
