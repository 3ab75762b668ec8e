//! `countersign audit`: reads audit logs back.

mod show;
mod verify;

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use super::Failure;
use crate::file;

/// Checks an audit log, or shows what is in it.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    after_help = "Example:
  countersign audit verify --log audit.jsonl --registry machines.yaml --gateway-key \"$KEY\"
  countersign audit show --log audit.jsonl --machine web-1 --since 2026-01-31T00:00:00Z"
)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Verify(verify::VerifyArgs),
    Show(show::ShowArgs),
}

/// # Errors
///
/// [`Failure::Operation`]: a file cannot be read, or the log is not what it should be.
pub(super) fn run(args: &AuditArgs, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    match &args.action {
        Action::Verify(args) => verify::run(args, out),
        Action::Show(args) => show::run(args, out),
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = file::open(path).map_err(|fault| Failure::Operation(fault.of(path).to_string()))?;
    Ok(BufReader::with_capacity(256 * 1024, file))
}
