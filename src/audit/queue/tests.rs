#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, mpsc};
use std::thread;

use super::*;
use crate::audit::queued_line::{CAPACITY, CAPACITY_FOR_NOTES, LineKind};

const NO_WAIT: Duration = Duration::ZERO;

fn item(kind: LineKind, len: usize) -> QueuedLine {
    QueuedLine::new(kind, vec![b'x'; len])
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
        queue.push(item(LineKind::Refused, len)).unwrap();
    }
    assert_eq!(next(&queue), (Wake::Batch, vec![3, 1, 2]));
}

#[test]
fn an_empty_queue_is_idle() {
    assert_eq!(next(&Queue::default()), (Wake::Idle, vec![]));
}

/// A writer that waits for up to a minute, and what it is given.
fn waiting(queue: &Arc<Queue>) -> (thread::JoinHandle<()>, mpsc::Receiver<Vec<LineKind>>) {
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
        queue.push(item(LineKind::Response, 1)).unwrap();
        assert_eq!(next(), [LineKind::Response]);
    }
    queue.push(item(LineKind::Response, 1)).unwrap();
    queue.push(item(LineKind::Accepted, 1)).unwrap();
    let mut all = next();
    while all.len() < 2 {
        all.extend(next());
    }
    assert_eq!(all, [LineKind::Response, LineKind::Accepted]);
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
        queue.push(item(LineKind::Accepted, len)).unwrap();
    }
    assert_eq!(next(&queue), (Wake::Batch, vec![BATCH - 1, 1]));
    assert_eq!(next(&queue), (Wake::Batch, vec![1]));
}

#[test]
fn a_line_over_the_limit_of_a_batch_goes_alone() {
    let queue = Queue::default();
    for len in [BATCH + 1, 1] {
        queue.push(item(LineKind::Registry, len)).unwrap();
    }
    assert_eq!(next(&queue), (Wake::Batch, vec![BATCH + 1]));
    assert_eq!(next(&queue), (Wake::Batch, vec![1]));
}

#[test]
fn accepted_records_may_fill_the_queue_to_the_last_byte() {
    let queue = Queue::default();
    queue.push(item(LineKind::Accepted, CAPACITY - 1)).unwrap();
    queue.push(item(LineKind::Accepted, 1)).unwrap();
    let refused = queue.push(item(LineKind::Accepted, 1));
    assert_eq!(refused, Err(AuditError::Full));
}

#[test]
fn refusals_and_responses_may_fill_only_half_of_it() {
    for kind in [LineKind::Refused, LineKind::Response] {
        let queue = Queue::default();
        queue.push(item(kind, CAPACITY_FOR_NOTES)).unwrap();
        assert_eq!(queue.push(item(kind, 1)), Err(AuditError::Full));
        queue.push(item(LineKind::Accepted, 1)).unwrap();
    }
}

#[test]
fn what_open_routes_let_through_finds_no_room_behind_half_a_queue() {
    let queue = Queue::default();
    (queue.push(item(LineKind::Open, CAPACITY_FOR_NOTES))).unwrap();
    let full = queue.push(item(LineKind::Open, 1));
    assert_eq!(full.unwrap_err(), AuditError::Full);
    assert!(queue.push(item(LineKind::Accepted, 1)).is_ok());
}

#[test]
fn refusals_find_no_room_behind_half_a_queue_of_accepted_records() {
    let queue = Queue::default();
    queue
        .push(item(LineKind::Accepted, CAPACITY_FOR_NOTES))
        .unwrap();
    let refused = queue.push(item(LineKind::Refused, 1));
    assert_eq!(refused, Err(AuditError::Full));
}

#[test]
fn what_is_taken_out_makes_room() {
    let queue = Queue::default();
    queue.push(item(LineKind::Accepted, CAPACITY)).unwrap();
    next(&queue);
    queue.push(item(LineKind::Accepted, CAPACITY)).unwrap();
}

#[test]
fn what_a_request_writes_itself_comes_behind_what_waits() {
    let queue = Queue::default();
    queue.push(item(LineKind::Response, 1)).unwrap();
    let mut batch = Vec::new();
    (queue.take_before(item(LineKind::Accepted, 2), &mut batch)).unwrap();
    let lens: Vec<_> = batch.iter().map(|item| item.line.len()).collect();
    assert_eq!(lens, [1, 2]);
    assert_eq!((queue.bytes(), queue.has_urgent()), (0, false));
}

#[test]
fn what_finds_no_room_is_not_written_past_the_queue_either() {
    let queue = Queue::default();
    queue
        .push(item(LineKind::Open, CAPACITY_FOR_NOTES))
        .unwrap();
    let mut batch = Vec::new();
    let taken = queue.take_before(item(LineKind::Open, 1), &mut batch);
    assert_eq!(taken, Err(AuditError::Full));
    queue.close();
    let taken = queue.take_before(item(LineKind::Accepted, 1), &mut batch);
    assert_eq!(taken, Err(AuditError::Closed));
    assert_eq!((batch.len(), queue.len()), (0, 1));
}

#[test]
fn a_closed_queue_takes_nothing_and_gives_what_it_has() {
    let queue = Queue::default();
    queue.push(item(LineKind::Accepted, 1)).unwrap();
    queue.close();
    let refused = queue.push(item(LineKind::Accepted, 1));
    assert_eq!(refused, Err(AuditError::Closed));
    assert_eq!(next(&queue), (Wake::Batch, vec![1]));
    assert_eq!(next(&queue), (Wake::Closed, vec![]));
}

#[test]
fn an_abandoned_queue_is_closed_and_empty() {
    let queue = Queue::default();
    queue.push(item(LineKind::Accepted, 1)).unwrap();
    assert_eq!(queue.abandon().len(), 1);
    assert!(!queue.is_open());
    assert_eq!(next(&queue), (Wake::Closed, vec![]));
}

/// The reason for which `action` wakes a writer that would wait for an hour, within seconds.
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
    let wake = woken_by(|queue| queue.push(item(LineKind::Accepted, 1)).unwrap());
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
