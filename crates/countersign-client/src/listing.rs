//! Lists the files of a directory, by the same rules as a file is read.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::file::{FileFault, PATIENCE, within};
use crate::watch::FileState;

/// The files of a directory, by name, and the state of each. Two listings are equal if no file came,
/// went or changed between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryListing {
    files: Vec<(PathBuf, FileState)>,
}

impl DirectoryListing {
    /// Lists the entries whose names are `wanted`, in the order of their bytes. It does not descend.
    ///
    /// # Errors
    ///
    /// [`FileFault`]: no such directory, no answer of the file system, or more than `most` entries.
    pub fn of(
        directory: &Path,
        wanted: fn(&OsStr) -> bool,
        most: usize,
    ) -> Result<DirectoryListing, FileFault> {
        let path = directory.to_owned();
        within(directory, PATIENCE, move |_| {
            let mut paths = Vec::new();
            for entry in path.read_dir().map_err(FileFault::Unreadable)? {
                let entry = entry.map_err(FileFault::Unreadable)?;
                if !wanted(&entry.file_name()) {
                    continue;
                }
                if paths.len() == most {
                    return Err(FileFault::TooMany(most));
                }
                paths.push(entry.path());
            }
            paths.sort_unstable();
            let state = |path: PathBuf| {
                let state = FileState::of(&path);
                (path, state)
            };
            Ok(DirectoryListing {
                files: paths.into_iter().map(state).collect(),
            })
        })
    }

    /// The paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::fs;

    fn any(_: &OsStr) -> bool {
        true
    }

    #[test]
    fn files_are_listed_by_name_and_those_not_wanted_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b", "a", "c.old"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        let wanted = |name: &OsStr| !name.to_string_lossy().ends_with(".old");
        let listing = DirectoryListing::of(directory.path(), wanted, 9).unwrap();
        let names: Vec<_> = listing.paths().filter_map(Path::file_name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_file_that_changes_makes_another_listing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        let list = || DirectoryListing::of(directory.path(), any, 9).unwrap();
        let empty = list();
        fs::write(&file, "1").unwrap();
        let before = list();
        assert_ne!(empty, before);
        assert_eq!(before, list());
        fs::write(&file, "12").unwrap();
        assert_ne!(before, list());
    }

    #[test]
    fn more_files_than_the_limit_are_an_error() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        assert!(DirectoryListing::of(directory.path(), any, 3).is_ok());
        let fault = DirectoryListing::of(directory.path(), any, 2).unwrap_err();
        assert!(matches!(fault, FileFault::TooMany(2)), "{fault}");
    }

    #[test]
    fn a_missing_directory_and_a_file_in_its_place_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        fs::write(&file, "").unwrap();
        for path in [file, directory.path().join("none")] {
            let fault = DirectoryListing::of(&path, any, 9).unwrap_err();
            assert!(matches!(fault, FileFault::Unreadable(_)), "{fault}");
        }
    }
}
