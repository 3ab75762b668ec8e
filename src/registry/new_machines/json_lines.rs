//! JSON lines: an entry a line.

use serde::de::IgnoredAny;

use crate::yaml::{Node, Notes, Value};

/// Whether a text that begins with this line is in this format. A document in one line, as the
/// management API takes it, is YAML.
pub(super) fn begin_with(line: &str) -> bool {
    if !line.starts_with('{') {
        return false;
    }
    match serde_json::from_str::<Node<'_>>(line) {
        Ok(object) => object.entry("machines").is_none(),
        // An object with a mistake, or the first line of YAML in braces.
        Err(_) => line.ends_with('}') && line.contains('"'),
    }
}

/// The entries.
pub(super) fn read<'t>(text: &'t str, notes: &Notes) -> Vec<Node<'t>> {
    let mut entries = Vec::new();
    for (line, json) in (1..).zip(text.lines()) {
        if json.trim().is_empty() {
            continue;
        }
        // First without its values: then an error cannot repeat one.
        let entry = serde_json::from_str::<IgnoredAny>(json)
            .and_then(|_| serde_json::from_str::<Node<'_>>(json));
        match entry {
            Ok(entry) => entries.push(at_line(entry, line)),
            Err(error) => {
                let column = error.column();
                let text = format!("is no JSON object on one line; see column {column}");
                notes.mistake(Some(line), "", text);
            }
        }
    }
    entries
}

/// The tree with this line in all of it.
fn at_line(node: Node<'_>, line: usize) -> Node<'_> {
    let value = match node.value {
        Value::List(items) => {
            Value::List((items.into_iter().map(|item| at_line(item, line))).collect())
        }
        Value::Table(fields) => {
            let field = |(key, value)| (at_line(key, line), at_line(value, line));
            Value::Table(fields.into_iter().map(field).collect())
        }
        scalar => scalar,
    };
    Node { line, value }
}
