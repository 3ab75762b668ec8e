//! `countersign health`: asks a running gateway whether it is ready, for an image without a shell.

use std::time::Duration;

use http::Request;

use super::admin::AdminArgs;
use super::command_error::CommandError;
use crate::config::Environment;

/// Ask a running gateway whether it is ready
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, in a Dockerfile:
  HEALTHCHECK CMD [\"/countersign\", \"health\", \"--live\"]")]
pub(super) struct HealthArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Ask whether it is alive instead of ready
    #[arg(long)]
    live: bool,
}

/// Longest wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// # Errors
///
/// The gateway's own words where it is not ready; that it did not answer.
pub(super) fn run(args: &HealthArgs, environment: &Environment) -> Result<(), CommandError> {
    let target = if args.live { "/livez" } else { "/readyz" };
    let (status, text) = args.admin.ask(environment, Request::get(target), TIMEOUT)?;
    match status.is_success() {
        true => Ok(()),
        false => Err(CommandError::Operation(format!("not ready: {text}"))),
    }
}
