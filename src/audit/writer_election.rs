//! Writer election: one writer at a time, the thread of the stream or a request that finds it free.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::chain_state::ChainOptions;
use super::queue::{Queue, Wake};
use super::queued_line::{QueuedLine, WriteResult};
use super::writer::Writer;
use crate::metrics::Metrics;

/// While no line arrives, the sink is checked this often: a file that vanished is made again, and a
/// failing sink is tried. A gateway that is not ready gets no requests whose records could show
/// that the disk has room again.
const IDLE: Duration = Duration::from_secs(1);

/// Batches that a request writes for others, after its own, before the thread takes over.
const FAVOURS: usize = 2;

/// The writer, behind the lock that elects its user. `None` once the log is closed.
#[derive(Clone)]
pub(super) struct WriterElection(Arc<Mutex<Option<Writer>>>);

impl WriterElection {
    pub(super) fn new(writer: Writer) -> WriterElection {
        WriterElection(Arc::new(Mutex::new(Some(writer))))
    }

    /// Runs the thread, until the queue is closed and empty. It writes all lines where requests do
    /// not write; otherwise the lines that they leave, and it looks after an idle sink.
    pub(super) fn run(&self, queue: &Arc<Queue>, metrics: &Arc<Metrics>, opening: ChainOptions) {
        let _closer = QueueCloser {
            queue: Arc::clone(queue),
            metrics: Arc::clone(metrics),
        };
        if let Ok(mut writer) = self.0.lock()
            && !writer.as_mut().is_some_and(|writer| writer.claim(opening))
        {
            *writer = None;
            return;
        }
        loop {
            queue.wait_for_items(IDLE);
            // Poisoned: a request has panicked in a write, and the state of the sink is unknown.
            let Ok(mut writer) = self.0.lock() else {
                return;
            };
            match writer.as_mut().map(Writer::work) {
                Some(Wake::Batch | Wake::Idle) => {}
                Some(Wake::Closed) | None => {
                    // This also releases the lock on the file.
                    *writer = None;
                    return;
                }
            }
        }
    }

    /// Writes the record of a request now, if the writer is free. This waits for the disk alone,
    /// and not after a slow write; a stuck disk holds up this one thread.
    ///
    /// # Errors
    ///
    /// The record, unchanged, if it has to go through the queue.
    pub(super) fn write(&self, own: QueuedLine, queue: &Queue) -> Result<WriteResult, QueuedLine> {
        let outcome = {
            let Some(mut writer) = self.try_lock() else {
                return Err(own);
            };
            match for_requests(&mut writer) {
                Some(writer) => writer.work_on(own),
                None => return Err(own),
            }
        };
        self.help(queue, FAVOURS);
        Ok(outcome)
    }

    /// Tries again after the record went into the queue: the writer of that moment may not have
    /// seen it.
    pub(super) fn write_queued(&self, queue: &Queue) {
        self.help(queue, 1 + FAVOURS);
    }

    /// Writes up to `batches` batches, while requests wait for lines in the queue and the writer is
    /// free. Each writer checks the queue again after it has released the lock: a request may have
    /// queued its line meanwhile.
    fn help(&self, queue: &Queue, batches: usize) {
        for _ in 0..batches {
            if !queue.has_urgent() {
                return;
            }
            let Some(mut writer) = self.try_lock() else {
                return;
            };
            let Some(writer) = for_requests(&mut writer) else {
                return;
            };
            writer.work();
        }
        if queue.has_urgent() {
            queue.wake();
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Option<Writer>>> {
        // Poisoned or taken: the thread deals with it.
        self.0.try_lock().ok()
    }
}

/// The writer, if requests may use it.
fn for_requests(writer: &mut Option<Writer>) -> Option<&mut Writer> {
    writer.as_mut().filter(|writer| writer.is_for_requests())
}

/// Closes the queue when the thread ends.
struct QueueCloser {
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

impl Drop for QueueCloser {
    /// Also when the thread panics: no request may wait for a writer that is gone.
    fn drop(&mut self) {
        for item in self.queue.abandon() {
            self.metrics.audit_record(item.kind.not_written());
        }
        self.queue.writer_gone();
    }
}

#[cfg(test)]
mod tests;
