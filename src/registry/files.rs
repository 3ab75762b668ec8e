//! The files of a registry: one, or all `*.yaml` of a directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::config::RegistrySource;
use crate::yaml::{self, Mistakes, Node, Notes};
use countersign_client::file::FileFault;
use countersign_client::listing::DirectoryListing;

/// Largest registry, in bytes, all of its files together: a third of a million machines with every
/// field. It keeps a wrong file name from filling the memory; a load takes about six times the size
/// of the text.
pub const MAX_FILE: u64 = 64 << 20;

/// Most files of a directory: a file a team. It bounds the calls of each look for changes.
const MAX_FILES: usize = 1000;

/// The text of a file. Its path is for the messages.
#[derive(Debug)]
pub(super) struct RegistryFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// The texts of a registry that belong together, and their digest.
#[derive(Debug)]
pub(super) struct RegistryFiles {
    pub(super) files: Vec<RegistryFile>,
    pub(super) digest: [u8; 32],
}

impl RegistryFiles {
    /// The registry of one file. The digest is the SHA-256 of its text.
    pub(super) fn one(path: &Path, text: String) -> RegistryFiles {
        RegistryFiles {
            digest: Sha256::digest(&text).into(),
            files: vec![RegistryFile {
                path: path.to_owned(),
                text,
            }],
        }
    }

    /// The registry of several files, in the order of their names. The digest is that of the lines
    /// that `sha256sum` prints for them, so that an operator can compute it.
    pub(super) fn several(files: Vec<RegistryFile>) -> RegistryFiles {
        let mut digest = Sha256::new();
        for file in &files {
            for byte in Sha256::digest(&file.text) {
                digest.update(format!("{byte:02x}"));
            }
            let name = file.path.file_name().unwrap_or_default();
            digest.update("  ");
            digest.update(name.as_encoded_bytes());
            digest.update("\n");
        }
        RegistryFiles {
            files,
            digest: digest.finalize().into(),
        }
    }

    /// The file that has the entry of this machine.
    pub(super) fn with_machine(&self, id: &str) -> Option<usize> {
        let has = |file: &RegistryFile| {
            let document = yaml::document(&file.text, &Notes::new(&file.path), "");
            let machines = document.as_ref().and_then(|root| root.entry("machines"));
            let mut items = machines.map_or(&[][..], Node::items).iter();
            items.any(|item| item.entry("id").and_then(Node::text) == Some(id))
        };
        self.files.iter().position(has)
    }

    /// The file of this name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        let is_it = |file: &RegistryFile| file.path.file_name() == Some(OsStr::new(name));
        self.files.iter().position(is_it)
    }

    /// Reads the files. Those of a directory are read as of one moment.
    ///
    /// # Errors
    ///
    /// One mistake for each file that cannot be read, is no regular file, is too large, changed
    /// while it was read, or is not UTF-8. Or one for the directory.
    pub(super) fn read(source: &RegistrySource) -> Result<RegistryFiles, Mistakes> {
        match source {
            RegistrySource::File(path) => {
                let text = yaml::text_of(path, MAX_FILE as usize, "registry")?;
                Ok(RegistryFiles::one(path, text))
            }
            RegistrySource::Directory(path) => read_directory(path),
            RegistrySource::Database(database) => {
                let text = format!("the machines stand in the database {}", database.address);
                Err(Mistakes::only(Path::new(""), None, text))
            }
        }
    }
}

/// The paths whose change may change the registry. A directory that cannot be listed is one of
/// them, so that its return is noticed.
pub fn watched(source: &RegistrySource) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = source.path().map(Path::to_owned).into_iter().collect();
    if let RegistrySource::Directory(directory) = source
        && let Ok(listing) = DirectoryListing::of(directory, is_listed, MAX_FILES)
    {
        paths.extend(listing.paths().map(Path::to_owned));
    }
    paths
}

fn read_directory(directory: &Path) -> Result<RegistryFiles, Mistakes> {
    let unlisted = |fault: FileFault| Mistakes {
        may_pass: fault.may_pass(),
        ..Mistakes::only(directory, None, fault.to_string())
    };
    let list = || DirectoryListing::of(directory, is_listed, MAX_FILES).map_err(unlisted);
    let before = list()?;
    let (mut files, mut mistakes) = (Vec::new(), Vec::new());
    let mut left = MAX_FILE as usize;
    for path in before.paths() {
        match read_file(path, left) {
            Ok(text) => {
                left -= text.len();
                files.push(RegistryFile {
                    path: path.to_owned(),
                    text,
                });
            }
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if let Some(mistakes) = Mistakes::together(mistakes) {
        return Err(mistakes);
    }
    if files.is_empty() {
        // A volume that is not mounted looks like this, and must not lock every machine out.
        let text = "has no file *.yaml; for a registry without machines, add one that holds \
                    `machines: []`";
        return Err(Mistakes {
            may_pass: true,
            ..Mistakes::only(directory, None, text)
        });
    }
    if list()? != before {
        let text = "changed while its files were read";
        return Err(Mistakes {
            may_pass: true,
            ..Mistakes::only(directory, None, text)
        });
    }
    Ok(RegistryFiles::several(files))
}

/// The text of a file in a directory, of which `left` bytes may be read.
fn read_file(path: &Path, left: usize) -> Result<String, Mistakes> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    if name.is_empty() || name.contains(|c: char| c.is_control() || c == '\\') {
        let text = "has a name that is no plain text; rename it";
        return Err(Mistakes::only(path, None, text));
    }
    if name.ends_with(".yml") {
        let text = "would be ignored, because only *.yaml is read; rename it";
        return Err(Mistakes::only(path, None, text));
    }
    yaml::text_of(path, left, "registry")
}

/// Whether a file of the directory is a part of the registry, or was meant to be one. Hidden files
/// are an editor's, or what a mounted volume keeps its versions in.
fn is_listed(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let is_yaml = name.ends_with(b".yaml") || name.ends_with(b".yml");
    is_yaml && !name.starts_with(b".")
}
