//! Making a metric and entering it in the registry, in one step.

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result,
};

/// Before every name.
const PREFIX: &str = "countersign";

/// Makes metrics with the common prefix and enters them in the registry.
pub(super) struct Declare(Registry);

impl Declare {
    pub(super) fn new() -> Declare {
        Declare(Registry::new())
    }

    pub(super) fn into_registry(self) -> Registry {
        self.0
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.register(IntCounter::with_opts(opts(name, help))?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec> {
        self.register(IntCounterVec::new(opts(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.register(IntGauge::with_opts(opts(name, help))?)
    }

    /// A gauge that is no whole number.
    pub(super) fn real_gauge(&self, name: &str, help: &str) -> Result<Gauge> {
        self.register(Gauge::with_opts(opts(name, help))?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(opts(name, help), labels)?)
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        self.register(Histogram::with_opts(histogram_opts(name, help, buckets))?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec> {
        self.register(HistogramVec::new(
            histogram_opts(name, help, buckets),
            labels,
        )?)
    }

    fn register<M>(&self, metric: M) -> Result<M>
    where
        M: Collector + Clone + 'static,
    {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

fn histogram_opts(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help)
        .namespace(PREFIX)
        .buckets(buckets.to_vec())
}

/// Gauges are signed; no number here comes near the difference.
pub(super) fn gauge_value(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
