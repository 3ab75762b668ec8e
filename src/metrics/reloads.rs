//! What is read again while the gateway runs, and what came of it: the registry, the configuration,
//! and the TLS files.

use prometheus::{IntCounter, IntGauge, Result};

use super::declare::Declare;
use super::{Metrics, gauge_value};

pub(super) struct Reloads {
    registry: Results,
    machines: IntGauge,
    registry_last: IntGauge,
    config: Results,
    tls: Results,
}

/// The counters of one kind of file.
struct Results {
    loaded: IntCounter,
    rejected: IntCounter,
}

impl Reloads {
    pub(super) fn declare(declare: &Declare) -> Result<Reloads> {
        let results = |name, help| -> Result<Results> {
            let counters = declare.counters(name, help, &["result"])?;
            Ok(Results {
                loaded: counters.with_label_values(&["loaded"]),
                rejected: counters.with_label_values(&["rejected"]),
            })
        };
        Ok(Reloads {
            registry: results(
                "registry_reloads_total",
                "Attempts to load the machine registry, the first one included, by result.",
            )?,
            machines: declare.gauge("registry_machines", "Machines in the registry in force.")?,
            registry_last: declare.gauge(
                "registry_last_reload_timestamp_seconds",
                "Unix time at which the registry in force was loaded.",
            )?,
            config: results(
                "config_reloads_total",
                "Attempts to load the configuration again, by what came of it: loaded, or rejected (the last good one stays).",
            )?,
            tls: results(
                "tls_reloads_total",
                "Times the TLS files of a listener or an upstream were found changed, by what came of it: loaded, or rejected (the last good ones stay).",
            )?,
        })
    }
}

impl Results {
    fn count(&self, loaded: bool) {
        match loaded {
            true => self.loaded.inc(),
            false => self.rejected.inc(),
        }
    }
}

impl Metrics {
    /// A registry of so many machines came into force at `unix_seconds`.
    pub fn registry_loaded(&self, machines: usize, unix_seconds: u64) {
        self.reloads.registry.count(true);
        self.reloads.machines.set(gauge_value(machines));
        self.reloads.registry_last.set(gauge_value(unix_seconds));
    }

    /// A registry file was refused; the one before stays in force.
    pub fn registry_rejected(&self) {
        self.reloads.registry.count(false);
    }

    /// Counts an attempt to load the configuration again.
    pub fn config_reload(&self, loaded: bool) {
        self.reloads.config.count(loaded);
    }

    /// Counts an attempt to load changed TLS files.
    pub fn tls_reload(&self, loaded: bool) {
        self.reloads.tls.count(loaded);
    }
}
