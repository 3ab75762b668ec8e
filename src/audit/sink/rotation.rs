//! Rotation: when a file is put aside, and under which name.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// When a file is put aside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Largest size, in bytes; `None`: any.
    pub size: Option<u64>,
    /// Greatest age; `None`: any.
    pub age: Option<Duration>,
    /// Only the last file that was put aside is kept. Otherwise all are.
    pub keep_one: bool,
}

impl Bounds {
    /// Whether a file of `size` bytes that was made at `born` has reached them at `wall_ms` (Unix
    /// milliseconds). An empty file is never put aside.
    pub(super) fn reached(&self, size: u64, born: u64, wall_ms: u64) -> bool {
        let age = Duration::from_millis(wall_ms.saturating_sub(born));
        let is_full = self.size.is_some_and(|most| size >= most);
        let is_old = self.age.is_some_and(|most| age >= most);
        size > 0 && (is_full || is_old)
    }
}

/// Renames a file, under a number above all that are there: a later file must not come before an
/// earlier one. Succeeds also where another process was faster.
pub(super) fn put_aside(path: &Path, bounds: Bounds) -> io::Result<()> {
    let number = match bounds.keep_one {
        true => 1,
        false => greatest_number(path)?.saturating_add(1),
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{number}"));
    match fs::rename(path, aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// The greatest number of a file that was put aside; 0 where there is none.
fn greatest_number(path: &Path) -> io::Result<u64> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(0);
    };
    let mut greatest = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?.file_name();
        let rest = entry
            .to_str()
            .and_then(|entry| entry.strip_prefix(name)?.strip_prefix('.'));
        // Compressed ones (`.3.gz`) keep their number.
        let digits = rest.map(|rest| rest.split('.').next().unwrap_or_default());
        greatest = greatest.max(digits.and_then(|text| text.parse().ok()).unwrap_or(0));
    }
    Ok(greatest)
}
