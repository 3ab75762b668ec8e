//! The audit log as the rest of the gateway sees it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use serde::Serialize;
use tokio::sync::oneshot;

use super::queue::{Ack, Item, Kind, Queue};
use super::writer::{Complaints, Health, Writer};
use super::{Accepted, AuditError, Refused, RegistryLoaded, Response, Sink, line};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Proof that the record of an accepted request has been handed to the operating system: nothing
/// else makes one, and nothing is forwarded without one.
#[derive(Debug)]
#[must_use = "a request is forwarded against its receipt"]
pub struct Receipt(());

/// The audit log. Shared in an `Arc`.
pub struct AuditLog {
    queue: Arc<Queue>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    clock: Clock,
    deadline: Duration,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl AuditLog {
    /// Starts the thread that writes to `sink`. An accepted request waits for its record at most
    /// `deadline`.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread to give.
    pub fn start(
        sink: Sink,
        deadline: Duration,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<AuditLog> {
        let queue = Arc::new(Queue::default());
        let health = Arc::new(Health::default());
        let writer = Writer {
            queue: Arc::clone(&queue),
            sink,
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            complaints: Complaints::default(),
        };
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())?;
        Ok(AuditLog {
            queue,
            health,
            metrics,
            clock,
            deadline,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Records that a request is accepted, and waits until the record has been handed to the
    /// operating system. Must be called within a tokio runtime that has its timer.
    ///
    /// Fails closed: without a [`Receipt`] nothing is forwarded. If the writer is already at the
    /// record when the deadline passes, or when the caller drops the future, the record may
    /// still appear; the refusal recorded after it with the same request id then tells that it
    /// was not forwarded.
    ///
    /// # Errors
    ///
    /// Every [`AuditError`]. What became of the record is counted.
    pub async fn accepted(&self, record: &Accepted<'_>) -> Result<Receipt, AuditError> {
        let (ack, written) = oneshot::channel();
        self.push(Kind::Accepted, record, Some(ack))?;
        match tokio::time::timeout(self.deadline, written).await {
            Ok(Ok(result)) => result.map(Receipt),
            Ok(Err(_writer_gone)) => Err(AuditError::Closed),
            Err(_elapsed) => Err(AuditError::Late(self.deadline)),
        }
    }

    /// Records a refusal. Never waits; left out, and counted, when the queue is half full.
    pub fn refused(&self, record: &Refused<'_>) {
        self.note(Kind::Refused, record);
    }

    /// Records how an accepted request ended. Never waits; left out, and counted, when the queue
    /// is half full.
    pub fn response(&self, record: &Response<'_>) {
        self.note(Kind::Response, record);
    }

    /// Records that a registry came into force. Never waits; left out, and counted, only when
    /// the queue is full.
    pub fn registry_loaded(&self, record: &RegistryLoaded<'_>) {
        self.note(Kind::Registry, record);
    }

    /// Whether records can be written, as far as is known: the last write succeeded, and none is
    /// stuck. A log that fails is tried again every second, also without requests.
    pub fn healthy(&self) -> bool {
        self.queue.is_open() && self.health.is_good(self.clock.now().mono, self.deadline)
    }

    /// Takes no more records, writes those that wait, and ends the thread. Blocks for at most
    /// `patience`; a thread stuck in a write is left behind.
    ///
    /// # Errors
    ///
    /// [`AuditError::Late`] if records may be missing: those that still waited are counted.
    pub fn close(&self, patience: Duration) -> Result<(), AuditError> {
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

    fn note(&self, kind: Kind, record: &impl Serialize) {
        // Counted there; whom it concerns has had its answer.
        let _ = self.push(kind, record, None);
    }

    fn push(
        &self,
        kind: Kind,
        record: &impl Serialize,
        ack: Option<Ack>,
    ) -> Result<(), AuditError> {
        let pushed = line::encode(record)
            .map_err(|_| AuditError::Encode)
            .and_then(|line| self.queue.push(Item { line, kind, ack }));
        if pushed.is_err() {
            self.metrics.audit_record(kind.left_out());
        }
        pushed
    }
}

impl Drop for AuditLog {
    /// Lets the thread end by itself; only [`AuditLog::close`] waits for it.
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog")
            .field("healthy", &self.healthy())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
