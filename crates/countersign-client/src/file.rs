//! Reads the files that a configuration or a command names. All such files are opened here, so that
//! the same rules hold for each:
//!
//! - Opening never blocks. A named pipe would wait for its writer, so only a regular file is read.
//!   Symlinks are followed.
//! - Every file has a size limit, so that a wrong path cannot exhaust the memory.
//! - Every read has a deadline, because a hung network file system returns no error.
//! - An unreadable file and a file with a mistake are different errors. The first is retried, the
//!   second waits for an edit.
//! - A gateway keeps file descriptors in reserve, so that a connection flood cannot prevent the
//!   reading of a revocation.

mod reserve;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::unistd::{AccessFlags, eaccess};
use zeroize::Zeroizing;

pub use self::reserve::{keep as keep_in_reserve, open as with_reserve};

/// Longest wait for the next byte of a file. A disk answers within milliseconds, and a slower
/// network file system is down. A revocation in another file must not wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// A slow file that makes progress is given up after this many times [`PATIENCE`].
const MOST_WAITS: u32 = 15;

/// The bytes read between two updates of the progress.
const CHUNK: u64 = 1 << 20;

/// Why a file cannot be read. The error holds nothing of the content, which may be secret.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The system returned an error.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file system did not answer before the deadline.
    #[error("cannot be read: the file system does not answer")]
    Silent,
    /// Another process wrote to the file during the read, so the content may be a mixture.
    #[error(
        "changed while it was read; replace it in one step (write another file, then rename it)"
    )]
    Changing,
    /// A named pipe, a device, a directory, a socket.
    #[error("is {0}, not a regular file")]
    NotRegular(&'static str),
    /// The file is larger than the limit, in bytes.
    #[error("is larger than {}", Size(*.0))]
    TooLarge(usize),
    /// The directory has more files than the limit.
    #[error("has more than {0} files")]
    TooMany(usize),
}

impl FileFault {
    /// Whether a retry may succeed without an edit of the file.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            FileFault::Unreadable(_) | FileFault::Silent | FileFault::Changing
        )
    }

    /// Whether the file is missing, or this process may not read it.
    pub fn is_gone(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        let gone = [NotFound, PermissionDenied, NotADirectory];
        matches!(self, FileFault::Unreadable(error) if gone.contains(&error.kind()))
    }

    /// Adds the path.
    pub fn of(self, path: &Path) -> Unusable {
        Unusable {
            text: format!("{} {self}", path.display()),
            may_pass: self.may_pass(),
            is_gone: self.is_gone(),
        }
    }
}

/// Why a file or its content cannot be used. The text has the path, and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    text: String,
    /// See [`FileFault::may_pass`].
    pub may_pass: bool,
    /// See [`FileFault::is_gone`].
    pub is_gone: bool,
}

