//! Lines of `authorized_keys` (sshd(8)): the comment of a key is the machine's id.

use super::quoted_node::text;
use crate::yaml::{Node, Notes, Value};

/// How the names of key types begin.
const TYPES: [&str; 3] = ["ssh-", "ecdsa-", "sk-"];

/// Whether a text that begins with this line is in this format.
pub(super) fn begin_with(line: &str) -> bool {
    let starts_entry = line.starts_with(['-', '[', '{']) || line.starts_with("machines");
    begins_with_key(line) || (!starts_entry && line.contains(" ssh-ed25519 AAAA"))
}

/// The entries.
pub(super) fn read<'t>(text: &'t str, notes: &Notes) -> Vec<Node<'t>> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    keys.filter_map(|(number, line)| {
        entry(number, line)
            .map_err(|text| notes.mistake(Some(number), "", text))
            .ok()
    })
    .collect()
}

fn entry(number: usize, line: &str) -> Result<Node<'_>, &'static str> {
    if !begins_with_key(line) {
        return Err(
            "does not begin with a key, such as ssh-ed25519 AAAA..; options before a key are not \
             taken over: remove them, and give the machine `cidrs` instead of from=",
        );
    }
    let (kind, rest) = word(line);
    let (blob, comment) = word(rest);
    if comment.is_empty() {
        return Err("has no comment; write the machine's id behind the key");
    }
    let key = text(number, format!("{kind} {blob}"));
    let keys = Node {
        line: number,
        value: Value::List(vec![key]),
    };
    Ok(Node {
        line: number,
        value: Value::Table(vec![
            (text(number, "id"), text(number, comment)),
            (text(number, "public_keys"), keys),
        ]),
    })
}

fn begins_with_key(line: &str) -> bool {
    let (first, rest) = word(line);
    !rest.is_empty() && TYPES.iter().any(|kind| first.starts_with(kind))
}

/// The first word, and the rest without blanks around it.
fn word(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (first, rest.trim())
}
