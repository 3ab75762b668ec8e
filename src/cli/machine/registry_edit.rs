//! An edit of the registry file that changes one machine and nothing else.

use std::io;
use std::path::Path;

use crate::cli::command_error::CommandError;
use crate::registry::edit::CannotEdit;
use crate::registry::replace::LockedFile;
use crate::registry::{Change, Registry, Tombstone};
use countersign_core::identity::Machine;

/// A registry file that is being edited.
pub(super) struct RegistryEdit<'p> {
    pub(super) path: &'p Path,
    pub(super) held: LockedFile,
    pub(super) before: Registry,
}

impl RegistryEdit<'_> {
    pub(super) fn new(path: &Path) -> Result<RegistryEdit<'_>, CommandError> {
        let held = LockedFile::take(path).map_err(|error| cannot_open(path, &error))?;
        let before = Registry::from_bytes(path, held.text().as_bytes(), None)
            .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?;
        Ok(RegistryEdit { path, held, before })
    }

    pub(super) fn machine(&self, id: &str) -> Result<&Machine, CommandError> {
        let machine = self.before.find(id).ok_or_else(|| unknown(id, self.path))?;
        Ok(machine)
    }

    /// Writes the edited text, if it is a good registry in which the machine `id` is as `expected`
    /// and nothing else has changed. An edit relies on indentation, so its result is checked first.
    pub(super) fn put(
        self,
        text: Result<String, CannotEdit>,
        id: &str,
        expected: Option<&Machine>,
    ) -> Result<(), CommandError> {
        self.put_with(text, id, expected, None)
    }

    /// Writes the edited text in the same way, with one more tombstone.
    pub(super) fn put_with(
        self,
        text: Result<String, CannotEdit>,
        id: &str,
        expected: Option<&Machine>,
        tombstone: Option<Tombstone>,
    ) -> Result<(), CommandError> {
        let nothing_written = |why: String| {
            CommandError::Operation(format!(
                "cannot edit {}, so it is unchanged: {why}",
                self.path.display()
            ))
        };
        let text = text.map_err(|error| nothing_written(error.to_string()))?;
        let after = Registry::from_bytes(self.path, text.as_bytes(), Some(&self.before)).map_err(
            |mistakes| nothing_written(format!("the result would be wrong:\n{mistakes}")),
        )?;
        let as_expected = after.find(id).map(AsRef::as_ref) == expected;
        let others = self
            .before
            .removed()
            .iter()
            .chain(&tombstone)
            .eq(after.removed())
            && self.before.groups() == after.groups()
            && Change::between(&self.before, &after).touched() == 1;
        if !as_expected || !others {
            return Err(nothing_written(format!(
                "with the layout of this file, more than the machine {id} would change. Edit the \
                 file by hand"
            )));
        }
        let path = self.path;
        self.held.replace(&text).map_err(|error| {
            CommandError::Operation(format!("cannot replace {}: {error}", path.display()))
        })
    }
}

pub(super) fn load(path: &Path) -> Result<Registry, CommandError> {
    Registry::load(path, None).map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))
}

fn cannot_open(path: &Path, error: &io::Error) -> CommandError {
    let path = path.display();
    CommandError::Operation(match error.kind() {
        io::ErrorKind::NotFound => format!(
            "cannot open {path}: there is no such file. To start a registry: echo 'machines: []' > \
             {path}"
        ),
        io::ErrorKind::WouldBlock => {
            format!("cannot edit {path}: another process is editing it. Try again when it is done")
        }
        _ => format!("cannot open {path} for editing: {error}"),
    })
}

pub(super) fn unknown(id: &str, registry: &Path) -> CommandError {
    CommandError::Operation(format!(
        "{}: there is no machine {id:?}. List the machines with `countersign machine list`",
        registry.display()
    ))
}
