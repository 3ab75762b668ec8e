//! `countersign reload`: has a running gateway read its files again, and says what came of it.

use std::io::Write;
use std::time::Duration;

use super::Failure;
use super::configuration::{AdminArgs, unreachable};
use crate::config::Environment;
use crate::server::order;

/// Have a running gateway read its files again: configuration, credentials, registry, certificates
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, on the gateway's own machine:
  countersign reload

A gateway also reads a file again when it changes, and all of them on SIGHUP. A file with a mistake
changes nothing. Exits with 0 if all of them are in force, and with 1 if not.")]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Take a registry, too, that has lost more than half of its machines
    #[arg(long)]
    force: bool,
}

/// Longest wait for the answer: a hundred thousand new keys take seconds to check.
const TIMEOUT: Duration = Duration::from_secs(60);

/// # Errors
///
/// The gateway's own words where a file was not taken; that it did not answer.
pub(super) fn run(
    args: &ReloadArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let admin = args.admin.address(environment)?;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .proxy(None)
        .build()
        .into();
    let failed = |error: ureq::Error| unreachable(admin, &error);
    let mut answer = agent
        .post(format!("http://{admin}{}", order::PATH))
        .header(order::HEADER, if args.force { "force" } else { "yes" })
        .send_empty()
        .map_err(failed)?;
    let words = answer.body_mut().read_to_string().map_err(failed)?;
    let words = words.trim();
    if !answer.status().is_success() {
        return Err(Failure::Operation(words.to_owned()));
    }
    writeln!(out, "{words}").map_err(|error| Failure::Operation(error.to_string()))
}
