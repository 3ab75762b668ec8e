//! The dependency rule, held by reading the sources.

use std::fs;
use std::path::{Path, PathBuf};

pub struct Source {
    /// Relative to the crate's `src/`, with `/`.
    pub path: String,
    pub text: String,
}

/// Every source file of the library and the binary.
pub fn sources() -> Vec<Source> {
    sources_below("src")
}

fn sources_below(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(Source {
                    path: path
                        .strip_prefix(&root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                    text: fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    assert!(files.len() > 10, "the sources were found");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

impl Source {
    /// The module directly below the crate that the file belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The code without comments.
    fn code(&self) -> String {
        self.text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

/// Every source file of the three crates.
fn workspace_sources() -> Vec<Source> {
    let crates = ["countersign-core", "countersign-client"];
    let mut files = sources();
    files.extend(
        crates
            .iter()
            .flat_map(|name| sources_below(&format!("crates/{name}/src"))),
    );
    files
}

/// What each module of the gateway may import from its crate, as lib.rs states it. Cargo holds the
/// same between the crates.
const MAY_IMPORT: [(&str, &[&str]); 9] = [
    ("metrics", &[]),
    ("yaml", &[]),
    ("config", &["yaml"]),
    ("nonces", &["metrics", "config"]),
    ("registry", &["metrics", "yaml", "config"]),
    ("audit", &["metrics", "config"]),
    (
        "gateway",
        &["metrics", "config", "nonces", "registry", "audit"],
    ),
    (
        "server",
        &[
            "metrics", "config", "nonces", "registry", "audit", "gateway",
        ],
    ),
    ("cli", &["config", "registry", "audit", "server"]),
];

#[test]
fn every_module_imports_only_what_lies_below_it() {
    let mut broken = Vec::new();
    for file in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == file.module()) else {
            assert!(
                matches!(file.module(), "lib" | "main"),
                "{} has no rule",
                file.path
            );
            continue;
        };
        let code = file.code();
        if code.contains("use crate::{") {
            broken.push(format!(
                "{} imports a list from the crate: one module a line",
                file.path
            ));
        }
        for (other, _) in MAY_IMPORT {
            let imports = code.contains(&format!("crate::{other}::"))
                || code.contains(&format!("crate::{other};"));
            if imports && other != file.module() && !allowed.contains(&other) {
                broken.push(format!("{} imports {other}", file.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_the_gateway_and_the_server_name_pingora() {
    for file in sources() {
        if !matches!(file.module(), "gateway" | "server") {
            let code = file.code();
            // A log filter names it in a string.
            assert!(!code.contains("pingora::"), "{} names pingora", file.path);
        }
    }
}

#[test]
fn files_that_somebody_names_are_opened_in_one_place() {
    // They open what is their own: the journal and the trail, a directory to be flushed, a key that is being made.
    let of_their_own = [
        "file.rs",
        "audit/sink/",
        "audit/tail.rs",
        "nonces/journal/",
        "registry/replace.rs",
        "cli/demo/",
        "cli/keygen.rs",
    ];
    for file in workspace_sources() {
        if of_their_own.iter().any(|own| file.path.starts_with(own)) || file.path.contains("test") {
            continue;
        }
        let code = file.code();
        let code = code.split("#[cfg(test)]").next().unwrap();
        for opens in ["File::open", "fs::read(", "fs::read_to_string", "pem_file"] {
            assert!(!code.contains(opens), "{} has {opens}", file.path);
        }
    }
}

#[test]
fn the_decision_core_knows_no_socket_clock_file_or_log() {
    for file in sources_below("crates/countersign-core/src") {
        let code = file.code();
        let core = code.split("#[cfg(test)]").next().unwrap();
        if file.path.ends_with("tests.rs") {
            continue;
        }
        for banned in [
            "std::fs",
            "std::net",
            "std::env",
            "std::time",
            "tokio",
            "tracing",
            "println",
        ] {
            assert!(!core.contains(banned), "{} uses {banned}", file.path);
        }
    }
}

#[test]
fn files_have_one_job_and_so_a_few_screenfuls() {
    const MOST_LINES: usize = 350;
    for file in workspace_sources() {
        if file.path.contains("test") {
            continue;
        }
        let end = file.text.find("#[cfg(test)]\nmod tests {");
        let end = end.or_else(|| file.text.find("#[cfg(test)]\n#[allow("));
        let lines = file.text[..end.unwrap_or(file.text.len())].lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", file.path);
    }
}
