//! A map that is bounded without a clock and without a search: two generations. What is asked for
//! moves to the young one; when that is full, the old one goes, with all that nobody asked for.

use std::collections::HashMap;
use std::hash::Hash;

use super::GENERATION;

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
    /// What is known under a key. It keeps its place.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// What is known under a key, or else what is made for it. It is young again.
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
