//! The series of the routes, upstreams and credentials in the configuration. They begin at zero.
//! They stay when a reload drops the name, so that a name that comes back goes on counting. The
//! configuration bounds their number.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Result,
};

use super::buckets::UPSTREAM_BUCKETS;
use super::declare::{Declare, gauge_value};
use super::labels::{Auth, CredentialCheck, Outcome};

/// The `route` of a request that matched none, or was refused before it could. No route is
/// called so: their names begin with `/`.
const NO_ROUTE: &str = "none";

/// The families whose labels are names in the configuration.
pub(super) struct ConfiguredMetrics {
    requests: IntCounterVec,
    upstream_seconds: HistogramVec,
    credential_usable: IntGaugeVec,
    credential_checks: IntCounterVec,
    open_until: IntGaugeVec,
    credential_echoes: IntCounterVec,
    echo_unread: IntCounterVec,
}

/// The counters of the requests of one route.
#[derive(Clone, Debug)]
pub struct RouteCounts([[IntCounter; Auth::ALL.len()]; Outcome::ALL.len()]);

/// The histogram of the forwarding times of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamTimes(Histogram);

/// The counters of the echo check of one upstream.
#[derive(Clone, Debug)]
pub struct EchoCounts {
    found: IntCounter,
    unread: IntCounter,
}

/// The series of one credential.
#[derive(Clone, Debug)]
pub struct CredentialCounts {
    usable: IntGauge,
    checks: CheckCounts,
}

/// The counters of the checks of one credential, or of the tokens of one upstream's logins.
#[derive(Clone, Debug)]
pub struct CheckCounts([IntCounter; CredentialCheck::ALL.len()]);

impl ConfiguredMetrics {
    pub(super) fn declare(declare: &Declare) -> Result<ConfiguredMetrics> {
        let configured = ConfiguredMetrics {
            requests: declare.counters(
                "requests_total",
                "Requests, by route (none: it matched no route), by how they ended, and by what proved who was asking.",
                &["route", "outcome", "auth"],
            )?,
            upstream_seconds: declare.histograms(
                "upstream_seconds",
                "Time of the whole forwarding: connecting, every server that was tried, the exchange, and the client's reading of the response.",
                &UPSTREAM_BUCKETS,
                &["upstream"],
            )?,
            credential_usable: declare.gauges(
                "credential_usable",
                "1 while the credential can be sent: 0 if its file is missing or bad, or the backend was found to refuse it.",
                &["credential"],
            )?,
            credential_checks: declare.counters(
                "credential_checks_total",
                "Checks of a credential after the backend refused a request with it, by result: accepted, refused, or unknown (no conclusive answer). login:<upstream>: the tokens of machines.",
                &["credential", "result"],
            )?,
            open_until: declare.gauges(
                "route_open_until_timestamp_seconds",
                "Unix time at which a route stops letting unsigned requests pass, for routes with such a date.",
                &["route", "mode"],
            )?,
            credential_echoes: declare.counters(
                "credential_echoes_total",
                "Answers that were kept from the client because they held the credential of the request.",
                &["upstream"],
            )?,
            echo_unread: declare.counters(
                "echo_unread_total",
                "Answers whose body passed without an echo check, because it had a content coding such as gzip.",
                &["upstream"],
            )?,
        };
        configured.no_route();
        Ok(configured)
    }

    pub(super) fn route(&self, name: &str) -> RouteCounts {
        RouteCounts(Outcome::ALL.map(|outcome| {
            Auth::ALL.map(|auth| {
                let labels = [name, outcome.as_str(), auth.as_str()];
                self.requests.with_label_values(&labels)
            })
        }))
    }

    pub(super) fn no_route(&self) -> RouteCounts {
        self.route(NO_ROUTE)
    }

    /// Shows until when each of these routes lets unsigned requests pass, by name and mode. Hides
    /// all other routes.
    pub(super) fn open_until<'r>(
        &self,
        routes: impl Iterator<Item = (&'r str, &'static str, u64)>,
    ) {
        self.open_until.reset();
        for (route, mode, until) in routes {
            let gauge = self.open_until.with_label_values(&[route, mode]);
            gauge.set(gauge_value(until));
        }
    }

    pub(super) fn upstream(&self, name: &str) -> UpstreamTimes {
        UpstreamTimes(self.upstream_seconds.with_label_values(&[name]))
    }

    pub(super) fn echoes(&self, upstream: &str) -> EchoCounts {
        EchoCounts {
            found: self.credential_echoes.with_label_values(&[upstream]),
            unread: self.echo_unread.with_label_values(&[upstream]),
        }
    }

    pub(super) fn credential(&self, name: &str) -> CredentialCounts {
        CredentialCounts {
            usable: self.credential_usable.with_label_values(&[name]),
            checks: self.checks(name),
        }
    }

    pub(super) fn checks(&self, name: &str) -> CheckCounts {
        let check = |result: CredentialCheck| [name, result.as_str()];
        CheckCounts(
            CredentialCheck::ALL
                .map(|result| self.credential_checks.with_label_values(&check(result))),
        )
    }
}

impl RouteCounts {
    /// Counts a finished request.
    pub fn request(&self, outcome: Outcome, auth: Auth) {
        self.0[outcome as usize][auth as usize].inc();
    }

    /// The number of requests so far, in the order of [`Outcome::ALL`].
    pub fn by_outcome(&self) -> [u64; Outcome::ALL.len()] {
        (self.0.each_ref()).map(|by_auth| by_auth.iter().map(IntCounter::get).sum())
    }

    /// The number of unsigned requests that have passed so far.
    pub fn unsigned(&self) -> u64 {
        let passed = [Outcome::Forwarded, Outcome::Failed, Outcome::Observed];
        let unsigned = [Auth::None, Auth::Bearer];
        let counts = passed
            .map(|outcome| unsigned.map(|auth| self.0[outcome as usize][auth as usize].get()));
        counts.iter().flatten().sum()
    }
}

impl CredentialCounts {
    /// Shows whether the credential can be sent.
    pub fn usable(&self, usable: bool) {
        self.usable.set(usable.into());
    }

    /// Whether it is shown as one that can be sent.
    pub fn is_usable(&self) -> bool {
        self.usable.get() != 0
    }

    /// The counters of its checks.
    pub fn checks(&self) -> &CheckCounts {
        &self.checks
    }
}

impl CheckCounts {
    /// Counts a check.
    pub fn checked(&self, result: CredentialCheck) {
        self.0[result as usize].inc();
    }
}

impl EchoCounts {
    /// Counts an answer that held the credential.
    pub fn found(&self) {
        self.found.inc();
    }

    /// Counts an answer whose body could not be read.
    pub fn unread(&self) {
        self.unread.inc();
    }
}

impl UpstreamTimes {
    /// Notes the time of one forwarding: all tried servers, and the client's reading.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}
