//! Nothing passes twice, under load and under faults: every request is captured and replayed until
//! it has left the window, while gateways and their store are killed, stopped, emptied, and their
//! clocks set. `--nocapture` shows the figures.
#![allow(clippy::print_stdout, reason = "`--nocapture` shows the figures")]

use std::time::Duration;

use crate::clock::Faketime;
use crate::support::backend::Backend;
use crate::support::gateway::{PATIENCE, wait_for};
use crate::support::process::Process;
use crate::support::redis::{DURABLE, Redis};
use crate::support::siege::{FUTURE, Outcome, PAST, Siege};

fn window() -> String {
    format!("window: {PAST}s, future: {FUTURE}s")
}

/// A siege in which little was captured, delivered or replayed would show nothing.
fn assert_intense(outcome: &Outcome) {
    assert!(outcome.delivered >= 100, "{outcome}");
    assert!(outcome.replays >= outcome.captured, "{outcome}");
}

#[test]
fn a_gateway_that_is_killed_thirty_times_under_load_delivers_nothing_twice() {
    let backend = Backend::start();
    let more = format!("replay: {{ {} }}\n", window());
    let mut gateway = Process::start(&backend, &more, Vec::new());
    let siege = Siege::begin(vec![gateway.address]);
    siege.passes_within(PATIENCE, || gateway.log());
    let mut slowest = Duration::ZERO;
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(700));
        gateway.kill();
        gateway.start_again();
        let back = siege.passes_within(PATIENCE, || gateway.log());
        slowest = slowest.max(back);
    }
    let outcome = siege.end(&backend);
    println!("30 x kill -9, service after {slowest:?} at most: {outcome}");
    assert_intense(&outcome);
    let log = gateway.log();
    assert!(!log.contains("damaged") && !log.contains("panic"), "{log}");
    // Service is back at once: nothing was forgotten, so no request had to wait.
    assert_eq!(log.matches("nonces from the journal").count(), 30, "{log}");
    assert!(!log.contains("ends by itself"), "{log}");
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
    siege.passes_within(PATIENCE, logs);
    // What a gateway says where it closes that window: honest requests wait until it is over.
    let closed = || logs().matches("may have forgotten nonces").count();

    let mut report = Vec::new();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        let before = closed();
        redis.signal("STOP");
        // A store that does not answer holds nobody up beyond its deadline: answers go on, and come
        // before it does.
        siege.is_answered(20);
        redis.signal("CONT");
        let stopped = siege.passes_within(PATIENCE, logs);

        std::thread::sleep(Duration::from_secs(1));
        redis.kill();
        std::thread::sleep(Duration::from_millis(500));
        redis.spawn();
        let killed = siege.passes_within(PATIENCE, logs);
        assert_eq!(closed(), before, "nothing was forgotten: {}", logs());

        std::thread::sleep(Duration::from_secs(1));
        redis.kill();
        redis.forget();
        redis.spawn();
        let emptied = siege.passes_within(PATIENCE, logs);
        assert!(closed() > before, "{}", logs());
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
    assert_intense(&outcome);
    assert!(!logs().contains("panic"), "{}", logs());
}

#[test]
fn a_gateway_whose_clock_is_set_back_and_forth_under_load_delivers_nothing_twice() {
    let (backend, faketime) = (Backend::start(), Faketime::new());
    let more = format!("replay: {{ {} }}\n", window());
    let gateway = Process::start(&backend, &more, faketime.environment());
    let siege = Siege::begin(vec![gateway.address]);
    siege.passes_within(PATIENCE, || gateway.log());
    let mut slowest = Duration::ZERO;
    for off in [60, -60, 3600, -3600, 8, -8, 15, -15] {
        faketime.set(off);
        siege.set_clocks_off(off);
        std::thread::sleep(Duration::from_millis(1200));
        faketime.set(0);
        siege.set_clocks_off(0);
        // Who is locked out for what the clock was wrong by waits for so long. Half of that is a
        // bound on the gateway, and far more than the moment that it takes.
        let limit = Duration::from_secs(off.unsigned_abs() / 2).min(PATIENCE);
        let right = siege.passes_within(limit, || gateway.log());
        slowest = slowest.max(right);
        std::thread::sleep(Duration::from_millis(1200));
    }
    wait_for("the word about the clock", || {
        let log = gateway.log();
        (log.contains("set back by") && log.contains("went ahead by")).then_some(())
    });
    let outcome = siege.end(&backend);
    println!("16 steps of the clock, service after {slowest:?} at most: {outcome}");
    assert_intense(&outcome);
}
