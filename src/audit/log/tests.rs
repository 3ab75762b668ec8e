#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::ErrorKind;
use std::thread;

use super::*;
use crate::audit::Bounds;
use crate::audit::queued_line::{CAPACITY, CAPACITY_FOR_NOTES};
use crate::audit::testing::{
    PATIENCE, Scratch, Tape, TapeStep, accepted, machine, refused, response,
};
use crate::metrics::AuditResult;
use countersign_client::clock::Hands;

/// Short, where a test waits for it to pass.
const SHORT: Duration = Duration::from_millis(50);

struct Bench {
    log: AuditLog,
    metrics: Arc<Metrics>,
    hands: Hands,
}

impl Bench {
    fn new(sink: Sink, deadline: Duration) -> Bench {
        let metrics = Arc::new(Metrics::new("0", "serial").unwrap());
        let (clock, hands) = Clock::manual(0);
        let strangers = UnauthenticatedSink {
            sink: None,
            per_second: u32::MAX,
        };
        let log = AuditLog::start(
            sink,
            strangers,
            unsigned(),
            deadline,
            clock,
            Arc::clone(&metrics),
        )
        .unwrap();
        Bench {
            log,
            metrics,
            hands,
        }
    }

    fn accepted(&self, id: &str) -> Result<Receipt, AuditError> {
        block_on(self.log.accepted(&accepted(id, &machine())))
    }

    fn counted(&self, result: AuditResult) -> u64 {
        let series = format!("audit_records_total{{result=\"{}\"}} ", result.as_str());
        let page = self.metrics.render();
        let line = page.lines().find_map(|line| line.split_once(&series));
        line.unwrap().1.parse().unwrap()
    }
}

fn unsigned() -> Checkpoints {
    Checkpoints {
        signer: None,
        records: 1,
        interval: SHORT,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

fn ids(text: &str) -> Vec<String> {
    // The writer's own lines have none.
    text.lines()
        .filter_map(|line| {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            json["request_id"].as_str().map(str::to_owned)
        })
        .collect()
}

/// Waits, for a limited time, until something holds.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        thread::sleep(PATIENCE / 1000);
    }
    unreachable!("never: {what}");
}

#[test]
fn a_receipt_means_that_the_record_is_written() {
    let tape = Tape::default();
    let bench = Bench::new(tape.sink(), PATIENCE);
    let _receipt = bench.accepted("r1").unwrap();
    assert_eq!(ids(&tape.text()), ["r1"]);
    assert_eq!(bench.counted(AuditResult::Written), 1);
}

#[test]
fn records_keep_their_order() {
    let tape = Tape::default();
    let bench = Bench::new(tape.sink(), PATIENCE);
    bench.log.refused(&refused("r1"));
    bench.log.response(&response("r2"));
    let _receipt = bench.accepted("r3").unwrap();
    bench.log.refused(&refused("r4"));
    bench.log.close(PATIENCE).unwrap();
    assert_eq!(ids(&tape.text()), ["r1", "r2", "r3", "r4"]);
}

#[test]
fn every_line_is_one_json_object() {
    let tape = Tape::default();
    let bench = Bench::new(tape.sink(), PATIENCE);
    for _ in 0..100 {
        bench.log.refused(&refused("line\nfeed"));
    }
    bench.log.close(PATIENCE).unwrap();
    assert_eq!(ids(&tape.text()), ["line\nfeed"; 100]);
}

#[test]
fn what_waits_during_a_write_is_written_at_once_and_all_are_told() {
    let tape = Tape::default();
    let bench = Bench::new(tape.sink(), PATIENCE);
    tape.block();
    bench.log.refused(&refused("first"));
    tape.wait_for_blocked_write();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| bench.accepted("together")))
            .collect();
        eventually("eight wait", || bench.log.trail.queue.len() == 8);
        tape.unblock();
        for one in waiting {
            let _receipt = one.join().unwrap().unwrap();
        }
    });
    let writes = tape.writes();
    assert_eq!(writes.len(), 2);
    assert_eq!(ids(&writes[1]), ["together"; 8]);
}

