//! The context that all pools of a gateway share.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use countersign_client::clock::Clock;

/// The metrics, the clock and the runtime of the pools.
#[derive(Clone)]
pub(crate) struct PoolContext {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// The runtime of the pools' tasks: health checks, name look-ups, sweeps of idle connections.
    /// Handed in, because a reload may come from a thread that is not of the runtime.
    pub(crate) runtime: Handle,
    /// The revocations of machines' tokens. A shutdown waits for them, and closes the tracker.
    pub(crate) revocations: TaskTracker,
}
