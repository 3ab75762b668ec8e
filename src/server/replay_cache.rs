//! The replay cache of a server: in memory, with a journal, or shared through Redis.

use std::sync::Arc;

use tracing::warn;

use super::start_error::StartError;
use crate::config::Config;
use crate::gateway::window;
use crate::metrics::Metrics;
use crate::nonces::{JournaledNonces, MemoryNonces, NonceQuotas, SharedNonces};
use countersign_client::clock::Clock;
use countersign_core::replay::NonceStore;

/// The store that a server opened, or was handed.
pub(super) enum ReplayCache {
    Memory(Arc<MemoryNonces>),
    Journaled(Arc<JournaledNonces>),
    Shared(Arc<SharedNonces>),
    /// Handed in; it is neither counted nor closed here.
    Other(Arc<dyn NonceStore>),
}

impl ReplayCache {
    /// Opens the store that the configuration names.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the Redis settings have a mistake, or the directory cannot be used.
    pub(super) fn open(
        config: &Config,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Result<ReplayCache, StartError> {
        let (window, replay) = (window(config), &config.replay);
        let quotas = NonceQuotas {
            all: replay.quota,
            per_machine: replay.quota_per_machine,
        };
        if let Some(redis) = &replay.redis {
            SharedNonces::start(redis, window, quotas, clock.clone(), Arc::clone(metrics))
                .map(|nonces| ReplayCache::Shared(Arc::new(nonces)))
                .map_err(StartError::Configuration)
        } else if let Some(directory) = &replay.state_dir {
            JournaledNonces::start(directory, window, quotas, clock.clone())
                .map(|nonces| ReplayCache::Journaled(Arc::new(nonces)))
                .map_err(|error| {
                    StartError::System(format!(
                        "replay.state_dir: {error}; name a directory that this user may write to, \
                         or write none and accept that a restart forgets"
                    ))
                })
        } else {
            warn!(
                "replay.state_dir is none: a restart empties the replay cache. Requests stamped before \
                 it are refused; requests stamped ahead of this clock could be replayed"
            );
            MemoryNonces::new(window, quotas, clock.clone())
                .map(|nonces| ReplayCache::Memory(Arc::new(nonces)))
                .map_err(|error| {
                    StartError::System(format!(
                        "cannot start the thread that maintains the replay cache: {error}"
                    ))
                })
        }
    }

    pub(super) fn store(&self) -> Arc<dyn NonceStore> {
        match self {
            ReplayCache::Memory(nonces) => Arc::<MemoryNonces>::clone(nonces),
            ReplayCache::Journaled(nonces) => Arc::<JournaledNonces>::clone(nonces),
            ReplayCache::Shared(nonces) => Arc::<SharedNonces>::clone(nonces),
            ReplayCache::Other(nonces) => Arc::clone(nonces),
        }
    }

    /// The number of live nonces, where it is known.
    pub(super) fn live(&self) -> Option<u64> {
        match self {
            ReplayCache::Memory(nonces) => Some(nonces.live()),
            ReplayCache::Journaled(nonces) => Some(nonces.live()),
            ReplayCache::Shared(nonces) => Some(nonces.live()),
            ReplayCache::Other(_) => None,
        }
    }

    /// Closes the store, once no request is in flight any more.
    pub(super) fn close(&self) {
        if let ReplayCache::Journaled(nonces) = self {
            nonces.close();
        }
    }
}
