//! `countersign machine add --from`: many machines at once.

use std::io::Write;
use std::path::Path;

use super::registry_edit::RegistryEdit;
use crate::cli::command_error::CommandError;
use crate::cli::process::runtime;
use crate::cli::registry_change::{by_command_line, text_of};
use crate::cli::terminal::say;
use crate::config::{DatabaseConfig, RegistrySource};
use crate::registry::database::Database;
use crate::registry::new_machines::NewMachines;
use crate::registry::{CheckedEntry, EditedFile};
use countersign_core::identity::MachineId;

/// Adds the machines of a file, all or none, and gives their ids in its order.
pub(super) fn add(
    from: &Path,
    registry: &RegistrySource,
    file: EditedFile<'_>,
) -> Result<Vec<MachineId>, CommandError> {
    let (name, text) = text_of(from)?;
    let new = NewMachines::parse(name, &text)
        .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?;
    RegistryEdit::new(registry, file)?.put_all(new)
}

/// Adds the machines of a file to a database, all or none, and gives their ids in its order.
pub(super) fn add_to_database(
    from: &Path,
    database: &DatabaseConfig,
    now: u64,
) -> Result<Vec<MachineId>, CommandError> {
    let entries = entries(from)?;
    let author = by_command_line(now)?;
    let added = runtime(1)?.block_on(async {
        let database = Database::open(database).await?;
        database.add(&entries, &author).await
    });
    added.map_err(|error| {
        CommandError::Operation(format!(
            "nothing was added to {}: {error}",
            database.address
        ))
    })?;
    Ok(ids(&entries))
}

/// The machines of a file, checked as far as they need no registry.
pub(super) fn entries(from: &Path) -> Result<Vec<CheckedEntry>, CommandError> {
    let (name, text) = text_of(from)?;
    NewMachines::parse(name, &text)
        .and_then(NewMachines::check)
        .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))
}

pub(super) fn ids(entries: &[CheckedEntry]) -> Vec<MachineId> {
    entries.iter().map(|entry| entry.id().clone()).collect()
}

/// Prints the ids, one a line.
pub(super) fn say_ids(out: &mut dyn Write, ids: &[MachineId]) -> Result<(), CommandError> {
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    say(out, &lines)
}