#[test]
fn a_failed_write_is_told_to_all_in_the_batch() {
    let tape = Tape::default();
    let bench = Bench::new(tape.sink(), PATIENCE);
    tape.block();
    bench.log.refused(&refused("first"));
    tape.wait_for_blocked_write();
    tape.then(TapeStep::Take(usize::MAX));
    tape.then(TapeStep::Fail(ErrorKind::StorageFull));
    let results: Vec<_> = thread::scope(|scope| {
        let waiting: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| bench.accepted("r")))
            .collect();
        eventually("four wait", || bench.log.trail.queue.len() == 4);
        tape.unblock();
        let results = waiting
            .into_iter()
            .map(|one| one.join().unwrap().unwrap_err());
        results.collect()
    });
    assert_eq!(results, [AuditError::Write(ErrorKind::StorageFull); 4]);
    assert_eq!(bench.counted(AuditResult::Failed), 4);
}

#[test]
fn a_record_written_whole_before_the_failure_has_its_receipt() {
    let tape = Tape::default();
    let bench = Bench::new(tape.sink(), PATIENCE);
    let _receipt = bench.accepted("r").unwrap();
    let one_line = tape.text().len();
    tape.block();
    bench.log.refused(&refused("first"));
    tape.wait_for_blocked_write();
    tape.then(TapeStep::Take(usize::MAX));
    tape.then(TapeStep::Take(one_line + 10));
    tape.then(TapeStep::Fail(ErrorKind::StorageFull));
    let good = thread::scope(|scope| {
        let waiting = [(); 2].map(|()| scope.spawn(|| bench.accepted("r")));
        eventually("two wait", || bench.log.trail.queue.len() == 2);
        tape.unblock();
        let results = waiting.map(|one| one.join().unwrap());
        results.iter().filter(|result| result.is_ok()).count()
    });
    assert_eq!(good, 1);
}

#[test]
fn after_a_torn_line_the_next_record_starts_a_line_of_its_own() {
    let tape = Tape::default();
    let bench = Bench::new(tape.sink(), PATIENCE);
    tape.then(TapeStep::Take(10));
    tape.then(TapeStep::Fail(ErrorKind::StorageFull));
    bench.accepted("torn").unwrap_err();
    let _receipt = bench.accepted("whole").unwrap();
    let text = tape.text();
    let (torn, rest) = text.split_once('\n').unwrap();
    assert_eq!((torn.len(), torn.ends_with(" ")), (11, true));
    assert_eq!(ids(rest), ["whole"]);
}

#[test]
fn a_failing_log_is_unhealthy_and_a_written_record_heals_it() {
    let tape = Tape::default();
    let bench = Bench::new(tape.sink(), PATIENCE);
    assert!(bench.log.healthy());
    for _ in 0..100 {
        tape.then(TapeStep::Fail(ErrorKind::StorageFull));
    }
    bench.accepted("r1").unwrap_err();
    assert!(!bench.log.healthy());
    tape.mend();
    let _receipt = bench.accepted("r2").unwrap();
    assert!(bench.log.healthy());
}

#[test]
fn a_failing_log_heals_without_any_request() {
    let tape = Tape::default();
    let bench = Bench::new(tape.sink(), PATIENCE);
    tape.then(TapeStep::Fail(ErrorKind::BrokenPipe));
    bench.accepted("r1").unwrap_err();
    eventually("healthy", || bench.log.healthy());
}

#[test]
fn a_reader_that_stopped_makes_records_late_and_the_log_unhealthy() {
    let tape = Tape::default();
    tape.block();
    let bench = Bench::new(tape.sink(), SHORT);
    assert_eq!(bench.accepted("r1").unwrap_err(), AuditError::Late(SHORT));
    bench.hands.advance(SHORT + Duration::from_millis(1));
    assert!(!bench.log.healthy());
    tape.unblock();
    eventually("healthy", || bench.log.healthy());
}

#[test]
fn a_write_that_has_just_begun_is_no_illness() {
    let tape = Tape::default();
    tape.block();
    let bench = Bench::new(tape.sink(), SHORT);
    bench.log.refused(&refused("r1"));
    tape.wait_for_blocked_write();
    bench.hands.advance(SHORT);
    assert!(bench.log.healthy());
    tape.unblock();
}

#[test]
fn a_record_nobody_waits_for_any_more_is_not_written() {
    let tape = Tape::default();
    tape.block();
    let bench = Bench::new(tape.sink(), SHORT);
    bench.log.refused(&refused("r1"));
    tape.wait_for_blocked_write();
    bench.accepted("late").unwrap_err();
    tape.unblock();
    bench.log.close(PATIENCE).unwrap();
    assert_eq!(ids(&tape.text()), ["r1"]);
    assert_eq!(bench.counted(AuditResult::Failed), 1);
}

