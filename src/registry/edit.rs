//! Edits of a registry file's text that touch one machine and leave every other byte as it was.
//!
//! They rely on indentation, so the caller must parse the result and check that only that machine
//! differs from the old registry.

mod keys;
mod outline;

use serde_json::{Value, json};

pub use keys::{NewKey, rotate};

use outline::{BYTE_ORDER_MARK, Item, Outline};

use super::checked_entry::CheckedEntry;
use super::key_format;
use super::removed::Tombstone;
use crate::config::instant;

/// The reason why a text cannot be edited, and the edit to make by hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotEdit(String);

/// A machine to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMachine<'m> {
    /// Its id.
    pub id: &'m str,
    /// `name`, if it gets one.
    pub name: Option<&'m str>,
    /// `vault`, if it gets one.
    pub vault: Option<&'m str>,
    /// `owner`, if it gets one.
    pub owner: Option<&'m str>,
    /// `credential`, if it gets one.
    pub credential: Option<&'m str>,
    /// Its public keys.
    pub keys: &'m [[u8; 32]],
    /// Unix seconds.
    pub not_before: Option<u64>,
    /// Unix seconds.
    pub expires: Option<u64>,
    /// The groups it is in.
    pub groups: &'m [String],
    /// Its own rules.
    pub allow: &'m [String],
    /// Its own networks.
    pub cidrs: &'m [String],
    /// Requests a minute.
    pub rate: Option<u32>,
}

impl NewMachine<'_> {
    /// The lines to write. Values are JSON strings: YAML readers take none of them for a number or
    /// a date.
    fn lines(&self) -> Vec<String> {
        let texts = [
            ("name", self.name.map(str::to_owned)),
            ("vault", self.vault.map(str::to_owned)),
            ("owner", self.owner.map(str::to_owned)),
            ("credential", self.credential.map(str::to_owned)),
            ("not_before", self.not_before.map(instant::to_text)),
            ("expires", self.expires.map(instant::to_text)),
        ];
        let keys: Vec<String> = self.keys.iter().map(key_format::to_base64).collect();
        let mut lines = vec![format!("id: {}", json!(self.id))];
        for (key, value) in texts {
            lines.extend(value.map(|value| format!("{key}: {}", json!(value))));
        }
        lines.push(format!("public_keys: {}", json!(keys)));
        for (key, list) in [
            ("groups", self.groups),
            ("allow", self.allow),
            ("cidrs", self.cidrs),
        ] {
            if !list.is_empty() {
                lines.push(format!("{key}: {}", json!(list)));
            }
        }
        lines.extend((self.rate).map(|rate| format!("rate: {{ per_minute: {rate} }}")));
        lines
    }
}

/// The text with one more machine, at the end of the list.
///
/// # Errors
///
/// The list is not a block list or `[]`.
pub fn add(text: &str, machine: &NewMachine<'_>) -> Result<String, CannotEdit> {
    Ok(append(&outline(text, "machines")?, &[machine.lines()]))
}

/// The text with these machines at the end of the list, in their order.
///
/// # Errors
///
/// The list is not a block list or `[]`.
pub fn add_all(text: &str, entries: &[CheckedEntry]) -> Result<String, CannotEdit> {
    let lines: Vec<Vec<String>> = entries.iter().map(lines_of).collect();
    Ok(append(&outline(text, "machines")?, &lines))
}

/// The fields of an entry, in the order in which people read them.
const FIELDS: [&str; 15] = [
    "id",
    "name",
    "vault",
    "owner",
    "credential",
    "public_keys",
    "enabled",
    "not_before",
    "expires",
    "expires_in",
    "may_renew",
    "groups",
    "allow",
    "cidrs",
    "rate",
];

/// A line for each field. JSON is YAML in one line.
fn lines_of(entry: &CheckedEntry) -> Vec<String> {
    let place = |key: &str| FIELDS.iter().position(|known| *known == key);
    let mut fields: Vec<_> = entry.fields().iter().collect();
    fields.sort_by_key(|(key, _)| place(key).unwrap_or(FIELDS.len()));
    let line = |(key, value): (&String, &Value)| format!("{key}: {value}");
    fields.into_iter().map(line).collect()
}

