//! `countersign sign`: prints the four headers of one request, to send with any client.

use std::io::Write;

use super::command_error::CommandError;
use super::machine_options::SignerArgs;
use super::request_body::BodyArgs;
use super::terminal::cannot_print;
use countersign_client::clock::Clock;

/// Sign a request and print the four headers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign sign --key key.pem --machine-id web-1 GET /v1/secret/db \\
    | curl -H @- http://127.0.0.1:8080/v1/secret/db")]
pub(super) struct SignArgs {
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    body: BodyArgs,
    /// The method, upper case
    method: String,
    /// The path as it will be sent, with its query only for a route with `query: signed`
    path: String,
}

/// Prints the four headers, one a line, as `curl -H @-` reads them.
///
/// # Errors
///
/// The key, an argument or the body is wrong.
pub(super) fn run(args: &SignArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let signer = args.signer.signer()?;
    let body = args.body.read(args.signer.key_is_stdin())?;
    let now = Clock::system().now().unix_seconds();
    for (header, value) in signer.sign_text(&args.method, &args.path, &body, now)? {
        writeln!(out, "{header}: {value}").map_err(cannot_print)?;
    }
    Ok(())
}
