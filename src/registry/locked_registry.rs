//! A registry of which one file is being edited: locked, and judged as a whole.

use std::io;
use std::path::{Path, PathBuf};

use super::checked_entry::CheckedEntry;
use super::files::{MAX_FILE, RegistryFile, RegistryFiles};
use super::ids::IdCase;
use super::load::{build, build_with};
use super::new_machines::NewMachines;
use super::replace::{DirectoryLock, LockedFile};
use super::snapshot::Registry;
use crate::config::RegistrySource;
use crate::yaml::Mistakes;
use countersign_core::identity::PublicKey;

/// The file of a registry that is to be edited.
#[derive(Clone, Copy, Debug)]
pub enum EditedFile<'a> {
    /// The one with the entry of this machine.
    Of(&'a str),
    /// The one of this name in the directory; with `None` the registry must be one file.
    Named(Option<&'a str>),
}

/// Why a registry cannot be edited.
#[derive(Debug)]
pub enum LockFailure {
    /// A file cannot be opened, or another process is editing it.
    Io(PathBuf, io::Error),
    /// The registry has mistakes as it is.
    Mistakes(Mistakes),
    /// No file has an entry of the machine.
    NoMachine,
    /// The registry is a directory, and none of its files, or none that it has, was named. Or it is
    /// a database.
    NoFile,
}

/// The locked file, and the registry that it belongs to.
#[derive(Debug)]
pub struct LockedRegistry {
    held: LockedFile,
    files: RegistryFiles,
    /// The index of the locked file.
    at: usize,
    before: Registry,
    /// Two editors of two files must not add the same machine.
    _directory: Option<DirectoryLock>,
}

impl LockedRegistry {
    /// Locks and reads the registry.
    ///
    /// # Errors
    ///
    /// [`LockFailure`].
    pub fn take(
        source: &RegistrySource,
        file: EditedFile<'_>,
    ) -> Result<LockedRegistry, LockFailure> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| LockFailure::Io(path, error)
        };
        let directory = match source {
            RegistrySource::Directory(directory) => directory,
            RegistrySource::Database(_) => return Err(LockFailure::NoFile),
            RegistrySource::File(path) => {
                let held = LockedFile::take(path).map_err(failed(path))?;
                let files = RegistryFiles::one(path, held.text().to_owned());
                return LockedRegistry::of(held, files, 0, None);
            }
        };
        let lock = DirectoryLock::take(directory).map_err(failed(directory))?;
        let files = RegistryFiles::read(source).map_err(LockFailure::Mistakes)?;
        let at = match file {
            EditedFile::Of(id) => files.with_machine(id).ok_or(LockFailure::NoMachine)?,
            EditedFile::Named(name) => name
                .and_then(|name| files.named(name))
                .ok_or(LockFailure::NoFile)?,
        };
        let path = files.files[at].path.clone();
        let held = LockedFile::take(&path).map_err(failed(&path))?;
        LockedRegistry::of(held, files, at, Some(lock))
    }

    fn of(
        held: LockedFile,
        mut files: RegistryFiles,
        at: usize,
        directory: Option<DirectoryLock>,
    ) -> Result<LockedRegistry, LockFailure> {
        // A text editor may have written it since the files were read.
        files.files[at].text = held.text().to_owned();
        let before = build(&files, None, IdCase::Exact, &PublicKey::from_bytes)
            .map_err(LockFailure::Mistakes)?;
        Ok(LockedRegistry {
            held,
            files,
            at,
            before,
            _directory: directory,
        })
    }

    /// The locked file.
    pub fn path(&self) -> &Path {
        &self.files.files[self.at].path
    }

    /// The text of the locked file.
    pub fn text(&self) -> &str {
        self.held.text()
    }

    /// The registry before the edit.
    pub fn before(&self) -> &Registry {
        &self.before
    }

    /// The registry that it would be with further machines, and those.
    ///
    /// # Errors
    ///
    /// All the mistakes that it would have, with the lines of the machines' own file.
    pub fn adding(&self, new: NewMachines<'_>) -> Result<(Registry, Vec<CheckedEntry>), Mistakes> {
        let entries = new.checked();
        let registry = build_with(
            &self.files,
            Some(new),
            Some(&self.before),
            IdCase::Exact,
            &PublicKey::from_bytes,
        )?;
        // Each of them has passed the checks by now.
        Ok((registry, entries.unwrap_or_default()))
    }

    /// The registry that it would be with `text` in the locked file.
    ///
    /// # Errors
    ///
    /// All the mistakes that it would have.
    pub fn with(&self, text: &str) -> Result<Registry, Mistakes> {
        if text.len() as u64 > MAX_FILE {
            let most = MAX_FILE >> 20;
            let text = format!("would be larger than {most} MiB, which no registry is");
            return Err(Mistakes::only(self.path(), None, text));
        }
        let file = |(at, file): (usize, &RegistryFile)| RegistryFile {
            path: file.path.clone(),
            text: match at == self.at {
                true => text.to_owned(),
                false => file.text.clone(),
            },
        };
        let files = self.files.files.iter().enumerate().map(file).collect();
        build(
            &RegistryFiles::several(files),
            Some(&self.before),
            IdCase::Exact,
            &PublicKey::from_bytes,
        )
    }

    /// Puts `text` in the place of the locked file; see [`LockedFile::replace`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn replace(self, text: &str) -> io::Result<()> {
        self.held.replace(text)
    }
}
