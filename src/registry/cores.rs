//! The work of a load, on all cores.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

/// Maps the items in their order, on all cores, with at least `share` items for each thread. If no
/// thread can be started, the calling thread does the work.
pub(super) fn on_all_cores<T: Sync, R: Send>(
    items: &[T],
    share: usize,
    map: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let share = items.len().div_ceil(cores).max(share);
    if items.len() <= share {
        return items.iter().map(map).collect();
    }
    let map = &map;
    thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(share)
            .map(|part| {
                let work = move || part.iter().map(map).collect::<Vec<R>>();
                let thread = thread::Builder::new().name("registry-load".into());
                thread.spawn_scoped(scope, work).map_err(|_| work())
            })
            .collect();
        let mut results = Vec::with_capacity(items.len());
        for part in parts {
            results.extend(match part {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(done) => done,
            });
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [0, 1, 15, 16, 17, 1000] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(on_all_cores(&items, 16, |item| *item), items);
        }
    }
}
