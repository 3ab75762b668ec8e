//! Tells when one of several files may have changed, however that was done: written in place, replaced by a rename,
//! deleted and made again, or reached by another symlink (Kubernetes swaps `..data`).
//!
//! What is watched are directories, because a rename changes a directory and not the file that was there. The
//! kernel's messages only wake the thread early: on network file systems there are none, so the files'
//! states are also compared every few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How often the files are looked at without a message: the longest a revocation can go unnoticed. A `stat` costs
/// microseconds.
const POLL: Duration = Duration::from_secs(1);

/// How long the file must be silent before a change is announced, so that a writer can finish. It also keeps a
/// busy directory from costing more than ten looks a second.
const QUIET: Duration = Duration::from_millis(100);

/// After this many times [`QUIET`] a change is announced in spite of noise: somebody who writes without end must
/// not keep a revocation away.
const MAX_QUIETS: u32 = 10;

/// When to try again to read a file that could not be read, though nothing about it seems to change: a descriptor is
/// free again, a disk answers again. Well within the two seconds in which a change should count.
pub const RETRY: Duration = Duration::from_millis(500);

/// Most symlinks followed, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// What a directory tells of. Not that a file is being written: a log beside the files would tell of each of its
/// lines, and each message wakes this thread. That a writer is done is told by its closing; one that keeps its
/// file open is found by the poll.
const MESSAGES: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF);

/// A running watch. Dropping it ends its thread, after the call that is under way, and does not
/// wait for that: a call that hangs on a stuck disk must not hold up a shutdown.
#[must_use = "dropping it ends the watch"]
pub struct Watch {
    /// Its other end is the thread's, which sees it closed.
    _lifeline: UnixStream,
    looks: Arc<AtomicU64>,
}

impl Watch {
    /// How often it has looked at its files so far: about once a second. One that does not go on waits for a file
    /// system, or in a call.
    pub fn looks(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.looks)
    }
}

/// Watches files from one thread of its own and calls `on_change` there, one call at a time: once at the start, and
/// whenever one of them may have changed. A call may be for nothing, so it should compare what it finds. It says when
/// to call again though nothing seems to have changed; `None`: not before something does.
///
/// `files` names them; it is asked again after each call, because what a file says may name others.
///
/// # Errors
///
/// The thread cannot be started. That the kernel sends no messages is no error: then there is the poll.
pub fn watch(
    files: impl Fn() -> Vec<PathBuf> + Send + 'static,
    on_change: impl FnMut() -> Option<Duration> + Send + 'static,
) -> io::Result<Watch> {
    start(files, POLL, true, on_change)
}

fn start(
    files: impl Fn() -> Vec<PathBuf> + Send + 'static,
    interval: Duration,
    messages: bool,
    mut on_change: impl FnMut() -> Option<Duration> + Send + 'static,
) -> io::Result<Watch> {
    let list = move || -> BTreeSet<PathBuf> { files().into_iter().map(absolute).collect() };
    let (lifeline, end) = UnixStream::pair()?;
    let mut directories = Directories::new(messages);
    let mut files = list();
    directories.follow(&files);
    let mut seen = Stamp::of_all(&files);
    let looks = Arc::new(AtomicU64::new(0));
    let looked = Arc::clone(&looks);
    thread::Builder::new()
        .name("file-watch".into())
        .spawn(move || {
            // What was written before the watch began is read once, too.
            let mut again = Some(Duration::ZERO);
            while let Some(mut named) = directories.settle(&end, again.unwrap_or(interval)) {
                looked.fetch_add(1, Ordering::Relaxed);
                loop {
                    directories.follow(&files);
                    // Before the call: what is written while a file is being read differs from this, and counts.
                    let now = Stamp::of_all(&files);
                    if named || again.is_some() || now != seen {
                        seen = now;
                        again = on_change();
                    }
                    let next = list();
                    if next == files {
                        break;
                    }
                    // The new ones were read before they were watched.
                    (files, named) = (next, true);
                }
            }
        })?;
    Ok(Watch {
        _lifeline: lifeline,
        looks,
    })
}

/// The last thing that went wrong, so that attempts that are repeated say it once.
#[derive(Debug, Default)]
pub struct Complaint(Mutex<Option<String>>);

impl Complaint {
    /// Whether this is another one than the last time.
    pub fn is_new(&self, text: &str) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.as_deref() != Some(text);
        *last = Some(text.to_owned());
        is_new
    }

    /// All is well; whether it was not before.
    pub fn is_over(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.take().is_some()
    }
}

fn absolute(file: PathBuf) -> PathBuf {
    std::path::absolute(&file).unwrap_or(file)
}

