//! Patterns in file names, for when no shell expands them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::command_error::CommandError;

/// Most files that a pattern may match: years of rotation. A pattern with more is a mistake.
const MOST_FILES: usize = 10_000;

/// The files of a path: itself, or those that match the pattern in its file name.
pub(super) fn expand(path: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let failed = |text: String| CommandError::Operation(format!("{}: {text}", path.display()));
    let is_pattern = |text: &Path| text.to_string_lossy().contains(['*', '?']);
    // A file whose name looks like a pattern is still that file.
    if !is_pattern(path) || path.exists() {
        return Ok(vec![path.to_owned()]);
    }
    let folder = match path.parent() {
        Some(folder) if is_pattern(folder) => {
            return Err(failed(
                "a pattern is allowed only in the file name, not in a directory".into(),
            ));
        }
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("/"),
    };
    let pattern = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(error.to_string()))? {
        let entry = entry.map_err(|error| failed(error.to_string()))?;
        let name = entry.file_name();
        if matches(pattern, name.as_encoded_bytes()) && entry.path().is_file() {
            found.push(path.with_file_name(name));
        }
        if found.len() > MOST_FILES {
            return Err(failed(format!("more than {MOST_FILES} files match")));
        }
    }
    if found.is_empty() {
        return Err(failed("no file matches this pattern".into()));
    }
    found.sort();
    Ok(found)
}

/// Whether a name matches a pattern by the rules of a shell: `*` is any bytes, `?` is any one byte,
/// and no pattern matches a leading dot.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // The place of the last star, and the end of the bytes that it matches so far.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                (p, n) = (p + 1, n + 1);
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, does) in [
            ("audit.jsonl*", "audit.jsonl", true),
            ("audit.jsonl*", "audit.jsonl.12.gz", true),
            ("*.gz", "audit.jsonl.12.gz", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("audit.jsonl.?", "audit.jsonl.1", true),
            ("audit.jsonl.?", "audit.jsonl.12", false),
            ("audit.jsonl.?", "audit.jsonl.", false),
            ("*", ".hidden", false),
            (".h*", ".hidden", true),
            ("audit", "audit.jsonl", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                does,
                "{pattern} {name}"
            );
        }
    }
}
