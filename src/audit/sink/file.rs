//! A file of the log on disk: opening, locking, identity.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::sys::stat::{major, minor};
use nix::unistd::{AccessFlags, eaccess};

use crate::audit::tail;
use countersign_client::file::{with_reserve, writable_directory};

/// Owner reads and writes, the group reads (log shippers do), and no other: records name machines
/// and paths.
pub(super) const MODE: u32 = 0o640;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

/// Locks the file for this process, or finds it locked by another.
pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // A file system without locks: the log must go on without one.
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
    let with_path = |error| with_path(path, error);
    if let Ok(found) = fs::metadata(path) {
        lasting(&found).map_err(with_path)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE);
    options.custom_flags(O_NONBLOCK | O_NOCTTY);
    let file = with_reserve(|| options.open(path)).map_err(with_path)?;
    // The metadata of the opened file, not of the path before.
    let metadata = file.metadata().map_err(with_path)?;
    lasting(&metadata).map_err(with_path)?;
    let mid_line = metadata.is_file() && metadata.len() > 0 && !tail::ends_a_line(path);
    // Without a time of birth from the file system, the last change counts.
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

/// Whether [`open`] would succeed. Makes nothing.
pub(super) fn check(path: &Path) -> io::Result<()> {
    let with_path = |error| with_path(path, error);
    match fs::metadata(path) {
        Ok(found) => {
            lasting(&found).map_err(with_path)?;
            let access = AccessFlags::R_OK | AccessFlags::W_OK;
            eaccess(path, access).map_err(|errno| with_path(errno.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            writable_directory(parent.unwrap_or(Path::new("."))).map_err(with_path)
        }
        Err(error) => Err(with_path(error)),
    }
}

fn with_path(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// # Errors
///
/// Records that are written there do not last.
fn lasting(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let why = match () {
        () if kind.is_fifo() => {
            "it is a named pipe, and opening one waits for its reader; use standard output"
        }
        () if kind.is_file() || is_full_device(found) => return Ok(()),
        () if kind.is_dir() => "it is a directory; name a file in it",
        () => "it is not a regular file, and does not keep what is written to it",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Whether writes there are lost silently, as with the null device.
pub(super) fn swallows(found: &Metadata) -> bool {
    /// Of the devices of memory: null, zero, random, full and so on. A terminal has another.
    const MEMORY: u64 = 1;
    found.file_type().is_char_device() && major(found.rdev()) == MEMORY && !is_full_device(found)
}

/// The device that is always full. It takes nothing, so it loses nothing: it simulates a full disk.
fn is_full_device(found: &Metadata) -> bool {
    let number = found.rdev();
    found.file_type().is_char_device() && (major(number), minor(number)) == (1, 7)
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
