//! Nothing passes twice, under load and under faults: every request is captured and replayed until
//! it has left the window, while gateways and their store are killed, stopped, emptied, and their
//! clocks set. `--nocapture` shows the figures.
#![allow(clippy::print_stdout, reason = "`--nocapture` shows the figures")]

use std::time::Duration;

use crate::clock::Faketime;
use crate::support::backend::Backend;
use crate::support::gateway::wait_for;
use crate::support::process::Process;
use crate::support::redis::{DURABLE, Redis};
use crate::support::siege::{FUTURE, Outcome, PAST, Siege};

/// Seconds within which honest requests pass again.
const AFTER_KILL: Duration = Duration::from_secs(2);
const AFTER_STORE_IS_BACK: Duration = Duration::from_secs(2);
const AFTER_CLOCK_IS_RIGHT: Duration = Duration::from_secs(2);

fn window() -> String {
    format!("window: {PAST}s, future: {FUTURE}s")
}

/// A siege in which little was captured, delivered or replayed would show nothing.
fn assert_intense(outcome: &Outcome, deliveries: usize) {
    assert!(outcome.delivered >= deliveries, "{outcome}");
    assert!(outcome.replays >= 2 * outcome.captured, "{outcome}");
}

#[test]
fn a_gateway_that_is_killed_thirty_times_under_load_delivers_nothing_twice() {
    let backend = Backend::start();
    let more = format!("replay: {{ {} }}\n", window());
    let mut gateway = Process::start(&backend, &more, Vec::new());
    let siege = Siege::begin(vec![gateway.address]);
    siege.passes_within(Duration::from_secs(20), || gateway.log());
    let mut slowest = Duration::ZERO;
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(700));
        gateway.kill();
        gateway.start_again();
        let back = siege.passes_within(AFTER_KILL, || gateway.log());
        slowest = slowest.max(back);
    }
    let outcome = siege.end(&backend);
    println!("30 x kill -9, service after {slowest:?} at most: {outcome}");
    assert_intense(&outcome, 1000);
    let log = gateway.log();
    assert!(!log.contains("damaged") && !log.contains("panic"), "{log}");
}

#[test]
fn two_gateways_deliver_nothing_twice_whatever_befalls_the_store_they_share() {
    let (backend, mut redis) = (Backend::start(), Redis::start(DURABLE));
    let more = format!(
        "replay:\n  {}\n  store: redis\n  instances: 2\n  \
         redis: {{ url: 'redis://{}', clock_margin: 1s }}\n",
        window().replace(", ", "\n  "),
        redis.address
    );
    let gateways = [(); 2].map(|()| Process::start(&backend, &more, Vec::new()));
    let siege = Siege::begin(gateways.iter().map(|gateway| gateway.address).collect());
    let logs = || gateways.each_ref().map(Process::log).join("\n");
    // An empty store closes the future window, at the first start too.
    let future = Duration::from_secs(FUTURE + 1 + 2);
    siege.passes_within(Duration::from_secs(20) + future, logs);

    let mut report = Vec::new();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        redis.signal("STOP");
        std::thread::sleep(Duration::from_secs(2));
        redis.signal("CONT");
        let stopped = siege.passes_within(AFTER_STORE_IS_BACK, logs);

        std::thread::sleep(Duration::from_secs(1));
        redis.kill();
        std::thread::sleep(Duration::from_millis(500));
        redis.spawn();
        let killed = siege.passes_within(AFTER_STORE_IS_BACK, logs);

        std::thread::sleep(Duration::from_secs(1));
        redis.kill();
        redis.forget();
        redis.spawn();
        let emptied = siege.passes_within(future, logs);
        report.push(format!(
            "back from SIGSTOP after {stopped:?}, kill {killed:?}, empty {emptied:?}"
        ));
    }
    // The replays below find the store at work.
    for gateway in &gateways {
        gateway.wait_until_ready();
    }
    let outcome = siege.end(&backend);
    println!("{}: {outcome}", report.join("; "));
    assert_intense(&outcome, 500);
    // The store's deadline is 50 ms; the rest is the load.
    assert!(outcome.slowest < Duration::from_secs(1), "{outcome}");
    assert!(!logs().contains("panic"), "{}", logs());
}

#[test]
fn a_gateway_whose_clock_is_set_back_and_forth_under_load_delivers_nothing_twice() {
    let (backend, faketime) = (Backend::start(), Faketime::new());
    let more = format!("replay: {{ {} }}\n", window());
    let gateway = Process::start(&backend, &more, faketime.environment());
    let siege = Siege::begin(vec![gateway.address]);
    siege.passes_within(Duration::from_secs(20), || gateway.log());
    let mut slowest = Duration::ZERO;
    for off in [60, -60, 3600, -3600, 8, -8, 15, -15] {
        faketime.set(off);
        siege.set_clocks_off(off);
        std::thread::sleep(Duration::from_millis(1200));
        faketime.set(0);
        siege.set_clocks_off(0);
        let right = siege.passes_within(AFTER_CLOCK_IS_RIGHT, || gateway.log());
        slowest = slowest.max(right);
        std::thread::sleep(Duration::from_millis(1200));
    }
    wait_for("the word about the clock", || {
        let log = gateway.log();
        (log.contains("set back by") && log.contains("went ahead by")).then_some(())
    });
    let outcome = siege.end(&backend);
    println!("16 steps of the clock, service after {slowest:?} at most: {outcome}");
    assert_intense(&outcome, 500);
}
