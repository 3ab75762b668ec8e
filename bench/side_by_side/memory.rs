//! The gateway's memory under a long load: it may grow by the live nonces, and by nothing else.

use std::time::Instant;

use bytes::Bytes;

use crate::backend::Backend;
use crate::contender::ENFORCE;
use crate::load::PLAIN;
use crate::measure::measure;
use crate::requests::{Kind, Signer};
use crate::stage::Stage;

/// Signed and sent at a time.
const BATCH: u64 = 10_000;

/// Lines of the table.
const LINES: u64 = 20;

/// Sends so many good requests, and prints as they go what the gateway has grown by. Nonces live
/// for 80 seconds here, so that their number stands still in the second half of a run of five
/// minutes.
pub(crate) fn watch(requests: u64) {
    let backend = Backend::start();
    let stage = Stage {
        backend: backend.address,
        envoy: None,
    };
    let gateway = stage.countersign(ENFORCE, "enforce", "state_dir: none, window: 10s");
    let mut signer = Signer::new(Bytes::new());
    let began = Instant::now();
    println!(
        "| seconds | requests | resident MB | live nonces | bytes grown, for each live nonce | for each request |"
    );
    println!("|---|---|---|---|---|---|");
    let (mut sent, mut line, mut half) = (0, 0, None);
    while sent < requests {
        let count = BATCH.min(requests - sent);
        let sample = measure(
            &gateway,
            &backend,
            PLAIN,
            (Kind::Accepted, count as usize),
            &mut signer,
        );
        if let Some(fault) = sample.fault {
            panic!("{fault}");
        }
        sent += count;
        if sent * LINES / requests > line {
            line = sent * LINES / requests;
            let (resident, live) = (gateway.resident(), gateway.live_nonces().unwrap_or(0));
            let grown = resident.saturating_sub(gateway.idle) as f64;
            if line >= LINES / 2 {
                half = half.or(Some((sent, resident, live)));
            }
            println!(
                "| {:.0} | {sent} | {:.1} | {live} | {:.0} | {:.0} |",
                began.elapsed().as_secs_f64(),
                resident as f64 / 1e6,
                grown / live as f64,
                grown / sent as f64
            );
        }
    }
    let (at, resident, live) = half.unwrap();
    let grown = gateway.resident() as f64 - resident as f64;
    println!(
        "\nIn the second half, {} requests: {:+.1} MB, {:.1} bytes a request; live nonces {:+}",
        sent - at,
        grown / 1e6,
        grown / (sent - at) as f64,
        gateway.live_nonces().unwrap_or(0) as i64 - live as i64
    );
}
