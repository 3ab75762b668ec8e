//! `countersign health`: asks a running gateway whether it is ready, for an image without a shell.

use std::time::Duration;

use super::Failure;
use super::configuration::{AdminArgs, unreachable};
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
pub(super) fn run(args: &HealthArgs, environment: &Environment) -> Result<(), Failure> {
    let admin = args.admin.address(environment)?;
    let probe = if args.live { "livez" } else { "readyz" };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .proxy(None)
        .build()
        .into();
    let failed = |error: ureq::Error| unreachable(admin, &error);
    let mut answer = agent
        .get(format!("http://{admin}/{probe}"))
        .call()
        .map_err(failed)?;
    if answer.status().is_success() {
        return Ok(());
    }
    let why = answer.body_mut().read_to_string().map_err(failed)?;
    Err(Failure::Operation(format!("not ready: {}", why.trim())))
}
