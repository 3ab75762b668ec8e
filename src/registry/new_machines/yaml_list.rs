//! YAML: a list of entries, or a document as `machines.yaml` is one.

use crate::yaml::{self, Node, Notes, Value};

const EMPTY: &str = "has no machine to add";

/// The entries; `None` with a mistake that leaves none.
pub(super) fn read<'t>(text: &'t str, notes: &Notes) -> Option<Vec<Node<'t>>> {
    let root = yaml::document(text, notes, EMPTY)?;
    let line = root.line;
    let machines = match root.value {
        Value::Table(fields) => machines_of(fields, line, notes)?,
        value => Node { line, value },
    };
    match machines.value {
        Value::List(entries) => Some(entries),
        _ => {
            let text = "must be a list of machines: YAML as in machines.yaml, a JSON object a line, \
                        CSV with a header that has the column public_key, or lines of \
                        authorized_keys";
            notes.mistake(Some(machines.line), "", text);
            None
        }
    }
}

fn machines_of<'t>(
    fields: Vec<(Node<'t>, Node<'t>)>,
    line: usize,
    notes: &Notes,
) -> Option<Node<'t>> {
    let mut machines = None;
    for (key, value) in fields {
        match key.text() {
            Some("machines") if machines.is_none() => machines = Some(value),
            Some("machines") => notes.mistake(Some(key.line), "machines", "is given twice"),
            _ => notes.mistake(
                Some(key.line),
                "",
                "only `machines` is added from here; groups and removed machines are taken by \
                 `countersign registry import --merge`",
            ),
        }
    }
    if machines.is_none() {
        notes.mistake(Some(line), "machines", "is missing");
    }
    machines
}
