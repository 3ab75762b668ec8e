//! `countersign doctor`: says, from a machine's side, what keeps its requests from passing.

use std::io::Write;
use std::path::PathBuf;

use super::command_error::CommandError;
use super::machine_options::IdentityArgs;
use super::process::runtime;
use crate::clock::Clock;
use crate::config::GatewayUrl;
use crate::doctor::{self, Subject};

/// Find out what keeps this machine's requests from passing
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign doctor --gateway https://gw:8443 --key key.pem --machine-id web-1

It sends GETs of --path and of one path below it, which change nothing; one of them is not signed. The exit code is 0 if
all is well, and 1 otherwise.")]
pub(super) struct DoctorArgs {
    /// Where signed requests go: https://host:port
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::parse, required_unless_present = "identity")]
    gateway: Option<GatewayUrl>,
    #[command(flatten)]
    machine: IdentityArgs,
    /// Certificates to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The path that is asked for; there need be nothing there
    #[arg(long, value_name = "PATH", default_value = doctor::PATH)]
    path: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints one line for each check.
///
/// # Errors
///
/// That something is wrong; what it is has been printed.
pub(super) fn run(args: &DoctorArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let subject = Subject {
        who: args.machine.machine()?,
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
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| CommandError::Operation(error.to_string()))?;
    match report.is_well() {
        true => Ok(()),
        false => Err(CommandError::Operation("not all is well".into())),
    }
}
