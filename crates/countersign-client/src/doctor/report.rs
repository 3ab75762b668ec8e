//! What was found: one line for each check.

use std::fmt;

use serde::Serialize;

/// What is checked, in the order in which a request meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// The key's file.
    Key,
    /// The gateway's name.
    Name,
    /// The TCP connection.
    Connection,
    /// TLS, and whose certificate it is.
    Tls,
    /// What answers there, and whether it is ready.
    Gateway,
    /// This machine's clock.
    Clock,
    /// What the gateway knows of the machine.
    Registry,
    /// Whether the path arrives as it was sent.
    Path,
    /// Whether the same request passes once.
    Replay,
    /// What is behind the gateway.
    Backend,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Wrong; the text says what and what to do.
    Fail,
    /// It cannot be told.
    Skipped,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// What was checked.
    pub check: Check,
    /// How it ended.
    pub result: CheckStatus,
    /// What was found, and what to do about it. Nothing secret.
    pub text: String,
}

/// All of them. A check that is in no line was not come to.
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

    /// The word for it.
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

    /// Whether nothing is wrong, and everything could be told.
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

    /// One line for each check, in order; what was not come to is skipped.
    pub fn lines(&self) -> Vec<CheckResult> {
        let of = |check: Check| -> Vec<CheckResult> {
            let found = self.findings.iter().filter(|it| it.check == check);
            let found: Vec<CheckResult> = found.cloned().collect();
            match found.is_empty() {
                false => found,
                true => {
                    let text = "cannot be told before what is wrong above is mended";
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
