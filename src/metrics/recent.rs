//! The last few of a stream of numbers, and their median.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// The most recent numbers. Adding one is two atomic writes; readers pay for the rest. A reader
/// may meet a slot that is about to be written: it then sees the number before, which was recent
/// too.
pub(super) struct RecentNumbers {
    slots: [AtomicI64; SLOTS],
    added: AtomicUsize,
}

/// Enough that a handful of machines with wrong clocks does not move the median, few enough that
/// it follows a step of the gateway's clock within seconds.
const SLOTS: usize = 128;

impl RecentNumbers {
    pub(super) fn new() -> RecentNumbers {
        RecentNumbers {
            slots: [const { AtomicI64::new(0) }; SLOTS],
            added: AtomicUsize::new(0),
        }
    }

    pub(super) fn add(&self, number: i64) {
        // The count wraps to zero after more additions than there will be.
        let at = self.added.fetch_add(1, Ordering::Relaxed);
        self.slots[at % SLOTS].store(number, Ordering::Relaxed);
    }

    /// The middle one of the numbers in order, the lower of two; zero if there are none.
    pub(super) fn median(&self) -> i64 {
        let filled = self.added.load(Ordering::Relaxed).min(SLOTS);
        let mut numbers: Vec<i64> = self.slots[..filled]
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            .collect();
        numbers.sort_unstable();
        let middle = filled.saturating_sub(1) / 2;
        numbers.get(middle).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn median(numbers: impl IntoIterator<Item = i64>) -> i64 {
        let recent = RecentNumbers::new();
        numbers.into_iter().for_each(|number| recent.add(number));
        recent.median()
    }

    #[test]
    fn of_nothing_it_is_zero() {
        assert_eq!(median([]), 0);
    }

    #[test]
    fn of_one_it_is_that_one() {
        assert_eq!(median([-7]), -7);
    }

    #[test]
    fn of_two_it_is_the_lower() {
        assert_eq!(median([5, 3]), 3);
    }

    #[test]
    fn of_three_it_is_the_middle_one_in_any_order() {
        for numbers in [[1, 2, 30], [30, 1, 2], [2, 30, 1]] {
            assert_eq!(median(numbers), 2);
        }
    }

    #[test]
    fn a_minority_that_is_far_off_does_not_move_it() {
        let numbers = (0..128).map(|n| if n < 63 { 299 } else { 1 });
        assert_eq!(median(numbers), 1);
    }

    #[test]
    fn slots_that_were_never_filled_do_not_count() {
        assert_eq!(median([40, 40, 40]), 40);
    }

    #[test]
    fn after_as_many_as_there_are_slots_the_old_ones_are_gone() {
        let numbers = (0..SLOTS).map(|_| 1000).chain((0..SLOTS).map(|_| -2));
        assert_eq!(median(numbers), -2);
    }

    #[test]
    fn the_oldest_goes_first() {
        let numbers = (0..128).map(|_| 9).chain((0..65).map(|_| 1));
        assert_eq!(median(numbers), 1);
    }

    #[test]
    fn many_may_add_at_once() {
        let recent = RecentNumbers::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| recent.add(4)));
            }
        });
        assert_eq!(recent.median(), 4);
    }

    proptest! {
        #[test]
        fn half_are_no_greater_and_half_no_less(numbers in proptest::collection::vec(-300i64..=300, 1..128)) {
            let median = median(numbers.iter().copied());
            let no_greater = numbers.iter().filter(|&&n| n <= median).count();
            let no_less = numbers.iter().filter(|&&n| n >= median).count();
            prop_assert!(no_greater * 2 >= numbers.len() && no_less * 2 >= numbers.len());
            prop_assert!(numbers.contains(&median));
        }
    }
}