#[test]
fn a_flood_of_refusals_never_waits_and_leaves_room_for_accepted_records() {
    let tape = Tape::default();
    tape.block();
    let bench = Bench::new(tape.sink(), PATIENCE);
    bench.log.refused(&refused("first"));
    tape.wait_for_blocked_write();
    let flood = 2 * CAPACITY / 200;
    for _ in 0..flood {
        bench.log.refused(&refused("flood"));
    }
    let dropped = bench.counted(AuditResult::Dropped);
    assert!(dropped > 0);
    assert!(bench.log.trail.queue.bytes() <= CAPACITY_FOR_NOTES);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| bench.accepted("accepted"));
        let queued = usize::try_from(dropped).map(|dropped| flood - dropped + 1);
        eventually("it is queued", || Ok(bench.log.trail.queue.len()) == queued);
        tape.unblock();
        let _receipt = waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_lost_response_line_is_counted_apart() {
    let tape = Tape::default();
    tape.then(TapeStep::Fail(ErrorKind::StorageFull));
    let bench = Bench::new(tape.sink(), PATIENCE);
    bench.log.response(&response("r1"));
    bench.log.close(PATIENCE).unwrap();
    bench.log.response(&response("r2"));
    assert_eq!(bench.counted(AuditResult::ResponseLost), 2);
    assert_eq!(bench.counted(AuditResult::Failed), 0);
}

#[test]
fn a_refusal_that_could_not_be_written_is_counted() {
    let tape = Tape::default();
    tape.then(TapeStep::Fail(ErrorKind::StorageFull));
    let bench = Bench::new(tape.sink(), PATIENCE);
    bench.log.refused(&refused("r1"));
    bench.log.close(PATIENCE).unwrap();
    assert_eq!(bench.counted(AuditResult::Failed), 1);
}

#[test]
fn the_registry_is_recorded_also_during_a_flood() {
    let tape = Tape::default();
    tape.block();
    let bench = Bench::new(tape.sink(), PATIENCE);
    while bench.counted(AuditResult::Dropped) == 0 {
        for _ in 0..1000 {
            bench.log.refused(&refused("flood"));
        }
    }
    bench.log.registry_loaded(&RegistryRecord {
        wall_ms: 0,
        digest: &[7; 32],
        machines: 0,
        added: &[],
        removed: &[],
        keys_changed: &[],
        changed: &[],
        keys: &[],
        operators: false,
    });
    tape.unblock();
    bench.log.close(PATIENCE).unwrap();
    assert!(tape.text().contains(r#""decision":"registry""#));
}

#[test]
fn closing_writes_what_waits() {
    let tape = Tape::default();
    tape.block();
    let bench = Bench::new(tape.sink(), PATIENCE);
    for id in ["r1", "r2", "r3"] {
        bench.log.refused(&refused(id));
    }
    tape.wait_for_blocked_write();
    tape.unblock();
    bench.log.close(PATIENCE).unwrap();
    assert_eq!(ids(&tape.text()), ["r1", "r2", "r3"]);
}

#[test]
fn closing_does_not_hang_on_a_stuck_write_and_counts_what_is_lost() {
    let tape = Tape::default();
    tape.block();
    let bench = Bench::new(tape.sink(), PATIENCE);
    bench.log.refused(&refused("stuck"));
    tape.wait_for_blocked_write();
    bench.log.refused(&refused("lost"));
    bench.log.response(&response("lost"));
    assert_eq!(bench.log.close(SHORT), Err(AuditError::Late(SHORT)));
    assert_eq!(bench.counted(AuditResult::Failed), 1);
    assert_eq!(bench.counted(AuditResult::ResponseLost), 1);
    tape.unblock();
}

#[test]
fn closing_tells_who_still_waits_behind_a_stuck_write() {
    let tape = Tape::default();
    tape.block();
    let bench = Bench::new(tape.sink(), PATIENCE);
    bench.log.refused(&refused("stuck"));
    tape.wait_for_blocked_write();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| bench.accepted("r1"));
        eventually("it waits", || bench.log.trail.queue.len() == 1);
        bench.log.close(SHORT).unwrap_err();
        let result = waiting.join().unwrap();
        assert_eq!(result.unwrap_err(), AuditError::Closed);
    });
    tape.unblock();
}

