//! The lines of each machine in the text of a registry file, for edits that leave all other lines
//! unchanged.
//!
//! It reads indentation, not YAML, and knows one layout: `machines:` in the first column and a
//! block list below it. For other layouts the outline is `None`, or wrong. The result of an edit is
//! therefore parsed and compared before it is written.

use std::ops::Range;

/// What some editors write before the first line.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// The lines of a registry file and the machines' places among them.
pub(super) struct Outline<'t> {
    /// All lines, each with its line end.
    pub(super) lines: Vec<&'t str>,
    /// The index of the line `machines:`, or of the key of another list.
    pub(super) head: usize,
    /// The items of the list, in the order of the file.
    pub(super) items: Vec<Item>,
}

/// One item of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Its lines: from the dash to the last line that is indented deeper, comments included.
    pub(super) lines: Range<usize>,
    /// The column of the dash, counted from 0.
    pub(super) dash: usize,
    /// The column in which its keys start.
    pub(super) keys: usize,
}

impl<'t> Outline<'t> {
    /// Outlines the list under `key`. `None` if there is not exactly one line that starts with it.
    pub(super) fn of(text: &'t str, key: &str) -> Option<Outline<'t>> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let starts = |line: &str| {
            (line.trim_start_matches(BYTE_ORDER_MARK).strip_prefix(key))
                .is_some_and(|rest| rest.starts_with(':'))
        };
        let mut heads = lines.iter().enumerate().filter(|(_, line)| starts(line));
        let (head, _) = heads.next()?;
        if heads.next().is_some() {
            return None;
        }
        let items = items(&lines, head + 1);
        Some(Outline { lines, head, items })
    }

    /// The text after the key of the list on its line, without a comment.
    pub(super) fn after_head(&self) -> &'t str {
        let line = self.lines[self.head];
        let behind = line.find(':').map_or("", |colon| &line[colon + 1..]);
        without_comment(behind).trim()
    }

    /// The index of the line of `item` on which `key` starts.
    pub(super) fn line_of(&self, item: &Item, key: &str) -> Option<usize> {
        item.lines
            .clone()
            .find(|&line| self.value_on(line, item, key).is_some())
    }

    /// The text after `key:` on its line, without a comment.
    pub(super) fn value_of(&self, item: &Item, key: &str) -> Option<&'t str> {
        let line = self.line_of(item, key)?;
        self.value_on(line, item, key)
            .map(|rest| without_comment(rest).trim())
    }

    fn value_on(&self, line: usize, item: &Item, key: &str) -> Option<&'t str> {
        let text = self.lines[line];
        let starts_item = line == item.lines.start;
        if !starts_item && indentation(text) != item.keys {
            return None;
        }
        let rest = text
            .get(item.keys..)?
            .strip_prefix(key)?
            .strip_prefix(':')?;
        (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(rest)
    }
}

fn items(lines: &[&str], from: usize) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for (index, line) in lines.iter().enumerate().skip(from) {
        let indent = indentation(line);
        let content = line[indent..].trim_end();
        let list_dash = items.last().map(|item| item.dash);
        let deeper = list_dash.is_some_and(|dash| indent > dash);
        if content.is_empty() || (content.starts_with('#') && !deeper) {
            continue;
        }
        if deeper {
            if let Some(item) = items.last_mut() {
                item.lines.end = index + 1;
                if item.keys == 0 {
                    item.keys = indent;
                }
            }
        } else if (content == "-" || content.starts_with("- "))
            && list_dash.is_none_or(|dash| dash == indent)
        {
            items.push(Item {
                lines: index..index + 1,
                dash: indent,
                keys: first_key(content).map_or(0, |column| indent + column),
            });
        } else {
            break;
        }
    }
    items
}

/// The column of the first key after the dash, if there is one on the line.
fn first_key(content: &str) -> Option<usize> {
    let rest = &content[1..];
    let column = 1 + rest.len() - rest.trim_start().len();
    (column < content.len() && !content[column..].starts_with('#')).then_some(column)
}

