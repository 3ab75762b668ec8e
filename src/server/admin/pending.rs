//! The connections that have sent no complete request: of too many the oldest gives way, so that
//! idle ones cannot keep a new one out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The pending connections, at most `limit` of them.
#[derive(Debug)]
pub(crate) struct PendingConnections {
    limit: usize,
    connections: Mutex<VecDeque<(u64, CancellationToken)>>,
}

/// One connection, while it is pending.
#[derive(Debug)]
pub(crate) struct PendingConnection {
    number: u64,
    over: CancellationToken,
    all: Arc<PendingConnections>,
}

impl PendingConnections {
    pub(crate) fn new(limit: usize) -> Arc<PendingConnections> {
        Arc::new(PendingConnections {
            limit,
            connections: Mutex::default(),
        })
    }

    /// Adds a connection. Where the limit is reached, the oldest has to give way.
    pub(crate) fn enter(self: &Arc<Self>) -> PendingConnection {
        let over = CancellationToken::new();
        let mut connections = self.connections();
        if connections.len() >= self.limit
            && let Some((_, oldest)) = connections.pop_front()
        {
            oldest.cancel();
        }
        let number = connections.back().map_or(0, |(last, _)| last + 1);
        connections.push_back((number, over.clone()));
        PendingConnection {
            number,
            over,
            all: Arc::clone(self),
        }
    }

    fn connections(&self) -> MutexGuard<'_, VecDeque<(u64, CancellationToken)>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingConnection {
    /// Waits until this connection has to give way.
    pub(crate) async fn gave_way(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        // Numbers rise; one that gave way is there no more.
        if !self.over.is_cancelled() {
            let mut connections = self.all.connections();
            if let Ok(at) = connections.binary_search_by_key(&self.number, |(number, _)| *number) {
                connections.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(connections: &[PendingConnection]) -> Vec<bool> {
        connections
            .iter()
            .map(|turn| turn.over.is_cancelled())
            .collect()
    }

    #[test]
    fn the_oldest_gives_way_to_the_newest() {
        let pending = PendingConnections::new(3);
        let connections: Vec<PendingConnection> = (0..5).map(|_| pending.enter()).collect();
        assert_eq!(over(&connections), [true, true, false, false, false]);
    }

    #[test]
    fn one_that_no_longer_waits_makes_room() {
        let pending = PendingConnections::new(2);
        let first = pending.enter();
        let second = pending.enter();
        drop(second);
        let third = pending.enter();
        assert_eq!(over(&[first, third]), [false, false]);
        assert!(pending.connections().is_empty());
    }

    #[test]
    fn one_that_gave_way_takes_nobody_with_it() {
        let pending = PendingConnections::new(1);
        let first = pending.enter();
        let second = pending.enter();
        drop(first);
        assert_eq!(pending.connections().len(), 1);
        assert_eq!(over(&[second]), [false]);
    }
}
