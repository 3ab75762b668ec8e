//! The directory of the journal. One process at a time holds its lock. Files are replaced so that
//! power loss leaves the old file or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::segment_name;
use countersign_client::file::writable_directory;

/// A state directory. The lock is on the directory itself: there is no lock file to delete.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    handle: File,
    made: bool,
}

/// The suffix of a file name while the file is being written.
const UNFINISHED: &str = ".new";

/// The name of the first file while it is being written.
const FIRST: &str = "first.new";

/// `mkfs` makes this directory at the root of a new file system.
const MADE_BY_MKFS: &str = "lost+found";

impl Folder {
    /// Checks that [`Folder::open`] would succeed and that the directory takes files. It creates
    /// nothing.
    ///
    /// # Errors
    ///
    /// An error of the operating system.
    pub(super) fn can_be_had(path: &Path) -> io::Result<()> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().filter(|parent| *parent != Path::new(""));
                writable_directory(parent.unwrap_or(Path::new(".")))
            }
            _ => writable_directory(path),
        }
    }

    /// Opens the directory, or creates it, readable by this user alone.
    ///
    /// # Errors
    ///
    /// An error of the operating system.
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        let made = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let handle = File::open(path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if made {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Folder {
            path: path.to_owned(),
            handle,
            made,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether no process has ever kept a journal in the directory. Only then does a missing
    /// reservation lose nothing.
    ///
    /// Two cases count. A crash interrupted the first start and left its mark (see
    /// [`Folder::write_first`]); other files beside the mark do not matter. Or the directory has
    /// always been empty: creating or deleting a file in it moves its modification time past its
    /// creation time. The modification time may be the earlier one in a container's volume that
    /// got the times of the image. Without a creation time from the file system, the directory is
    /// unused only if this process has just created it.
    ///
    /// # Errors
    ///
    /// An error of the operating system.
    pub(super) fn unused(&self) -> io::Result<bool> {
        let names = self.names()?;
        if names.iter().any(|name| name == FIRST) {
            return Ok(!names
                .iter()
                .any(|name| segment_name::number(name).is_some()));
        }
        let directory = self.handle.metadata()?;
        let untouched = match (directory.created(), directory.modified()) {
            (Ok(born), Ok(changed)) => changed <= born,
            _ => self.made,
        };
        Ok(untouched && names.iter().all(|name| name == MADE_BY_MKFS))
    }

    /// Takes the lock; `false` if another process holds it. The lock lasts until the folder is
    /// dropped or the process ends, by a crash too.
    ///
    /// # Errors
    ///
    /// An error of the operating system.
    pub(super) fn try_lock(&self) -> io::Result<bool> {
        match self.handle.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Checks that the path still leads to the locked directory. If it leads to another one,
    /// another process may hold that.
    ///
    /// # Errors
    ///
    /// The path leads elsewhere, or the operating system cannot tell.
    pub(super) fn check(&self) -> io::Result<()> {
        let (held, there) = (self.handle.metadata()?, fs::metadata(&self.path)?);
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok(());
        }
        Err(io::Error::other(
            "the directory was replaced while this gateway held it; restart the gateway to use the \
             new one",
        ))
    }

    /// Writes a file atomically and synchronises it to disk.
    ///
    /// # Errors
    ///
    /// An error of the operating system; a file of that name is then the old one or the new one.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> io::Result<File> {
        self.write_by(&format!("{name}{UNFINISHED}"), name, content)
    }

    /// Writes the first file of an [unused](Folder::unused) directory. Until it is in place it has
    /// a name that no other file has. After a crash that name marks a directory in which nothing
    /// has been accepted. The caller must hold the lock.
    ///
    /// # Errors
    ///
    /// An error of the operating system; the directory is then still unused, or has the file.
    pub(super) fn write_first(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.write_by(FIRST, name, content).map(|_| ())
    }

    fn write_by(&self, unfinished: &str, name: &str, content: &[u8]) -> io::Result<File> {
        let unfinished = self.file(unfinished);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.file(name))?;
        self.handle.sync_all()?;
        Ok(file)
    }

    /// Removes files that a crash left unfinished. The caller must not write files meanwhile.
    ///
    /// # Errors
    ///
    /// An error of the operating system.
    pub(super) fn remove_unfinished(&self) -> io::Result<()> {
        for name in self.names()? {
            let of_a_segment = name.strip_suffix(UNFINISHED).and_then(segment_name::number);
            if name == FIRST || of_a_segment.is_some() {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The names of all files in the directory.
    ///
    /// # Errors
    ///
    /// An error of the operating system.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// Removes a file. It is no error if the file is gone already.
    ///
    /// # Errors
    ///
    /// Another error of the operating system.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn parent() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_directory_that_is_made_is_private() {
        let parent = parent();
        let folder = Folder::open(&parent.path().join("state")).unwrap();
        let mode = fs::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(folder.unused().unwrap());
    }

    #[test]
    fn only_one_directory_is_made_not_a_whole_path_of_them() {
        let parent = parent();
        assert!(Folder::open(&parent.path().join("a/b")).is_err());
    }

    #[test]
    fn a_directory_that_was_only_made_is_unused() {
        let parent = parent();
        let path = parent.path().join("state");
        fs::create_dir(&path).unwrap();
        assert!(Folder::open(&path).unwrap().unused().unwrap());
    }

    #[test]
    fn an_emptied_directory_is_not_unused() {
        let parent = parent();
        let path = parent.path().join("state");
        fs::create_dir(&path).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(path.join("x"), "").unwrap();
        fs::remove_file(path.join("x")).unwrap();
        assert!(!Folder::open(&path).unwrap().unused().unwrap());
    }

    #[test]
    fn a_first_file_that_was_cut_off_leaves_it_unused_whatever_else_is_there() {
        let parent = parent();
        let folder = Folder::open(&parent.path().join("state")).unwrap();
        fs::write(folder.file(FIRST), "hal").unwrap();
        fs::write(folder.file("token-hash.key"), "").unwrap();
        assert!(folder.unused().unwrap());
        fs::write(folder.file(&segment_name::of(1)), "").unwrap();
        assert!(!folder.unused().unwrap(), "there is a journal");
    }

    #[test]
    fn the_mark_of_a_first_file_goes_with_its_name() {
        let parent = parent();
        let folder = Folder::open(&parent.path().join("state")).unwrap();
        folder.write_first("x", b"content").unwrap();
        assert_eq!(folder.names().unwrap(), ["x"]);
        folder.remove("x").unwrap();
        assert!(!folder.unused().unwrap(), "it was emptied");
    }

    #[test]
    fn one_holds_it_at_a_time() {
        let parent = parent();
        let first = Folder::open(parent.path()).unwrap();
        let second = Folder::open(parent.path()).unwrap();
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[test]
    fn a_directory_that_was_replaced_is_noticed() {
        let parent = parent();
        let path = parent.path().join("state");
        let folder = Folder::open(&path).unwrap();
        folder.check().unwrap();
        fs::rename(&path, parent.path().join("old")).unwrap();
        assert!(folder.check().is_err());
        fs::create_dir(&path).unwrap();
        assert!(folder.check().unwrap_err().to_string().contains("replaced"));
    }

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let parent = parent();
        let folder = Folder::open(parent.path()).unwrap();
        folder.write("x", b"long content").unwrap();
        folder.write("x", b"short").unwrap();
        assert_eq!(fs::read(folder.file("x")).unwrap(), b"short");
        assert_eq!(folder.names().unwrap(), ["x"]);
        let mode = fs::metadata(folder.file("x")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn removing_what_is_gone_is_no_mistake() {
        let parent = parent();
        let folder = Folder::open(parent.path()).unwrap();
        folder.remove("x").unwrap();
    }
}
