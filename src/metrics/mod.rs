//! Every metric of the gateway, declared once, with its help text.
//!
//! All label values come from closed sets: those of the program, and the names in the
//! configuration. So every series exists from the first scrape, at zero: an alert on a rate needs
//! that. Counting is an array index and an atomic addition. Only the series of machines come later,
//! with a machine's first accepted request, and their number is bounded. No path, nonce or
//! unverified id can become a label.

mod backend;
mod buckets;
mod clock;
mod codes;
mod configured;
mod declare;
mod labels;
mod logins;
mod machines;
mod recent;
mod reloads;
mod replay;
mod servers;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge, Registry, TextEncoder};

use self::buckets::VERIFY_BUCKETS;
use self::clock::ClockMetrics;
use self::codes::CodeCounters;
use self::configured::ConfiguredMetrics;
use self::declare::{Declare, gauge_value};
use self::logins::LoginMetrics;
use self::machines::MachineMetrics;
use self::reloads::ReloadMetrics;
use self::replay::ReplayMetrics;
use self::servers::ServerMetrics;
use countersign_core::identity::{Fingerprint, MachineId};
use countersign_core::lost_header::LostHeader;
use countersign_core::refusal::Code;

pub use backend::curve25519_backend;
pub use configured::{CheckCounts, CredentialCounts, EchoCounts, RouteCounts, UpstreamTimes};
pub use labels::{AuditResult, Auth, CredentialCheck, LoginResult, Outcome, RevocationResult};
pub use logins::{CountedToken, LoginCounts, RevocationCounts};
pub use reloads::{CertificateUse, Files, Reload};
pub use servers::ServerSeries;

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The counters, gauges and histograms of one gateway. Shared in an `Arc`; its registry is its
/// own, never the process's global one, so that tests do not see each other's numbers.
pub struct Metrics {
    registry: Registry,
    configured: ConfiguredMetrics,
    codes: CodeCounters,
    logins: LoginMetrics,
    verify: Histogram,
    servers: ServerMetrics,
    clock: ClockMetrics,
    source_bans: IntCounter,
    machines: MachineMetrics,
    replay: ReplayMetrics,
    reloads: ReloadMetrics,
    audit_records: [IntCounter; AuditResult::ALL.len()],
    body_buffer: IntGauge,
    spoofed_identity: IntCounter,
    queries_stripped: IntCounter,
    headers_dropped: [IntCounter; LostHeader::COUNT],
    connections: IntGauge,
}

impl Metrics {
    /// Declares every metric. `version` and `backend` (see [`curve25519_backend`]) become the
    /// labels of `build_info`.
    ///
    /// # Errors
    ///
    /// Only if a name here is declared twice or breaks the grammar: a bug, found by any test.
    pub fn new(version: &str, backend: &str) -> prometheus::Result<Metrics> {
        let declare = Declare::new();

        let audit_records = declare.counters(
            "audit_records_total",
            "Audit records by result: written, failed (could not be written), dropped (a refusal left out because the queue was too full), response_lost (the line after a response is missing).",
            &["result"],
        )?;

        let headers_dropped = declare.counters(
            "headers_dropped_total",
            "Client headers that did not cross to the backend, by name; other: those that have no name here.",
            &["name"],
        )?;

        declare
            .gauges(
                "build_info",
                "Always 1; the labels tell the version and the arithmetic that verifies signatures.",
                &["version", "curve25519_backend"],
            )?
            .with_label_values(&[version, backend])
            .set(1);

        Ok(Metrics {
            configured: ConfiguredMetrics::declare(&declare)?,
            codes: CodeCounters::declare(&declare)?,
            logins: LoginMetrics::declare(&declare)?,
            verify: declare.histogram(
                "verify_seconds",
                "Time of the decision on one request: the work, not the wait for its body.",
                &VERIFY_BUCKETS,
            )?,
            clock: ClockMetrics::declare(&declare)?,
            source_bans: declare.counter(
                "source_bans_total",
                "Times a source was turned away for a while because of its failures (throttle).",
            )?,
            machines: MachineMetrics::declare(&declare)?,
            servers: ServerMetrics::declare(&declare)?,
            replay: ReplayMetrics::declare(&declare)?,
            reloads: ReloadMetrics::declare(&declare)?,
            audit_records: AuditResult::ALL
                .map(|result| audit_records.with_label_values(&[result.as_str()])),
            body_buffer: declare.gauge(
                "body_buffer_bytes",
                "Bytes of request bodies held in memory.",
            )?,
            spoofed_identity: declare.counter(
                "spoofed_identity_total",
                "Requests that named an identity themselves (X-Machine-Identity, -Name and so on); it was removed.",
            )?,
            queries_stripped: declare.counter(
                "queries_stripped_total",
                "Requests whose unsigned query was removed before forwarding.",
            )?,
            headers_dropped: LostHeader::all().map(|lost| {
                headers_dropped.with_label_values(&[&*lost.name().to_ascii_lowercase()])
            }),
            connections: declare.gauge("connections", "Open client connections.")?,
            registry: declare.into_registry(),
        })
    }

    /// The counters of a route of the configuration.
    pub fn route(&self, name: &str) -> RouteCounts {
        self.configured.route(name)
    }

    /// The counters of requests that matched no route, or were refused before they could.
    pub fn no_route(&self) -> RouteCounts {
        self.configured.no_route()
    }

    /// The times of an upstream of the configuration.
    pub fn upstream(&self, name: &str) -> UpstreamTimes {
        self.configured.upstream(name)
    }

    /// The counters of the echo check of an upstream of the configuration.
    pub fn echoes(&self, upstream: &str) -> EchoCounts {
        self.configured.echoes(upstream)
    }