impl Unusable {
    /// A mistake in the content of a file.
    pub fn content(text: String) -> Unusable {
        Unusable {
            text,
            may_pass: false,
            is_gone: false,
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Unusable> for String {
    fn from(unusable: Unusable) -> String {
        unusable.text
    }
}

/// The path `text`, relative to `base`.
///
/// # Errors
///
/// If `text` is empty or holds a NUL byte.
pub fn path(text: &str, base: &Path) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("is not a file name".into());
    }
    Ok(base.join(text))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
///
/// [`FileFault`].
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, FileFault> {
    let file = path.to_owned();
    within(path, PATIENCE, move |progress| {
        let mut content = Vec::new();
        fill(&mut content, &file, limit, |_| Ok(()), progress)?;
        Ok(content)
    })
}

/// Reads a secret file of at most `limit` bytes into memory that is zeroed on drop.
///
/// # Errors
///
/// [`FileFault`].
pub fn read_secret(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    read_secret_if(path, limit, |_| Ok(()))
}

/// Like [`read_secret`]; `accept` checks the file's metadata first, such as its mode and owner.
///
/// # Errors
///
/// [`FileFault`], or the error of `accept`.
pub fn read_secret_if<E>(
    path: &Path,
    limit: usize,
    accept: impl FnOnce(&Metadata) -> Result<(), E> + Send + 'static,
) -> Result<Zeroizing<Vec<u8>>, E>
where
    E: From<FileFault> + Send + 'static,
{
    let file = path.to_owned();
    within(path, PATIENCE, move |progress| {
        // Allocated in full: growing would leave copies that are not zeroed.
        let mut content = Zeroizing::new(Vec::with_capacity(limit + 1));
        fill(&mut content, &file, limit, accept, progress)?;
        Ok(content)
    })
}

/// Opens a file that is too large to be read at once.
///
/// # Errors
///
/// [`FileFault`].
pub fn open(path: &Path) -> Result<File, FileFault> {
    // Before opening, because that alone rewinds a tape or starts a watchdog.
    regular(path.metadata().map_err(FileFault::Unreadable)?.file_type())?;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_NONBLOCK | O_NOCTTY);
    let file = reserve::open(|| options.open(path)).map_err(FileFault::Unreadable)?;
    // Again on the open file, because the path may have been replaced since.
    regular(file.metadata().map_err(FileFault::Unreadable)?.file_type())?;
    Ok(file)
}

/// Checks that this process can create files in a directory. It creates none.
///
/// # Errors
///
/// Why the process cannot.
pub fn writable_directory(path: &Path) -> io::Result<()> {
    if !path.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let access = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    Ok(eaccess(path, access)?)
}

/// The mode of a secret file, if it is too open: the group may write it, or other users may read or
/// write it.
pub fn too_open(path: &Path) -> Option<u32> {
    mode(path).filter(|mode| mode & 0o027 != 0)
}

/// The mode of a file, if users other than its owner and its group may write it.
pub fn open_to_writers(path: &Path) -> Option<u32> {
    mode(path).filter(|mode| mode & 0o002 != 0)
}

/// `None` if the file is missing or the file system does not answer.
fn mode(path: &Path) -> Option<u32> {
    let file = path.to_owned();
    let metadata = within(path, PATIENCE, move |_| {
        file.metadata().map_err(FileFault::Unreadable)
    });
    Some(metadata.ok()?.permissions().mode() & 0o7777)
}

fn regular(kind: FileType) -> Result<(), FileFault> {
    let name = match kind {
        it if it.is_file() => return Ok(()),
        it if it.is_dir() => "a directory",
        it if it.is_fifo() => "a named pipe",
        it if it.is_socket() => "a socket",
        _ => "a device",
    };
    Err(FileFault::NotRegular(name))
}

/// Reads on a separate thread, because a thread that waits for a file system cannot be cancelled.
/// The read is given up after `patience` without progress.
pub(crate) fn within<T, E>(
    path: &Path,
    patience: Duration,
    read: impl FnOnce(&AtomicU64) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<FileFault> + Send + 'static,
{
    if given_up().contains(path) {
        return Err(FileFault::Silent.into());
    }
    let progress = Arc::new(AtomicU64::new(0));
    let (its_progress, its_path) = (Arc::clone(&progress), path.to_owned());
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("file-read".into())
        .spawn(move || {
            let content = read(&its_progress);
            reserve::refill();
            let mut given_up = given_up();
            // The caller gave up, but the file system is back: the next attempt may read again.
            if sender.send(content).is_err() {
                given_up.remove(&its_path);
            }
        })
        .map_err(FileFault::Unreadable)?;
    for _ in 0..MOST_WAITS {
        let before = progress.load(Ordering::Relaxed);
        match receiver.recv_timeout(patience) {
            Ok(content) => return content,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(FileFault::Silent.into()),
        }
        if progress.load(Ordering::Relaxed) == before {
            break;
        }
    }
    // Under the lock, the thread has either sent its result or will find the receiver dropped.
    let mut given_up = given_up();
    match receiver.try_recv() {
        Ok(content) => content,
        Err(_) => {
            given_up.insert(path.to_owned());
            drop(receiver);
            Err(FileFault::Silent.into())
        }
    }
}

fn fill<E: From<FileFault>>(
    content: &mut Vec<u8>,
    path: &Path,
    limit: usize,
    accept: impl FnOnce(&Metadata) -> Result<(), E>,
    progress: &AtomicU64,
) -> Result<(), E> {
    let file = open(path)?;
    let before = file.metadata().map_err(FileFault::Unreadable)?;
    accept(&before)?;
    if before.len() > limit as u64 {
        return Err(FileFault::TooLarge(limit).into());
    }
    // The file may have grown since.
    let mut rest = (&file).take(limit as u64 + 1);
    loop {
        let read = (&mut rest).take(CHUNK).read_to_end(content);
        match read.map_err(FileFault::Unreadable)? {
            0 => break,
            some => progress.fetch_add(some as u64, Ordering::Relaxed),
        };
    }
    if content.len() > limit {
        return Err(FileFault::TooLarge(limit).into());
    }
    let after = file.metadata().map_err(FileFault::Unreadable)?;
    if before.modified().ok() != after.modified().ok() || before.len() != after.len() {
        return Err(FileFault::Changing.into());
    }
    Ok(())
}

/// The files with a hung read. They are not read again until that read ends, because each attempt
/// would leave one more hung thread. The configuration's file names bound the set.
fn given_up() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    static GIVEN_UP: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A limit, printed in its largest whole unit.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    fn fault(path: &Path) -> String {
        read(path, 16).unwrap_err().to_string()
    }

    #[test]
    fn a_regular_file_is_read_also_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "0123456789abcdef").unwrap();
        symlink("file", &link).unwrap();
        for path in [&file, &link] {
            assert_eq!(read(path, 16).unwrap(), b"0123456789abcdef");
            assert_eq!(&**read_secret(path, 16).unwrap(), b"0123456789abcdef");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_called_by_its_name_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, socket, link] = ["pipe", "socket", "link"].map(|name| folder.path().join(name));
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let _listener = UnixListener::bind(&socket).unwrap();
        symlink("pipe", &link).unwrap();
        for (path, name) in [
            (&*pipe, "a named pipe"),
            (&link, "a named pipe"),
            (&socket, "a socket"),
            (folder.path(), "a directory"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            assert_eq!(fault(path), format!("is {name}, not a regular file"));
            assert!(open(path).is_err());
        }
    }

