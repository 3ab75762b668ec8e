//! Where lines go: a file that is followed when it is moved away, or standard output.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Owner reads and writes, the group reads (log shippers do), nobody else: records name machines
/// and paths.
const MODE: u32 = 0o640;

/// Pause before a descriptor that somebody set to non-blocking is tried again.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(5);

/// Where the audit log goes.
pub struct Sink {
    name: String,
    out: Box<dyn Write + Send>,
    file: Option<Followed>,
    /// The last line may lack its end: a line feed goes first.
    mid_line: bool,
}

/// A file known by its path, and which one it was when it was opened.
struct Followed {
    path: PathBuf,
    opened: FileId,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

/// A write that failed.
#[derive(Debug)]
pub(super) struct Torn {
    /// How many bytes of the lines had been taken before.
    pub(super) written: usize,
    pub(super) error: io::Error,
}

impl Sink {
    /// Standard output, unbuffered.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn stdout() -> io::Result<Sink> {
        // A copy of the descriptor: `io::Stdout` would keep what a failed write left over.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Sink::over("standard output", Box::new(out)))
    }

    /// A file, opened for appending; made with mode 0640 if it is not there. Its directory must
    /// exist. When the path is found deleted or replaced before a write, or within a second while
    /// nothing is written, it is opened anew.
    ///
    /// # Errors
    ///
    /// What the operating system says, with the path.
    pub fn file(path: &Path) -> io::Result<Sink> {
        let (out, opened, mid_line) = open(path)?;
        Ok(Sink {
            name: path.display().to_string(),
            out: Box::new(out),
            file: Some(Followed {
                path: path.to_owned(),
                opened,
            }),
            mid_line,
        })
    }

    /// Any writer, by a name for messages: for the demo, which shows its own records, and for
    /// tests. It must not buffer, or records count as written that are not.
    pub fn over(name: &str, out: Box<dyn Write + Send>) -> Sink {
        Sink {
            name: name.to_owned(),
            out,
            file: None,
            mid_line: false,
        }
    }

    /// What to call it in a message.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Hands whole lines to the operating system. With no lines it only makes sure that the next
    /// ones can be written: the file is in its place and the last line is ended.
    ///
    /// # Errors
    ///
    /// [`Torn`]. The next call then starts on a fresh line; a reader may find an empty one.
    pub(super) fn write_lines(&mut self, lines: &[u8]) -> Result<(), Torn> {
        let before = |error| Torn { written: 0, error };
        self.follow().map_err(before)?;
        if self.mid_line {
            write_fully(&mut self.out, b"\n").map_err(|torn| before(torn.error))?;
            self.mid_line = false;
        }
        write_fully(&mut self.out, lines).inspect_err(|_| self.mid_line = true)
    }

    /// Opens the path anew if another file, or none, is there now: whoever writes on into a
    /// deleted file only seems to keep a log.
    fn follow(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let in_place = fs::metadata(&file.path).is_ok_and(|found| id(&found) == file.opened);
        if !in_place {
            let (out, opened, mid_line) = open(&file.path)?;
            (self.out, file.opened, self.mid_line) = (Box::new(out), opened, mid_line);
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, FileId, bool)> {
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
    let mid_line = metadata.is_file() && metadata.len() > 0 && !ends_a_line(path);
    Ok((file, id(&metadata), mid_line))
}

/// Whether the last byte is a line feed. If the file cannot be read, it may not be: a power loss
/// or a full disk may have cut off the last line of the process before.
fn ends_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        Ok(byte[0])
    };
    last().is_ok_and(|byte| byte == b'\n')
}

fn id(metadata: &Metadata) -> FileId {
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// `write_all` that tells how far it came and bears with a non-blocking descriptor.
fn write_fully(out: &mut dyn Write, bytes: &[u8]) -> Result<(), Torn> {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => {
                let error = io::ErrorKind::WriteZero.into();
                return Err(Torn { written, error });
            }
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(WOULD_BLOCK_PAUSE);
            }
            Err(error) => return Err(Torn { written, error }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
