//! The series of the backend servers. They come and go with the configuration that names them: a
//! gauge must not go on showing a removed server as healthy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::declare::Declare;

const LABELS: [&str; 2] = ["upstream", "server"];

/// The families, and which servers have series of them.
pub(super) struct ServerMetrics(Arc<Families>);

struct Families {
    healthy: IntGaugeVec,
    ejections: IntCounterVec,
    connect_errors: IntCounterVec,
    /// By upstream and server. Configurations share existing series, so that a replaced
    /// configuration does not remove the series of its successor.
    known: Mutex<HashMap<[String; 2], Weak<ServerSeries>>>,
}

/// The series of one server of one upstream. They end with the last that holds them.
pub struct ServerSeries {
    labels: [String; 2],
    families: Arc<Families>,
    healthy: IntGauge,
    ejections: IntCounter,
    connect_errors: IntCounter,
}

impl ServerMetrics {
    pub(super) fn declare(declare: &Declare) -> prometheus::Result<ServerMetrics> {
        Ok(ServerMetrics(Arc::new(Families {
            healthy: declare.gauges(
                "upstream_healthy",
                "Addresses of a server that requests are sent to: 0 while it is out.",
                &LABELS,
            )?,
            ejections: declare.counters(
                "upstream_ejections_total",
                "Times an address of a server was taken out, by failed requests or by health checks.",
                &LABELS,
            )?,
            connect_errors: declare.counters(
                "upstream_connect_errors_total",
                "Requests that a server took no connection for, or no TLS handshake; another may have served them.",
                &LABELS,
            )?,
            known: Mutex::default(),
        })))
    }

    pub(super) fn series(&self, upstream: &str, server: &str) -> Arc<ServerSeries> {
        let families = &self.0;
        let labels = [upstream.to_owned(), server.to_owned()];
        let mut known = families.known();
        if let Some(series) = known.get(&labels).and_then(Weak::upgrade) {
            return series;
        }
        let values = [upstream, server];
        let series = Arc::new(ServerSeries {
            healthy: families.healthy.with_label_values(&values),
            ejections: families.ejections.with_label_values(&values),
            connect_errors: families.connect_errors.with_label_values(&values),
            families: Arc::clone(families),
            labels: labels.clone(),
        });
        known.insert(labels, Arc::downgrade(&series));
        series
    }
}

impl Families {
    fn known(&self) -> MutexGuard<'_, HashMap<[String; 2], Weak<ServerSeries>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerSeries {
    /// One more address of the server is in service.
    pub fn in_service(&self) {
        self.healthy.inc();
    }

    /// One address less is.
    pub fn out_of_service(&self) {
        self.healthy.dec();
    }

    /// An address was taken out.
    pub fn ejected(&self) {
        self.ejections.inc();
    }

    /// A connection, or its TLS handshake, failed.
    pub fn connect_error(&self) {
        self.connect_errors.inc();
    }
}

impl Drop for ServerSeries {
    fn drop(&mut self) {
        let mut known = self.families.known();
        // Another may have been made in between; then the series are that one's.
        if known
            .get(&self.labels)
            .is_some_and(|weak| weak.strong_count() == 0)
        {
            known.remove(&self.labels);
            let values = self.labels.each_ref().map(String::as_str);
            let _ = self.families.healthy.remove_label_values(&values);
            let _ = self.families.ejections.remove_label_values(&values);
            let _ = self.families.connect_errors.remove_label_values(&values);
        }
    }
}

impl std::fmt::Debug for ServerSeries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerSeries").field(&self.labels).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn servers() -> (ServerMetrics, prometheus::Registry) {
        let declare = Declare::new();
        let servers = ServerMetrics::declare(&declare).unwrap();
        (servers, declare.into_registry())
    }

    fn page(registry: &prometheus::Registry) -> String {
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn the_series_of_a_server_are_there_from_the_start_and_gone_with_it() {
        let (servers, registry) = servers();
        let series = servers.series("secrets", "a:1");
        for name in ["healthy", "ejections_total", "connect_errors_total"] {
            let sample = format!("upstream_{name}{{server=\"a:1\",upstream=\"secrets\"}} 0");
            assert!(page(&registry).contains(&sample), "{}", page(&registry));
        }
        drop(series);
        assert_eq!(page(&registry), "");
    }

    #[test]
    fn a_server_that_is_in_both_configurations_goes_on_counting() {
        let (servers, registry) = servers();
        let old = servers.series("secrets", "a:1");
        old.ejected();
        let new = servers.series("secrets", "a:1");
        drop(old);
        new.ejected();
        assert!(page(&registry).contains("ejections_total{server=\"a:1\",upstream=\"secrets\"} 2"));
    }

    #[test]
    fn one_server_of_two_upstreams_has_series_for_each() {
        let (servers, registry) = servers();
        let (one, _other) = (servers.series("x", "a:1"), servers.series("y", "a:1"));
        one.in_service();
        assert!(page(&registry).contains("healthy{server=\"a:1\",upstream=\"x\"} 1"));
        assert!(page(&registry).contains("healthy{server=\"a:1\",upstream=\"y\"} 0"));
    }
}