    #[test]
    fn a_file_beyond_its_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "0123456789abcdef.").unwrap();
        assert_eq!(fault(&file), "is larger than 16 bytes");
        assert!(!read(&file, 16).unwrap_err().may_pass());
        assert_eq!(
            FileFault::TooLarge(64 << 20).to_string(),
            "is larger than 64 MiB"
        );
    }

    #[test]
    fn a_missing_file_may_come_back_and_a_pipe_may_not_become_a_file_by_itself() {
        let missing = read(Path::new("/no/such/file"), 16).unwrap_err();
        assert!(missing.may_pass() && missing.is_gone());
        let device = read(Path::new("/dev/zero"), 16).unwrap_err();
        assert!(!device.may_pass() && !device.is_gone());
        let full = FileFault::Unreadable(io::Error::from_raw_os_error(nix::libc::EMFILE));
        assert!(full.may_pass() && !full.is_gone());
    }

    #[test]
    fn a_file_that_is_refused_by_what_it_is_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "secret").unwrap();
        let refused = read_secret_if(&file, 16, |_| Err(FileFault::Changing));
        assert!(matches!(refused, Err(FileFault::Changing)));
    }

    #[test]
    fn a_file_system_that_does_not_answer_is_given_up_and_tried_again_when_it_does() {
        const SHORT: Duration = Duration::from_millis(50);
        let path = Path::new("/on/a/file/system/that/hangs");
        let (answer, answers) = mpsc::channel::<()>();
        let read = |answers: mpsc::Receiver<()>| {
            within(path, SHORT, move |_| {
                let _ = answers.recv();
                Ok::<_, FileFault>("late")
            })
        };
        let fault = read(answers).unwrap_err();
        assert!(matches!(fault, FileFault::Silent) && fault.may_pass());
        // No second thread hangs.
        let again = within(path, SHORT, |_| Ok::<_, FileFault>("never asked"));
        assert!(matches!(again, Err(FileFault::Silent)));
        drop(answer);
        for _ in 0..1000 {
            if given_up().contains(path) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let now = within(path, Duration::from_secs(20), |_| {
            Ok::<_, FileFault>("in time")
        });
        assert_eq!(now.unwrap(), "in time");
    }

    #[test]
    fn a_large_file_that_comes_slowly_is_waited_for() {
        let read = within(Path::new("/slow"), Duration::from_millis(200), |progress| {
            for _ in 0..6 {
                thread::sleep(Duration::from_millis(80));
                progress.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, FileFault>("all of it")
        });
        assert_eq!(read.unwrap(), "all of it");
    }

    #[test]
    fn readers_at_the_same_time_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "content").unwrap();
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| assert_eq!(read(&file, 16).unwrap(), b"content"));
            }
        });
        assert!(!given_up().contains(&file));
    }
}
