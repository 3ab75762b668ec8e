//! `countersign audit`: verifies and shows audit logs.

mod show;
mod verify;

use std::io::Write;

use super::command_error::CommandError;

/// Verify an audit log, or show its records
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    after_help = "Example:
  countersign audit verify --audit audit.jsonl --registry machines.yaml --gateway-key \"$KEY\"
  countersign audit show --audit 'audit.jsonl*' --machine-id web-1 --since 7d"
)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    action: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    Verify(verify::VerifyArgs),
    Show(show::ShowArgs),
}

/// Runs at `now`, in Unix seconds.
///
/// # Errors
///
/// [`CommandError::Operation`]: a file cannot be read, or the log has faults.
pub(super) fn run(
    args: &AuditArgs,
    now: u64,
    out: &mut (dyn Write + Send),
) -> Result<(), CommandError> {
    match &args.action {
        AuditCommand::Verify(args) => verify::run(args, out),
        AuditCommand::Show(args) => show::run(args, now, out),
    }
}
