//! The parts that calls to the registry need.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::management::body;
use crate::metrics::Metrics;
use crate::registry::{Operators, RegistryStore};
use countersign_client::clock::Clock;
use countersign_core::refusal::Refusal;

/// Changes that are made at once. Each holds its machines in memory and waits for the database;
/// beyond it calls are refused, so that a stuck database holds no more.
const MOST_CHANGES: usize = 64;

/// Pages of the log of changes that are read at once; further calls wait.
const MOST_LOG_READS: usize = 2;

/// Answers the calls to the registry.
pub(crate) struct Manager {
    pub(super) registry: Arc<RegistryStore>,
    pub(super) operators: Option<Arc<Operators>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) changes: Arc<Semaphore>,
    pub(super) log_reads: Semaphore,
}

impl Manager {
    pub(crate) fn new(
        registry: Arc<RegistryStore>,
        operators: Option<Arc<Operators>>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Manager {
        Manager {
            registry,
            operators,
            metrics,
            clock,
            changes: Arc::new(Semaphore::new(MOST_CHANGES)),
            log_reads: Semaphore::new(MOST_LOG_READS),
        }
    }
}

/// The refusal of a call with mistakes.
pub(super) fn invalid(mistakes: Vec<String>) -> Refusal {
    Refusal::Invalid(body::capped(mistakes).into())
}
