//! Reloads of the registry, the configuration and the TLS files, by their results.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Result};

use super::Metrics;
use super::declare::{Declare, gauge_value};

pub(super) struct ReloadMetrics {
    registry: ReloadCounters,
    machines: IntGauge,
    registry_last: IntGauge,
    registry_revision: IntGauge,
    registry_stale: IntGauge,
    config: ReloadCounters,
    tls: ReloadCounters,
    slow: IntCounterVec,
    certificate_expiry: IntGaugeVec,
}

/// The owner and use of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateUse {
    /// A listener's own.
    Listener,
    /// The authorities of a listener's clients.
    ListenerClientCa,
    /// The gateway's own towards an upstream.
    Upstream,
    /// The authorities of an upstream's servers.
    UpstreamCa,
    /// The admin listener's own.
    Admin,
    /// The authorities of the admin listener's clients.
    AdminClientCa,
}

impl CertificateUse {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            CertificateUse::Listener => "listener",
            CertificateUse::ListenerClientCa => "listener_client_ca",
            CertificateUse::Upstream => "upstream",
            CertificateUse::UpstreamCa => "upstream_ca",
            CertificateUse::Admin => "admin",
            CertificateUse::AdminClientCa => "admin_client_ca",
        }
    }
}

/// The counters of one kind of file.
struct ReloadCounters([IntCounter; Reload::ALL.len()]);

/// The result of one attempt to load a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is in force.
    Loaded,
    /// There is a mistake in it; the last good one stays in force.
    Rejected,
    /// It could not be read, and is tried again until it can; the last good one stays in force.
    Unreadable,
}

impl Reload {
    /// In the order of their numbers.
    pub const ALL: [Reload; 3] = [Reload::Loaded, Reload::Rejected, Reload::Unreadable];

    /// Of an attempt that failed; `may_pass`: the file could not be read.
    pub const fn failed(may_pass: bool) -> Reload {
        match may_pass {
            true => Reload::Unreadable,
            false => Reload::Rejected,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Reload::Loaded => "loaded",
            Reload::Rejected => "rejected",
            Reload::Unreadable => "unreadable",
        }
    }
}

/// The files that are read again while the gateway runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// The machines.
    Registry,
    /// The operators.
    Operators,
    /// The configuration.
    Configuration,
    /// The files of credentials.
    Credentials,
    /// Certificates and keys of listeners.
    Tls,
}

impl Files {
    /// In the order in which they are read: a revocation first.
    pub const ALL: [Files; 5] = [
        Files::Registry,
        Files::Operators,
        Files::Configuration,
        Files::Credentials,
        Files::Tls,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Files::Registry => "registry",
            Files::Operators => "operators",
            Files::Configuration => "config",
            Files::Credentials => "credentials",
            Files::Tls => "tls",
        }
    }
}

impl ReloadMetrics {
    pub(super) fn declare(declare: &Declare) -> Result<ReloadMetrics> {
        let results = |name, help| -> Result<ReloadCounters> {
            let counters = declare.counters(name, help, &["result"])?;
            Ok(ReloadCounters(Reload::ALL.map(|result| {
                counters.with_label_values(&[result.as_str()])
            })))
        };
        let slow = declare.counters(
            "reloads_slow_total",
            "Times that reading a file again took longer than five seconds, by file: a revocation counts as late as that.",
            &["file"],
        )?;
        for files in Files::ALL {
            slow.with_label_values(&[files.as_str()]);
        }
        Ok(ReloadMetrics {
            slow,
            certificate_expiry: declare.gauges(
                "certificate_expiry_timestamp_seconds",
                "Unix time at which a certificate in force ceases to be valid, by what it is for and the listener's address or the upstream's name.",
                &["use", "name"],
            )?,
            registry: results(
                "registry_reloads_total",
                "Attempts to load the machine registry, the first one included, by result.",
            )?,
            machines: declare.gauge("registry_machines", "Machines in the registry in force.")?,
            registry_last: declare.gauge(
                "registry_last_reload_timestamp_seconds",
                "Unix time at which the registry in force was loaded.",
            )?,
            registry_revision: declare.gauge(
                "registry_revision",
                "Revision of the registry in force, where the machines stand in a database; 0 with files.",
            )?,
            registry_stale: declare.gauge(
                "registry_stale_seconds",
                "Seconds since the database last confirmed the registry in force; 0 with files. Beyond registry.max_stale signed requests get 503.",
            )?,
            config: results(
                "config_reloads_total",
                "Attempts to load the configuration, or the file of operators, again, by what came of it: loaded, rejected (a mistake; the last good one stays), or unreadable (tried again).",
            )?,
            tls: results(
                "tls_reloads_total",
                "Times the TLS files of a listener or an upstream were found changed, by what came of it: loaded, rejected (a mistake; the last good ones stay), or unreadable (tried again).",
            )?,
        })
    }

    /// A registry with this number of machines came into force at `unix_seconds`.
    pub(super) fn registry_loaded(&self, machines: usize, unix_seconds: u64) {
        self.registry.count(Reload::Loaded);
        self.machines.set(gauge_value(machines));
        self.registry_last.set(gauge_value(unix_seconds));
    }

    /// The revision of the registry in force.
    pub(super) fn registry_revision(&self, revision: u64) {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        self.registry_revision.set(revision);
    }

    /// How many seconds ago the database confirmed the registry in force.
    pub(super) fn registry_stale(&self, seconds: u64) {
        self.registry_stale.set(gauge_value(seconds));
    }

    /// When the registry in force was loaded, in Unix seconds.
    pub(super) fn registry_last(&self) -> u64 {
        u64::try_from(self.registry_last.get()).unwrap_or(0)
    }

    /// Counts a registry file that was not loaded; the previous one stays in force.
    pub(super) fn registry_not_loaded(&self, result: Reload) {
        self.registry.count(result);
    }

    /// Counts an attempt to load the configuration, or the file of operators, again.
    pub(super) fn config_reload(&self, result: Reload) {
        self.config.count(result);
    }

    /// Counts an attempt to load changed TLS files.
    pub(super) fn tls_reload(&self, result: Reload) {
        self.tls.count(result);
    }

    /// Shows until when, in Unix seconds, a certificate is valid: of the listener at an address, or
    /// of an upstream by its name.
    pub(super) fn certificate_expiry(&self, usage: CertificateUse, name: &str, until: u64) {
        let gauge = &self.certificate_expiry;
        let label = [usage.as_str(), name];
        gauge.with_label_values(&label).set(gauge_value(until));
    }

    /// Counts a reload that takes too long.
    pub(super) fn reload_slow(&self, files: Files) {
        let label = [files.as_str()];
        self.slow.with_label_values(&label).inc();
    }
}

impl Metrics {
    /// The revision of the registry in force, where the machines stand in a database.
    pub fn registry_revision(&self, revision: u64) {
        self.reloads.registry_revision(revision);
    }

    /// How many seconds ago the database confirmed the registry in force.
    pub fn registry_stale(&self, seconds: u64) {
        self.reloads.registry_stale(seconds);
    }
}

impl ReloadCounters {
    fn count(&self, result: Reload) {
        self.0[result as usize].inc();
    }
}
