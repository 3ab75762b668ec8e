//! Replaces a registry file in one step, so that no reader ever sees half of it, and by one editor
//! at a time.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::files::MAX_FILE;
use countersign_client::file::{self, FileFault};

/// How long another editor is waited for, in steps of [`PATIENCE_STEP`]: an edit takes a second at
/// most.
const PATIENCE_STEPS: u32 = 100;
const PATIENCE_STEP: Duration = Duration::from_millis(100);

/// A registry file that is locked against other editors.
///
/// The lock is advisory (`flock`): it keeps out who asks, that is this program. A text editor does
/// not ask, so the file is compared again before it is replaced.
#[derive(Debug)]
pub struct LockedFile {
    /// Where the file really is, symlinks followed.
    path: PathBuf,
    file: File,
    text: String,
}

impl LockedFile {
    /// Locks and reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be opened for writing, is larger than [`MAX_FILE`], or is not UTF-8. Or another
    /// process has held its lock for ten seconds ([`io::ErrorKind::WouldBlock`]).
    pub fn take(path: &Path) -> io::Result<LockedFile> {
        let path = path.canonicalize()?;
        let file = patiently(|| try_lock(&path))?;
        let mut text = String::new();
        (&file).take(MAX_FILE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(LockedFile { path, file, text })
    }

    /// The text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Puts `text` in the place of the file: written beside it, on disk, then renamed over it. Mode
    /// and owner stay.
    ///
    /// # Errors
    ///
    /// The system refuses a step, or the file has changed since it was read
    /// ([`io::ErrorKind::InvalidData`]). The old file is then still in place, whole, unless it was
    /// only the last step that failed, to have the rename itself on disk.
    pub fn replace(self, text: &str) -> io::Result<()> {
        if fs::read(&self.path)? != self.text.as_bytes() {
            let text = "another process changed the file in the meantime";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let name = self.path.file_name().unwrap_or_default();
        let mut beside = name.to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = directory.join(beside);
        self.write_beside(&beside, text)
            .and_then(|()| fs::rename(&beside, &self.path))
            .inspect_err(|_| {
                // Under the lock the name is ours, also where a run that was killed left it.
                let _ = fs::remove_file(&beside);
            })?;
        File::open(directory)?.sync_all()
    }

    fn write_beside(&self, beside: &Path, text: &str) -> io::Result<()> {
        let old = self.file.metadata()?;
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(beside)?;
        new.write_all(text.as_bytes())?;
        let made = new.metadata()?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            // A gateway that could read the old file must be able to read the new one.
            chown(beside, Some(old.uid()), Some(old.gid()))?;
        }
        new.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
        new.sync_all()
    }
}

/// A directory of registry files that is locked against other editors of any of them, by the same
/// kind of lock as a [`LockedFile`].
#[derive(Debug)]
pub struct DirectoryLock {
    _directory: File,
}

impl DirectoryLock {
    /// Locks a directory.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or another process has held its lock for ten seconds
    /// ([`io::ErrorKind::WouldBlock`]).
    pub fn take(path: &Path) -> io::Result<DirectoryLock> {
        let directory = File::open(path)?;
        patiently(|| Ok(has_locked(&directory)?.then_some(())))?;
        Ok(DirectoryLock {
            _directory: directory,
        })
    }
}

/// Waits for a lock that another editor may hold.
fn patiently<T>(try_lock: impl Fn() -> io::Result<Option<T>>) -> io::Result<T> {
    for _ in 0..PATIENCE_STEPS {
        if let Some(held) = try_lock()? {
            return Ok(held);
        }
        thread::sleep(PATIENCE_STEP);
    }
    Err(io::ErrorKind::WouldBlock.into())
}

fn has_locked(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The locked file; `None` if another process holds the lock, or has just replaced the file, which
/// leaves the lock on a deleted file.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    file::open(path).map_err(|fault| match fault {
        FileFault::Unreadable(error) => error,
        _ => io::Error::new(io::ErrorKind::InvalidInput, fault.to_string()),
    })?;
    // For writing, because some network file systems lock no other.
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if !has_locked(&file)? {
        return Ok(None);
    }
    let (locked, there) = (file.metadata()?, path.metadata()?);
    let same = (locked.dev(), locked.ino()) == (there.dev(), there.ino());
    Ok(same.then_some(file))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn directory_with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("m.yaml");
        fs::write(&file, text).unwrap();
        (directory, file)
    }

    #[test]
    fn the_file_is_replaced_and_nothing_stays_beside_it() {
        let (directory, file) = directory_with("old");
        let held = LockedFile::take(&file).unwrap();
        assert_eq!(held.text(), "old");
        held.replace("new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_mode_stays() {
        let (_directory, file) = directory_with("old");
        for mode in [0o600, 0o640, 0o664] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            LockedFile::take(&file).unwrap().replace("new").unwrap();
            assert_eq!(file.metadata().unwrap().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn a_symlink_stays_and_what_it_points_to_is_replaced() {
        let (directory, file) = directory_with("old");
        let link = directory.path().join("link.yaml");
        symlink("m.yaml", &link).unwrap();
        LockedFile::take(&link).unwrap().replace("new").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }

    #[test]
    fn a_reader_with_the_old_file_open_keeps_the_old_text() {
        let (_directory, file) = directory_with("old");
        let mut reader = File::open(&file).unwrap();
        LockedFile::take(&file).unwrap().replace("new").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "old");
    }

    #[test]
    fn a_change_by_hand_meanwhile_is_not_overwritten() {
        let (directory, file) = directory_with("old");
        let held = LockedFile::take(&file).unwrap();
        fs::write(&file, "by hand").unwrap();
        let error = held.replace("new").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(&file).unwrap(), "by hand");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn edits_at_once_are_all_kept() {
        let (_directory, file) = directory_with("");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let held = LockedFile::take(&file).unwrap();
                    let longer = held.text().to_owned() + "x";
                    held.replace(&longer).unwrap();
                });
            }
        });
        assert_eq!(fs::read_to_string(&file).unwrap(), "xxxxxxxx");
    }

    #[test]
    fn a_lock_on_a_file_that_was_replaced_is_no_lock() {
        let (_directory, file) = directory_with("old");
        let held = LockedFile::take(&file).unwrap();
        assert!(try_lock(&file).unwrap().is_none());
        drop(held);
        assert!(try_lock(&file).unwrap().is_some());
    }

    #[test]
    fn a_directory_is_locked_by_one_editor_at_a_time() {
        let (directory, _) = directory_with("");
        let held = DirectoryLock::take(directory.path()).unwrap();
        let other = File::open(directory.path()).unwrap();
        assert!(!has_locked(&other).unwrap());
        drop(held);
        assert!(has_locked(&other).unwrap());
    }

    #[test]
    fn a_missing_file_is_not_made() {
        let (directory, _) = directory_with("old");
        let missing = directory.path().join("typo.yaml");
        let error = LockedFile::take(&missing).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!missing.exists());
    }
}
