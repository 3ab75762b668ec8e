//! `countersign reload`: has a running gateway read its files again, and says what came of it.

use std::io::Write;
use std::time::Duration;

use http::Request;

use super::admin::AdminArgs;
use super::command_error::CommandError;
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
) -> Result<(), CommandError> {
    let request =
        Request::post(order::PATH).header(order::HEADER, if args.force { "force" } else { "yes" });
    let (status, text) = args.admin.ask(environment, request, TIMEOUT)?;
    if !status.is_success() {
        return Err(CommandError::Operation(text));
    }
    writeln!(out, "{text}").map_err(|error| CommandError::Operation(error.to_string()))
}
