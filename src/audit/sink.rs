//! The sink of lines: a file that is reopened when it is moved away, or standard output.

mod file;
mod rotation;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use self::file::{FileId, id, is_locked, open};
pub use self::rotation::Bounds;
use super::chain::ChainHead;
use super::tail;

/// Pause before a non-blocking descriptor is tried again.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(5);

/// The destination of the audit log.
pub struct Sink {
    name: String,
    out: Box<dyn Write + Send>,
    file: Option<Followed>,
    /// The last line may lack its end: a line feed goes first.
    mid_line: bool,
    /// The content of the file when it was first opened.
    found: Found,
    /// It is a regular file: a write ends in the page cache, and waits for no reader.
    is_file: bool,
    /// Holds the lock on the file: two processes that wrote to it would break each other's chain.
    lock: Option<File>,
}

/// A file known by its path, with its identity when it was opened.
struct Followed {
    path: PathBuf,
    opened: FileId,
    bounds: Bounds,
    /// Its size in bytes, as far as this process has written it.
    size: u64,
    /// Unix milliseconds.
    born: u64,
}

/// The content of a sink before this process wrote to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// The head of its chain.
    pub(super) head: Option<ChainHead>,
    /// Its last line lacks its end.
    pub(super) torn: bool,
}

/// The result of checking the sink before a write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prepared {
    /// The next line is the first in its file, or follows lines of others.
    pub(super) reopened: bool,
    /// The line before was cut off, and has been ended.
    pub(super) torn: bool,
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
    /// If standard output is closed, or is a device that swallows what is written to it
    /// ([`io::ErrorKind::InvalidInput`]).
    pub fn stdout() -> io::Result<Sink> {
        // A copy of the descriptor: `io::Stdout` would keep what a failed write left over.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        // A descriptor that was closed at the start is the null device now: the Rust runtime opens
        // it.
        if file::swallows(&out.metadata()?) {
            let why = "standard output is closed, or is the null device: every record would be lost. Name a file with \
                       audit.file, or connect standard output to a reader";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Sink::over("standard output", Box::new(out)))
    }

    /// A file, opened for appending; made with mode 0640 if it is not there. Its directory must
    /// exist. When the path is found deleted or replaced before a write, or within a second while
    /// nothing is written, it is opened anew.
    ///
    /// # Errors
    ///
    /// The error of the operating system, with the path.
    pub fn file(path: &Path, bounds: Bounds) -> io::Result<Sink> {
        let file = open(path)?;
        Ok(Sink {
            name: path.display().to_string(),
            found: Found {
                head: tail::head(path)?,
                torn: file.mid_line,
            },
            mid_line: file.mid_line,
            is_file: file.is_regular,
            lock: Some(file.out.try_clone()?),
            file: Some(Followed {
                path: path.to_owned(),
                opened: file.id,
                bounds,
                size: file.size,
                born: file.born,
            }),
            out: Box::new(file.out),
        })
    }

    /// Checks that [`Sink::file`] could open this path. It creates nothing.
    ///
    /// # Errors
    ///
    /// The reason why not, with the path.
    pub fn check(path: &Path) -> io::Result<()> {
        file::check(path)
    }

    /// Any writer, by a name for messages: for the demo, which shows its own records, and for
    /// tests. It must not buffer, or records count as written that are not.
    pub fn over(name: &str, out: Box<dyn Write + Send>) -> Sink {
        Sink {
            name: name.to_owned(),
            out,
            file: None,
            mid_line: false,
            found: Found::default(),
            is_file: false,
            lock: None,
        }
    }

    /// Takes the file for this process alone, and reads where its chain stands now; `false` while
    /// another process has it. Not before that may anything be written.
    ///
    /// # Errors
    ///
    /// The error of the operating system.
    pub(super) fn claim(&mut self) -> io::Result<bool> {
        if self.file.is_none() {
            return Ok(true);
        }
        match self.follow() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
            outcome => outcome?,
        };
        let (Some(lock), Some(file)) = (&self.lock, &mut self.file) else {
            return Ok(true);
        };
        if !is_locked(lock)? {
            return Ok(false);
        }
        // Another may have written since it was opened.
        file.size = lock.metadata()?.len();
        self.mid_line = file.size > 0 && !tail::ends_a_line(&file.path);
        self.found = Found {
            head: tail::head(&file.path)?,
            torn: self.mid_line,
        };
        Ok(true)
    }

    /// The content of the file when it was first opened; nothing for a pipe.
    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Whether writes go to a regular file.
    pub(super) fn is_file(&self) -> bool {
        self.is_file
    }

    /// Its name for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes sure that the next lines can be written: the file is in its place and within its
    /// bounds, at `wall_ms` (Unix milliseconds), and the last line is ended.
    ///
    /// # Errors
    ///
    /// The error of the operating system.
    pub(super) fn prepare(&mut self, wall_ms: u64) -> io::Result<Prepared> {
        // First: a file that is gone cannot be put aside.
        let mut reopened = self.follow()?;
        if self.put_aside(wall_ms)? {
            reopened |= self.follow()?;
        }
        let torn = std::mem::take(&mut self.mid_line);
        if torn {
            // A line that lacked only its line feed must not become whole: its number is used
            // again.
            write_fully(&mut self.out, b" \n").map_err(|torn| {
                self.mid_line = true;
                torn.error
            })?;
        }
        Ok(Prepared { reopened, torn })
    }

    /// Hands whole lines to the operating system, after [`Sink::prepare`].
    ///
    /// # Errors
    ///
    /// [`Torn`]. The next lines then start on a fresh line; a reader may find an empty one.
    pub(super) fn write_lines(&mut self, lines: &[u8]) -> Result<(), Torn> {
        let outcome = write_fully(&mut self.out, lines);
        self.mid_line |= outcome.is_err();
        if let Some(file) = &mut self.file {
            let written = outcome
                .as_ref()
                .map_or_else(|torn| torn.written, |()| lines.len());
            file.size += written as u64;
        }
        outcome
    }

    /// Opens the path anew if another file, or none, is there now: writes to a deleted file would
    /// be lost. Whether it did.
    fn follow(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        let in_place = fs::metadata(&file.path).is_ok_and(|found| id(&found) == file.opened);
        if !in_place {
            let opened = open(&file.path)?;
            if !is_locked(&opened.out)? {
                let why = "another process writes to it";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
            }
            self.lock = Some(opened.out.try_clone()?);
            (file.opened, file.size, file.born) = (opened.id, opened.size, opened.born);
            (self.out, self.mid_line) = (Box::new(opened.out), opened.mid_line);
        }
        Ok(!in_place)
    }

    /// Puts the file aside if it has reached its bounds. Whether it did.
    fn put_aside(&mut self, wall_ms: u64) -> io::Result<bool> {
        match &self.file {
            Some(file) if file.bounds.reached(file.size, file.born, wall_ms) => {
                rotation::put_aside(&file.path, file.bounds).map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
impl Sink {
    /// Passes for a regular file.
    pub(super) fn taken_for_a_file(self) -> Sink {
        Sink {
            is_file: true,
            ..self
        }
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
