//! Smooth weighted round robin, as in nginx. Of three servers with weights 5, 1, 1 the first gets
//! five requests of seven, and not five in a row.

/// The credit of each server. Each choice adds to every candidate its weight, and takes the sum of
/// the weights from the chosen one. So the sum of the credits never changes, and no credit leaves
/// the range of a few times the sum of the weights.
#[derive(Debug)]
pub(super) struct RoundRobin {
    credits: Vec<i64>,
}

impl RoundRobin {
    pub(super) fn new(servers: usize) -> RoundRobin {
        RoundRobin {
            credits: vec![0; servers],
        }
    }

    /// Chooses one of the candidates, each an index with a weight; `None` if there is none.
    pub(super) fn choose(
        &mut self,
        candidates: impl Iterator<Item = (usize, u32)>,
    ) -> Option<usize> {
        let mut total = 0;
        let mut best = None;
        for (index, weight) in candidates {
            total += i64::from(weight);
            self.credits[index] += i64::from(weight);
            // The first of equals, so that servers of one weight take turns in their order.
            if best.is_none_or(|best: usize| self.credits[index] > self.credits[best]) {
                best = Some(index);
            }
        }
        let best = best?;
        self.credits[best] -= total;
        Some(best)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choices(weights: &[u32], count: usize) -> Vec<usize> {
        let mut round_robin = RoundRobin::new(weights.len());
        let all = || weights.iter().copied().enumerate();
        (0..count)
            .map(|_| round_robin.choose(all()).unwrap())
            .collect()
    }

    #[test]
    fn equals_take_turns_in_their_order() {
        assert_eq!(choices(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_heavy_one_gets_its_share_and_not_all_of_it_in_a_row() {
        assert_eq!(choices(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn nobody_is_chosen_of_none() {
        assert_eq!(RoundRobin::new(2).choose(std::iter::empty()), None);
    }

    #[test]
    fn who_was_away_is_not_owed_for_it() {
        let mut round_robin = RoundRobin::new(2);
        for _ in 0..100 {
            assert_eq!(round_robin.choose([(0, 1)].into_iter()), Some(0));
        }
        let both = || [(0, 1), (1, 1)].into_iter();
        let next: Vec<_> = (0..4)
            .map(|_| round_robin.choose(both()).unwrap())
            .collect();
        assert_eq!(next, [0, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn in_every_full_round_each_gets_exactly_its_weight(
            weights in prop::collection::vec(1u32..=100, 1..8), rounds in 1usize..4,
        ) {
            let total: u32 = weights.iter().sum();
            let chosen = choices(&weights, total as usize * rounds);
            for (index, weight) in weights.iter().enumerate() {
                let share = chosen.iter().filter(|&&server| server == index).count();
                prop_assert_eq!(share, *weight as usize * rounds);
            }
        }

        #[test]
        fn credits_stay_within_the_sum_of_the_weights(
            weights in prop::collection::vec(1u32..=100, 1..8),
            absent in prop::collection::vec(any::<u8>(), 200),
        ) {
            let mut round_robin = RoundRobin::new(weights.len());
            let total: i64 = weights.iter().copied().map(i64::from).sum();
            for away in absent {
                let there = |(index, _): &(usize, u32)| away >> (index % 8) & 1 == 0;
                round_robin.choose(weights.iter().copied().enumerate().filter(there));
                prop_assert!(round_robin.credits.iter().all(|credit| credit.abs() <= 2 * total));
            }
        }
    }
}