/// The directories whose changes can change what the files' paths lead to.
struct Directories {
    /// Without it there is the poll alone.
    inotify: Option<Inotify>,
    /// By their real path, with device and inode: a directory made again under its old name is another one.
    armed: BTreeMap<PathBuf, ((u64, u64), WatchDescriptor)>,
    /// The files, and the links on the way to them.
    names: BTreeSet<PathBuf>,
}

/// What the kernel has told of.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Something in one of the directories.
    any: bool,
    /// Something by the name of one of the files, or of a link on the way to it.
    named: bool,
}

impl Directories {
    fn new(messages: bool) -> Directories {
        let inotify = messages.then(Inotify::init).and_then(|made| {
            made.inspect_err(|error| {
                tracing::warn!(%error, "no file change messages; the files are polled");
            })
            .ok()
        });
        Directories {
            inotify,
            armed: BTreeMap::new(),
            names: BTreeSet::new(),
        }
    }

    /// Waits for a message, no longer than `interval`, and then lets the writer finish. Whether messages named a
    /// file; `None` where the watch is over.
    fn settle(&mut self, end: &UnixStream, interval: Duration) -> Option<bool> {
        let told = self.wait(end, interval)?;
        let mut named = told.named;
        if told.any {
            for _ in 0..MAX_QUIETS {
                // All of it: a message a microsecond must not mean a look a microsecond.
                thread::sleep(QUIET);
                let again = self.wait(end, Duration::ZERO)?.named;
                named |= again;
                if !again {
                    break;
                }
            }
        }
        Some(named)
    }

    /// What is told within `patience`; `None` where the watch is over.
    fn wait(&mut self, end: &UnixStream, patience: Duration) -> Option<Told> {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let is_over = {
            let mut polled = vec![PollFd::new(end.as_fd(), PollFlags::POLLIN)];
            let messages = self.inotify.as_ref().map(AsFd::as_fd);
            polled.extend(messages.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            // An interruption is a wait that was short.
            let _ = poll(&mut polled, patience);
            polled[0].any().unwrap_or(false)
        };
        (!is_over).then(|| self.read())
    }

    /// Takes all messages that are there.
    fn read(&mut self) -> Told {
        let mut told = Told::default();
        let Some(inotify) = &mut self.inotify else {
            return told;
        };
        let mut buffer = [0; 4096];
        // Fails where no message is left.
        while let Ok(events) = inotify.read_events(&mut buffer) {
            for event in events {
                told.any = true;
                let of = self.armed.iter().find(|(_, (_, wd))| *wd == event.wd);
                told.named |= match (of, event.name) {
                    (Some((directory, _)), Some(name)) => {
                        self.names.contains(&directory.join(name))
                    }
                    _ => event.mask.contains(EventMask::Q_OVERFLOW),
                };
            }
        }
        told
    }

    /// Watches the directories on the way to the files as they lead now, and no others.
    fn follow(&mut self, files: &BTreeSet<PathBuf>) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        self.names = files.iter().flat_map(|file| real_names(file)).collect();
        let wanted: BTreeMap<PathBuf, (u64, u64)> = self
            .names
            .iter()
            .filter_map(|name| name.parent())
            .filter_map(|directory| {
                let metadata = directory.metadata().ok()?;
                Some((directory.to_owned(), (metadata.dev(), metadata.ino())))
            })
            .collect();

        self.armed.retain(|directory, (identity, descriptor)| {
            let keep = wanted.get(directory) == Some(identity);
            if !keep {
                // It fails for a directory that is gone, and then there is nothing left to end.
                let _ = inotify.watches().remove(descriptor.clone());
            }
            keep
        });
        for (directory, identity) in wanted {
            // What cannot be watched is left to the poll, and tried again then.
            if !self.armed.contains_key(&directory)
                && let Ok(descriptor) = inotify.watches().add(&directory, MESSAGES)
            {
                self.armed.insert(directory, (identity, descriptor));
            }
        }
    }
}

/// The file and every file-level symlink on the way to what it is, each in its real directory.
fn real_names(file: &Path) -> BTreeSet<PathBuf> {
    let mut names = BTreeSet::new();
    let mut next = Some(file.to_owned());
    while let Some(path) = next.take()
        && names.len() < MAX_LINKS
    {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            break;
        };
        let Ok(directory) = parent.canonicalize() else {
            break;
        };
        next = path.read_link().ok().map(|target| directory.join(target));
        names.insert(directory.join(name));
    }
    names
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    Missing,
    File {
        device: u64,
        inode: u64,
        length: u64,
        modified: (i64, i64),
        /// Nobody can set it back, unlike the time of modification.
        changed: (i64, i64),
    },
}

impl Stamp {
    fn of_all(files: &BTreeSet<PathBuf>) -> Vec<Stamp> {
        files.iter().map(|file| Stamp::of(file)).collect()
    }

    fn of(file: &Path) -> Stamp {
        let Ok(metadata) = file.metadata() else {
            return Stamp::Missing;
        };
        Stamp::File {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
mod tests;
