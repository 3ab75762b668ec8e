//! When machines will be refused because of their dates. Looking through a hundred thousand machines
//! takes milliseconds, so it is done once for each registry and never for a request.

use std::sync::{Arc, Mutex, PoisonError};

use crate::registry::Registry;
use countersign_core::identity::{Fingerprint, Machine};

/// The dates of one registry.
#[derive(Default)]
pub(crate) struct ExpiryIndex {
    /// The dates of enabled machines and of their keys, the earliest first.
    ends: Vec<ExpiryEnd>,
    /// The first second in which each enabled machine that expires is refused, sorted.
    last_ends: Vec<u64>,
    pub(super) disabled: usize,
}

/// The end of a machine or of one of its keys.
pub(super) struct ExpiryEnd {
    /// The first second after it, in Unix seconds.
    pub(super) at: u64,
    pub(super) machine: Arc<Machine>,
    /// The key; `None` if the machine itself expires.
    pub(super) key: Option<Fingerprint>,
    /// Whether the machine is refused from then on.
    pub(super) is_last: bool,
}

/// The index of the last registry that was looked through.
#[derive(Default)]
pub(crate) struct ExpiryCache(Mutex<Option<(Arc<Registry>, Arc<ExpiryIndex>)>>);

impl ExpiryCache {
    /// The index of this registry. It blocks where the registry is new.
    pub(crate) fn of(&self, registry: &Arc<Registry>) -> Arc<ExpiryIndex> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, index)) = &*known
            && Arc::ptr_eq(of, registry)
        {
            return Arc::clone(index);
        }
        let index = Arc::new(ExpiryIndex::new(registry.machines()));
        *known = Some((Arc::clone(registry), Arc::clone(&index)));
        index
    }
}

