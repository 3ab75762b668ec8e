//! `countersign reload`: has a running gateway reload its files, and prints the result.

use std::io::Write;
use std::time::Duration;

use http::Request;

use super::admin::AdminArgs;
use super::command_error::CommandError;
use super::terminal::say;
use crate::config::Environment;
use crate::server::order;

/// Reload the files of a running gateway: configuration, credentials, registry, certificates
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, on the gateway's own machine:
  countersign reload

A gateway also reloads a file when it changes, and all files on SIGHUP. A file with a mistake changes
nothing. Exit codes: 0 if all files are in force, 1 if not.")]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Accept a registry that has lost more than half of its machines
    #[arg(long)]
    force: bool,
}

/// Longest wait for the answer: a hundred thousand new keys take seconds to check.
const TIMEOUT: Duration = Duration::from_secs(60);

/// # Errors
///
/// A file was not accepted, in the gateway's own words; the gateway does not answer.
pub(super) fn run(
    args: &ReloadArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let request =
        Request::post(order::PATH).header(order::HEADER, if args.force { "force" } else { "yes" });
    let (status, text) = args.admin.ask(environment, request, TIMEOUT)?;
    if !status.is_success() {
        return Err(CommandError::Operation(text));
    }
    say(out, &format!("{text}\n"))
}
