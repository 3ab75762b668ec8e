//! Reads the text of a file, and parses its document.

use std::path::Path;

use super::mistakes::{Mistakes, Notes};
use super::tree::{self, Node};
use countersign_client::file::{self, FileFault};

/// Reads a file of at most `most` bytes; messages call its content `what`.
///
/// # Errors
///
/// One mistake: the file cannot be read, is no regular file, is too large, changed while it was
/// read, or is not UTF-8.
pub(crate) fn text_of(path: &Path, most: usize, what: &str) -> Result<String, Mistakes> {
    let bytes = file::read(path, most).map_err(|fault| Mistakes {
        may_pass: fault.may_pass(),
        ..Mistakes::only(
            path,
            None,
            match fault {
                FileFault::TooLarge(_) => format!("{fault}, which no {what} is"),
                _ => fault.to_string(),
            },
        )
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        not_text(path, &error.as_bytes()[..valid])
    })
}

/// The mistake of a file that is UTF-8 only as far as `valid`.
pub(crate) fn not_text(path: &Path, valid: &[u8]) -> Mistakes {
    let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
    Mistakes::only(path, Some(line), "is not UTF-8 text; save it as UTF-8")
}

/// The document in `text`. `None`, and a mistake, where it is no YAML, or `if_empty` where it is
/// empty.
pub(crate) fn document<'t>(text: &'t str, notes: &Notes, if_empty: &str) -> Option<Node<'t>> {
    let (line, text) = match tree::parse(text) {
        Ok(Some(root)) => return Some(root),
        Ok(None) => (None, if_empty.to_owned()),
        Err(error) => (Some(error.line), error.text),
    };
    notes.mistake(line, "", text);
    None
}
