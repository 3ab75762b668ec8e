//! `countersign health`: checks a running gateway, for an image without a shell.

use std::time::Duration;

use http::Request;

use super::admin::AdminArgs;
use super::command_error::CommandError;
use crate::config::Environment;

/// Check whether a running gateway is ready
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, in a Dockerfile:
  HEALTHCHECK CMD [\"/countersign\", \"health\", \"--live\"]")]
pub(super) struct HealthArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Check whether it is alive instead of ready
    #[arg(long)]
    live: bool,
}

/// Longest wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// # Errors
///
/// The gateway is not ready, in its own words; it does not answer.
pub(super) fn run(args: &HealthArgs, environment: &Environment) -> Result<(), CommandError> {
    let target = if args.live { "/livez" } else { "/readyz" };
    let (status, text) = args.admin.ask(environment, Request::get(target), TIMEOUT)?;
    match status.is_success() {
        true => Ok(()),
        false => Err(CommandError::Operation(format!("not ready: {text}"))),
    }
}
