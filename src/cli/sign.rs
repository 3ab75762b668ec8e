//! `countersign sign`: the four headers for one request, to send with any client.

use std::io::Write;
use std::path::PathBuf;

use super::Failure;
use super::machine_side::{read_body, signer};
use crate::clock::Clock;

/// Sign a request and print the four headers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign sign --key key.pem --machine-id web-1 GET /v1/secret/db \\
    | curl -H @- http://127.0.0.1:8080/v1/secret/db")]
pub(super) struct SignArgs {
    /// The machine's private key (PKCS#8 PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The id under which the registry knows the machine
    #[arg(long, value_name = "ID")]
    machine_id: String,
    /// The request body; - is standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The method, upper case
    method: String,
    /// The path as it will be sent; with ?query only where the route's query is signed
    path: String,
}

/// Prints the four headers, one a line, as `curl -H @-` reads them.
///
/// # Errors
///
/// What is wrong with the key, the arguments or the body.
pub(super) fn run(args: &SignArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = signer(&args.machine_id, &args.key)?;
    let body = read_body(args.body.as_deref())?;
    let now = Clock::system().now().unix_seconds();
    for (header, value) in signer.sign_text(&args.method, &args.path, &body, now)? {
        writeln!(out, "{header}: {value}").map_err(|e| Failure::Operation(e.to_string()))?;
    }
    Ok(())
}
