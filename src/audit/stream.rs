//! One stream of lines: a bounded queue, and the thread that empties it into a sink.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

use super::book::{Checkpoints, Opening};
use super::checkpoint::Domain;
use super::flood::Flood;
use super::queue::{Ack, Item, Kind, Queue};
use super::writer::{Complaints, Health, Writer};
use super::{AuditError, Sink, line};
use crate::clock::Clock;
use crate::metrics::Metrics;

pub(super) struct Stream {
    pub(super) queue: Arc<Queue>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    clock: Clock,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Stream {
    /// Starts the thread that writes to `sink`. `flood` is the bound on strangers' records, where
    /// this is the stream that they go to.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread to give.
    pub(super) fn start(
        sink: Sink,
        checkpoints: Checkpoints,
        flood: Option<Arc<Flood>>,
        domain: Domain,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<Stream> {
        let queue = Arc::new(Queue::default());
        let health = Arc::new(Health::default());
        let opening = Opening {
            checkpoints,
            flood,
            domain,
        };
        let mut writer = Writer {
            book: None,
            queue: Arc::clone(&queue),
            sink,
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            complaints: Complaints::default(),
        };
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                if writer.claim(opening) {
                    writer.run();
                }
            })?;
        Ok(Stream {
            queue,
            health,
            metrics,
            clock,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues a record, without waiting. What finds no room is counted.
    ///
    /// # Errors
    ///
    /// [`AuditError::Full`], [`AuditError::Closed`] and [`AuditError::Encode`].
    pub(super) fn push(
        &self,
        kind: Kind,
        record: &impl Serialize,
        ack: Option<Ack>,
    ) -> Result<(), AuditError> {
        let pushed = line::encode(record)
            .map_err(|_| AuditError::Encode)
            .and_then(|line| self.queue.push(Item::new(kind, line, ack)));
        if pushed.is_err() {
            self.metrics.audit_record(kind.left_out());
        }
        pushed
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

impl Drop for Stream {
    /// Lets the thread end by itself; only [`Stream::close`] waits for it.
    fn drop(&mut self) {
        self.queue.close();
    }
}
