//! Bounded counts: clients choose the keys, so a bounded number of them is kept.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Values of at most `most` keys. Further keys are counted together, so that the sum is always
/// right.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    most: usize,
    places: HashMap<K, usize>,
    values: Vec<V>,
    left_out: u64,
}

impl<K: Hash + Eq, V: Default> Bounded<K, V> {
    pub(super) fn of(most: usize) -> Bounded<K, V> {
        Bounded {
            most,
            places: HashMap::new(),
            values: Vec::new(),
            left_out: 0,
        }
    }

    /// The place of a key's value. `None`, and counted, where there is no room for another key.
    pub(super) fn place<Q>(&mut self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(place) = self.places.get(key) {
            return Some(*place);
        }
        if self.values.len() >= self.most {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        Some(self.add(key.to_owned()))
    }

    /// The value at a place that [`Bounded::place`] gave.
    pub(super) fn at(&mut self, place: Option<usize>) -> Option<&mut V> {
        self.values.get_mut(place?)
    }

    /// Reserves room for a key and adds it.
    pub(super) fn expect(&mut self, key: K) -> &mut V {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => {
                self.most = self.most.saturating_add(1);
                self.add(key)
            }
        };
        &mut self.values[place]
    }

    fn add(&mut self, key: K) -> usize {
        let place = self.values.len();
        self.places.insert(key, place);
        self.values.push(V::default());
        place
    }

    /// Keys with their values, in the order in which they came, and the count of the others.
    pub(super) fn into_parts(self) -> (Vec<(K, V)>, u64) {
        let mut keys: Vec<(K, usize)> = self.places.into_iter().collect();
        keys.sort_unstable_by_key(|(_, place)| *place);
        let keys = keys.into_iter().map(|(key, _)| key);
        (keys.zip(self.values).collect(), self.left_out)
    }
}

/// The first few different values, and whether there were more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Few<T> {
    /// At most [`Few::MOST`], in the order in which they came.
    pub values: Vec<T>,
    /// There were others.
    pub more: bool,
}

impl<T> Few<T> {
    /// Most values kept: enough to see where a token is used, or that it is used everywhere.
    pub const MOST: usize = 8;
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few {
            values: Vec::new(),
            more: false,
        }
    }
}

impl<T> Few<T> {
    pub(super) fn map<U>(self, to: impl Fn(T) -> U) -> Few<U> {
        Few {
            values: self.values.into_iter().map(to).collect(),
            more: self.more,
        }
    }
}

impl<T: PartialEq> Few<T> {
    pub(super) fn note(&mut self, value: T) {
        if self.values.contains(&value) {
            return;
        }
        match self.values.len() < Self::MOST {
            true => self.values.push(value),
            false => self.more = true,
        }
    }
}

/// At most `most` bytes of a text, in whole characters; one ellipsis marks a cut.
pub(super) fn capped(text: &str, most: usize) -> String {
    match text.len() <= most {
        true => text.to_owned(),
        false => {
            let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
            let end = ends.take_while(|end| *end <= most).last().unwrap_or(0);
            format!("{}\u{2026}", &text[..end])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(keys: impl IntoIterator<Item = u32>) -> (Vec<(u32, u64)>, u64) {
        let mut bounded = Bounded::<u32, u64>::of(2);
        for key in keys {
            let place = bounded.place(&key);
            if let Some(count) = bounded.at(place) {
                *count += 1;
            }
        }
        bounded.into_parts()
    }

    #[test]
    fn up_to_its_bound_each_key_is_counted() {
        assert_eq!(counts([1, 2, 1]), (vec![(1, 2), (2, 1)], 0));
    }

    #[test]
    fn beyond_it_new_keys_are_counted_together_and_old_ones_as_before() {
        assert_eq!(counts([1, 2, 3, 4, 3, 1]), (vec![(1, 2), (2, 1)], 3));
    }

    #[test]
    fn what_is_expected_takes_no_room_from_the_others() {
        let mut bounded = Bounded::<u32, u64>::of(1);
        bounded.expect(7);
        bounded.expect(7);
        assert!(bounded.place(&1).is_some());
        assert!(bounded.place(&2).is_none());
        assert!(bounded.place(&7).is_some());
    }

    #[test]
    fn few_are_kept_once_each_and_the_rest_is_only_known_of() {
        let mut few = Few::default();
        for value in [1, 1, 2, 3, 4, 5, 6, 7, 8, 8] {
            few.note(value);
        }
        assert_eq!((few.values.len(), few.more), (8, false));
        few.note(9);
        assert_eq!((few.values.len(), few.more), (8, true));
    }

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!(capped("abc", 3), "abc");
        assert_eq!(capped("abcd", 3), "abc\u{2026}");
        assert_eq!(capped("a\u{e9}\u{e9}", 4), "a\u{e9}\u{2026}");
    }
}
