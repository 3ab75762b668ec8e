//! The limit of connections for each source.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gateway::SourceKey;

/// The open connections of all sources. Only a source with a connection has an entry, so the limit
/// of all connections bounds the map.
#[derive(Debug)]
pub(crate) struct Sources {
    open: Mutex<HashMap<SourceKey, usize>>,
    limit: usize,
}

/// One connection of a source, for as long as it lives.
#[derive(Debug)]
pub(crate) struct SourceSlot {
    sources: Arc<Sources>,
    source: SourceKey,
}

impl Sources {
    pub(crate) fn new(limit: usize) -> Arc<Sources> {
        Arc::new(Sources {
            open: Mutex::default(),
            limit,
        })
    }

    /// A slot for one more connection; `None` where the source has as many as the limit.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<SourceSlot> {
        let source = SourceKey::of(address);
        let mut open = self.open();
        let count = open.entry(source).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(SourceSlot {
            sources: Arc::clone(self),
            source,
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SourceKey, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SourceSlot {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.sources.open().entry(self.source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_no_more_places_than_the_limit_and_gets_them_back() {
        let sources = Sources::new(2);
        let one = sources.enter(address("192.0.2.1"));
        let two = sources.enter(address("192.0.2.1"));
        assert!(one.is_some() && two.is_some());
        assert!(sources.enter(address("192.0.2.1")).is_none());
        drop(one);
        assert!(sources.enter(address("192.0.2.1")).is_some());
    }

    #[test]
    fn each_source_has_its_own() {
        let sources = Sources::new(1);
        let _one = sources.enter(address("2001:db8::1")).unwrap();
        assert!(sources.enter(address("2001:db8::2")).is_none());
        assert!(sources.enter(address("2001:db8:1::1")).is_some());
    }

    #[test]
    fn a_source_without_connections_is_forgotten() {
        let sources = Sources::new(1);
        drop(sources.enter(address("192.0.2.1")));
        assert!(sources.open().is_empty());
    }
}
