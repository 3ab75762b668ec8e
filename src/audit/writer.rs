//! What moves lines from the queue to the sink; the [desk](super::writer_election) says in whose hands.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::chain_state::{ChainOptions, ChainState};
use super::error::AuditError;
use super::queue::{Queue, Wake};
use super::queued_line::{QueuedLine, WriteResult};
use super::sink::{Sink, Torn};
use super::write_failures::WriteFailures;
use super::writer_health::WriterHealth;
use crate::clock::{Clock, Now};
use crate::metrics::{AuditResult, Metrics};

/// A write that took so long was held up by its disk. Requests write a few kilobytes to a file in
/// memory, which takes microseconds.
const SLOW: Duration = Duration::from_millis(20);

/// For how long after such a write requests leave writing to the thread.
pub(super) const WARINESS: Duration = Duration::from_secs(10);

/// Moves lines from the queue to the sink.
pub(super) struct Writer {
    queue: Arc<Queue>,
    sink: Sink,
    health: Arc<WriterHealth>,
    metrics: Arc<Metrics>,
    clock: Clock,
    complaints: WriteFailures,
    /// `None` until the sink is this process's own.
    book: Option<ChainState>,
    /// The lines in hand, and room to put them together.
    batch: Vec<QueuedLine>,
    lines: Vec<u8>,
    pace: Pace,
}

/// Whether requests may write.
enum Pace {
    /// Never: a write to this sink may wait for somebody, or there is no thread to spare.
    Thread,
    Requests,
    /// Not before then, on the monotonic clock.
    Wary(Duration),
}

/// How often a sink that another process has is asked for.
const CLAIM: Duration = Duration::from_millis(200);

impl Writer {
    /// `requests_write` says that there are threads to spare where requests are served.
    pub(super) fn new(
        queue: Arc<Queue>,
        sink: Sink,
        health: Arc<WriterHealth>,
        metrics: Arc<Metrics>,
        clock: Clock,
        requests_write: bool,
    ) -> Writer {
        let pace = match requests_write && sink.is_file() {
            true => Pace::Requests,
            false => Pace::Thread,
        };
        queue.serve(matches!(pace, Pace::Requests));
        Writer {
            queue,
            sink,
            health,
            metrics,
            clock,
            complaints: WriteFailures::default(),
            book: None,
            batch: Vec::new(),
            lines: Vec::new(),
            pace,
        }
    }

    /// Waits until no other process writes to the sink, and opens the book where that one left it;
    /// `false` if the log was closed first.
    pub(super) fn claim(&mut self, opening: ChainOptions) -> bool {
        let mut told = false;
        loop {
            match self.sink.claim() {
                Ok(true) => break,
                Ok(false) if !told => tracing::warn!(
                    file = self.sink.name(),
                    "another process writes this audit file: waiting, and accepting nothing, until it ends"
                ),
                Ok(false) => {}
                // Whatever it is, writing will meet it again, and say so.
                Err(_) => break,
            }
            told = true;
            self.health.set_failing(true);
            if !self.queue.is_open() {
                return false;
            }
            thread::sleep(CLAIM);
        }
        self.health.set_failing(false);
        self.book = Some(ChainState::open(self.sink.found(), opening));
        true
    }

    pub(super) fn is_for_requests(&self) -> bool {
        self.book.is_some() && matches!(self.pace, Pace::Requests)
    }

    /// Writes what waits, at most a batch.
    pub(super) fn work(&mut self) -> Wake {
        let mut batch = std::mem::take(&mut self.batch);
        let wake = self.queue.take(&mut batch);
        let _nobodys = self.put_down(batch, wake == Wake::Closed);
        wake
    }

    /// Writes what waits, at most a batch, and `own` after it, and tells how that fared.
    ///
    /// # Errors
    ///
    /// Every [`AuditError`] but [`AuditError::Late`]. Only a [`AuditError::Write`] has been counted.
    pub(super) fn work_on(&mut self, own: QueuedLine) -> WriteResult {
        let mut batch = std::mem::take(&mut self.batch);
        match self.queue.take_before(own, &mut batch) {
            Ok(()) => self.put_down(batch, false),
            Err(refused) => {
                self.batch = batch;
                Err(refused)
            }
        }
    }

