//! A file of the log on the disk: opened, locked, told from others.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::tail;

/// Owner reads and writes, the group reads (log shippers do), nobody else: records name machines
/// and paths.
pub(super) const MODE: u32 = 0o640;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

/// The greatest number of a file that was put aside; 0 where there is none.
pub(super) fn greatest_number(path: &Path) -> io::Result<u64> {
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

/// Locks the file for this process, or finds it locked by another.
pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // A file system without locks: there is nothing to be had, and the log must go on.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A file as it was opened.
pub(super) struct Opened {
    pub(super) out: File,
    pub(super) id: FileId,
    pub(super) size: u64,
    pub(super) born: u64,
    pub(super) mid_line: bool,
    pub(super) is_regular: bool,
}

pub(super) fn open(path: &Path) -> io::Result<Opened> {
    let with_path =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        let why = "it is a named pipe, and opening one waits for its reader; use standard output";
        return Err(with_path(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)
        .map_err(with_path)?;
    let metadata = file.metadata().map_err(with_path)?;
    let mid_line = metadata.is_file() && metadata.len() > 0 && !tail::ends_a_line(path);
    // Where the file system does not tell its birth, it is as old as its last change.
    let born = metadata.created().or_else(|_| metadata.modified());
    Ok(Opened {
        id: id(&metadata),
        size: metadata.len(),
        born: born.map_or(0, unix_ms),
        mid_line,
        is_regular: metadata.is_file(),
        out: file,
    })
}

pub(super) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn id(metadata: &Metadata) -> FileId {
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}
