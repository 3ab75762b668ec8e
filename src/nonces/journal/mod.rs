//! Nonces that outlive the process: in memory, and in a journal before a request passes.
//!
//! Three things carry the argument of [`countersign_core::replay`] across a restart:
//!
//! - Segments of records, one record for each accepted claim. The record is written before the
//!   claim succeeds, and not flushed: it survives the process, but not power loss.
//! - The reservation, synchronised to disk: a floor that forgotten claims lie under, a bound R
//!   that what was accepted lies under, and F for the few claims stamped beyond R, which are
//!   synchronised one by one. It names the segments too, so that a missing one is missed.
//! - The lock on the directory: one process at a time keeps the journal.
//!
//! The first thing in a new directory is a reservation that names no segment. It is replaced by one
//! that does before anything is accepted, so a first start that fails, or is killed at any point,
//! leaves either a directory of which it is certain that nothing was accepted, or all of the above.
//!
//! A start that finds all of it goes on as if nothing had happened. Where records may be missing
//! it raises the floor to R, or to R and F, and refuses what lies under it until time has passed
//! it; where not even the reservation is left, to the end of the window. See [`recover`].

mod folder;
mod record;
mod recover;
mod reservation;
mod segment;
mod segment_name;
mod segment_writer;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod worker;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::warn;

use self::folder::Folder;
use self::reservation::Reservation;
use self::segment_writer::{SegmentWriter, Unwritten, WrittenRecord};
use self::worker::JournalWorker;
use super::memory::MemoryNonces;
use super::quota::NonceQuotas;
use countersign_client::clock::Clock;
use countersign_core::replay::{Claim, ClaimError, NonceStore, Window};

