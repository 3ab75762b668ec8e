//! What ships beside the binary, to run it: that it agrees with the binary, and with itself.

mod containers;
mod monitoring;
mod systemd;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use countersign::config::{self, Environment, Loaded};

use crate::support::process::unix_seconds;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Loads a configuration as if these files, which it names, were there, and every name resolved.
fn load(text: &str, files: &[(&str, &str)]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let mut text = text.to_owned();
    for (place, (path, content)) in files.iter().enumerate() {
        assert!(text.contains(path), "{path} is not named in:\n{text}");
        let there = folder.path().join(place.to_string());
        fs::write(&there, content).unwrap();
        // As the units and manifests have them.
        fs::set_permissions(&there, fs::Permissions::from_mode(0o440)).unwrap();
        text = text.replace(path, there.to_str().unwrap());
    }
    let environment = Environment {
        resolve: |_| Ok(vec![([127, 0, 0, 1], 8200).into()]),
        ..Environment::of_process(unix_seconds())
    };
    let file = folder.path().join("countersign.yaml");
    config::read(&text, &file, &environment).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// A tool that `make test` unpacks where the system has none.
fn tool(name: &str) -> PathBuf {
    let unpacked = root().join("target/tools/usr/bin").join(name);
    match unpacked.exists() {
        true => unpacked,
        false => name.into(),
    }
}
