//! Edits of one machine's keys.

use std::ops::Range;

use serde_json::json;

use super::outline::{Item, Outline, indentation, without_comment};
use super::{CannotEdit, by_hand, find, line_end, outline};
use crate::config::instant;
use crate::registry::key_format;
use countersign_core::validity::Validity;

/// A key to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The key.
    pub key: [u8; 32],
    /// Its dates.
    pub validity: Validity,
    /// Whether the file has to change for it.
    pub changed: bool,
}

impl NewKey {
    fn text(&self) -> String {
        let key = json!(key_format::to_base64(&self.key));
        if self.validity == Validity::ALWAYS {
            return key.to_string();
        }
        let dates = [
            ("not_before", self.validity.not_before()),
            ("not_after", self.validity.not_after()),
        ];
        let mut text = format!("{{ key: {key}");
        for (name, date) in dates {
            if let Some(date) = date {
                text += &format!(", {name}: {}", json!(instant::to_text(date)));
            }
        }
        text + " }"
    }
}

/// The text with these keys for a machine: its existing keys in their order, then one new key. A
/// list on one line is rewritten. Of a block list only the changed items are.
///
/// # Errors
///
/// The machine is not a block of its own, or its keys have another layout.
pub fn rotate(text: &str, id: &str, keys: &[NewKey]) -> Result<String, CannotEdit> {
    let outline = outline(text, "machines")?;
    let item = find(&outline, id)?;
    let cannot = || {
        by_hand(
            id,
            "add the new key to its public_keys, and `not_after` to the others",
        )
    };
    let (line, value) = (outline.line_of(item, "public_keys"))
        .zip(outline.value_of(item, "public_keys"))
        .ok_or_else(cannot)?;
    let mut lines: Vec<String> = outline.lines.iter().copied().map(str::to_owned).collect();
    if value.starts_with('[') && value.ends_with(']') {
        let all: Vec<String> = keys.iter().map(NewKey::text).collect();
        lines[line] = lines[line].replacen(value, &format!("[{}]", all.join(", ")), 1);
        return Ok(lines.concat());
    }
    let (dash, places) = items(&outline, item, line)
        .filter(|_| value.is_empty())
        .ok_or_else(cannot)?;
    let Some((new, old)) = keys
        .split_last()
        .filter(|(_, old)| old.len() == places.len())
    else {
        return Err(cannot());
    };
    let end = line_end(&outline);
    let written = |key: &NewKey, comment: &str| {
        let gap = if comment.is_empty() { "" } else { "   " };
        format!("{:dash$}- {}{gap}{comment}{end}", "", key.text())
    };
    let last = places.last().map_or(line + 1, |place| place.end);
    if !lines[last - 1].ends_with('\n') {
        lines[last - 1].push_str(end);
    }
    lines.insert(last, written(new, ""));
    for (key, place) in old.iter().zip(places).rev().filter(|(key, _)| key.changed) {
        let comments: Vec<&str> = place
            .clone()
            .filter_map(|line| comment(outline.lines[line]))
            .collect();
        let replaced = match (place.len(), &comments[..]) {
            (1, [comment]) => written(key, comment),
            _ => {
                let above = comments
                    .iter()
                    .map(|comment| format!("{:dash$}{comment}{end}", ""));
                above.chain([written(key, "")]).collect()
            }
        };
        lines.splice(place, [replaced]);
    }
    Ok(lines.concat())
}

/// The column of the dashes of a block list that begins after `head`, and the lines of each item.
fn items(outline: &Outline<'_>, item: &Item, head: usize) -> Option<(usize, Vec<Range<usize>>)> {
    let mut column = None;
    let mut places: Vec<Range<usize>> = Vec::new();
    for index in head + 1..item.lines.end {
        let line = outline.lines[index];
        let (indent, content) = (indentation(line), line.trim());
        let is_item = content == "-" || content.starts_with("- ");
        match column {
            _ if content.is_empty() || content.starts_with('#') => {}
            None if is_item && indent >= item.keys => {
                column = Some(indent);
                places.push(index..index + 1);
            }
            Some(column) if is_item && indent == column => places.push(index..index + 1),
            Some(column) if indent > column => places.last_mut()?.end = index + 1,
            _ => break,
        }
    }
    column.map(|column| (column, places))
}

