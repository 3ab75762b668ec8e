//! The report of a run, in Markdown.

use crate::contender::{BARE, Contender, ENFORCE, NGINX_AUTH, REDIS, UNTHROTTLED};
use crate::load::PLAIN;
use crate::run::{Results, Run};
use crate::signature::Signatures;
use crate::table::{markdown, median, spread, table};
use crate::verdicts::verdicts;

/// Percent of the cores that others may take for the figures to be worth quoting.
const MOST_BY_OTHERS: f64 = 3.0;

const BUSY: &str =
    "**Provisional: other programs ran on the same cores. Do not quote these figures.**\n\n";

/// The whole of it.
pub(crate) fn report(machine: &str, run: &Run, results: &Results) -> String {
    let extent = run.extent;
    let idle = run
        .contenders
        .iter()
        .find(|contender| contender.name == ENFORCE);
    let idle = idle.map_or(0, |contender| contender.idle);
    let targets = verdicts(results, idle);
    let signature = |of: fn(&Signatures) -> f64| {
        let all: Vec<f64> = results.signatures.iter().map(of).collect();
        format!("{:.1} µs ({})", median(all.clone()), spread(&all))
    };
    let (alone, together) = (signature(|s| s.alone), signature(|s| s.together));
    let main = table("", &results.main);
    let open_loop = table("", &results.open_loop);
    let refused = table("requests", &results.refused);
    let bodies = table("body", &results.bodies);
    let encrypted = table("protocol", &results.encrypted);
    let memory = memory(&run.contenders);
    let is_busy = results
        .others
        .iter()
        .any(|&percent| percent > MOST_BY_OTHERS);
    let warning = if is_busy { BUSY } else { "" };
    let faults = match &results.faults[..] {
        [] => "None.".to_owned(),
        faults => faults.iter().map(|fault| format!("- {fault}\n")).collect(),
    };
    format!(
        "# Side by side

Written by `make bench`; README.md says how to read it. Figures of one run on one machine: compare them with each other, not
with those of another run.

{warning}{machine}- others took {before:.1} % of the cores before the run and {after:.1} % after it
- {rounds} rounds of {requests} requests in the main table, {side} rounds in the others; {lanes} requests in flight; medians
  of the rounds, and the least and the greatest of them

## Targets

One `verify_strict`, measured before each round: {alone} on one core, the others idle; {together} with all cores at it, as\nthey are under load.

{targets}
## Bodyless requests, HTTP/1.1

All of them accepted. A closed loop on cores that load, backend and contender share: the latencies are those of a
machine that is busy all the time.

{main}
`{REDIS}`, `{NGINX_AUTH}` and the like count every process they need. `{BARE}` keeps no log.

## Open loop

{rate:.0} requests a second, half of what `{ENFORCE}` can do, {seconds} s in all; latencies from when a request was due.

{open_loop}
## Refusals

`{UNTHROTTLED}` is the gateway with `failures_per_minute: 0`, which would otherwise answer 429 after a hundred. It closes an
HTTP/1.1 connection after a refusal, except of a replay, so such a request includes a connection; HTTP/2 shows it without.

{refused}
## Bodies

HTTP/1.1, `POST`. `{NGINX_AUTH}` is not here: nginx gives the verifier no body, so it cannot check what was signed. The gateway and
`ext_authz` hash and hold the whole body before they forward it.

{bodies}
## TLS and HTTP/2

Connections that are kept, so without handshakes; HTTP/2 with eight streams on each.

{encrypted}
## Memory

Resident, in MB, of all processes of a contender, pages that they share counted for each. The end is after bodies of 1 MiB, 32 at once;
`make bench-memory` is about growth.

{memory}
## Samples taken again

{faults}
",
        before = results.others[0],
        after = results.others[1],
        lanes = PLAIN.lanes,
        rounds = extent.rounds,
        requests = extent.requests,
        side = extent.side_rounds,
        seconds = extent.seconds,
        rate = results.open_rate,
    )
}

fn memory(contenders: &[Contender]) -> String {
    let rows = contenders.iter().map(|contender| {
        let (idle, now) = (contender.idle as f64, contender.resident() as f64);
        let live = contender.live_nonces().filter(|&live| live > 0);
        vec![
            contender.name.to_owned(),
            format!("{:.1}", idle / 1e6),
            format!("{:.1}", now / 1e6),
            live.map(|live| live.to_string()).unwrap_or_default(),
        ]
    });
    let head = [
        "contender",
        "after its first request",
        "at the end",
        "live nonces",
    ];
    markdown(&head, &rows.collect::<Vec<_>>())
}
