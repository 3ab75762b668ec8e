//! Tests of the election: which thread writes, and how the others fare meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tokio::task::JoinSet;

use super::*;
use crate::audit::testing::{PATIENCE, Tape, TapeStep, accepted, machine};
use crate::audit::writer::WARINESS;
use crate::audit::{AuditError, AuditLog, Checkpoints, Sink, UnauthenticatedSink};
use countersign_client::clock::{Clock, Hands};

/// Tells of each write which thread makes it, and takes some time of the clock.
struct Told {
    by: Sender<String>,
    hands: Hands,
    takes: Arc<AtomicU64>,
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let name = thread::current().name().unwrap_or_default().to_owned();
        let _ = self.by.send(name);
        let takes = self.takes.load(Ordering::Relaxed);
        self.hands.advance(Duration::from_millis(takes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(sink: Sink, deadline: Duration, clock: Clock) -> Arc<AuditLog> {
    let strangers = UnauthenticatedSink {
        sink: None,
        per_second: u32::MAX,
    };
    let checkpoints = Checkpoints {
        signer: None,
        records: 1,
        interval: Duration::from_secs(1),
    };
    let metrics = Arc::new(Metrics::new("0", "serial").unwrap());
    let log = AuditLog::start(sink, strangers, checkpoints, deadline, clock, metrics).unwrap();
    Arc::new(log)
}

/// A log over [`Told`].
struct Watched {
    log: Arc<AuditLog>,
    by: Receiver<String>,
    hands: Hands,
    takes: Arc<AtomicU64>,
}

impl Watched {
    fn new(as_file: bool) -> Watched {
        let (clock, hands) = Clock::manual(0);
        let (tell, by) = channel();
        let takes = Arc::new(AtomicU64::new(0));
        let told = Told {
            by: tell,
            hands: hands.clone(),
            takes: Arc::clone(&takes),
        };
        let sink = Sink::over("a test", Box::new(told));
        let sink = match as_file {
            true => sink.taken_for_a_file(),
            false => sink,
        };
        Watched {
            log: log(sink, PATIENCE, clock),
            by,
            hands,
            takes,
        }
    }

    /// Has a record written from a task of its own, and tells whether the log's thread did it.
    async fn is_by_the_thread(&self) -> bool {
        let log = Arc::clone(&self.log);
        let task = async move { log.accepted(&accepted("r", &machine())).await.map(drop) };
        tokio::spawn(task).await.unwrap().unwrap();
        self.by.recv_timeout(PATIENCE).unwrap() == "audit"
    }

    /// Whether any of many records is written by the request that wants it. The thread may be at
    /// work just then, and takes it along.
    async fn requests_write(&self) -> bool {
        for _ in 0..100 {
            if !self.is_by_the_thread().await {
                return true;
            }
        }
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_writes_its_own_record_to_a_file() {
    assert!(Watched::new(true).requests_write().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_own_write_fails_has_no_receipt_and_the_next_has_one() {
    let tape = Tape::default();
    let (clock, _hands) = Clock::manual(0);
    let log = log(tape.sink().taken_for_a_file(), PATIENCE, clock);
    let machine = machine();
    for _ in 0..20 {
        let _receipt = log.accepted(&accepted("r", &machine)).await.unwrap();
        tape.then(TapeStep::Fail(io::ErrorKind::StorageFull));
        let failed = log.accepted(&accepted("r", &machine)).await.unwrap_err();
        assert_eq!(failed, AuditError::Write(io::ErrorKind::StorageFull));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_wait_for_a_reader_is_left_to_the_thread() {
    assert!(!Watched::new(false).requests_write().await);
}

#[tokio::test]
async fn where_no_thread_could_be_spared_the_writing_is_left_to_the_log_s_own() {
    assert!(!Watched::new(true).requests_write().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_slow_write_the_thread_writes_for_a_while() {
    let watched = Watched::new(true);
    assert!(watched.requests_write().await);
    watched.takes.store(20, Ordering::Relaxed);
    let _ = watched.is_by_the_thread().await;
    watched.takes.store(0, Ordering::Relaxed);
    assert!(!watched.requests_write().await);
    watched.hands.advance(WARINESS);
    assert!(watched.requests_write().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_request_is_stuck_in_a_write_the_others_are_refused_in_time() {
    // The thread may be at work just then, and be stuck in the request's place.
    let mut by_a_request = false;
    for _ in 0..5 {
        by_a_request = by_a_request || a_request_is_stuck_and_the_others_are_refused().await;
    }
    assert!(by_a_request, "the thread took every record along");
}

/// Whether the request that was stuck wrote its own record.
async fn a_request_is_stuck_and_the_others_are_refused() -> bool {
    // Long enough for the writes that must succeed on a busy machine.
    const DEADLINE: Duration = Duration::from_secs(1);
    let tape = Tape::default();
    let (clock, _hands) = Clock::manual(0);
    let log = log(tape.sink().taken_for_a_file(), DEADLINE, clock);
    let write = |log: &Arc<AuditLog>| {
        let log = Arc::clone(log);
        async move { log.accepted(&accepted("r", &machine())).await.map(drop) }
    };
    tokio::spawn(write(&log)).await.unwrap().unwrap();
    tape.block();
    let stuck = tokio::spawn(write(&log));
    let seen = tape.clone();
    tokio::task::spawn_blocking(move || seen.wait_for_blocked_write())
        .await
        .unwrap();
    let mut others = JoinSet::new();
    for _ in 0..3 {
        others.spawn(write(&log));
    }
    while let Some(ended) = others.join_next().await {
        let outcome = ended.unwrap();
        assert!(matches!(outcome, Err(AuditError::Late(_))), "{outcome:?}");
    }
    tape.unblock();
    let wrote_itself = stuck.await.unwrap().is_ok();
    tokio::spawn(write(&log)).await.unwrap().unwrap();
    wrote_itself
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_each_gets_its_record_written_once() {
    const TASKS: usize = 32;
    const EACH: usize = 50;
    let tape = Tape::default();
    let (clock, _hands) = Clock::manual(0);
    let log = log(tape.sink().taken_for_a_file(), PATIENCE, clock);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            for n in 0..EACH {
                let id = format!("{task}-{n};");
                let written = log.accepted(&accepted(&id, &machine())).await;
                written.map(drop).unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let text = tape.text();
    for task in 0..TASKS {
        for n in 0..EACH {
            assert_eq!(text.matches(&format!("\"{task}-{n};\"")).count(), 1);
        }
    }
}
