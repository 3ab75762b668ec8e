//! One stream of lines: a bounded queue, and the writer that empties it into a sink.

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
use crate::metrics::Metrics;
use countersign_client::clock::Clock;

pub(super) struct AuditStream {
    pub(super) queue: Arc<Queue>,
    election: WriterElection,
    health: Arc<WriterHealth>,
    metrics: Arc<Metrics>,
    clock: Clock,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A submitted record: written, or queued with a channel for its result.
pub(super) enum Submitted {
    Here,
    Elsewhere(oneshot::Receiver<WriteResult>),
}

impl AuditStream {
    /// Starts the thread that writes to `sink`. `limiter` is the limiter of the refusals in this
    /// stream.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread to give.
    pub(super) fn start(
        sink: Sink,
        checkpoints: Checkpoints,
        limiter: Option<Arc<RefusalLimiter>>,
        domain: Domain,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<AuditStream> {
        let queue = Arc::new(Queue::default());
        let health = Arc::new(WriterHealth::default());
        let opening = ChainOptions {
            checkpoints,
            limiter,
            domain,
        };
        let election = WriterElection::new(Writer::new(
            Arc::clone(&queue),
            sink,
            Arc::clone(&health),
            Arc::clone(&metrics),
            clock.clone(),
            has_threads_to_spare(),
        ));
        let (own, waiting, counts) = (election.clone(), Arc::clone(&queue), Arc::clone(&metrics));
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || own.run(&waiting, &counts, opening))?;
        Ok(AuditStream {
            queue,
            election,
            health,
            metrics,
            clock,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues a record without waiting for it. A record that finds no room is counted.
    pub(super) fn note(&self, kind: LineKind, record: &impl Serialize) {
        // The error is counted, and there is no request to tell.
        let _ = self
            .encoded(kind, record)
            .and_then(|line| self.counted(kind, self.queue.push(line)));
    }

    /// Writes a record in this thread if the writer is free, and otherwise through the queue; see
    /// [`WriterElection`]. The result is counted.
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
        let mut queued = match self.election.write(own, &self.queue) {
            Ok(outcome) => return self.counted(kind, outcome).map(|()| Submitted::Here),
            Err(queued) => queued,
        };
        let (ack, written) = oneshot::channel();
        queued.ack = Some(ack);
        self.counted(kind, self.queue.push(queued))?;
        self.election.write_queued(&self.queue);
        Ok(Submitted::Elsewhere(written))
    }

    /// Encodes a record. One that cannot be encoded is counted.
    fn encoded(&self, kind: LineKind, record: &impl Serialize) -> Result<QueuedLine, AuditError> {
        QueuedLine::of(kind, record).inspect_err(|_| self.metrics.audit_record(kind.left_out()))
    }

    /// Counts a record that the queue refused. Other failures have been counted.
    fn counted(&self, kind: LineKind, outcome: WriteResult) -> WriteResult {
        if let Err(AuditError::Full | AuditError::Closed) = outcome {
            self.metrics.audit_record(kind.left_out());
        }
        outcome
    }

    /// Checks the sink at once: a file that was moved away is opened anew.
    pub(super) fn look(&self) {
        self.queue.wake();
    }

    /// Whether the last write succeeded, and none is stuck for longer than `patience`.
    pub(super) fn healthy(&self, patience: Duration) -> bool {
        self.queue.is_open() && self.health.is_good(self.clock.now().mono, patience)
    }

    /// Refuses further records, writes the queued ones, and ends the thread. Blocks for at most
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

/// Whether the runtime goes on while one of its threads waits for a disk.
fn has_threads_to_spare() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.metrics().num_workers() > 1)
}

impl Drop for AuditStream {
    /// Lets the thread end by itself; only [`AuditStream::close`] waits for it.
    fn drop(&mut self) {
        self.queue.close();
    }
}