pub(super) fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// A `#` starts a comment at the start or after white space, outside quotes.
pub(super) fn without_comment(value: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (index, c) in value.char_indices() {
        match quote {
            Some(open) if c == open && before != '\\' => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c == '#' && before.is_whitespace() => return &value[..index],
            None => {}
        }
        before = c;
    }
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const FILE: &str = "\
# fleet
machines:
  # web
  - id: a
    enabled: true   # for now
    public_keys:
      - |
        - id: not an item

    # about a

  # database
  -   # odd
    id: \"b # c\"
other: 1
";

    /// The first line of each item, and the line after its last.
    fn lines_of(text: &str) -> Vec<[usize; 2]> {
        let items = Outline::of(text, "machines").unwrap().items.into_iter();
        items
            .map(|item| [item.lines.start, item.lines.end])
            .collect()
    }

    #[test]
    fn an_item_reaches_to_its_last_deeper_line() {
        assert_eq!(lines_of(FILE), [[3, 10], [12, 14]]);
    }

    #[test]
    fn keys_are_found_on_the_dash_line_and_below() {
        let outline = Outline::of(FILE, "machines").unwrap();
        let (a, b) = (&outline.items[0], &outline.items[1]);
        assert_eq!(outline.line_of(a, "id"), Some(3));
        assert_eq!(outline.line_of(a, "public_keys"), Some(5));
        assert_eq!(outline.line_of(b, "id"), Some(13));
        assert_eq!(outline.line_of(b, "name"), None);
    }

    #[test]
    fn a_value_comes_without_its_comment() {
        let outline = Outline::of(FILE, "machines").unwrap();
        assert_eq!(outline.value_of(&outline.items[0], "enabled"), Some("true"));
        assert_eq!(outline.value_of(&outline.items[1], "id"), Some("\"b # c\""));
    }

    #[test]
    fn a_dash_in_a_block_scalar_is_no_item() {
        assert_eq!(Outline::of(FILE, "machines").unwrap().items.len(), 2);
    }

    #[test]
    fn a_list_may_stand_in_the_first_column() {
        assert_eq!(
            lines_of("machines:\n- id: a\n  name: b\n- id: c\nx: 1\n"),
            [[1, 3], [3, 4]]
        );
    }

    #[test]
    fn the_end_of_a_document_ends_the_list() {
        assert_eq!(lines_of("machines:\n- id: a\n...\n- id: b\n"), [[1, 2]]);
        assert_eq!(lines_of("machines:\n- id: a\n---\n- id: b\n"), [[1, 2]]);
    }

    #[test]
    fn windows_line_ends_are_line_ends() {
        let text = "machines:\r\n  - id: a\r\n    name: b\r\n";
        let outline = Outline::of(text, "machines").unwrap();
        assert_eq!(outline.value_of(&outline.items[0], "name"), Some("b"));
    }

    #[test]
    fn an_empty_flow_list_has_no_items() {
        let outline = Outline::of("machines: []  # none yet\n", "machines").unwrap();
        assert_eq!(outline.after_head(), "[]");
        assert!(outline.items.is_empty());
    }

    #[test]
    fn without_a_machines_line_there_is_no_outline() {
        assert!(Outline::of("{machines: []}\n", "machines").is_none());
        assert!(Outline::of("", "machines").is_none());
    }

    #[test]
    fn two_machines_lines_are_no_outline() {
        assert!(Outline::of("machines: []\nmachines: []\n", "machines").is_none());
    }

    #[test]
    fn a_key_is_not_found_by_its_beginning() {
        let outline = Outline::of("machines:\n- identity: a\n", "machines").unwrap();
        assert_eq!(outline.line_of(&outline.items[0], "id"), None);
    }

    #[test]
    fn any_text_can_be_outlined() {
        for text in [
            "machines:\n-",
            "machines:\n -\n\t- é",
            "machines:\n - é\n   é: x\n  é",
        ] {
            let outline = Outline::of(text, "machines").unwrap();
            for item in &outline.items {
                assert_eq!(outline.line_of(item, "id"), None);
            }
        }
    }
}
