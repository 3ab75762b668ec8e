//! Whether the writer can write, for the readiness of the gateway.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The state of the writer, for the readiness of the gateway.
#[derive(Debug, Default)]
pub(super) struct WriterHealth {
    failing: AtomicBool,
    /// When the write under way began, in milliseconds of `mono` plus one; zero between writes.
    writing_since: AtomicU64,
}

impl WriterHealth {
    /// Says whether writing fails now.
    pub(super) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// A write begins, at `mono`.
    pub(super) fn write_begins(&self, mono: Duration) {
        self.writing_since.store(stamp(mono), Ordering::Relaxed);
    }

    /// The write has ended, well or not.
    pub(super) fn write_ends(&self) {
        self.writing_since.store(0, Ordering::Relaxed);
    }

    /// Whether the last write succeeded and none has been stuck for longer than `patience`.
    pub(super) fn is_good(&self, mono: Duration, patience: Duration) -> bool {
        let stuck = match self.writing_since.load(Ordering::Relaxed) {
            0 => false,
            since => stamp(mono).saturating_sub(since) > stamp(patience) - 1,
        };
        !stuck && !self.failing.load(Ordering::Relaxed)
    }
}

fn stamp(mono: Duration) -> u64 {
    u64::try_from(mono.as_millis()).map_or(u64::MAX, |ms| ms.saturating_add(1))
}
