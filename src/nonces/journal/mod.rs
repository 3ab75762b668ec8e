//! Nonces that survive the process: in memory, and in a journal before a request passes.
//!
//! Three things carry the argument of [`countersign_core::replay`] across a restart:
//!
//! - Segments of records, one record for each accepted claim. The record is written before the
//!   claim succeeds, and not flushed: it survives the process, but not power loss.
//! - The reservation, synchronised to disk. It holds the floor, at or below which claims are
//!   forgotten, and `bound`, which accepted timestamps do not exceed. A few claims go beyond
//!   `bound`, and are synchronised one by one; they do not exceed `ahead`. The reservation also
//!   names the segments, so that a missing one shows.
//! - The lock on the directory: one process at a time uses the journal.
//!
//! The first file in a new directory is a reservation that names no segment. A reservation that
//! names segments replaces it before the first claim is accepted. A first start can therefore
//! crash at any point: the directory shows that nothing was accepted, or it holds all of the above.
//!
//! A start that finds a complete journal restores every claim. If records may be missing, it raises
//! the floor to `bound`, or to the greater of `bound` and `ahead`. Without a reservation it raises
//! the floor to the end of the window. Requests at or below the floor are refused until time has
//! passed it. See [`recover`].

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

/// A [`NonceStore`] that forgets nothing when its process stops or crashes.
///
/// It fails closed, with [`ClaimError::Unavailable`], in three cases: until it holds the
/// directory's lock and has read the journal, while the disk takes no records, and while the floor
/// is ahead of the clock. Each of them ends without an operator.
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
    /// The reason why the worker cannot work. Before the journal is open: what it waits for.
    trouble: Mutex<Option<String>>,
    /// The time of the worker's last round, in milliseconds of `mono`.
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
    /// Synchronise a record whose timestamp is beyond the reservation.
    Synchronise {
        file: Arc<File>,
        stamp: u64,
        done: oneshot::Sender<()>,
    },
    Close,
}

/// `Retry-After` in seconds while the journal is not read yet, or cannot be written.
const RETRY: u32 = 1;

/// Requests beyond the reservation that may wait for the disk at once; more are refused. They come
/// from machines whose clock is far ahead.
const WAITING: usize = 1024;

/// Longest wait of a request beyond the reservation for the disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// Attempts of a request to write its record while another request writes, which takes a
/// microsecond. It first yields, then sleeps for [`PAUSE`] between attempts. After the last one the
/// other write is stuck, and the request is refused, so that it blocks no further thread.
const YIELDS: u32 = 32;
const PAUSES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Checks at a shutdown whether the worker has ended, [`PAUSE`] apart: five seconds in all.
const CLOSING: u32 = 5000;

/// Milliseconds without a round after which the worker counts as stuck in the disk.
const STUCK: u64 = 5000;

const UNAVAILABLE: ClaimError = ClaimError::Unavailable { retry_after: RETRY };

/// Differs from one boot of the machine to the next.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

impl JournaledNonces {
    /// Checks that the directory at `path` can be used or created. It creates nothing.
    ///
    /// # Errors
    ///
    /// The path, and the error of the operating system.
    pub fn check(path: &Path) -> Result<(), String> {
        Folder::can_be_had(path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Opens the directory at `path`, or creates it. A thread of its own then waits for the lock
    /// and reads the journal.
    ///
    /// # Errors
    ///
    /// The path, and the error of the operating system.
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
        // Before any other file appears in the directory, such as the key of token names. If this
        // fails, or another process holds the lock, the worker tries again and logs it.
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

    /// The number of live nonces.
    pub fn live(&self) -> u64 {
        self.shared.opened.get().map_or(0, |l| l.memory.live())
    }

    /// Refuses further claims, synchronises the journal, and releases the directory. It waits five
    /// seconds for the disk; after that the next start recovers as after a crash.
    pub fn close(&self) {
        let Some(worker) = lock(&self.worker).take() else {
            return;
        };
        for _ in 0..CLOSING {
            // Repeated because the queue of commands may be full.
            let _ = self.commands.try_send(WorkerCommand::Close);
            if worker.is_finished() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        warn!(
            "cannot close the journal of nonces: its disk does not answer; the next start treats \
             this stop as a crash"
        );
    }

    /// Waits until a record beyond the reservation is on disk.
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
                let stamp = claim.unix_seconds();
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
                "the disk of the journal of nonces has not answered for {since} ms"
            ));
        }
        if opened.failing.load(Ordering::Relaxed) {
            return Err("cannot write to the journal of nonces; is its disk full?".into());
        }
        opened.memory.ready()
    }

    fn mono(&self) -> u64 {
        u64::try_from(self.clock.now().mono.as_millis()).unwrap_or(u64::MAX)
    }
}

impl OpenJournal {
    /// Writes the record of a claim that is fresh in memory. A stuck write blocks its own thread
    /// only; other requests give up after a while.
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

    /// `None` if another request is writing.
    fn try_write(&self, claim: &Claim) -> Option<Result<WrittenRecord, Unwritten>> {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let written = writer.write(claim);
        // Stored only on a change: all threads share the cache line.
        let failing = matches!(written, Err(Unwritten::Failed));
        if self.failing.load(Ordering::Relaxed) != failing {
            self.failing.store(failing, Ordering::Relaxed);
        }
        Some(written)
    }
}

/// No panic leaves a value behind these locks half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
