//! Who writes: one at a time, the stream's thread, or a request that has found nobody at it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::chain_state::ChainOptions;
use super::queue::{Queue, Wake};
use super::queued_line::{QueuedLine, WriteResult};
use super::writer::Writer;
use crate::metrics::Metrics;

/// While nothing comes, the sink is looked after this often: a file that vanished is made again,
/// and a failing sink is tried, because a gateway that is not ready gets no requests whose
/// records could show that the disk has room again.
const IDLE: Duration = Duration::from_secs(1);

/// Batches that a request writes for others, after its own, before the thread takes over.
const FAVOURS: usize = 2;

/// The writer, and who has it. `None` once the log is closed.
#[derive(Clone)]
pub(super) struct WriterElection(Arc<Mutex<Option<Writer>>>);

impl WriterElection {
    pub(super) fn new(writer: Writer) -> WriterElection {
        WriterElection(Arc::new(Mutex::new(Some(writer))))
    }

    /// What the thread does: everything, where requests do not write; else what they leave, and
    /// what is to be done while there are none. Until the queue is closed and empty.
    pub(super) fn run(&self, queue: &Arc<Queue>, metrics: &Arc<Metrics>, opening: ChainOptions) {
        let _farewell = Farewell {
            queue: Arc::clone(queue),
            metrics: Arc::clone(metrics),
        };
        if let Ok(mut desk) = self.0.lock()
            && !desk.as_mut().is_some_and(|writer| writer.claim(opening))
        {
            *desk = None;
            return;
        }
        loop {
            queue.wait_for_items(IDLE);
            // Poisoned: a request has panicked over the sink, whose state nobody knows.
            let Ok(mut desk) = self.0.lock() else {
                return;
            };
            match desk.as_mut().map(Writer::work) {
                Some(Wake::Batch | Wake::Idle) => {}
                Some(Wake::Closed) | None => {
                    // With it goes the lock on the file.
                    *desk = None;
                    return;
                }
            }
        }
    }

    /// What a request does first with its record: it writes, if nobody is at it. This waits for the
    /// disk only, and not for one that has been slow of late; where it is stuck, it holds up the one
    /// thread.
    ///
    /// # Errors
    ///
    /// The record, untouched, if it has to go through the queue.
    pub(super) fn write(&self, own: QueuedLine, queue: &Queue) -> Result<WriteResult, QueuedLine> {
        let outcome = {
            let Some(mut desk) = self.try_lock() else {
                return Err(own);
            };
            match for_requests(&mut desk) {
                Some(writer) => writer.work_on(own),
                None => return Err(own),
            }
        };
        self.help(queue, FAVOURS);
        Ok(outcome)
    }

    /// What a request does that has had to put its record into the queue: it tries again, for whoever
    /// was at it may not have seen that.
    pub(super) fn write_queued(&self, queue: &Queue) {
        self.help(queue, 1 + FAVOURS);
    }

    /// Writes up to so many batches while there is something in the queue that requests wait for and
    /// nobody at it. Whoever is looks into the queue again before it goes: somebody may have come
    /// while it was at it, and gone to wait.
    fn help(&self, queue: &Queue, batches: usize) {
        for _ in 0..batches {
            if !queue.has_urgent() {
                return;
            }
            let Some(mut desk) = self.try_lock() else {
                return;
            };
            let Some(writer) = for_requests(&mut desk) else {
                return;
            };
            writer.work();
        }
        if queue.has_urgent() {
            queue.wake();
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Option<Writer>>> {
        // Poisoned or taken: somebody else's matter.
        self.0.try_lock().ok()
    }
}

/// The writer, if it is there for requests.
fn for_requests(desk: &mut Option<Writer>) -> Option<&mut Writer> {
    desk.as_mut().filter(|writer| writer.is_for_requests())
}

/// The thread's last word.
struct Farewell {
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

impl Drop for Farewell {
    /// Also when the thread panics: nobody may wait for a writer that is gone.
    fn drop(&mut self) {
        for item in self.queue.abandon() {
            self.metrics.audit_record(item.kind.not_written());
        }
        self.queue.writer_gone();
    }
}

#[cfg(test)]
mod tests;
