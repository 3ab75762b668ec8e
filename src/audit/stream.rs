//! One stream of lines: a bounded queue, and who empties it into a sink.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::chain_state::{ChainOptions, Checkpoints};
use super::checkpoint::Domain;
use super::error::AuditError;
use super::queue::Queue;
use super::queued_line::{LineKind, QueuedLine, WriteResult};
use super::refusal_limiter::RefusalLimiter;
use super::sink::Sink;
use super::writer::Writer;
use super::writer_election::WriterElection;
use super::writer_health::WriterHealth;
use crate::clock::Clock;
use crate::metrics::Metrics;

pub(super) struct AuditStream {
    pub(super) queue: Arc<Queue>,
    desk: WriterElection,
    health: Arc<WriterHealth>,
    metrics: Arc<Metrics>,
    clock: Clock,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A record that is written, or will be told of.
pub(super) enum Submitted {
    Here,
    Elsewhere(oneshot::Receiver<WriteResult>),
}

impl AuditStream {
    /// Starts the thread that writes to `sink`. `flood` is the bound on strangers' records, where
    /// this is the stream that they go to.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread to give.
    pub(super) fn start(
        sink: Sink,
        checkpoints: Checkpoints,
        flood: Option<Arc<RefusalLimiter>>,
        domain: Domain,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<AuditStream> {
        let queue = Arc::new(Queue::default());
        let health = Arc::new(WriterHealth::default());
        let opening = ChainOptions {
            checkpoints,
            flood,
            domain,
        };
        let desk = WriterElection::new(Writer::new(
            Arc::clone(&queue),
            sink,
            Arc::clone(&health),
            Arc::clone(&metrics),
            clock.clone(),
            has_threads_to_spare(),
        ));
        let (own, waiting, counts) = (desk.clone(), Arc::clone(&queue), Arc::clone(&metrics));
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || own.run(&waiting, &counts, opening))?;
        Ok(AuditStream {
            queue,
            desk,
            health,
            metrics,
            clock,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues a record that nobody waits for. What finds no room is counted.
    pub(super) fn note(&self, kind: LineKind, record: &impl Serialize) {
        // Counted there; whom it concerns is not told.
        let _ = self
            .encoded(kind, record)
            .and_then(|line| self.counted(kind, self.queue.push(line)));
    }

    /// Writes a record, here if nobody is at it and it takes no time, and else by way of the queue;
    /// see [`WriterElection`]. What becomes of it is counted.
    ///
    /// # Errors
    ///
    /// Every [`AuditError`] but [`AuditError::Late`].
    pub(super) fn write(
        &self,
        kind: LineKind,
        record: &impl Serialize,
    ) -> Result<Submitted, AuditError> {
        let own = self.encoded(kind, record)?;
        let mut queued = match self.desk.write(own, &self.queue) {
            Ok(outcome) => return self.counted(kind, outcome).map(|()| Submitted::Here),
            Err(queued) => queued,
        };
        let (ack, written) = oneshot::channel();
        queued.ack = Some(ack);
        self.counted(kind, self.queue.push(queued))?;
        self.desk.write_queued(&self.queue);
        Ok(Submitted::Elsewhere(written))
    }

    /// Encodes a record. One that cannot be encoded is counted.
    fn encoded(&self, kind: LineKind, record: &impl Serialize) -> Result<QueuedLine, AuditError> {
        QueuedLine::of(kind, record).inspect_err(|_| self.metrics.audit_record(kind.left_out()))
    }

    /// Counts a record that the queue did not let in; others have been.
    fn counted(&self, kind: LineKind, outcome: WriteResult) -> WriteResult {
        if let Err(AuditError::Full | AuditError::Closed) = outcome {
            self.metrics.audit_record(kind.left_out());
        }
        outcome
    }

    /// Has the sink looked after at once: a file that was moved away is opened anew.
    pub(super) fn look(&self) {
        self.queue.wake();
    }

    /// Whether the last write succeeded, and none is stuck for longer than `patience`.
    pub(super) fn healthy(&self, patience: Duration) -> bool {
        self.queue.is_open() && self.health.is_good(self.clock.now().mono, patience)
    }

    /// Takes no more records, writes those that wait, and ends the thread. Blocks for at most
    /// `patience`; a thread stuck in a write is left behind.
    ///
    /// # Errors
    ///
    /// [`AuditError::Late`] if records may be missing: those that still waited are counted.
    pub(super) fn close(&self, patience: Duration) -> Result<(), AuditError> {
        self.queue.close();
        if !self.queue.wait_for_writer(patience) {
            for item in self.queue.abandon() {
                self.metrics.audit_record(item.kind.not_written());
            }
            return Err(AuditError::Late(patience));
        }
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match thread.map(JoinHandle::join) {
            Some(Err(_panic)) => Err(AuditError::Closed),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

/// Whether this is a runtime that goes on while one of its threads waits for a disk.
fn has_threads_to_spare() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.metrics().num_workers() > 1)
}

impl Drop for AuditStream {
    /// Lets the thread end by itself; only [`AuditStream::close`] waits for it.
    fn drop(&mut self) {
        self.queue.close();
    }
}