impl ExpiryIndex {
    fn new<'m>(machines: impl Iterator<Item = &'m Arc<Machine>>) -> ExpiryIndex {
        let mut index = ExpiryIndex::default();
        for machine in machines {
            match machine.enabled {
                true => index.add(machine),
                false => index.disabled += 1,
            }
        }
        index
            .ends
            .sort_by(|a, b| (a.at, &a.machine.id).cmp(&(b.at, &b.machine.id)));
        index.last_ends.sort_unstable();
        index
    }

    fn add(&mut self, machine: &Arc<Machine>) {
        // The last second of a key's validity counts; that of a machine's does not.
        let key_ends = || {
            machine.keys.iter().map(|key| {
                let end = key.validity.not_after();
                (key, end.map(|last| last.saturating_add(1)))
            })
        };
        let of_keys = (key_ends().map(|(_, end)| end)).max_by_key(|end| end.unwrap_or(u64::MAX));
        let last = [machine.expires, of_keys.flatten()]
            .into_iter()
            .flatten()
            .min();
        let Some(last) = last else {
            // Keys may end all the same, beside one that does not.
            return self.add_ends(machine, key_ends(), None);
        };
        self.last_ends.push(last);
        if machine.expires == Some(last) {
            self.ends.push(ExpiryEnd {
                at: last,
                machine: Arc::clone(machine),
                key: None,
                is_last: true,
            });
        }
        self.add_ends(machine, key_ends(), Some(last));
    }

    /// Adds the ends of keys that matter: those until the machine's own end.
    fn add_ends<'k>(
        &mut self,
        machine: &Arc<Machine>,
        ends: impl Iterator<Item = (&'k countersign_core::identity::MachineKey, Option<u64>)>,
        last: Option<u64>,
    ) {
        for (key, end) in ends {
            let Some(at) = end.filter(|at| last.is_none_or(|last| *at <= last)) else {
                continue;
            };
            self.ends.push(ExpiryEnd {
                at,
                machine: Arc::clone(machine),
                key: Some(key.public.fingerprint()),
                is_last: last == Some(at),
            });
        }
    }

    /// How many enabled machines are refused at `now` because of their dates.
    pub(super) fn expired(&self, now: u64) -> usize {
        self.last_ends.partition_point(|end| *end <= now)
    }

    /// How many enabled machines will be refused within so many seconds.
    pub(crate) fn within(&self, now: u64, seconds: u64) -> usize {
        let until = now.saturating_add(seconds);
        let ended = self.last_ends.partition_point(|end| *end <= until);
        ended - self.expired(now)
    }

    /// The ends within so many seconds, the earliest first.
    pub(super) fn ends(&self, now: u64, seconds: u64) -> &[ExpiryEnd] {
        let until = now.saturating_add(seconds);
        let from = self.ends.partition_point(|end| end.at <= now);
        let to = self.ends.partition_point(|end| end.at <= until);
        &self.ends[from..to]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::path::Path;

    use base64::Engine;

    use super::*;

    const NOW: u64 = 1_800_000_000; // 2027-01-15T08:00:00Z
    const DAY: u64 = 86_400;

    fn key(seed: u8) -> String {
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key();
        base64::engine::general_purpose::STANDARD.encode(key.as_bytes())
    }

    fn index(machines: &str) -> ExpiryIndex {
        let text = format!("machines:\n{machines}");
        let registry = Registry::from_bytes(Path::new("m.yaml"), text.as_bytes(), None);
        let registry = registry.unwrap_or_else(|mistakes| unreachable!("{mistakes}"));
        ExpiryIndex::new(registry.machines())
    }

    fn rows(index: &ExpiryIndex) -> Vec<(String, bool, bool, u64)> {
        let row = |end: &ExpiryEnd| {
            let id = end.machine.id.as_str().to_owned();
            (id, end.key.is_some(), end.is_last, end.at - NOW)
        };
        index.ends(NOW, 7 * DAY).iter().map(row).collect()
    }

    #[test]
    fn a_machine_that_expires_is_counted_by_how_soon() {
        let index = index(&format!(
            "  - {{ id: a, expires: 2027-01-15T18:00:00Z, public_keys: ['{}'] }}\n  \
               - {{ id: b, expires: 2027-01-20, public_keys: ['{}'] }}\n  \
               - {{ id: c, expires: 2027-01-15T08:00:00Z, public_keys: ['{}'] }}\n  \
               - {{ id: d, enabled: false, expires: 2027-01-16, public_keys: ['{}'] }}\n  \
               - {{ id: e, public_keys: ['{}'] }}\n",
            key(1),
            key(2),
            key(3),
            key(4),
            key(5)
        ));
        assert_eq!((index.within(NOW, DAY), index.within(NOW, 7 * DAY)), (1, 2));
        assert_eq!((index.expired(NOW), index.disabled), (1, 1));
        let ids: Vec<_> = rows(&index).into_iter().map(|row| row.0).collect();
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn a_key_beside_another_is_listed_and_does_not_count_as_a_machine() {
        let index = index(&format!(
            "  - id: a\n    public_keys:\n      \
               - {{ key: '{}', not_after: 2027-01-15T08:00:09Z }}\n      - '{}'\n",
            key(1),
            key(2)
        ));
        assert_eq!(rows(&index), [("a".to_owned(), true, false, 10)]);
        assert_eq!(index.within(NOW, 7 * DAY), 0);
    }

    #[test]
    fn the_last_of_the_keys_ends_the_machine() {
        let index = index(&format!(
            "  - id: a\n    public_keys:\n      \
               - {{ key: '{}', not_after: 2027-01-15T08:00:09Z }}\n      \
               - {{ key: '{}', not_after: 2027-01-15T08:00:19Z }}\n",
            key(1),
            key(2)
        ));
        let expected = [
            ("a".to_owned(), true, false, 10),
            ("a".to_owned(), true, true, 20),
        ];
        assert_eq!(rows(&index), expected);
        assert_eq!(index.within(NOW, DAY), 1);
    }

    #[test]
    fn what_ends_after_its_machine_does_not_matter() {
        let index = index(&format!(
            "  - id: a\n    expires: 2027-01-15T08:00:10Z\n    public_keys:\n      \
               - {{ key: '{}', not_after: 2027-01-15T09:00:00Z }}\n",
            key(1)
        ));
        assert_eq!(rows(&index), [("a".to_owned(), false, true, 10)]);
    }

    #[test]
    fn a_registry_is_looked_through_once() {
        let cache = ExpiryCache::default();
        let (one, other) = (Arc::new(Registry::default()), Arc::new(Registry::default()));
        let first = cache.of(&one);
        assert!(Arc::ptr_eq(&first, &cache.of(&one)));
        assert!(!Arc::ptr_eq(&first, &cache.of(&other)));
    }
}
