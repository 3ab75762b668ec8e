//! The series of enrolments.

use prometheus::{IntCounter, Result};

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

/// The series of enrolments.
pub(super) struct EnrolmentMetrics {
    results: [IntCounter; EnrolmentResult::ALL.len()],
}

impl EnrolmentMetrics {
    pub(super) fn declare(declare: &Declare) -> Result<EnrolmentMetrics> {
        let results = declare.counters(
            "enrolments_total",
            "Machines that asked to be enrolled, by result: enrolled, refused (a wrong token or JWT), invalid (a wrong key, proof or name, or no form), unavailable (the database, the keys of the issuer or the audit log).",
            &["result"],
        )?;
        Ok(EnrolmentMetrics {
            results: EnrolmentResult::ALL
                .map(|result| results.with_label_values(&[result.as_str()])),
        })
    }

    pub(super) fn count(&self, result: EnrolmentResult) {
        self.results[result as usize].inc();
    }
}
