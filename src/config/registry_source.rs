//! The place of the machines, for commands.

use std::path::Path;

use super::operation;
use super::registry::RegistrySource;
use crate::yaml::Node;

impl RegistrySource {
    /// The source at a path that an option names: a directory if one is there, else a file.
    pub fn at(path: &Path) -> RegistrySource {
        match path.is_dir() {
            true => RegistrySource::Directory(path.to_owned()),
            false => RegistrySource::File(path.to_owned()),
        }
    }

    /// The file or the directory; `None` with a database.
    pub fn path(&self) -> Option<&Path> {
        match self {
            RegistrySource::File(path) | RegistrySource::Directory(path) => Some(path),
            RegistrySource::Database(_) => None,
        }
    }
}

/// The file or the directory that a configuration names, in spite of mistakes elsewhere in it.
pub(super) fn source_in(root: &Node<'_>, base: &Path) -> Option<RegistrySource> {
    let registry = root.entry("registry")?;
    let path = |key| operation::path(registry.entry(key)?.text()?, base).ok();
    match (path("file"), path("directory")) {
        (Some(file), None) => Some(RegistrySource::File(file)),
        (None, Some(directory)) => Some(RegistrySource::Directory(directory)),
        _ => None,
    }
}
