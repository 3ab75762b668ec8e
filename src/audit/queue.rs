//! The bounded queue between the requests and the writer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::AuditError;
use super::chain::Head;
use crate::metrics::AuditResult;

/// Bytes of lines that may wait: some ten thousand records of usual size, a second of the fastest
/// gateway measured, and little memory. Beyond it records fail and their requests are refused.
pub(super) const CAPACITY: usize = 8 * 1024 * 1024;

/// The part of [`CAPACITY`] open to records that nothing depends on: half, so that however many
/// of them come, accepted requests find the other half free.
pub(super) const CAPACITY_FOR_NOTES: usize = CAPACITY / 2;

/// Bytes the writer takes at once, the size of a Linux pipe: one write serves everybody who
/// waits, yet none waits for megabytes of others behind a slow reader.
pub(super) const BATCH: usize = 64 * 1024;

/// How long lines that nobody waits for are kept back for company: a request's own record wakes the
/// writer, and to wake it once more for the line about the response costs more than to write that.
const LINGER: Duration = Duration::from_millis(20);

/// What a line tells, which decides how much of the queue it may use and how a loss is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Accepted,
    /// Let through on an open route: strangers cause it, and wait for it.
    Open,
    Refused,
    Response,
    Registry,
    /// The writer's own: where the chain begins or goes on,
    Opening,
    /// where it was signed,
    Checkpoint,
    /// and what was left out.
    Summary,
}

impl Kind {
    const fn capacity(self) -> usize {
        match self {
            Kind::Open | Kind::Refused | Kind::Response => CAPACITY_FOR_NOTES,
            _ => CAPACITY,
        }
    }

    /// Whether a request waits for it.
    pub(super) const fn is_urgent(self) -> bool {
        matches!(self, Kind::Accepted | Kind::Open)
    }

    /// Whether somebody else asked for it, and it counts.
    pub(super) const fn is_counted(self) -> bool {
        !matches!(self, Kind::Opening | Kind::Checkpoint | Kind::Summary)
    }

    /// How to count one that found no room in the queue.
    pub(super) const fn left_out(self) -> AuditResult {
        match self {
            Kind::Accepted | Kind::Open => AuditResult::Failed,
            Kind::Response => AuditResult::ResponseLost,
            _ => AuditResult::Dropped,
        }
    }

    /// How to count one that was queued and not written.
    pub(super) const fn not_written(self) -> AuditResult {
        match self {
            Kind::Response => AuditResult::ResponseLost,
            _ => AuditResult::Failed,
        }
    }
}

/// How a record fared.
pub(super) type Outcome = Result<(), AuditError>;

/// Tells the request that waits for a record how the write went.
pub(super) type Ack = oneshot::Sender<Outcome>;

/// A line on its way to the writer.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) line: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) ack: Option<Ack>,
    /// Where the chain stands after it, once it is linked.
    pub(super) head: Head,
}

impl Item {
    pub(super) fn new(kind: Kind, line: Vec<u8>, ack: Option<Ack>) -> Item {
        Item {
            line,
            kind,
            ack,
            head: Head::START,
        }
    }
}

/// What the writer is woken for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The batch holds at least one item.
    Batch,
    /// Nothing came for as long as the writer wanted to wait.
    Idle,
    /// Nothing is left and nothing will come.
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    closed: bool,
    woken: bool,
    writer_gone: bool,
    /// Items that requests wait for.
    urgent: usize,
    writer: Waiting,
    /// Whoever puts an urgent item in looks after it.
    served: bool,
}

/// What the writer waits for, so that it is only woken for that: waking costs a system call, and
/// often a switch of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Waiting {
    /// It is at work, or has been woken.
    #[default]
    Not,
    /// Something urgent, or a full batch.
    ForPressing,
    /// Anything at all.
    ForAnything,
}

impl State {
    /// Whether there is room for an item.
    fn admit(&self, item: &Item) -> Result<(), AuditError> {
        if self.closed {
            return Err(AuditError::Closed);
        }
        if self.bytes + item.line.len() > item.kind.capacity() {
            return Err(AuditError::Full);
        }
        Ok(())
    }

