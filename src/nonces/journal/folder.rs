//! The directory of the journal: made, held by one process at a time, and written so that power
//! loss leaves the old file or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::segment_name;
use countersign_client::file::writable_directory;

/// A state directory. It is locked as itself, so that there is no lock file to delete.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    handle: File,
    made: bool,
}

/// Added to a name while the file is being written.
const UNFINISHED: &str = ".new";

/// What the first file is called while it is being written.
const FIRST: &str = "first.new";

/// What a new file system, mounted here, is born with.
const MADE_BY_MKFS: &str = "lost+found";

impl Folder {
    /// Whether [`Folder::open`] would succeed, and files could be made in it; nothing is made.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses.
    pub(super) fn can_be_had(path: &Path) -> io::Result<()> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().filter(|parent| *parent != Path::new(""));
                writable_directory(parent.unwrap_or(Path::new(".")))
            }
            _ => writable_directory(path),
        }
    }

    /// Opens the directory, or makes it, readable by this user alone.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses.
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

    /// Whether no process has ever kept a journal in it. Only then is a missing reservation no
    /// loss.
    ///
    /// Either a first start was cut off behind its mark (see [`Folder::write_first`]), which says
    /// so whatever else lies here by now; or nothing has ever been in it. A directory's last
    /// change comes after its birth as soon as anything is made or deleted in it. (Before it where
    /// a container's volume was given the times of the image.) Where the file system does not tell
    /// its birth, only one that was made just now is unused.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses.
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

    /// Takes the lock, which lasts until the folder is dropped or the process ends, however it
    /// ends; `false` if another holds it.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses.
    pub(super) fn try_lock(&self) -> io::Result<bool> {
        match self.handle.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether the path still leads to the directory that is locked: if it does not, another
    /// process may hold what is there now.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(super) fn check(&self) -> io::Result<()> {
        let (held, there) = (self.handle.metadata()?, fs::metadata(&self.path)?);
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok(());
        }
        Err(io::Error::other(
            "the directory was replaced while this process held it; restart to use the new one",
        ))
    }

    /// Puts a file of this content in place, in one step and on disk.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses; a file of that name is then the old one or the new one.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> io::Result<File> {
        self.write_by(&format!("{name}{UNFINISHED}"), name, content)
    }

    /// Puts the first file of an [unused](Folder::unused) directory in place. While it is being
    /// written it has a name that nothing else has, and that is gone once the file is in place: so
    /// that name marks a directory in which nothing has been accepted, wherever a crash cuts this
    /// off. The lock must be held.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses; the directory is then still unused, or has the file.
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

    /// Removes what a crash left unfinished. Nothing may be being written meanwhile.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses.
    pub(super) fn remove_unfinished(&self) -> io::Result<()> {
        for name in self.names()? {
            let of_a_segment = name.strip_suffix(UNFINISHED).and_then(segment_name::number);
            if name == FIRST || of_a_segment.is_some() {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The names in it.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// Removes a file; one that is gone already is as good.
    ///
    /// # Errors
    ///
    /// Whatever else the system refuses.
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
