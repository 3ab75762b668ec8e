//! The bounded queue between the requests and the writer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::AuditError;
use super::queued_line::QueuedLine;

/// Bytes the writer takes at once, the size of a Linux pipe. One write serves all that wait, and no
/// request waits for megabytes of others behind a slow reader.
pub(super) const BATCH: usize = 64 * 1024;

/// How long lines without a waiting request stay in the queue to be written together. The record of
/// a request wakes the writer; waking it once more for the response line costs more than writing
/// that.
const LINGER: Duration = Duration::from_millis(20);

/// The reason why the writer wakes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The batch holds at least one item.
    Batch,
    /// No line arrived in the time that the writer waits.
    Idle,
    /// The queue is closed and empty.
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    items: VecDeque<QueuedLine>,
    bytes: usize,
    closed: bool,
    woken: bool,
    writer_gone: bool,
    /// Lines that requests wait for.
    urgent: usize,
    writer: WriterWait,
    /// A request that queues an urgent line also sees to it that it is written.
    served: bool,
}

/// The event that the writer waits for. It is woken for nothing else: waking costs a system call,
/// and often a switch of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WriterWait {
    /// It is at work, or has been woken.
    #[default]
    Not,
    /// An urgent line, or a full batch.
    ForPressing,
    /// Any line.
    ForAnything,
}

impl QueueState {
    /// Whether there is room for an item.
    fn admit(&self, item: &QueuedLine) -> Result<(), AuditError> {
        if self.closed {
            return Err(AuditError::Closed);
        }
        if self.bytes + item.line.len() > item.kind.capacity() {
            return Err(AuditError::Full);
        }
        Ok(())
    }

    fn take(&mut self, batch: &mut Vec<QueuedLine>) {
        let mut bytes = 0;
        while let Some(item) = self.items.front() {
            bytes += item.line.len();
            if bytes > BATCH && !batch.is_empty() {
                break;
            }
            self.bytes -= item.line.len();
            self.urgent -= usize::from(item.kind.is_urgent());
            batch.extend(self.items.pop_front());
        }
    }

    fn is_pressing(&self) -> bool {
        self.urgent > 0 || self.needs_the_writer()
    }

    fn needs_the_writer(&self) -> bool {
        (self.urgent > 0 && !self.served) || self.bytes >= BATCH || self.closed || self.woken
    }

    fn is_anything(&self) -> bool {
        !self.items.is_empty() || self.closed || self.woken
    }
}

impl Queue {
    /// Adds an item, without waiting.
    ///
    /// # Errors
    ///
    /// [`AuditError::Full`] and [`AuditError::Closed`]; the item is dropped.
    pub(super) fn push(&self, item: QueuedLine) -> Result<(), AuditError> {
        let mut state = self.lock();
        state.admit(&item)?;
        let urgent = item.kind.is_urgent();
        state.bytes += item.line.len();
        state.urgent += usize::from(urgent);
        state.items.push_back(item);
        let wakes = match state.writer {
            WriterWait::Not => false,
            WriterWait::ForPressing => state.needs_the_writer(),
            WriterWait::ForAnything => !(urgent && state.served),
        };
        if wakes {
            state.writer = WriterWait::Not;
            drop(state);
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Waits for items, at most `patience`. Another writer may take them before
    /// [`Queue::take`] does.
    pub(super) fn wait_for_items(&self, patience: Duration) {
        let mut state = self.lock();
        for (what, patience) in [
            (WriterWait::ForPressing, patience.min(LINGER)),
            (WriterWait::ForAnything, patience),
        ] {
            let arrived = |state: &QueueState| match what {
                WriterWait::ForPressing => state.is_pressing(),
                _ => state.is_anything(),
            };
            state.writer = what;
            let waited =
                (self.changed).wait_timeout_while(state, patience, |state| !arrived(state));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.writer = WriterWait::Not;
        state.woken = false;
    }

    /// Moves up to [`BATCH`] bytes of items, in order, into `batch`.
    pub(super) fn take(&self, batch: &mut Vec<QueuedLine>) -> Wake {
        let mut state = self.lock();
        state.take(batch);
        match (batch.is_empty(), state.closed) {
            (false, _) => Wake::Batch,
            (true, false) => Wake::Idle,
            (true, true) => Wake::Closed,
        }
    }

    /// Moves items as [`Queue::take`] does, then appends `own`, which is not queued.
    ///
    /// # Errors
    ///
    /// As [`Queue::push`]; nothing is moved.
    pub(super) fn take_before(
        &self,
        own: QueuedLine,
        batch: &mut Vec<QueuedLine>,
    ) -> Result<(), AuditError> {
        let mut state = self.lock();
        state.admit(&own)?;
        state.take(batch);
        batch.push(own);
        Ok(())
    }

    /// Whether a request waits for a queued line.
    pub(super) fn has_urgent(&self) -> bool {
        self.lock().urgent > 0
    }

    /// Sets whether a request that queues an urgent line also writes it, so that the queue need not
    /// wake the writer's thread.
    pub(super) fn set_requests_write(&self, served: bool) {
        let mut state = self.lock();
        state.served = served;
        if state.is_pressing() {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Refuses further lines. Queued lines can still be taken out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Wakes the writer to check its sink, even if the queue is empty.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    /// Whether items are still let in.
    pub(super) fn is_open(&self) -> bool {
        !self.lock().closed
    }

    /// Closes and empties a queue whose writer is gone.
    #[must_use = "lost lines are counted"]
    pub(super) fn abandon(&self) -> VecDeque<QueuedLine> {
        let mut state = self.lock();
        state.closed = true;
        (state.bytes, state.urgent) = (0, 0);
        std::mem::take(&mut state.items)
    }

    /// Notes that the writer has ended.
    pub(super) fn writer_gone(&self) {
        self.lock().writer_gone = true;
        self.changed.notify_all();
    }

    /// Waits for the writer to end, at most `patience`; `false` if it has not.
    pub(super) fn wait_for_writer(&self, patience: Duration) -> bool {
        self.wait(patience, |state| state.writer_gone).writer_gone
    }

    fn wait(
        &self,
        patience: Duration,
        until: impl Fn(&QueueState) -> bool,
    ) -> MutexGuard<'_, QueueState> {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| !until(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Queue {
    /// Waits and takes in one step.
    pub(super) fn next(&self, batch: &mut Vec<QueuedLine>, patience: Duration) -> Wake {
        self.wait_for_items(patience);
        self.take(batch)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

#[cfg(test)]
mod tests;
