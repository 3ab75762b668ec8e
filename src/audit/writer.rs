//! The writer, which moves lines from the queue to the sink. The
//! [election](super::writer_election) decides which thread uses it.

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
use crate::metrics::{AuditResult, Metrics};
use countersign_client::clock::{Clock, Now};

/// A write that takes longer has waited for its disk. Requests write a few kilobytes into the page
/// cache, which takes microseconds.
const SLOW: Duration = Duration::from_millis(20);

/// How long requests leave writing to the thread after a slow write.
pub(super) const WARINESS: Duration = Duration::from_secs(10);

/// Moves lines from the queue to the sink.
pub(super) struct Writer {
    queue: Arc<Queue>,
    sink: Sink,
    health: Arc<WriterHealth>,
    metrics: Arc<Metrics>,
    clock: Clock,
    complaints: WriteFailures,
    /// `None` until this process has locked the sink.
    chain: Option<ChainState>,
    /// The lines being written, and a buffer for their bytes.
    batch: Vec<QueuedLine>,
    lines: Vec<u8>,
    pace: Pace,
}

/// Whether requests may write.
enum Pace {
    /// Never: a write to this sink may wait for a reader, or there is no thread to spare.
    Thread,
    Requests,
    /// Not before then, on the monotonic clock.
    Wary(Duration),
}

/// How often a sink that another process has locked is tried.
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
        queue.set_requests_write(matches!(pace, Pace::Requests));
        Writer {
            queue,
            sink,
            health,
            metrics,
            clock,
            complaints: WriteFailures::default(),
            chain: None,
            batch: Vec::new(),
            lines: Vec::new(),
            pace,
        }
    }

    /// Waits until no other process writes to the sink, and continues its chain. `false` if the log
    /// was closed first.
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
                // The first write will fail with the same error, and report it.
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
        self.chain = Some(ChainState::open(self.sink.found(), opening));
        true
    }

    pub(super) fn is_for_requests(&self) -> bool {
        self.chain.is_some() && matches!(self.pace, Pace::Requests)
    }

    /// Writes queued lines, at most a batch.
    pub(super) fn work(&mut self) -> Wake {
        let mut batch = std::mem::take(&mut self.batch);
        let wake = self.queue.take(&mut batch);
        let _nobodys = self.put_down(batch, wake == Wake::Closed);
        wake
    }

    /// Writes queued lines, at most a batch, and `own` after them. Gives the result for `own`.
    ///
    /// # Errors
    ///
    /// Every [`AuditError`] but [`AuditError::Late`]. Only a [`AuditError::Write`] has been
    /// counted.
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

    /// Writes a batch and reports the result to every request in it, and to the caller if one of
    /// the lines is its own.
    fn put_down(&mut self, mut batch: Vec<QueuedLine>, closing: bool) -> WriteResult {
        // A request that gave up waiting was refused: its record would be false.
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

    /// Writes the batch, with the lines that the chain adds to it.
    fn write(&mut self, batch: &mut Vec<QueuedLine>, now: Now, closing: bool) -> Result<(), Torn> {
        self.health.write_begins(now.mono);
        self.lines.clear();
        let outcome = match self.sink.prepare(now.wall_ms) {
            Ok(prepared) => {
                if let Some(chain) = &mut self.chain {
                    chain.complete(batch, prepared, now, closing);
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

    /// Leaves writing to the thread for a while after a slow write, and then gives it back to the
    /// requests.
    fn keep_pace(&mut self, began: Duration, ended: Duration) {
        let is_slow = ended.saturating_sub(began) >= SLOW;
        match self.pace {
            Pace::Thread => {}
            Pace::Requests | Pace::Wary(_) if is_slow => {
                self.pace = Pace::Wary(ended.saturating_add(WARINESS));
                self.queue.set_requests_write(false);
            }
            Pace::Wary(until) if ended >= until => {
                self.pace = Pace::Requests;
                self.queue.set_requests_write(true);
            }
            Pace::Requests | Pace::Wary(_) => {}
        }
    }

    /// Reports the result of each line to its request. Lines that were taken whole before a failure
    /// are written. Gives the result of the caller's own line, which has no channel. Fails closed:
    /// without such a line nothing counts as written.
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
            if let (Ok(()), Some(chain)) = (result, &mut self.chain) {
                chain.written(&item, now);
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
                    // An error means that the request no longer waits.
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
