//! A start's work on all cores: with a full store, reading it again is what a start waits for.

use std::num::NonZero;
use std::thread;

/// Has `work` done on parts of `all`, at once, and gives what came of them, in order.
pub(super) fn in_parts<T: Sync, R: Send>(all: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let part = all.len().div_ceil(cores).max(1);
    thread::scope(|scope| {
        let work = &work;
        let spawn = |part| scope.spawn(move || work(part));
        let workers: Vec<_> = all.chunks(part).map(spawn).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, R>| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_and_in_order() {
        for length in [0, 1, 2, 3, 1000] {
            let all: Vec<usize> = (0..length).collect();
            let done = in_parts(&all, <[usize]>::to_vec).concat();
            assert_eq!(done, all);
        }
    }
}
