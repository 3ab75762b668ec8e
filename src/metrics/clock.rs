//! Machines' clocks against the gateway's, and steps of the gateway's own.

use prometheus::{Histogram, IntCounter, IntGauge, Result};

use super::buckets::SKEW_BUCKETS;
use super::declare::Declare;
use super::recent::RecentNumbers;

pub(super) struct ClockMetrics {
    skew: Histogram,
    recent: RecentNumbers,
    offset: IntGauge,
    steps: IntCounter,
}

impl ClockMetrics {
    pub(super) fn declare(declare: &Declare) -> Result<ClockMetrics> {
        Ok(ClockMetrics {
            skew: declare.histogram(
                "clock_skew_seconds",
                "The gateway's clock minus the timestamp of a verified request: negative where the machine's clock is ahead. The sum can fall.",
                &SKEW_BUCKETS,
            )?,
            recent: RecentNumbers::new(),
            offset: declare.gauge(
                "clock_offset_seconds",
                "The median of clock_skew_seconds over the last 128 accepted requests: when most machines seem to be off, it is this gateway. 0 before the first.",
            )?,
            steps: declare.counter(
                "clock_steps_total",
                "Times the wall clock was found set by more than two seconds, or the machine to have been suspended.",
            )?,
        })
    }

    pub(super) fn observe_skew(&self, seconds: i64) {
        self.skew.observe(seconds as f64);
    }

    pub(super) fn observe_fresh_skew(&self, seconds: i64) {
        self.recent.add(seconds);
    }

    pub(super) fn stepped(&self) {
        self.steps.inc();
    }

    /// The median of the recent skews, in seconds.
    pub(super) fn offset(&self) -> i64 {
        self.recent.median()
    }

    /// Computes the median, which only a scrape needs.
    pub(super) fn show_offset(&self) {
        self.offset.set(self.offset());
    }
}
