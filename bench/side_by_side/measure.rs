//! One contender under one load: what it cost, and whether every answer was the one that was due.

use std::time::Duration;

use crate::backend::Backend;
use crate::contender::{Checks, Contender};
use crate::load::{Load, Seen};
use crate::requests::{Kind, Signer};

/// What one measurement showed. CPU is in microseconds a request, latencies in microseconds.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) cpu: f64,
    /// The same by process.
    pub(crate) parts: Vec<(&'static str, f64)>,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Requests a second.
    pub(crate) rate: f64,
    /// The load generator's own CPU.
    pub(crate) load_cpu: f64,
    /// Connections made anew during the measurement, for each request.
    pub(crate) reconnects: f64,
    /// Why it does not count.
    pub(crate) fault: Option<String>,
}

/// Sends `count` requests of a kind.
pub(crate) fn measure(
    contender: &Contender,
    backend: &Backend,
    load: Load,
    (kind, count): (Kind, usize),
    signer: &mut Signer,
) -> Sample {
    let requests = signer.sign(kind, count);
    if kind == Kind::Replay {
        let first = Load {
            lanes: 1,
            rate: None,
            ..load
        };
        let (seen, ..) = first.send(contender.target(), requests[..1].to_vec(), || ());
        assert_eq!(
            seen.statuses.get(&200),
            Some(&1),
            "{}: the first of the replays",
            contender.name
        );
    }
    let arrived = backend.requests();
    let (seen, before, after) = load.send(contender.target(), requests, || contender.cpu_times());
    // The backend's own count includes the question.
    let arrived = backend.requests() - arrived - 1;

    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    let parts: Vec<_> = std::iter::zip(before, after)
        .map(|((role, before), (_, after))| (role, each(after - before)))
        .collect();
    let at = |quantile: f64| seen.latency.value_at_quantile(quantile) as f64 / 1e3;
    Sample {
        cpu: parts.iter().map(|(_, cpu)| cpu).sum(),
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        rate: count as f64 / seen.took.as_secs_f64(),
        load_cpu: each(seen.cpu),
        reconnects: seen.connections as f64 / count as f64,
        fault: fault(contender, kind, count as u64, &seen, arrived),
        parts,
    }
}

/// A figure counts only where every request had the answer that was due, and the backend heard of
/// exactly those that were let through.
fn fault(
    contender: &Contender,
    kind: Kind,
    count: u64,
    seen: &Seen,
    arrived: u64,
) -> Option<String> {
    let passes = kind == Kind::Accepted || contender.checks == Checks::Nothing;
    let (status, due) = if passes { (200, count) } else { (401, 0) };
    if seen.statuses.get(&status) != Some(&count) {
        let refusals = contender.refusals();
        return Some(format!(
            "{count} × {status} were due: {:?}, {} unanswered{refusals}",
            seen.statuses, seen.unanswered
        ));
    }
    (arrived != due).then(|| format!("{arrived} requests reached the backend, not {due}"))
}