/// The text with one more tombstone.
///
/// # Errors
///
/// The list exists, but is not a block list or `[]`.
pub fn add_tombstone(text: &str, tombstone: &Tombstone) -> Result<String, CannotEdit> {
    let keys: Vec<String> = tombstone.keys.iter().map(key_format::to_base64).collect();
    let lines = vec![
        format!("id: {}", json!(tombstone.id.as_str())),
        format!("at: {}", json!(instant::to_text(tombstone.at))),
        format!("public_keys: {}", json!(keys)),
    ];
    let mut all = text.trim_start_matches(BYTE_ORDER_MARK).lines();
    if all.any(|line| line.starts_with("removed:")) {
        return Ok(append(&outline(text, "removed")?, &[lines]));
    }
    if text.lines().any(|line| line.starts_with("...")) {
        return Err(CannotEdit(
            "cannot add the list `removed` behind the line `...`, which ends the document. Remove \
             that line, and try again"
                .to_owned(),
        ));
    }
    let end = line_end(&outline(text, "machines")?);
    let gap = if text.ends_with('\n') { "" } else { end };
    let text = format!(
        "{text}{gap}{end}# Removed machines: their ids and keys cannot be used again.{end}removed: \
         []{end}"
    );
    Ok(append(&outline(&text, "removed")?, &[lines]))
}

/// The text with more items at the end of the list.
fn append(outline: &Outline<'_>, entries: &[Vec<String>]) -> String {
    let last = outline.items.last();
    let (dash, keys) = last.map_or((2, 4), |item| (item.dash, item.keys.max(item.dash + 2)));
    let end = line_end(outline);
    let mut block = String::new();
    for (index, line) in entries.iter().flat_map(|entry| entry.iter().enumerate()) {
        let indent = if index == 0 {
            format!("{:dash$}-{:gap$}", "", "", gap = keys - dash - 1)
        } else {
            " ".repeat(keys)
        };
        block.push_str(&format!("{indent}{line}{end}"));
    }

    let mut lines: Vec<String> = outline.lines.iter().copied().map(str::to_owned).collect();
    let at = last.map_or(outline.head, |item| item.lines.end - 1) + 1;
    if last.is_none() {
        lines[outline.head] = lines[outline.head]
            .replacen(" []", "", 1)
            .replacen("[]", "", 1);
    }
    if !lines[at - 1].ends_with('\n') {
        lines[at - 1].push_str(end);
    }
    lines.insert(at, block);
    lines.concat()
}

/// The text without the machine. Comments beside it stay: they may be about its neighbours.
///
/// # Errors
///
/// The machine is not a block of its own.
pub fn remove(text: &str, id: &str) -> Result<String, CannotEdit> {
    let outline = outline(text, "machines")?;
    let item = find(&outline, id)?;
    let mut lines: Vec<String> = outline.lines.iter().copied().map(str::to_owned).collect();
    lines.drain(item.lines.clone());
    if outline.items.len() == 1 {
        let head = &mut lines[outline.head];
        let behind = head.find(':').map_or(head.len(), |colon| colon + 1);
        head.insert_str(behind, " []");
    }
    Ok(lines.concat())
}

/// The text with `enabled` of a machine set: in place, or on a line of its own below its id.
///
/// # Errors
///
/// The machine is not a block of its own, or its `enabled` is neither `true` nor `false`.
pub fn set_enabled(text: &str, id: &str, enabled: bool) -> Result<String, CannotEdit> {
    let outline = outline(text, "machines")?;
    let item = find(&outline, id)?;
    let mut lines: Vec<String> = outline.lines.iter().copied().map(str::to_owned).collect();
    match (
        outline.line_of(item, "enabled"),
        outline.value_of(item, "enabled"),
    ) {
        (Some(line), Some(old @ ("true" | "false"))) => {
            let (key, value) = lines[line].split_at(item.keys + "enabled:".len());
            lines[line] = key.to_owned() + &value.replacen(old, &enabled.to_string(), 1);
        }
        (Some(_), _) => return Err(by_hand(id, &format!("set `enabled: {enabled}`"))),
        (None, _) => {
            let id_line = outline.line_of(item, "id").unwrap_or(item.lines.start);
            let end = line_end(&outline);
            if !lines[id_line].ends_with('\n') {
                lines[id_line].push_str(end);
            }
            let new = format!("{:keys$}enabled: {enabled}{end}", "", keys = item.keys);
            lines.insert(id_line + 1, new);
        }
    }
    Ok(lines.concat())
}

