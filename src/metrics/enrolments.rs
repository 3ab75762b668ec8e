//! The series of enrolments.

use prometheus::{IntCounter, IntGauge, Result};

use super::Metrics;
use super::declare::Declare;

/// The result of an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolmentResult {
    /// The machine is in the registry.
    Enrolled,
    /// The token or the JWT is wrong.
    Refused,
    /// The body, the key, the proof or a name is wrong.
    Invalid,
    /// The gateway could not tell.
    Unavailable,
}

impl EnrolmentResult {
    /// Every result, in the order of the enum.
    pub const ALL: [EnrolmentResult; 4] = [
        EnrolmentResult::Enrolled,
        EnrolmentResult::Refused,
        EnrolmentResult::Invalid,
        EnrolmentResult::Unavailable,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            EnrolmentResult::Enrolled => "enrolled",
            EnrolmentResult::Refused => "refused",
            EnrolmentResult::Invalid => "invalid",
            EnrolmentResult::Unavailable => "unavailable",
        }
    }
}

/// The series of enrolments, and of the ends of machines.
pub(super) struct EnrolmentMetrics {
    results: [IntCounter; EnrolmentResult::ALL.len()],
    expiring: [IntGauge; 2],
}

impl Metrics {
    /// Counts an enrolment.
    pub fn enrolment(&self, result: EnrolmentResult) {
        self.enrolments.count(result);
    }

    /// Shows how many machines end within a day, and within a week.
    pub fn machines_expiring(&self, within_day: usize, within_week: usize) {
        self.enrolments.expiring(within_day, within_week);
    }
}

impl EnrolmentMetrics {
    pub(super) fn declare(declare: &Declare) -> Result<EnrolmentMetrics> {
        let results = declare.counters(
            "enrolments_total",
            "Machines that asked to be enrolled, by result: enrolled, refused (a wrong token or JWT), invalid (a wrong key, proof or name, or no form), unavailable (the database, the keys of the issuer or the audit log).",
            &["result"],
        )?;
        let expiring = declare.gauges(
            "machines_expiring",
            "Enabled machines whose `expires` is within this time; 7d includes 24h. Counted once a minute.",
            &["within"],
        )?;
        Ok(EnrolmentMetrics {
            results: EnrolmentResult::ALL
                .map(|result| results.with_label_values(&[result.as_str()])),
            expiring: ["24h", "7d"].map(|within| expiring.with_label_values(&[within])),
        })
    }

    pub(super) fn count(&self, result: EnrolmentResult) {
        self.results[result as usize].inc();
    }

    pub(super) fn expiring(&self, within_day: usize, within_week: usize) {
        for (gauge, count) in self.expiring.iter().zip([within_day, within_week]) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
