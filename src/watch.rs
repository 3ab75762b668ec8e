//! Tells when one of several files may have changed, however that was done: written in place, replaced by a rename,
//! deleted and made again, or reached by another symlink (Kubernetes swaps `..data`).
//!
//! What is watched are directories, because a rename changes a directory and not the file that was there. The
//! kernel's messages only wake the thread early: on network file systems there are none, so the files'
//! states are also compared every few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

/// How often the file is looked at without a message: the longest a revocation can go unnoticed. A `stat` costs
/// microseconds.
const POLL: Duration = Duration::from_secs(5);

/// How long the file must be silent before a change is announced, so that a writer can finish. It also keeps a
/// busy directory from costing more than ten looks a second.
const QUIET: Duration = Duration::from_millis(100);

/// After this many times [`QUIET`] a change is announced in spite of noise: somebody who writes without end must
/// not keep a revocation away.
const MAX_QUIETS: u32 = 10;

/// Most symlinks followed, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// A running watch. Dropping it ends its thread, after the call that is under way, and does not
/// wait for that: a call that hangs on a stuck disk must not hold up a shutdown.
#[must_use = "dropping it ends the watch"]
pub struct Watch {
    signals: Arc<Signals>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.signals.send(|pending| pending.stop = true);
    }
}

/// Watches files from one thread of its own and calls `on_change` there, one call at a time, whenever one of them
/// may have changed. A call may be for nothing, so it should compare what it finds.
///
/// `files` names them; it is asked again after each call, because what a file says may name others.
///
/// A change after `watch` returns leads to a call; so watch first, then load for the first time.
///
/// # Errors
///
/// The thread cannot be started. That the kernel sends no messages is no error: then there is the poll.
pub fn watch(
    files: impl Fn() -> Vec<PathBuf> + Send + 'static,
    on_change: impl FnMut() + Send + 'static,
) -> io::Result<Watch> {
    start(files, POLL, true, on_change)
}

fn start(
    files: impl Fn() -> Vec<PathBuf> + Send + 'static,
    poll: Duration,
    messages: bool,
    mut on_change: impl FnMut() + Send + 'static,
) -> io::Result<Watch> {
    let list = move || -> BTreeSet<PathBuf> { files().into_iter().map(absolute).collect() };
    let signals = Arc::new(Signals::default());
    let mut directories = Directories::new(messages, &signals);
    let mut files = list();
    directories.follow(&files);
    let mut seen = Stamp::of_all(&files);
    thread::Builder::new().name("file-watch".into()).spawn({
        let signals = Arc::clone(&signals);
        move || {
            while signals.wait(poll) {
                let mut named = signals.settle();
                loop {
                    directories.follow(&files);
                    // Before the call: what is written while a file is being read differs from this, and counts.
                    let now = Stamp::of_all(&files);
                    if named || now != seen {
                        seen = now;
                        on_change();
                    }
                    let next = list();
                    if next == files {
                        break;
                    }
                    // The new ones were read before they were watched.
                    (files, named) = (next, true);
                }
            }
        }
    })?;
    Ok(Watch { signals })
}

fn absolute(file: PathBuf) -> PathBuf {
    std::path::absolute(&file).unwrap_or(file)
}

/// What has happened since the thread last looked.
#[derive(Default)]
struct Signals {
    pending: Mutex<Pending>,
    wake: Condvar,
}

#[derive(Default)]
struct Pending {
    /// Something in one of the directories.
    any: bool,
    /// Something by the name of one of the files, or of a link on the way to it.
    named: bool,
    stop: bool,
}

impl Signals {
    fn send(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending());
        self.wake.notify_one();
    }

    /// Waits for a message, no longer than `poll`. `false` means stop.
    fn wait(&self, poll: Duration) -> bool {
        let idle = |pending: &mut Pending| !(pending.any || pending.stop);
        let waited = self.wake.wait_timeout_while(self.pending(), poll, idle);
        let (mut pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
        pending.any = false;
        !pending.stop
    }

    /// Lets the writer finish. Whether the messages named the file.
    fn settle(&self) -> bool {
        let mut named = false;
        for _ in 0..MAX_QUIETS {
            thread::sleep(QUIET);
            let again = std::mem::take(&mut self.pending().named);
            named |= again;
            if !again {
                break;
            }
        }
        named
    }

    /// Three flags cannot be left half set, so a panic elsewhere changes nothing about them.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directories whose changes can change what the files' paths lead to.
struct Directories {
    watcher: Option<RecommendedWatcher>,
    /// By their real path, with device and inode: a directory made again under its old name is another one.
    armed: BTreeMap<PathBuf, (u64, u64)>,
    names: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Directories {
    fn new(messages: bool, signals: &Arc<Signals>) -> Directories {
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let mut watcher = None;
        if messages {
            let (signals, names) = (Arc::clone(signals), Arc::clone(&names));
            let tell = move |message| pass_on(message, &names, &signals);
            watcher = notify::recommended_watcher(tell)
                .inspect_err(|error| {
                    tracing::warn!(%error, "no file change messages; the file is polled");
                })
                .ok();
        }
        Directories {
            watcher,
            armed: BTreeMap::new(),
            names,
        }
    }

    /// Watches the directories on the way to the files as they lead now, and no others.
    fn follow(&mut self, files: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let names: BTreeSet<PathBuf> = files.iter().flat_map(|file| real_names(file)).collect();
        let wanted: BTreeMap<PathBuf, (u64, u64)> = names
            .iter()
            .filter_map(|name| name.parent())
            .filter_map(|directory| {
                let metadata = directory.metadata().ok()?;
                Some((directory.to_owned(), (metadata.dev(), metadata.ino())))
            })
            .collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;

        self.armed.retain(|directory, identity| {
            let keep = wanted.get(directory) == Some(identity);
            if !keep {
                // It fails for a directory that is gone, and then there is nothing left to end.
                let _ = watcher.unwatch(directory);
            }
            keep
        });
        for (directory, identity) in wanted {
            // What cannot be watched is left to the poll, and tried again then.
            if !self.armed.contains_key(&directory)
                && watcher
                    .watch(&directory, RecursiveMode::NonRecursive)
                    .is_ok()
            {
                self.armed.insert(directory, identity);
            }
        }
    }
}

/// From the kernel to the thread. A message that says that messages were lost counts as one about the file.
fn pass_on(message: notify::Result<Event>, names: &Mutex<BTreeSet<PathBuf>>, signals: &Signals) {
    let named = match message {
        Ok(event) if is_mere_reading(event.kind) => return,
        Ok(event) if event.need_rescan() => true,
        Ok(event) => {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            event.paths.iter().any(|path| names.contains(path))
        }
        Err(_) => true,
    };
    signals.send(|pending| {
        pending.any = true;
        pending.named |= named;
    });
}

/// Our own reading must not look like a change.
fn is_mere_reading(kind: EventKind) -> bool {
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    kind.is_access() && kind != written
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
