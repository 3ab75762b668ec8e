//! CSV (RFC 4180) with a header of field names. `public_key` stands for `public_keys`; a cell of a
//! list has its items separated by `;`, and an empty cell is a field that is left out.

use csv::{ReaderBuilder, StringRecord, Trim};

use super::quoted_node::text;
use crate::yaml::{Node, Notes, Value, did_you_mean};

/// The columns, and how a cell becomes a field.
const COLUMNS: [(&str, ColumnKind); 15] = [
    ("id", ColumnKind::Text),
    ("name", ColumnKind::Text),
    ("vault", ColumnKind::Text),
    ("owner", ColumnKind::Text),
    ("credential", ColumnKind::Text),
    ("public_key", ColumnKind::List("public_keys")),
    ("enabled", ColumnKind::Plain),
    ("not_before", ColumnKind::Text),
    ("expires", ColumnKind::Text),
    ("expires_in", ColumnKind::Text),
    ("may_renew", ColumnKind::Plain),
    ("groups", ColumnKind::List("groups")),
    ("allow", ColumnKind::List("allow")),
    ("cidrs", ColumnKind::List("cidrs")),
    ("rate", ColumnKind::PerMinute),
];

#[derive(Clone, Copy)]
enum ColumnKind {
    Text,
    /// A truth value.
    Plain,
    /// Items under this field.
    List(&'static str),
    /// Requests a minute.
    PerMinute,
}

/// Whether a text that begins with this line is in this format.
pub(super) fn begin_with(line: &str) -> bool {
    let mut names = line
        .split([',', ';', '\t'])
        .map(|name| name.trim().trim_matches('"'));
    names.any(|name| name == "public_key")
}

/// The entries; `None` with a mistake in the header.
pub(super) fn read<'t>(text: &'t str, notes: &Notes) -> Option<Vec<Node<'t>>> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(Trim::All)
        .from_reader(text.as_bytes());
    let mut records = reader.records();
    let header = records.next()?.ok()?;
    let columns = columns(&header, line_of(&header, text), notes)?;
    let mut entries = Vec::new();
    for record in records {
        // Cannot fail: the text is UTF-8 in memory, and records may have any length.
        let Ok(record) = record else {
            notes.mistake(None, "", "cannot be read as CSV");
            return None;
        };
        let line = line_of(&record, text);
        if record.len() == columns.len() {
            entries.push(entry(&record, &columns, line));
        } else {
            let (cells, names) = (record.len(), columns.len());
            let text = format!(
                "has {cells} cells, and the header has {names}; put a cell with a comma in quotes"
            );
            notes.mistake(Some(line), "", text);
        }
    }
    Some(entries)
}

/// The line on which a record starts. Its position may be that of empty lines or comments above.
fn line_of(record: &StringRecord, text: &str) -> usize {
    let Some(position) = record.position() else {
        return 0;
    };
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let rest = text.get(number(position.byte())..).unwrap_or_default();
    let above = rest.lines().map(str::trim);
    let above = above.take_while(|line| line.is_empty() || line.starts_with('#'));
    number(position.line()).saturating_add(above.count())
}

/// The columns of the header; `None` with a mistake in it.
fn columns(
    header: &StringRecord,
    line: usize,
    notes: &Notes,
) -> Option<Vec<(&'static str, ColumnKind)>> {
    let mut columns: Vec<(&'static str, ColumnKind)> = Vec::new();
    let mut is_good = true;
    let mut mistake = |text: String| {
        notes.mistake(Some(line), "", text);
        is_good = false;
    };
    if header.len() == 1 && header.iter().any(|cell| cell.contains([';', '\t'])) {
        mistake("separates the columns by another character than a comma; use commas".to_owned());
        return None;
    }
    for name in header {
        let known = COLUMNS.iter().find(|(column, _)| *column == name);
        match known {
            None => {
                let names = COLUMNS.map(|(column, _)| column);
                let hint = match did_you_mean(name, names.into_iter()) {
                    none if none.is_empty() => format!("; known columns: {}", names.join(", ")),
                    hint => hint,
                };
                mistake(format!("has an unknown column{hint}"));
            }
            Some((column, _)) if columns.iter().any(|(known, _)| known == column) => {
                mistake(format!("has the column {column} twice; keep one"));
            }
            Some(column) => columns.push(*column),
        }
    }
    is_good.then_some(columns)
}

fn entry<'t>(
    record: &StringRecord,
    columns: &[(&'static str, ColumnKind)],
    line: usize,
) -> Node<'t> {
    let cells = record.iter().zip(columns);
    let fields = cells.filter(|(cell, _)| !cell.is_empty());
    let fields = fields.map(|(cell, (name, kind))| {
        let list = || {
            let items = cell.split(';').map(str::trim);
            let items = items.filter(|item| !item.is_empty());
            Value::List(items.map(|item| text(line, item.to_owned())).collect())
        };
        let (key, value) = match kind {
            ColumnKind::Text => (*name, text(line, cell.to_owned()).value),
            ColumnKind::Plain => (*name, plain(cell)),
            ColumnKind::List(key) => (*key, list()),
            ColumnKind::PerMinute => {
                let value = plain(cell);
                let per_minute = (text(line, "per_minute"), Node { line, value });
                (*name, Value::Table(vec![per_minute]))
            }
        };
        (text(line, key), Node { line, value })
    });
    Node {
        line,
        value: Value::Table(fields.collect()),
    }
}

fn plain<'t>(cell: &str) -> Value<'t> {
    Value::Scalar {
        text: cell.to_owned().into(),
        is_plain: true,
    }
}