/// A [`NonceStore`] that forgets nothing when its process ends, in whatever way.
///
/// Until it holds the directory's lock and has read what is there, while the disk does not take
/// its records, and while the floor is ahead of the clock, it refuses with
/// [`ClaimError::Unavailable`]. All of these end by themselves.
#[derive(Debug)]
pub struct JournaledNonces {
    shared: Arc<JournalState>,
    commands: SyncSender<WorkerCommand>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// The state that requests and the worker share.
#[derive(Debug)]
struct JournalState {
    clock: Clock,
    /// Set once the journal has been read.
    opened: OnceLock<OpenJournal>,
    /// Why the worker cannot work, or, before the journal is open, what it waits for.
    trouble: Mutex<Option<String>>,
    /// When the worker last went round, in milliseconds of `mono`.
    beat: AtomicU64,
}

#[derive(Debug)]
struct OpenJournal {
    memory: MemoryNonces,
    writer: Mutex<SegmentWriter>,
    /// The last record could not be written.
    failing: AtomicBool,
}

/// A command to the worker.
#[derive(Debug)]
enum WorkerCommand {
    /// Flush a record that is stamped beyond the reservation.
    Synchronise {
        file: Arc<File>,
        stamp: u64,
        done: oneshot::Sender<()>,
    },
    Close,
}

/// Seconds a client is told to wait while the journal cannot be written, or is not read yet.
const RETRY: u32 = 1;

/// Requests stamped beyond the reservation that may wait for the disk at once. They come from
/// machines whose clock is far ahead; more are refused.
const WAITING: usize = 1024;

/// Longest wait for the disk, of a request that is stamped beyond the reservation.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a request lets others run while another one writes, which takes a microsecond, and
/// how often it then looks again after [`PAUSE`]: past that the write is stuck, and no more
/// threads shall be.
const YIELDS: u32 = 32;
const PAUSES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// How often, [`PAUSE`] apart, the end looks whether the worker has ended: for some seconds.
const CLOSING: u32 = 5000;

/// A worker that has not gone round for so long, in milliseconds, is stuck in the disk.
const STUCK: u64 = 5000;

const UNAVAILABLE: ClaimError = ClaimError::Unavailable { retry_after: RETRY };

/// Differs from one boot of the machine to the next.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

impl JournaledNonces {
    /// Whether the directory at `path` can be used, or made; nothing is made.
    ///
    /// # Errors
    ///
    /// A text that names what cannot.
    pub fn check(path: &Path) -> Result<(), String> {
        Folder::can_be_had(path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Opens the directory at `path`, or makes it, and begins to wait for its lock and to read
    /// what is there, on a thread of its own.
    ///
    /// # Errors
    ///
    /// A text that names what cannot be opened or made.
    pub fn start(
        path: &Path,
        window: Window,
        quotas: NonceQuotas,
        clock: Clock,
    ) -> Result<JournaledNonces, String> {
        let boot = fs::read_to_string(BOOT).map_err(|error| format!("{BOOT}: {error}"))?;
        JournaledNonces::start_in(boot.trim(), path, window, quotas, clock)
    }

    fn start_in(
        boot: &str,
        path: &Path,
        window: Window,
        quotas: NonceQuotas,
        clock: Clock,
    ) -> Result<JournaledNonces, String> {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let folder = Folder::open(path).map_err(failed)?;
        // At once, before anything else is put there, such as the key of token names. Where this
        // fails, or another process holds the lock, the worker tries again and says so.
        if folder.try_lock().unwrap_or(false) {
            let _ = Reservation::begin(&folder, boot, clock.now().unix_seconds());
        }
        let shared = Arc::new(JournalState::new(clock));
        let (commands, incoming) = sync_channel(WAITING);
        let worker = JournalWorker::new(folder, boot, window, quotas, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("nonces".into())
            .spawn(move || worker.run(&incoming))
            .map_err(failed)?;
        Ok(JournaledNonces {
            shared,
            commands,
            worker: Mutex::new(Some(thread)),
        })
    }

    /// How many nonces are remembered.
    pub fn live(&self) -> u64 {
        self.shared.opened.get().map_or(0, |l| l.memory.live())
    }

    /// Refuses from now on, has everything on disk, and leaves the directory to the next process.
    /// Waits for the disk, but not for ever: what is not done then is as after a crash.
    pub fn close(&self) {
        let Some(worker) = lock(&self.worker).take() else {
            return;
        };
        for _ in 0..CLOSING {
            // Again and again: there may be no room for the command yet.
            let _ = self.commands.try_send(WorkerCommand::Close);
            if worker.is_finished() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        warn!("the journal of nonces is not closed: its disk does not answer");
    }

    /// For a record stamped beyond the reservation: waits until it is on disk.
    async fn synchronised(&self, file: Arc<File>, stamp: u64) -> Result<(), ClaimError> {
        let (done, synchronised) = oneshot::channel();
        let command = WorkerCommand::Synchronise { file, stamp, done };
        (self.commands.try_send(command)).map_err(|_| UNAVAILABLE)?;
        match tokio::time::timeout(PATIENCE, synchronised).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(UNAVAILABLE),
        }
    }
}

#[async_trait::async_trait]
impl NonceStore for JournaledNonces {
    async fn claim(&self, claim: Claim) -> Result<(), ClaimError> {
        let opened = self.shared.opened.get().ok_or(UNAVAILABLE)?;
        opened.memory.claim_now(claim)?;
        match opened.write(&claim).await {
            Ok(WrittenRecord::Covered) => Ok(()),
            Ok(WrittenRecord::Ahead(file)) => {
                let stamp = claim.timestamp.unix_seconds();
                self.synchronised(file, stamp).await
            }
            Err(_) => Err(UNAVAILABLE),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.shared.ready()
    }
}

impl JournalState {
    fn new(clock: Clock) -> JournalState {
        JournalState {
            clock,
            opened: OnceLock::new(),
            trouble: Mutex::new(Some("the journal of nonces is not read yet".into())),
            beat: AtomicU64::new(0),
        }
    }

    fn ready(&self) -> Result<(), String> {
        if let Some(trouble) = lock(&self.trouble).clone() {
            return Err(trouble);
        }
        let Some(opened) = self.opened.get() else {
            return Err("the journal of nonces is not read yet".into());
        };
        let since = self
            .mono()
            .saturating_sub(self.beat.load(Ordering::Relaxed));
        if since > STUCK {
            return Err(format!(
                "the disk of the journal has not answered for {since} ms"
            ));
        }
        if opened.failing.load(Ordering::Relaxed) {
            return Err("the journal of nonces cannot be written".into());
        }
        opened.memory.ready()
    }

    fn mono(&self) -> u64 {
        u64::try_from(self.clock.now().mono.as_millis()).unwrap_or(u64::MAX)
    }
}

impl OpenJournal {
    /// Writes the record of a claim that is fresh in memory. A write that is stuck holds up its
    /// own thread; everybody else gives up after a while.
    async fn write(&self, claim: &Claim) -> Result<WrittenRecord, Unwritten> {
        for attempt in 0..YIELDS + PAUSES {
            if let Some(written) = self.try_write(claim) {
                return written;
            }
            if attempt < YIELDS {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Err(Unwritten::Failed)
    }

    /// Nothing if somebody else is writing.
    fn try_write(&self, claim: &Claim) -> Option<Result<WrittenRecord, Unwritten>> {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let written = writer.write(claim);
        // Only on a change: the line is shared by all threads.
        let failing = matches!(written, Err(Unwritten::Failed));
        if self.failing.load(Ordering::Relaxed) != failing {
            self.failing.store(failing, Ordering::Relaxed);
        }
        Some(written)
    }
}

/// No value behind these locks is left half changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
