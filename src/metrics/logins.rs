//! The series of logins at backends, by upstream. They begin at zero.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Result,
};

use super::buckets::LOGIN_BUCKETS;
use super::declare::Declare;
use super::labels::{LoginResult, RevocationResult};

/// The families about logins.
pub(super) struct LoginMetrics {
    logins: IntCounterVec,
    seconds: HistogramVec,
    tokens: IntGaugeVec,
    revocations: IntCounterVec,
}

/// The series of the logins at one upstream.
#[derive(Clone, Debug)]
pub struct LoginCounts {
    logins: [IntCounter; LoginResult::ALL.len()],
    seconds: Histogram,
    tokens: IntGauge,
    revocations: RevocationCounts,
}

/// The series of the revocations at one upstream.
#[derive(Clone, Debug)]
pub struct RevocationCounts([IntCounter; RevocationResult::ALL.len()]);

/// One token in memory: it is counted as long as this lives.
#[derive(Debug)]
pub struct CountedToken(IntGauge);

impl LoginMetrics {
    pub(super) fn declare(declare: &Declare) -> Result<LoginMetrics> {
        Ok(LoginMetrics {
            logins: declare.counters(
                "logins_total",
                "Logins of machines at a backend, by result: accepted, refused (by the backend), unavailable (no answer, or a sealed or overloaded backend), unusable (the answer holds no token that the gateway can use, or the machine has no role).",
                &["upstream", "result"],
            )?,
            seconds: declare.histograms(
                "login_seconds",
                "Time of one login of a machine at a backend, with the wait for its turn.",
                &LOGIN_BUCKETS,
                &["upstream"],
            )?,
            tokens: declare.gauges(
                "backend_tokens",
                "Tokens of machines that the gateway holds in memory, from logins at a backend.",
                &["upstream"],
            )?,
            revocations: declare.counters(
                "token_revocations_total",
                "Tokens of machines that the gateway let go of, by the result of their revocation at the backend: revoked, refused (the role may not revoke), unavailable (no answer, or a sealed backend), unsupported (a batch token), dropped (too many waited). All but the revoked ones stay valid until their lease ends.",
                &["upstream", "result"],
            )?,
        })
    }

    pub(super) fn upstream(&self, name: &str) -> LoginCounts {
        LoginCounts {
            logins: LoginResult::ALL
                .map(|result| self.logins.with_label_values(&[name, result.as_str()])),
            seconds: self.seconds.with_label_values(&[name]),
            tokens: self.tokens.with_label_values(&[name]),
            revocations: RevocationCounts(
                RevocationResult::ALL
                    .map(|result| (self.revocations).with_label_values(&[name, result.as_str()])),
            ),
        }
    }
}

impl RevocationCounts {
    /// Counts the end of a revocation.
    pub fn revocation(&self, result: RevocationResult) {
        self.0[result as usize].inc();
    }
}

impl LoginCounts {
    /// Counts a login, and notes its time.
    pub fn login(&self, result: LoginResult, took: Duration) {
        self.logins[result as usize].inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// The series of the revocations.
    pub fn revocations(&self) -> RevocationCounts {
        self.revocations.clone()
    }

    /// Counts a token for as long as the result lives.
    pub fn token(&self) -> CountedToken {
        self.tokens.inc();
        CountedToken(self.tokens.clone())
    }
}

impl Drop for CountedToken {
    fn drop(&mut self) {
        self.0.dec();
    }
}
