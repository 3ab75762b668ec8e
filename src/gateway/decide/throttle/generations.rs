//! A map of two generations, bounded without a clock and without a search. An entry that is used
//! moves to the young generation. When that is full, the old generation goes, with its unused
//! entries.

use std::collections::HashMap;
use std::hash::Hash;

/// Most entries of a generation: sources, or pairs of source and machine. Beyond it the ones not
/// heard of for longest make room.
const GENERATION: usize = 4096;

#[derive(Debug)]
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Generations<K, V> {
        Generations {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Generations<K, V> {
    /// The value of a key, which stays in its generation.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// The value of a key, or else a new one. It moves to the young generation.
    pub(super) fn get_or_insert(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if self.young.len() >= GENERATION && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        let old = self.old.remove(&key);
        self.young
            .entry(key)
            .or_insert_with(|| old.unwrap_or_else(make))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_makes_room() {
        let mut map = Generations::default();
        map.get_or_insert(0, || "stays");
        map.get_or_insert(1, || "goes");
        for key in 2..10 * GENERATION {
            map.get_or_insert(key, || "other");
            assert_eq!(*map.get_or_insert(0, || "new"), "stays");
        }
        assert_eq!(map.get(&1), None);
        assert!(map.young.len() + map.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn a_value_survives_one_change_of_generations() {
        let mut map = Generations::default();
        map.get_or_insert(0, || "here");
        for key in 1..=GENERATION {
            map.get_or_insert(key, || "other");
        }
        assert!(!map.young.contains_key(&0));
        assert_eq!(map.get(&0), Some(&"here"));
    }
}