    fn take(&mut self, batch: &mut Vec<Item>) {
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
    pub(super) fn push(&self, item: Item) -> Result<(), AuditError> {
        let mut state = self.lock();
        state.admit(&item)?;
        let urgent = item.kind.is_urgent();
        state.bytes += item.line.len();
        state.urgent += usize::from(urgent);
        state.items.push_back(item);
        let wakes = match state.writer {
            Waiting::Not => false,
            Waiting::ForPressing => state.needs_the_writer(),
            Waiting::ForAnything => !(urgent && state.served),
        };
        if wakes {
            state.writer = Waiting::Not;
            drop(state);
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Waits for items, at most `patience`. They may be gone when [`Queue::take`] looks.
    pub(super) fn wait_for_items(&self, patience: Duration) {
        let mut state = self.lock();
        for (what, patience) in [
            (Waiting::ForPressing, patience.min(LINGER)),
            (Waiting::ForAnything, patience),
        ] {
            let arrived = |state: &State| match what {
                Waiting::ForPressing => state.is_pressing(),
                _ => state.is_anything(),
            };
            state.writer = what;
            let waited =
                (self.changed).wait_timeout_while(state, patience, |state| !arrived(state));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.writer = Waiting::Not;
        state.woken = false;
    }

    /// Moves up to [`BATCH`] bytes of items, in order, into `batch`.
    pub(super) fn take(&self, batch: &mut Vec<Item>) -> Wake {
        let mut state = self.lock();
        state.take(batch);
        match (batch.is_empty(), state.closed) {
            (false, _) => Wake::Batch,
            (true, false) => Wake::Idle,
            (true, true) => Wake::Closed,
        }
    }

    /// Does the same, and puts `own` behind them, which so need not go through the queue.
    ///
    /// # Errors
    ///
    /// As [`Queue::push`]; nothing is moved.
    pub(super) fn take_before(&self, own: Item, batch: &mut Vec<Item>) -> Result<(), AuditError> {
        let mut state = self.lock();
        state.admit(&own)?;
        state.take(batch);
        batch.push(own);
        Ok(())
    }

    /// Whether there is anything that a request waits for.
    pub(super) fn has_urgent(&self) -> bool {
        self.lock().urgent > 0
    }

    /// From now on whoever puts in an item that it waits for takes it out too, so that the writer
    /// need not be woken for it; or does so no more.
    pub(super) fn serve(&self, served: bool) {
        let mut state = self.lock();
        state.served = served;
        if state.is_pressing() {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Lets nothing more in. What waits can still be taken out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Has the writer look after its sink, also where nothing waits.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    /// Whether items are still let in.
    pub(super) fn is_open(&self) -> bool {
        !self.lock().closed
    }

    /// Empties a queue that nobody will read any more.
    #[must_use = "what was lost is counted"]
    pub(super) fn abandon(&self) -> VecDeque<Item> {
        let mut state = self.lock();
        state.closed = true;
        (state.bytes, state.urgent) = (0, 0);
        std::mem::take(&mut state.items)
    }

    /// The writer says that it has ended.
    pub(super) fn writer_gone(&self) {
        self.lock().writer_gone = true;
        self.changed.notify_all();
    }

    /// Waits for the writer to end, at most `patience`; `false` if it has not.
    pub(super) fn wait_for_writer(&self, patience: Duration) -> bool {
        self.wait(patience, |state| state.writer_gone).writer_gone
    }

    fn wait(&self, patience: Duration, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| !until(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Queue {
    /// What the writer does, with nobody between the two.
    pub(super) fn next(&self, batch: &mut Vec<Item>, patience: Duration) -> Wake {
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
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    const NO_WAIT: Duration = Duration::ZERO;

    fn item(kind: Kind, len: usize) -> Item {
        Item::new(kind, vec![b'x'; len], None)
    }

    fn next(queue: &Queue) -> (Wake, Vec<usize>) {
        let mut batch = Vec::new();
        let wake = queue.next(&mut batch, NO_WAIT);
        (wake, batch.iter().map(|item| item.line.len()).collect())
    }

    #[test]
    fn items_come_out_in_the_order_they_went_in() {
        let queue = Queue::default();
        for len in [3, 1, 2] {
            queue.push(item(Kind::Refused, len)).unwrap();
        }
        assert_eq!(next(&queue), (Wake::Batch, vec![3, 1, 2]));
    }

    #[test]
    fn an_empty_queue_is_idle() {
        assert_eq!(next(&Queue::default()), (Wake::Idle, vec![]));
    }

    /// A writer that waits for up to a minute, and what it is given.
    fn waiting(queue: &Arc<Queue>) -> (thread::JoinHandle<()>, mpsc::Receiver<Vec<Kind>>) {
        let (taken, given) = mpsc::channel();
        let queue = Arc::clone(queue);
        let writer = thread::spawn(move || {
            loop {
                let mut batch = Vec::new();
                if queue.next(&mut batch, Duration::from_secs(60)) == Wake::Closed {
                    return;
                }
                let kinds = batch.iter().map(|item| item.kind).collect();
                taken.send(kinds).unwrap();
            }
        });
        (writer, given)
    }

    #[test]
    fn lines_that_nobody_waits_for_arrive_by_themselves_and_with_the_next_that_somebody_does() {
        let queue = Arc::new(Queue::default());
        let (writer, given) = waiting(&queue);
        let next = || given.recv_timeout(Duration::from_secs(10)).unwrap();
        // At first after a long silence, and then within the time that they are kept back.
        for _ in 0..3 {
            queue.push(item(Kind::Response, 1)).unwrap();
            assert_eq!(next(), [Kind::Response]);
        }
        queue.push(item(Kind::Response, 1)).unwrap();
        queue.push(item(Kind::Accepted, 1)).unwrap();
        let mut all = next();
        while all.len() < 2 {
            all.extend(next());
        }
        assert_eq!(all, [Kind::Response, Kind::Accepted]);
        queue.close();
        writer.join().unwrap();
    }

    #[test]
    fn a_writer_that_is_woken_finds_nothing_once() {
        let queue = Queue::default();
        queue.wake();
        let mut batch = Vec::new();
        assert_eq!(queue.next(&mut batch, Duration::from_secs(60)), Wake::Idle);
        assert_eq!(queue.next(&mut batch, NO_WAIT), Wake::Idle);
    }

    #[test]
    fn a_batch_ends_at_its_limit() {
        let queue = Queue::default();
        for len in [BATCH - 1, 1, 1] {
            queue.push(item(Kind::Accepted, len)).unwrap();
        }
        assert_eq!(next(&queue), (Wake::Batch, vec![BATCH - 1, 1]));
        assert_eq!(next(&queue), (Wake::Batch, vec![1]));
    }

    #[test]
    fn a_line_over_the_limit_of_a_batch_goes_alone() {
        let queue = Queue::default();
        for len in [BATCH + 1, 1] {
            queue.push(item(Kind::Registry, len)).unwrap();
        }
        assert_eq!(next(&queue), (Wake::Batch, vec![BATCH + 1]));
        assert_eq!(next(&queue), (Wake::Batch, vec![1]));
    }

    #[test]
    fn accepted_records_may_fill_the_queue_to_the_last_byte() {
        let queue = Queue::default();
        queue.push(item(Kind::Accepted, CAPACITY - 1)).unwrap();
        queue.push(item(Kind::Accepted, 1)).unwrap();
        let refused = queue.push(item(Kind::Accepted, 1));
        assert_eq!(refused, Err(AuditError::Full));
    }

    #[test]
    fn refusals_and_responses_may_fill_only_half_of_it() {
        for kind in [Kind::Refused, Kind::Response] {
            let queue = Queue::default();
            queue.push(item(kind, CAPACITY_FOR_NOTES)).unwrap();
            assert_eq!(queue.push(item(kind, 1)), Err(AuditError::Full));
            queue.push(item(Kind::Accepted, 1)).unwrap();
        }
    }

    #[test]
    fn what_open_routes_let_through_finds_no_room_behind_half_a_queue() {
        let queue = Queue::default();
        (queue.push(item(Kind::Open, CAPACITY_FOR_NOTES))).unwrap();
        let full = queue.push(item(Kind::Open, 1));
        assert_eq!(full.unwrap_err(), AuditError::Full);
        assert!(queue.push(item(Kind::Accepted, 1)).is_ok());
    }

    #[test]
    fn refusals_find_no_room_behind_half_a_queue_of_accepted_records() {
        let queue = Queue::default();
        queue
            .push(item(Kind::Accepted, CAPACITY_FOR_NOTES))
            .unwrap();
        let refused = queue.push(item(Kind::Refused, 1));
        assert_eq!(refused, Err(AuditError::Full));
    }

    #[test]
    fn what_is_taken_out_makes_room() {
        let queue = Queue::default();
        queue.push(item(Kind::Accepted, CAPACITY)).unwrap();
        next(&queue);
        queue.push(item(Kind::Accepted, CAPACITY)).unwrap();
    }

    #[test]
    fn what_a_request_writes_itself_comes_behind_what_waits() {
        let queue = Queue::default();
        queue.push(item(Kind::Response, 1)).unwrap();
        let mut batch = Vec::new();
        (queue.take_before(item(Kind::Accepted, 2), &mut batch)).unwrap();
        let lens: Vec<_> = batch.iter().map(|item| item.line.len()).collect();
        assert_eq!(lens, [1, 2]);
        assert_eq!((queue.bytes(), queue.has_urgent()), (0, false));
    }

    #[test]
    fn what_finds_no_room_is_not_written_past_the_queue_either() {
        let queue = Queue::default();
        queue.push(item(Kind::Open, CAPACITY_FOR_NOTES)).unwrap();
        let mut batch = Vec::new();
        let taken = queue.take_before(item(Kind::Open, 1), &mut batch);
        assert_eq!(taken, Err(AuditError::Full));
        queue.close();
        let taken = queue.take_before(item(Kind::Accepted, 1), &mut batch);
        assert_eq!(taken, Err(AuditError::Closed));
        assert_eq!((batch.len(), queue.len()), (0, 1));
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_gives_what_it_has() {
        let queue = Queue::default();
        queue.push(item(Kind::Accepted, 1)).unwrap();
        queue.close();
        let refused = queue.push(item(Kind::Accepted, 1));
        assert_eq!(refused, Err(AuditError::Closed));
        assert_eq!(next(&queue), (Wake::Batch, vec![1]));
        assert_eq!(next(&queue), (Wake::Closed, vec![]));
    }

    #[test]
    fn an_abandoned_queue_is_closed_and_empty() {
        let queue = Queue::default();
        queue.push(item(Kind::Accepted, 1)).unwrap();
        assert_eq!(queue.abandon().len(), 1);
        assert!(!queue.is_open());
        assert_eq!(next(&queue), (Wake::Closed, vec![]));
    }

    /// What a writer that would wait for an hour is woken for by `action`, within seconds.
    fn woken_by(action: impl FnOnce(&Queue)) -> Wake {
        let queue = Arc::new(Queue::default());
        let (tell, told) = mpsc::channel();
        let writer = Arc::clone(&queue);
        thread::spawn(move || tell.send(writer.next(&mut Vec::new(), Duration::from_secs(3600))));
        thread::sleep(Duration::from_millis(50)); // so that it waits
        action(&queue);
        told.recv_timeout(Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn an_item_wakes_the_writer_at_once() {
        let wake = woken_by(|queue| queue.push(item(Kind::Accepted, 1)).unwrap());
        assert_eq!(wake, Wake::Batch);
    }

    #[test]
    fn closing_wakes_the_writer_at_once() {
        assert_eq!(woken_by(Queue::close), Wake::Closed);
    }

    #[test]
    fn waiting_for_a_writer_that_stays_ends() {
        assert!(!Queue::default().wait_for_writer(NO_WAIT));
    }
}
