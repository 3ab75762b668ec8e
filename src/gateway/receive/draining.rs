//! The switch that begins a graceful shutdown, and the one that ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// Whether the gateway drains: it still serves requests, and every response says that it is the
/// last on its connection. Draining never ends but with the process. When the grace period is over,
/// the gateway refuses the requests whose bodies have not arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draining {
    begun: Arc<AtomicBool>,
    grace_is_over: CancellationToken,
}

impl Draining {
    /// Begins to drain.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Ends the grace period.
    pub(crate) fn end_grace(&self) {
        self.grace_is_over.cancel();
    }

    /// Waits for the end of the grace period.
    pub(crate) async fn end_of_grace(&self) {
        self.grace_is_over.cancelled().await;
    }
}
