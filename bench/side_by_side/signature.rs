//! What one signature check costs, the measure of everything else.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use ed25519_dalek::Signer;
use nix::time::{ClockId, clock_gettime};

use crate::support::key;
use crate::table::median;

/// One `verify_strict`, in microseconds.
pub(crate) struct Signatures {
    /// On one core, the others idle.
    pub(crate) alone: f64,
    /// On every core at once, as in a server under load. Where cores share something (a clock,
    /// caches, the units of one physical core), each check takes longer.
    pub(crate) together: f64,
}

impl Signatures {
    /// Measures it, some 50 ms each.
    pub(crate) fn measure() -> Signatures {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let together = thread::scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(one_thread)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        Signatures {
            alone: one_thread(),
            together: median(together),
        }
    }
}

/// The median of batches.
fn one_thread() -> f64 {
    const BATCHES: usize = 20;
    const TIMES: u32 = 250;
    let message = [b'a'; 160];
    let (signature, public) = (key().sign(&message), key().verifying_key());
    let batch = || {
        let start = thread_time();
        for _ in 0..TIMES {
            let verified = public.verify_strict(black_box(&message), &signature);
            assert!(black_box(verified).is_ok());
        }
        (thread_time() - start).as_secs_f64() * 1e6 / f64::from(TIMES)
    };
    median((0..BATCHES).map(|_| batch()).collect())
}

/// CPU time of this thread: what other programs take of its core meanwhile is not the signature's.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}
