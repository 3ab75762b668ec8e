//! The connections that have sent no request yet: when there are too many, the oldest gives way, so
//! that half-open ones cannot keep a new one out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// At most so many; the rest is up to those that come.
#[derive(Debug)]
pub(crate) struct Waiting {
    limit: usize,
    turns: Mutex<VecDeque<(u64, CancellationToken)>>,
}

/// One connection's, for as long as it waits.
#[derive(Debug)]
pub(crate) struct Turn {
    number: u64,
    over: CancellationToken,
    all: Arc<Waiting>,
}

impl Waiting {
    pub(crate) fn new(limit: usize) -> Arc<Waiting> {
        Arc::new(Waiting {
            limit,
            turns: Mutex::default(),
        })
    }

    /// Begins to wait. Where the limit is reached, the one that has waited longest is told to end.
    pub(crate) fn enter(self: &Arc<Self>) -> Turn {
        let over = CancellationToken::new();
        let mut turns = self.turns();
        if turns.len() >= self.limit
            && let Some((_, oldest)) = turns.pop_front()
        {
            oldest.cancel();
        }
        let number = turns.back().map_or(0, |(last, _)| last + 1);
        turns.push_back((number, over.clone()));
        Turn {
            number,
            over,
            all: Arc::clone(self),
        }
    }

    fn turns(&self) -> MutexGuard<'_, VecDeque<(u64, CancellationToken)>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Waits until this one has to give way, for ever if it does not.
    pub(crate) async fn is_over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Numbers rise; one that gave way is there no more.
        if !self.over.is_cancelled() {
            let mut turns = self.all.turns();
            if let Ok(at) = turns.binary_search_by_key(&self.number, |(number, _)| *number) {
                turns.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(turns: &[Turn]) -> Vec<bool> {
        turns.iter().map(|turn| turn.over.is_cancelled()).collect()
    }

    #[test]
    fn the_oldest_gives_way_to_the_newest() {
        let waiting = Waiting::new(3);
        let turns: Vec<Turn> = (0..5).map(|_| waiting.enter()).collect();
        assert_eq!(over(&turns), [true, true, false, false, false]);
    }

    #[test]
    fn one_that_no_longer_waits_makes_room() {
        let waiting = Waiting::new(2);
        let first = waiting.enter();
        let second = waiting.enter();
        drop(second);
        let third = waiting.enter();
        assert_eq!(over(&[first, third]), [false, false]);
        assert!(waiting.turns().is_empty());
    }

    #[test]
    fn one_that_gave_way_takes_nobody_with_it() {
        let waiting = Waiting::new(1);
        let first = waiting.enter();
        let second = waiting.enter();
        drop(first);
        assert_eq!(waiting.turns().len(), 1);
        assert_eq!(over(&[second]), [false]);
    }
}
