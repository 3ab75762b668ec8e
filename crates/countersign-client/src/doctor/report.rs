//! The doctor's report: one line per check.

use std::fmt;

use serde::Serialize;

/// The checks, in the order in which a request meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// The key's file.
    Key,
    /// The resolution of the gateway's name.
    Name,
    /// The TCP connection.
    Connection,
    /// TLS, and the gateway's certificate.
    Tls,
    /// Whether a Countersign gateway answers, and is ready.
    Gateway,
    /// This machine's clock.
    Clock,
    /// Whether the gateway's registry knows the machine and its key.
    Registry,
    /// Whether the path arrives as sent.
    Path,
    /// Whether the gateway refuses a replayed request.
    Replay,
    /// The backend behind the gateway.
    Backend,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Passed.
    Ok,
    /// Failed; the text has the cause and the next step.
    Fail,
    /// Not checked: an earlier check failed, or the response does not show the result.
    Skipped,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// The check.
    pub check: Check,
    /// The result.
    pub result: CheckStatus,
    /// The finding, and the next step. It holds no secret.
    pub text: String,
}

/// The results of all checks. A check without a result did not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    findings: Vec<CheckResult>,
}

impl CheckResult {
    pub(super) fn new(check: Check, result: CheckStatus, text: impl Into<String>) -> CheckResult {
        CheckResult {
            check,
            result,
            text: text.into(),
        }
    }
}

impl Check {
    /// Every check.
    pub const ALL: [Check; 10] = [
        Check::Key,
        Check::Name,
        Check::Connection,
        Check::Tls,
        Check::Gateway,
        Check::Clock,
        Check::Registry,
        Check::Path,
        Check::Replay,
        Check::Backend,
    ];

    /// The check's name in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Check::Key => "key",
            Check::Name => "name",
            Check::Connection => "connection",
            Check::Tls => "tls",
            Check::Gateway => "gateway",
            Check::Clock => "clock",
            Check::Registry => "registry",
            Check::Path => "path",
            Check::Replay => "replay",
            Check::Backend => "backend",
        }
    }
}

impl Report {
    pub(super) fn ok(&mut self, check: Check, text: impl Into<String>) {
        self.findings
            .push(CheckResult::new(check, CheckStatus::Ok, text));
    }

    pub(super) fn fail(&mut self, check: Check, text: impl Into<String>) {
        self.findings
            .push(CheckResult::new(check, CheckStatus::Fail, text));
    }

    pub(super) fn skip(&mut self, check: Check, text: impl Into<String>) {
        let skipped = CheckResult::new(check, CheckStatus::Skipped, text);
        self.findings.push(skipped);
    }

    pub(super) fn extend(&mut self, findings: Vec<CheckResult>) {
        self.findings.extend(findings);
    }

    /// Whether all checks passed. TLS and the clock may be skipped, because a loopback gateway
    /// needs no TLS and a response may have no Date.
    pub fn is_well(&self) -> bool {
        let ok = |check: &Check| {
            let mut of_it = self.findings.iter().filter(|it| it.check == *check);
            let Some(first) = of_it.next() else {
                return false;
            };
            first.result != CheckStatus::Fail && of_it.all(|it| it.result != CheckStatus::Fail)
        };
        Check::ALL.iter().all(ok)
            && (self.findings.iter()).all(|it| {
                it.result != CheckStatus::Skipped || matches!(it.check, Check::Tls | Check::Clock)
            })
    }

    /// At least one line per check, in order. A check that did not run is `skipped`.
    pub fn lines(&self) -> Vec<CheckResult> {
        let of = |check: Check| -> Vec<CheckResult> {
            let found = self.findings.iter().filter(|it| it.check == check);
            let found: Vec<CheckResult> = found.cloned().collect();
            match found.is_empty() {
                false => found,
                true => {
                    let text = "not checked: fix the failed check above first";
                    vec![CheckResult::new(check, CheckStatus::Skipped, text)]
                }
            }
        };
        Check::ALL.into_iter().flat_map(of).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            let verdict = match line.result {
                CheckStatus::Ok => "ok",
                CheckStatus::Fail => "FAIL",
                CheckStatus::Skipped => "skipped",
            };
            writeln!(f, "{verdict:<8} {:<11} {}", line.check.as_str(), line.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_well_before_everything_has_been_looked_at() {
        let mut report = Report::default();
        for check in Check::ALL {
            assert!(!report.is_well());
            report.ok(check, "fine");
        }
        assert!(report.is_well());
        report.fail(Check::Tls, "not fine");
        assert!(!report.is_well());
    }

    #[test]
    fn each_check_has_a_line_and_what_was_not_come_to_is_skipped() {
        let mut report = Report::default();
        report.fail(Check::Key, "is missing");
        let text = report.to_string();
        assert_eq!(text.lines().count(), Check::ALL.len());
        assert!(
            text.starts_with("FAIL     key         is missing\nskipped  name "),
            "{text}"
        );
    }
}