fn comment(line: &str) -> Option<&str> {
    let comment = line[without_comment(line).len()..].trim();
    (!comment.is_empty()).then_some(comment)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const ONE: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    const TWO: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";

    fn keys() -> [NewKey; 2] {
        let old = NewKey {
            key: [7; 32],
            validity: Validity::new(None, Some(86_400)).unwrap(),
            changed: true,
        };
        let new = NewKey {
            key: [8; 32],
            validity: Validity::ALWAYS,
            changed: true,
        };
        [old, new]
    }

    fn dated() -> String {
        format!("{{ key: \"{ONE}\", not_after: \"1970-01-02T00:00:00Z\" }}")
    }

    #[test]
    fn a_list_in_one_line_is_written_anew_and_keeps_its_comment() {
        let text =
            format!("machines:\n  - id: a\n    public_keys: [\"{ONE}\"]  # laptop\n    name: b\n");
        let edited = rotate(&text, "a", &keys()).unwrap();
        let line = format!("    public_keys: [{}, \"{TWO}\"]  # laptop\n", dated());
        assert_eq!(edited, format!("machines:\n  - id: a\n{line}    name: b\n"));
    }

    #[test]
    fn of_a_block_list_the_items_that_change_are_written() {
        for dash in ["    ", "      "] {
            let text = format!(
                "machines:\n  - id: a\n    public_keys:\n{dash}# of 2026\n{dash}- {ONE} # laptop\n    name: b\n"
            );
            let edited = rotate(&text, "a", &keys()).unwrap();
            let items = format!("{dash}- {}   # laptop\n{dash}- \"{TWO}\"\n", dated());
            assert_eq!(
                edited,
                format!(
                    "machines:\n  - id: a\n    public_keys:\n{dash}# of 2026\n{items}    name: b\n"
                )
            );
        }
    }

    #[test]
    fn a_key_that_does_not_change_keeps_its_spelling() {
        let text = "machines:\n  - id: a\n    public_keys:\n      - |\n        PEM\n        PEM\n";
        let [mut old, new] = keys();
        old.changed = false;
        let edited = rotate(text, "a", &[old, new]).unwrap();
        assert_eq!(edited, format!("{text}      - \"{TWO}\"\n"));
    }

    #[test]
    fn a_key_over_several_lines_becomes_one_and_its_comments_stay() {
        let text = format!(
            "machines:\n  - id: a\n    public_keys:\n      - key: {ONE} # one\n        # two\n        not_after: 2030-01-01\n"
        );
        let edited = rotate(&text, "a", &keys()).unwrap();
        let (one, two) = ("      # one\n", "      # two\n");
        let items = format!("{one}{two}      - {}\n      - \"{TWO}\"\n", dated());
        assert_eq!(
            edited,
            format!("machines:\n  - id: a\n    public_keys:\n{items}")
        );
    }

    #[test]
    fn a_new_key_follows_a_last_line_without_an_end() {
        let text = format!("machines:\n- id: a\n  public_keys:\n  - {ONE}");
        let edited = rotate(&text, "a", &keys()).unwrap();
        assert!(
            edited.ends_with(&format!("  - {}\n  - \"{TWO}\"\n", dated())),
            "{edited}"
        );
    }

    #[test]
    fn other_layouts_are_left_alone() {
        for keys_text in ["[\n      x]", "&k [x]", "*k", "\n      - x\n      - y", ""] {
            let text = format!("machines:\n  - id: a\n    public_keys: {keys_text}\n");
            assert!(rotate(&text, "a", &keys()).is_err(), "{text}");
        }
    }
}
