//! Watches files by `stat`, twice a second, and reports when one of them may have changed: written
//! in place, replaced by a rename, deleted and made again, or reached by another symlink
//! (Kubernetes swaps `..data`).
//!
//! Polling is the one way that works on every file system: network file systems send no change
//! messages. A `stat` costs microseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Time between two polls of the files. A revocation counts within two seconds of the write: the
/// sum of this interval, [`MAX_QUIETS`] times [`QUIET`], and the time to read.
const POLL: Duration = Duration::from_millis(500);

/// How long the files must be unchanged before a change is reported, so that a writer can finish.
/// It also exceeds the resolution of file times (4 ms on Linux): a second write in the same tick as
/// the first one is over by then, and cannot hide behind an equal time.
const QUIET: Duration = Duration::from_millis(100);

/// After this many times [`QUIET`], a change is reported even if writes continue. An endless writer
/// must not delay a revocation.
const MAX_QUIETS: u32 = 10;

/// Longest wait for a file system to answer `stat` before the other files go on without it.
const PATIENCE: Duration = Duration::from_millis(200);

/// The pause before an unreadable file is read again although its state is unchanged. A descriptor
/// may be free again, or a disk may answer again. A change should count within two seconds.
pub const RETRY: Duration = Duration::from_millis(500);

/// A running watch. Dropping it ends its thread after the current call. Drop does not wait for that
/// call, because a hung disk must not delay a shutdown.
#[must_use = "dropping it ends the watch"]
pub struct Watch {
    /// Closing this end stops the thread, which holds the other end.
    _lifeline: Sender<()>,
    looks: Arc<AtomicU64>,
}

impl Watch {
    /// The number of polls so far, about two per second. The count stops while a call hangs.
    pub fn looks(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.looks)
    }
}

/// Watches files from a separate thread. The thread calls `on_change` once at the start and
/// whenever a file may have changed, one call at a time. A call may be spurious, so `on_change`
/// should compare the content. It returns the delay until the next call without a change; `None`
/// waits for a change.
///
/// `files` lists the files. It is called before each poll, because the content of a file may name
/// others. A hung file system delays only its own files.
///
/// # Errors
///
/// A thread cannot be started.
pub fn watch(
    files: impl Fn() -> Vec<PathBuf> + Send + 'static,
    on_change: impl FnMut() -> Option<Duration> + Send + 'static,
) -> io::Result<Watch> {
    start(files, POLL, FileState::of, on_change)
}

fn start(
    files: impl Fn() -> Vec<PathBuf> + Send + 'static,
    interval: Duration,
    stat: fn(&Path) -> FileState,
    mut on_change: impl FnMut() -> Option<Duration> + Send + 'static,
) -> io::Result<Watch> {
    let (lifeline, end) = channel();
    let goes_on = move |pause| end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout);
    let mut observer = Observer::start(stat)?;
    let looks = Arc::new(AtomicU64::new(0));
    let looked = Arc::clone(&looks);
    thread::Builder::new()
        .name("file-watch".into())
        .spawn(move || {
            // Unlike every state that is found: so the first look is a change.
            let mut told = None;
            let mut retry: Option<Duration> = None;
            loop {
                let mut found = observer.look(files());
                looked.fetch_add(1, Ordering::Relaxed);
                if retry == Some(Duration::ZERO) || told.as_ref() != Some(&found) {
                    for _ in 0..MAX_QUIETS {
                        if !goes_on(QUIET) {
                            return;
                        }
                        let before = std::mem::replace(&mut found, observer.look(files()));
                        if found == before {
                            break;
                        }
                    }
                    // Stored before the call: if a file changes during the read, the next poll
                    // finds another state.
                    told = Some(found);
                    retry = on_change();
                }
                let pause = retry.map_or(interval, |left| left.min(interval));
                retry = retry.map(|left| left.saturating_sub(pause));
                if !goes_on(pause) {
                    return;
                }
            }
        })?;
    Ok(Watch {
        _lifeline: lifeline,
        looks,
    })
}

/// Reads the states of files on separate threads, because `stat` hangs on a hung file system. A
/// hung file keeps its thread and its last state. There is at most one thread per hung file and one
/// for all others.
struct Observer {
    stat: fn(&Path) -> FileState,
    requests: Sender<PathBuf>,
    /// For the threads, of which each request reaches one.
    queue: Arc<Mutex<Receiver<PathBuf>>>,
    answers: (Sender<FileAnswer>, Receiver<FileAnswer>),
    threads: usize,
    /// Files that were asked for and have not answered yet.
    pending: BTreeSet<PathBuf>,
    states: BTreeMap<PathBuf, FileState>,
}

type FileAnswer = (PathBuf, FileState);

impl Observer {
    fn start(stat: fn(&Path) -> FileState) -> io::Result<Observer> {
        let (requests, queue) = channel();
        let mut observer = Observer {
            stat,
            requests,
            queue: Arc::new(Mutex::new(queue)),
            answers: channel(),
            threads: 0,
            pending: BTreeSet::new(),
            states: BTreeMap::new(),
        };
        observer.add_thread()?;
        Ok(observer)
    }

    /// One for each pending file, and one that is free.
    fn add_threads(&mut self) -> io::Result<()> {
        while self.threads <= self.pending.len() {
            self.add_thread()?;
        }
        Ok(())
    }

    /// The thread ends with the observer, or when the call that it hangs in does.
    fn add_thread(&mut self) -> io::Result<()> {
        let (stat, queue, answers) = (self.stat, Arc::clone(&self.queue), self.answers.0.clone());
        thread::Builder::new()
            .name("file-stat".into())
            .spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(file) = next else { return };
                    let state = stat(&file);
                    if answers.send((file, state)).is_err() {
                        return;
                    }
                }
            })?;
        self.threads += 1;
        Ok(())
    }

    /// The states of these files. A hung file has its last known state, if any.
    fn look(&mut self, files: Vec<PathBuf>) -> BTreeMap<PathBuf, FileState> {
        let hanging = self.pending.len();
        for file in &files {
            if self.pending.insert(file.clone()) {
                // Cannot fail: `self` keeps the queue open.
                let _ = self.requests.send(file.clone());
            }
        }
        while self.pending.len() > hanging {
            if let Ok((file, state)) = self.answers.1.recv_timeout(PATIENCE) {
                self.pending.remove(&file);
                self.states.insert(file, state);
                continue;
            }
            // Every pending file has its own thread by now, so the silent ones hang.
            if self.threads > self.pending.len() || self.add_threads().is_err() {
                break;
            }
        }
        let listed: BTreeSet<PathBuf> = files.into_iter().collect();
        self.states.retain(|file, _| listed.contains(file));
        self.states.clone()
    }
}

/// The state of a file, to detect a change without reading it. Symlinks are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    Missing,
    Present {
        device: u64,
        inode: u64,
        length: u64,
        modified: (i64, i64),
        /// Nobody can set it back, unlike the time of modification.
        changed: (i64, i64),
    },
}

impl FileState {
    pub(crate) fn of(file: &Path) -> FileState {
        let Ok(metadata) = file.metadata() else {
            return FileState::Missing;
        };
        FileState::Present {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The last error of attempts that are repeated, so that the log has it once.
#[derive(Debug, Default)]
pub struct Complaint(Mutex<Option<String>>);

impl Complaint {
    /// Notes an error; whether it differs from the last one.
    pub fn is_new(&self, text: &str) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.as_deref() != Some(text);
        *last = Some(text.to_owned());
        is_new
    }

    /// Notes a success; whether it ends an error.
    pub fn is_over(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.take().is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
mod tests;