    /// Writes a batch and tells everybody in it how their lines fared; also whoever is at it, if one
    /// of them is theirs.
    fn put_down(&mut self, mut batch: Vec<QueuedLine>, closing: bool) -> WriteResult {
        // Whoever gave up waiting has refused the request: its record would be a lie.
        batch.retain(|item| {
            let wanted = item.ack.as_ref().is_none_or(|ack| !ack.is_closed());
            if !wanted {
                self.metrics.audit_record(item.kind.not_written());
            }
            wanted
        });
        let began = self.clock.now();
        let outcome = self.write(&mut batch, began, closing);
        let ended = self.clock.now();
        let own = self.settle(&mut batch, ended, outcome);
        self.keep_pace(began.mono, ended.mono);
        self.batch = batch;
        own
    }

    /// Writes the batch, with what the book adds to it.
    fn write(&mut self, batch: &mut Vec<QueuedLine>, now: Now, closing: bool) -> Result<(), Torn> {
        self.health.write_begins(now.mono);
        self.lines.clear();
        let outcome = match self.sink.prepare(now.wall_ms) {
            Ok(prepared) => {
                if let Some(book) = &mut self.book {
                    book.complete(batch, prepared, now, closing);
                }
                for item in &*batch {
                    self.lines.extend_from_slice(&item.line);
                }
                self.sink.write_lines(&self.lines)
            }
            Err(error) => Err(Torn { written: 0, error }),
        };
        self.health.set_failing(outcome.is_err());
        self.health.write_ends();
        outcome
    }

    /// Leaves writing to the thread for a while after a write that took long, and gives it back to
    /// the requests.
    fn keep_pace(&mut self, began: Duration, ended: Duration) {
        let is_slow = ended.saturating_sub(began) >= SLOW;
        match self.pace {
            Pace::Thread => {}
            Pace::Requests | Pace::Wary(_) if is_slow => {
                self.pace = Pace::Wary(ended.saturating_add(WARINESS));
                self.queue.serve(false);
            }
            Pace::Wary(until) if ended >= until => {
                self.pace = Pace::Requests;
                self.queue.serve(true);
            }
            Pace::Requests | Pace::Wary(_) => {}
        }
    }

    /// Tells everybody in the batch how its own line fared: lines that were taken whole before a
    /// failure are written. Gives how the one fared that a request waits for without being told: it
    /// is at it itself. Fails closed: where there is none, nothing counts as written.
    fn settle(
        &mut self,
        batch: &mut Vec<QueuedLine>,
        now: Now,
        outcome: Result<(), Torn>,
    ) -> WriteResult {
        let (written, error) = match outcome {
            Ok(()) => (self.lines.len(), None),
            Err(torn) => (torn.written, Some(torn.error)),
        };
        let result = error
            .as_ref()
            .map_or(Ok(()), |error| Err(AuditError::Write(error.kind())));
        let mut end = 0;
        let mut lost = 0;
        let mut own = Err(AuditError::Closed);
        for item in batch.drain(..) {
            end += item.line.len();
            let result = if end <= written { Ok(()) } else { result };
            if let (Ok(()), Some(book)) = (result, &mut self.book) {
                book.written(&item, now);
            }
            if item.kind.is_counted() {
                lost += u64::from(result.is_err());
                self.metrics.audit_record(match result {
                    Ok(()) => AuditResult::Written,
                    Err(_) => item.kind.not_written(),
                });
            }
            match item.ack {
                Some(ack) => {
                    // An error means that nobody waits any more.
                    let _ = ack.send(result);
                }
                None if item.kind.is_urgent() => own = result,
                None => {}
            }
        }
        self.complaints
            .note(self.sink.name(), error.as_ref(), lost, now.mono);
        own
    }
}