#[test]
fn a_closed_log_takes_nothing_and_is_not_healthy() {
    let bench = Bench::new(Tape::default().sink(), PATIENCE);
    bench.log.close(PATIENCE).unwrap();
    assert_eq!(bench.accepted("r1").unwrap_err(), AuditError::Closed);
    assert!(!bench.log.healthy());
}

#[test]
fn closing_twice_is_closing_once() {
    let bench = Bench::new(Tape::default().sink(), PATIENCE);
    assert_eq!(bench.log.close(PATIENCE), Ok(()));
    assert_eq!(bench.log.close(PATIENCE), Ok(()));
}

#[test]
fn a_writer_that_died_fails_records_instead_of_keeping_them_waiting() {
    let tape = Tape::default();
    tape.then(TapeStep::Panic);
    let bench = Bench::new(tape.sink(), PATIENCE);
    assert_eq!(bench.accepted("r1").unwrap_err(), AuditError::Closed);
    eventually("unhealthy", || !bench.log.healthy());
    assert_eq!(bench.accepted("r2").unwrap_err(), AuditError::Closed);
    assert_eq!(bench.log.close(PATIENCE), Err(AuditError::Closed));
}

#[test]
fn a_dropped_log_ends_its_thread() {
    let bench = Bench::new(Tape::default().sink(), PATIENCE);
    let queue = Arc::clone(&bench.log.trail.queue);
    drop(bench);
    assert!(queue.wait_for_writer(PATIENCE));
}

#[test]
fn a_pipe_nobody_reads_makes_records_late_and_closing_bounded() {
    let (reader, writer) = io::pipe().unwrap();
    let bench = Bench::new(Sink::over("pipe", Box::new(writer)), SHORT);
    for _ in 0..1000 {
        bench.log.refused(&refused("more than a pipe holds"));
    }
    assert_eq!(bench.accepted("r1").unwrap_err(), AuditError::Late(SHORT));
    assert_eq!(bench.log.close(SHORT), Err(AuditError::Late(SHORT)));
    drop(reader);
}

#[test]
fn a_pipe_whose_reader_is_gone_gives_errors_and_ill_health() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let bench = Bench::new(Sink::over("pipe", Box::new(writer)), PATIENCE);
    let error = bench.accepted("r1").unwrap_err();
    assert_eq!(error, AuditError::Write(ErrorKind::BrokenPipe));
    assert!(!bench.log.healthy());
}

#[test]
fn a_full_device_gives_errors_and_ill_health() {
    let sink = Sink::file("/dev/full".as_ref(), Bounds::default()).unwrap();
    let bench = Bench::new(sink, PATIENCE);
    let error = bench.accepted("r1").unwrap_err();
    assert_eq!(error, AuditError::Write(ErrorKind::StorageFull));
    assert!(!bench.log.healthy());
}

#[test]
fn an_idle_log_makes_a_deleted_file_again_within_seconds() {
    let scratch = Scratch::new();
    let path = scratch.path("audit.jsonl");
    let bench = Bench::new(Sink::file(&path, Bounds::default()).unwrap(), PATIENCE);
    std::fs::remove_file(&path).unwrap();
    eventually("the file is back", || path.exists());
    let _receipt = bench.accepted("r1").unwrap();
    assert_eq!(ids(&std::fs::read_to_string(&path).unwrap()), ["r1"]);
}

#[test]
fn a_directory_that_vanished_is_ill_health_until_it_is_back() {
    let scratch = Scratch::new();
    let dir = scratch.path("log");
    std::fs::create_dir(&dir).unwrap();
    let bench = Bench::new(
        Sink::file(&dir.join("audit"), Bounds::default()).unwrap(),
        PATIENCE,
    );
    std::fs::remove_dir_all(&dir).unwrap();
    let error = bench.accepted("r1").unwrap_err();
    assert_eq!(error, AuditError::Write(ErrorKind::NotFound));
    assert!(!bench.log.healthy());
    std::fs::create_dir(&dir).unwrap();
    eventually("healthy", || bench.log.healthy());
}

#[test]
fn waiting_for_a_record_can_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let bench = Bench::new(Tape::default().sink(), PATIENCE);
    let machine = machine();
    let record = accepted("r1", &machine);
    let future = bench.log.accepted(&record);
    is_send(&future);
    let _receipt = block_on(future).unwrap();
}

#[test]
fn what_is_shown_of_a_log_names_its_health() {
    let bench = Bench::new(Tape::default().sink(), PATIENCE);
    assert!(format!("{:?}", bench.log).contains("healthy: true"));
}
