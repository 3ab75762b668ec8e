//! The keys in force, as hashes: whether a new key is already some machine's.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::snapshot::Registry;

/// A set of keys by 64-bit hashes, which nobody outside can foresee. A million keys take some 16 MB.
/// "No" is certain; after a "yes" the registry is searched.
#[derive(Default)]
pub(super) struct KeyIndex {
    hashes: HashTable<u64>,
    hasher: RandomState,
}

impl KeyIndex {
    /// The keys of a registry; `None` if two of them have the same hash, and so are the same, but
    /// for a chance of one in a million.
    pub(super) fn of(registry: &Registry) -> Option<KeyIndex> {
        let mut index = KeyIndex {
            hashes: HashTable::with_capacity(registry.len()),
            hasher: RandomState::new(),
        };
        let keys = registry.machines().flat_map(|machine| &machine.keys);
        let mut is_good = true;
        for key in keys {
            is_good &= index.insert(key.public.as_bytes());
        }
        is_good.then_some(index)
    }

    pub(super) fn may_have(&self, key: &[u8; 32]) -> bool {
        let hash = self.hasher.hash_one(key);
        self.hashes.find(hash, |other| *other == hash).is_some()
    }

    /// Adds a key. `false` if one with its hash is there.
    pub(super) fn insert(&mut self, key: &[u8; 32]) -> bool {
        if self.may_have(key) {
            return false;
        }
        let hash = self.hasher.hash_one(key);
        self.hashes.insert_unique(hash, hash, |other| *other);
        true
    }

    pub(super) fn remove(&mut self, key: &[u8; 32]) {
        let hash = self.hasher.hash_one(key);
        if let Ok(found) = self.hashes.find_entry(hash, |other| *other == hash) {
            found.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{entry, registry};
    use super::*;

    #[test]
    fn the_index_has_the_keys_of_the_registry_and_no_other() {
        let registry = registry(&(entry("a", 1) + &entry("b", 2)));
        let key = |id| {
            *registry
                .find(id)
                .map_or(&[0; 32], |it| it.keys[0].public.as_bytes())
        };
        let mut index = KeyIndex::of(&registry).unwrap_or_default();
        assert!(index.may_have(&key("a")) && !index.may_have(&[7; 32]));
        assert!(!index.insert(&key("b")));
        index.remove(&key("a"));
        assert!(!index.may_have(&key("a")));
        assert!(index.insert(&key("a")));
    }
}
