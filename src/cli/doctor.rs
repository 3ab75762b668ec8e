//! `countersign doctor`: finds out, on a machine, why its requests do not pass.

use std::io::Write;
use std::path::PathBuf;

use super::command_error::CommandError;
use super::machine_options::IdentityArgs;
use super::process::runtime;
use super::terminal::say;
use crate::config::GatewayUrl;
use countersign_client::clock::Clock;
use countersign_client::doctor::{self, CheckResult, CheckStatus, Subject};

/// Find out why this machine's requests do not pass
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign doctor --gateway https://gw:8443 --key key.pem --machine-id web-1

It sends GET requests to --path and to one path below it, one of them unsigned; they change nothing.
Exit codes: 0 if every check passes, 1 if not.")]
pub(super) struct DoctorArgs {
    /// The gateway that signed requests go to: https://host:port
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::parse, required_unless_present_any = ["identity", "home"])]
    gateway: Option<GatewayUrl>,
    #[command(flatten)]
    machine: IdentityArgs,
    /// Certificate authorities to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The path to request; it need not exist
    #[arg(long, value_name = "PATH", default_value = doctor::PATH)]
    path: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints one line for each check.
///
/// # Errors
///
/// A check failed; the report says which.
pub(super) fn run(args: &DoctorArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let subject = Subject {
        credentials: args.machine.machine()?,
        gateway: args.gateway.clone(),
        ca: args.cacert.clone(),
        path: args.path.clone(),
    };
    let runtime = runtime(1)?;
    let report = runtime.block_on(doctor::examine(&subject, &Clock::system()));
    runtime.shutdown_background();
    let text = match args.json {
        true => {
            let whole = serde_json::json!({ "ok": report.is_well(), "checks": report.lines() });
            format!("{whole}\n")
        }
        false => report.to_string(),
    };
    say(out, &text)?;
    match report.is_well() {
        true => Ok(()),
        false => Err(CommandError::Operation(summary(&report.lines()))),
    }
}

/// The number of checks that do not pass.
fn summary(lines: &[CheckResult]) -> String {
    let count = |status| lines.iter().filter(|line| line.result == status).count();
    let failed = match count(CheckStatus::Fail) {
        1 => "1 check failed".to_owned(),
        number => format!("{number} checks failed"),
    };
    match count(CheckStatus::Skipped) {
        0 => failed,
        skipped => format!("{failed}, {skipped} skipped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_client::doctor::Check;

    #[test]
    fn a_summary_counts_the_checks_that_fail_and_those_that_are_skipped() {
        let line = |result| CheckResult {
            check: Check::Key,
            result,
            text: String::new(),
        };
        use CheckStatus::{Fail, Ok, Skipped};
        for (statuses, expected) in [
            (vec![Fail], "1 check failed"),
            (
                vec![Ok, Fail, Skipped, Skipped],
                "1 check failed, 2 skipped",
            ),
            (vec![Fail, Fail, Ok, Skipped], "2 checks failed, 1 skipped"),
        ] {
            let lines: Vec<CheckResult> = statuses.into_iter().map(line).collect();
            assert_eq!(summary(&lines), expected);
        }
    }
}
