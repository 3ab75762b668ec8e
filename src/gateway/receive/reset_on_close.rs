//! How a client's connection ends: orderly, or by a reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes a client's connection end by a reset instead of an orderly close. The connection's stream
/// has one handle, and the gateway another.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResetOnClose(Arc<AtomicBool>);

impl ResetOnClose {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