fn outline<'t>(text: &'t str, list: &str) -> Result<Outline<'t>, CannotEdit> {
    Outline::of(text, list)
        .filter(|outline| match outline.after_head() {
            "" => !outline.items.is_empty(),
            "[]" => outline.items.is_empty(),
            _ => false,
        })
        .ok_or_else(|| {
            CannotEdit(format!(
                "cannot edit the list `{list}`: it is not a block list (a line `{list}:`, then a \
                 line `- id: ..` for each item). Rewrite it as one, or edit the file by hand"
            ))
        })
}

fn find<'o>(outline: &'o Outline<'_>, id: &str) -> Result<&'o Item, CannotEdit> {
    let is_it = |item: &&Item| outline.value_of(item, "id").map(unquoted) == Some(id);
    let mut found = outline.items.iter().filter(is_it);
    match (found.next(), found.next()) {
        (Some(item), None) => Ok(item),
        _ => Err(by_hand(id, "find the machine there")),
    }
}

fn by_hand(id: &str, what: &str) -> CannotEdit {
    CannotEdit(format!(
        "cannot edit the machine {id}: it is not a block with one plain key a line. Edit the file \
         by hand: {what}"
    ))
}

/// Ids hold no character that YAML would escape.
fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

fn line_end(outline: &Outline<'_>) -> &'static str {
    if outline.lines[outline.head].ends_with("\r\n") {
        "\r\n"
    } else {
        "\n"
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const FILE: &str = "\
# fleet
machines:
  # web
  - id: a   # first
    enabled: true   # for now
    public_keys: [x]
    # still a

  - name: second
    id: 'b'
    public_keys:
      - |
        PEM
# the end
";

    fn new_machine(id: &str) -> NewMachine<'_> {
        NewMachine {
            id,
            keys: &[[7; 32]],
            ..NewMachine::default()
        }
    }

    const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

    #[test]
    fn add_appends_after_the_last_machine_in_the_files_own_indentation() {
        let added = add(FILE, &new_machine("c")).unwrap();
        let block = format!("  - id: \"c\"\n    public_keys: [\"{KEY}\"]\n");
        assert_eq!(added, FILE.replace("# the end", &(block + "# the end")));
    }

    #[test]
    fn add_copies_an_unusual_indentation() {
        let text = "machines:\n-   id: a\n    public_keys: [x]\n";
        let added = add(text, &new_machine("c")).unwrap();
        let block = format!("-   id: \"c\"\n    public_keys: [\"{KEY}\"]\n");
        assert_eq!(added, format!("{text}{block}"));
    }

    #[test]
    fn add_to_an_empty_list_makes_it_a_block_list() {
        let added = add("a: 1\nmachines: []  # none\n# end", &new_machine("c")).unwrap();
        let block = format!("  - id: \"c\"\n    public_keys: [\"{KEY}\"]\n");
        assert_eq!(added, format!("a: 1\nmachines:  # none\n{block}# end"));
    }

    #[test]
    fn add_ends_a_last_line_that_has_no_end() {
        for text in ["machines: []", "machines:\n  - id: a"] {
            let added = add(text, &new_machine("c")).unwrap();
            assert!(added.contains("\n  - id: \"c\"\n"), "{added}");
        }
    }

    #[test]
    fn add_keeps_windows_line_ends() {
        let added = add("machines: []\r\n", &new_machine("c")).unwrap();
        assert_eq!(added.matches('\n').count(), added.matches("\r\n").count());
    }

    #[test]
    fn add_writes_every_value_in_quotes() {
        let machine = NewMachine {
            id: "1e3",
            name: Some("say \"hi\": #1"),
            vault: Some("true"),
            owner: Some("~"),
            credential: Some("team-a"),
            keys: &[[7; 32], [8; 32]],
            not_before: Some(0),
            expires: Some(86_400),
            groups: &["true".into()],
            allow: &["GET /a/*".into()],
            cidrs: &["10.0.0.0/8".into()],
            rate: Some(60),
        };
        let added = add("machines: []\n", &machine).unwrap();
        let lines: Vec<&str> = added.lines().map(str::trim).collect();
        assert_eq!(
            lines[1..8],
            [
                r#"- id: "1e3""#,
                r#"name: "say \"hi\": #1""#,
                r#"vault: "true""#,
                r#"owner: "~""#,
                r#"credential: "team-a""#,
                r#"not_before: "1970-01-01T00:00:00Z""#,
                r#"expires: "1970-01-02T00:00:00Z""#,
            ]
        );
        assert_eq!(
            lines[9..],
            [
                r#"groups: ["true"]"#,
                r#"allow: ["GET /a/*"]"#,
                r#"cidrs: ["10.0.0.0/8"]"#,
                "rate: { per_minute: 60 }",
            ]
        );
    }

    #[test]
    fn a_flow_list_is_left_alone() {
        for text in [
            "machines: [{id: a}]\n",
            "machines: [\n  ]\n",
            "{machines: []}\n",
            "machines: &m\n  - id: a\n",
            "machines:\n",
        ] {
            assert!(add(text, &new_machine("c")).is_err(), "{text}");
        }
    }

    #[test]
    fn remove_takes_the_machines_own_lines_and_no_others() {
        let removed = remove(FILE, "b").unwrap();
        let (before, _) = FILE.split_once("  - name: second").unwrap();
        assert_eq!(removed, format!("{before}# the end\n"));
    }

    #[test]
    fn remove_leaves_the_comment_above() {
        let removed = remove(FILE, "a").unwrap();
        assert!(removed.starts_with("# fleet\nmachines:\n  # web\n\n  - name: second\n"));
    }

    #[test]
    fn remove_of_the_last_machine_leaves_an_empty_list() {
        let removed = remove("machines: # all\n  - id: a\n    name: b\n# end\n", "a").unwrap();
        assert_eq!(removed, "machines: [] # all\n# end\n");
    }

    fn tombstone(id: &str) -> Tombstone {
        Tombstone {
            id: countersign_core::identity::MachineId::parse(id).unwrap(),
            keys: [[7; 32]].into(),
            at: 86_400,
        }
    }

    #[test]
    fn the_first_that_is_buried_makes_the_list_at_the_end_of_the_file() {
        for file in [FILE, FILE.trim_end()] {
            let buried = add_tombstone(file, &tombstone("c")).unwrap();
            let block = format!(
                "removed:\n  - id: \"c\"\n    at: \"1970-01-02T00:00:00Z\"\n    public_keys: [\"{KEY}\"]\n"
            );
            assert!(
                buried.starts_with(FILE) && buried.ends_with(&block),
                "{buried}"
            );
        }
    }

    #[test]
    fn a_file_that_begins_with_a_byte_order_mark_is_edited() {
        let text = "\u{feff}machines:\n  - id: a\n";
        let added = add(text, &new_machine("c")).unwrap();
        assert!(
            added.starts_with(text) && added.contains("- id: \"c\""),
            "{added}"
        );
        assert_eq!(remove(text, "a").unwrap(), "\u{feff}machines: []\n");
        let disabled = set_enabled(text, "a", false).unwrap();
        assert_eq!(disabled, format!("{text}    enabled: false\n"));
        let text = "\u{feff}removed: []\nmachines: []\n";
        let buried = add_tombstone(text, &tombstone("c")).unwrap();
        assert_eq!(buried.matches("removed:").count(), 1, "{buried}");
    }

    #[test]
    fn a_document_end_before_the_new_list_is_named() {
        let told = add_tombstone("machines: []\n...\n", &tombstone("c")).unwrap_err();
        assert!(told.to_string().contains("Remove that line"), "{told}");
        let text = "machines: []\nremoved: []\n...\n";
        assert!(add_tombstone(text, &tombstone("c")).is_ok());
    }

    #[test]
    fn further_ones_follow_it() {
        let one = add_tombstone(FILE, &tombstone("c")).unwrap();
        let two = add_tombstone(&one, &tombstone("d")).unwrap();
        assert!(two.starts_with(&one), "{two}");
        assert!(add_tombstone("machines: []\nremoved: [{id: a}]\n", &tombstone("d")).is_err());
    }

    #[test]
    fn a_machine_is_added_before_what_follows_the_list() {
        let text = "machines:\n  - id: a\n\nremoved: []\n";
        let added = add(text, &new_machine("c")).unwrap();
        assert!(added.ends_with("]\n\nremoved: []\n"), "{added}");
    }

    #[test]
    fn disable_changes_one_word_and_keeps_the_comment() {
        let edited = set_enabled(FILE, "a", false).unwrap();
        assert_eq!(
            edited,
            FILE.replace("enabled: true   # for now", "enabled: false   # for now")
        );
    }

    #[test]
    fn disable_adds_a_line_below_the_id_where_there_is_none() {
        let edited = set_enabled(FILE, "b", false).unwrap();
        assert_eq!(
            edited,
            FILE.replace("    id: 'b'\n", "    id: 'b'\n    enabled: false\n")
        );
    }

    #[test]
    fn disable_adds_a_line_below_a_line_without_an_end() {
        let edited = set_enabled("machines:\n- id: a", "a", false).unwrap();
        assert_eq!(edited, "machines:\n- id: a\n  enabled: false\n");
    }

    #[test]
    fn an_enabled_that_is_no_plain_word_is_left_alone() {
        let text = "machines:\n- id: a\n  enabled: &e true\n";
        assert!(set_enabled(text, "a", false).is_err());
    }

    #[test]
    fn a_machine_in_flow_style_is_left_alone() {
        let text = "machines:\n  - {id: a, public_keys: [x]}\n";
        assert!(remove(text, "a").is_err());
        assert!(set_enabled(text, "a", false).is_err());
    }

    #[test]
    fn an_id_is_found_whole_or_not_at_all() {
        assert!(remove(FILE, "A").is_err());
        assert!(remove(FILE, "").is_err());
        assert!(remove("machines:\n- id: ab\n", "a").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_edited_or_refused(items in "([ -]{0,4}(id|enabled|x)?:? ?[a\"#\t\réтrue]{0,3}\n?){0,12}") {
            let text = format!("machines:\n{items}");
            let _ = add(&text, &new_machine("c"));
            let _ = remove(&text, "a");
            if let Ok(edited) = set_enabled(&text, "a", false) {
                proptest::prop_assert!(edited.contains("enabled"));
            }
        }

        #[test]
        fn what_is_added_can_be_switched_and_removed_again(
            ids in proptest::collection::btree_set("[a-z0-9._-]{1,8}", 1..6),
            pick in proptest::prelude::any::<proptest::sample::Index>(),
        ) {
            let ids: Vec<String> = ids.into_iter().collect();
            let mut text = String::from("# head\nmachines: [] # none\n# end\n");
            for id in &ids {
                text = add(&text, &new_machine(id)).unwrap();
            }
            let id = pick.get(&ids);
            let off = set_enabled(&text, id, false).unwrap();
            let on = set_enabled(&off, id, true).unwrap();
            proptest::prop_assert_eq!(on.lines().count(), text.lines().count() + 1);
            proptest::prop_assert_eq!(remove(&on, id).unwrap(), remove(&text, id).unwrap());
            for id in &ids {
                text = remove(&text, id).unwrap();
            }
            proptest::prop_assert_eq!(text, "# head\nmachines: [] # none\n# end\n");
        }
    }
}
