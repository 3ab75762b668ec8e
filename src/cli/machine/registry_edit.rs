//! An edit of a registry that changes one machine and nothing else.

use std::fmt::Display;
use std::io;
use std::path::Path;

use crate::cli::command_error::CommandError;
use crate::config::RegistrySource;
use crate::registry::edit::{self, CannotEdit};
use crate::registry::new_machines::NewMachines;
use crate::registry::{
    Change, EditedFile, IdCase, LockFailure, LockedRegistry, Registry, Tombstone,
};
use countersign_core::identity::{Machine, MachineId};

/// A registry of which one file is being edited.
pub(super) struct RegistryEdit {
    held: LockedRegistry,
}

impl RegistryEdit {
    pub(super) fn new(
        source: &RegistrySource,
        file: EditedFile<'_>,
    ) -> Result<RegistryEdit, CommandError> {
        match LockedRegistry::take(source, file) {
            Ok(held) => Ok(RegistryEdit { held }),
            Err(failure) => Err(cannot_take(failure, source, file)),
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.held.path()
    }

    /// The text of the file.
    pub(super) fn text(&self) -> &str {
        self.held.text()
    }

    pub(super) fn before(&self) -> &Registry {
        self.held.before()
    }

    pub(super) fn machine(&self, id: &str) -> Result<&Machine, CommandError> {
        let machine = self.before().find(id);
        let machine = machine.ok_or_else(|| unknown(id, self.path().display()))?;
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
        let as_expected = |before: &Registry, after: &Registry| {
            let machine = after.find(id).map(AsRef::as_ref);
            // The tombstones of a directory stand in several files, in the order of those.
            let mut removed: Vec<&Tombstone> = before.removed().iter().chain(&tombstone).collect();
            let mut now_removed: Vec<&Tombstone> = after.removed().iter().collect();
            for list in [&mut removed, &mut now_removed] {
                list.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            }
            machine == expected
                && removed == now_removed
                && before.groups() == after.groups()
                && Change::between(before, after).touched() == 1
        };
        self.put_if(text, &format!("the machine {id}"), as_expected)
    }

    /// Writes the machines of another file at the end of the list.
    pub(super) fn put_all(self, new: NewMachines<'_>) -> Result<Vec<MachineId>, CommandError> {
        let (expected, entries) = self
            .held
            .adding(new)
            .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?;
        let text = edit::add_all(self.text(), &entries);
        let as_expected = |_: &Registry, after: &Registry| {
            Change::between(&expected, after).is_nothing()
                && expected.groups() == after.groups()
                && expected.removed() == after.removed()
        };
        self.put_if(text, "the machines to add", as_expected)?;
        Ok(entries.iter().map(|entry| entry.id().clone()).collect())
    }

    /// Writes the edited text, if it is a good registry that is `as_expected`; else more than `what`
    /// would change.
    fn put_if(
        self,
        text: Result<String, CannotEdit>,
        what: &str,
        as_expected: impl FnOnce(&Registry, &Registry) -> bool,
    ) -> Result<(), CommandError> {
        let nothing_written = |why: String| {
            CommandError::Operation(format!(
                "cannot edit {}, so it is unchanged: {why}",
                self.path().display()
            ))
        };
        let text = text.map_err(|error| nothing_written(error.to_string()))?;
        let after = self.held.with(&text).map_err(|mistakes| {
            nothing_written(format!("the result would be wrong:\n{mistakes}"))
        })?;
        if !as_expected(self.before(), &after) {
            return Err(nothing_written(format!(
                "with the layout of this file, more than {what} would change. Edit the file by hand"
            )));
        }
        let path = self.path().to_owned();
        self.held.replace(&text).map_err(|error| {
            CommandError::Operation(format!("cannot replace {}: {error}", path.display()))
        })
    }
}

pub(super) fn load(source: &RegistrySource) -> Result<Registry, CommandError> {
    Registry::load_source(source, None, IdCase::Exact)
        .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))
}

fn cannot_take(
    failure: LockFailure,
    source: &RegistrySource,
    file: EditedFile<'_>,
) -> CommandError {
    match (failure, file) {
        (LockFailure::Io(path, error), _) => cannot_open(&path, &error),
        (LockFailure::Mistakes(mistakes), _) => CommandError::Configuration(mistakes.to_string()),
        (LockFailure::NoMachine, EditedFile::Of(id)) => unknown(id, source),
        (_, EditedFile::Named(Some(name))) => CommandError::Operation(format!(
            "there is no file {name:?} in {0}. To start one: echo 'machines: []' > {0}/{name}",
            source
        )),
        _ => CommandError::Usage(format!(
            "{} is a directory: name the file that gets the machine with --into NAME",
            source
        )),
    }
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

pub(super) fn unknown(id: &str, registry: impl Display) -> CommandError {
    CommandError::Operation(format!(
        "{}: there is no machine {id:?}. List the machines with `countersign machine list`",
        registry
    ))
}
