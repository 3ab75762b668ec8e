//! The nonces, and the store that gateways share for them.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge, Result};

use super::buckets::STORE_BUCKETS;
use super::declare::{Declare, gauge_value};

pub(super) struct ReplayMetrics {
    nonces: IntGauge,
    store: Histogram,
    store_errors: IntCounter,
}

impl ReplayMetrics {
    pub(super) fn declare(declare: &Declare) -> Result<ReplayMetrics> {
        Ok(ReplayMetrics {
            nonces: declare.gauge("nonces", "Nonces remembered in memory.")?,
            store: declare.histogram(
                "replay_store_seconds",
                "Time of one claim at the shared nonce store, answered or not.",
                &STORE_BUCKETS,
            )?,
            store_errors: declare.counter(
                "replay_store_errors_total",
                "Requests refused because the shared nonce store gave no valid answer.",
            )?,
        })
    }

    pub(super) fn nonces(&self, count: u64) {
        self.nonces.set(gauge_value(count));
    }

    pub(super) fn observe_store(&self, took: Duration) {
        self.store.observe(took.as_secs_f64());
    }

    pub(super) fn store_error(&self) {
        self.store_errors.inc();
    }
}