    /// The series of one server of an upstream, both by their names in the configuration.
    pub fn server(&self, upstream: &str, server: &str) -> Arc<ServerSeries> {
        self.servers.series(upstream, server)
    }

    /// The series of a credential of the configuration.
    pub fn credential(&self, name: &str) -> CredentialCounts {
        self.configured.credential(name)
    }

    /// The counters of the checks of the tokens from logins, under this name.
    pub fn token_checks(&self, name: &str) -> CheckCounts {
        self.configured.checks(name)
    }

    /// The series of the logins at an upstream of the configuration.
    pub fn login(&self, upstream: &str) -> LoginCounts {
        self.logins.upstream(upstream)
    }

    /// Shows which routes let unsigned requests pass, by name and mode, and until when, in Unix
    /// seconds. Replaces the routes shown before.
    pub fn open_until<'r>(&self, routes: impl Iterator<Item = (&'r str, &'static str, u64)>) {
        self.configured.open_until(routes);
    }

    /// Counts a request that passed and that enforcing would have refused.
    pub fn observed(&self, code: Code) {
        self.codes.observed(code);
    }

    /// Counts a refusal.
    pub fn refused(&self, code: Code) {
        self.codes.refused(code);
    }

    /// Notes the time one decision took: hashing, looking up, verifying; not waiting for the body.
    pub fn observe_verify(&self, took: Duration) {
        self.verify.observe(took.as_secs_f64());
    }

    /// Notes how far a machine's clock is off: the gateway's time minus the timestamp, in seconds.
    /// Only verified requests count, so that nobody else influences the histogram.
    pub fn observe_skew(&self, seconds: i64) {
        self.clock.observe_skew(seconds);
    }

    /// Notes the same for the median. Only requests with a fresh nonce count, so that replays do
    /// not move it.
    pub fn observe_fresh_skew(&self, machine: &MachineId, now: u64, seconds: i64) {
        self.clock.observe_fresh_skew(seconds);
        self.machines.seen(machine.as_str(), now, seconds);
    }

    /// Notes the key of an accepted request, for a machine with several keys.
    pub fn key_used(&self, machine: &MachineId, key: Fingerprint, now: u64) {
        self.machines.key_used(machine.as_str(), key, now);
    }

    /// Removes the series of the keys of a machine whose keys have changed.
    pub fn machine_keys_changed(&self, machine: &MachineId) {
        self.machines.forget_keys(machine.as_str());
    }

    /// Removes the series of a machine that has left the registry.
    pub fn machine_removed(&self, machine: &MachineId) {
        self.machines.forget(machine.as_str());
    }

    /// The wall clock was set.
    pub fn clock_stepped(&self) {
        self.clock.stepped();
    }

    /// Counts a request that carried a header only the gateway may set.
    pub fn spoofed_identity(&self) {
        self.spoofed_identity.inc();
    }

    /// Counts a query that was removed before forwarding.
    pub fn query_stripped(&self) {
        self.queries_stripped.inc();
    }

    /// Counts dropped client headers of this name.
    pub fn header_dropped(&self, lost: LostHeader, count: usize) {
        self.headers_dropped[lost.index()].inc_by(count as u64);
    }

    /// A client connection was opened.
    pub fn connection_opened(&self) {
        self.connections.inc();
    }

    /// A client connection was closed.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// `bytes` more of request bodies are held in memory.
    pub fn body_buffered(&self, bytes: usize) {
        self.body_buffer.add(gauge_value(bytes));
    }

    /// `bytes` of request bodies were let go.
    pub fn body_released(&self, bytes: usize) {
        self.body_buffer.sub(gauge_value(bytes));
    }

    /// Sets the number of live nonces.
    pub fn nonces(&self, count: u64) {
        self.replay.nonces(count);
    }

    /// Records the time of one claim at the shared nonce store.
    pub fn observe_replay_store(&self, took: Duration) {
        self.replay.observe_store(took);
    }

    /// Counts a request for which the shared nonce store gave no usable answer.
    pub fn replay_store_error(&self) {
        self.replay.store_error();
    }

    /// A registry with this number of machines came into force at `unix_seconds`.
    pub fn registry_loaded(&self, machines: usize, unix_seconds: u64) {
        self.reloads.registry_loaded(machines, unix_seconds);
    }

    /// Counts a registry file that was not loaded; the previous one stays in force.
    pub fn registry_not_loaded(&self, result: Reload) {
        self.reloads.registry_not_loaded(result);
    }

    /// Counts an attempt to load the configuration again.
    pub fn config_reload(&self, result: Reload) {
        self.reloads.config_reload(result);
    }

    /// Counts an attempt to load changed TLS files.
    pub fn tls_reload(&self, result: Reload) {
        self.reloads.tls_reload(result);
    }

    /// Shows until when, in Unix seconds, a certificate is valid: of the listener at an address, or
    /// of an upstream by its name.
    pub fn certificate_expiry(&self, usage: CertificateUse, name: &str, until: u64) {
        self.reloads.certificate_expiry(usage, name, until);
    }

    /// Counts a reload that takes too long.
    pub fn reload_slow(&self, files: Files) {
        self.reloads.reload_slow(files);
    }

    /// Counts a ban of a source.
    pub fn source_banned(&self) {
        self.source_bans.inc();
    }

    /// Counts one audit record by its result.
    pub fn audit_record(&self, result: AuditResult) {
        self.audit_records[result as usize].inc();
    }

    /// All metrics in the Prometheus text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        self.clock.show_offset();
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            // Half a page would look like counters that were reset.
            tracing::error!(%error, "the metrics could not be rendered");
            text.clear();
        }
        text
    }
}
