//! What may import what, held by reading the sources.

mod imports;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use self::imports::{Imports, SourceFile};

/// Read once: parsing the sources takes seconds.
static SOURCES: LazyLock<Imports> =
    LazyLock::new(|| Imports::read(Path::new(env!("CARGO_MANIFEST_DIR"))));

/// The files outside tests.
fn shipped(imports: &Imports) -> impl Iterator<Item = &SourceFile> {
    imports.files.iter().filter(|file| !file.test)
}

/// The order of the modules as lib.rs states it in one line: "`a`, `b` ← `c`". What the crates may
/// import from one another, Cargo holds.
#[test]
fn every_module_imports_only_modules_to_its_left() {
    let imports = &*SOURCES;
    let top = imports.files.iter().find(|file| file.path == "src/lib.rs");
    let lines = top.unwrap().text.lines();
    let line = lines
        .filter(|line| line.starts_with("//! `"))
        .find(|line| line.contains(" ← "));
    let groups: Vec<Vec<&str>> = (line.unwrap().trim_start_matches("//! ").split(" ← "))
        .map(|group| {
            group
                .split(", ")
                .map(|module| module.trim_matches('`'))
                .collect()
        })
        .collect();
    let place = |module: &str| groups.iter().position(|group| group.contains(&module));
    let mut broken = Vec::new();
    for (from, targets) in imports.edges() {
        let from = &imports.files[from];
        let Some(module) = from.module_of("src/").filter(|name| *name != "lib") else {
            continue;
        };
        let own = place(module).unwrap_or_else(|| panic!("lib.rs does not place {}", from.path));
        for to in targets {
            let to = &imports.files[to];
            let other = to.module_of("src/").unwrap_or(module);
            if other != module && place(other).is_none_or(|place| place >= own) {
                broken.push(format!("{} imports {}", from.path, to.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let imports = &*SOURCES;
    let circles = imports.circles();
    assert!(circles.is_empty(), "{circles:#?}");
}

/// `src/gateway/mod.rs` has the order in one line: "`a` <- `b` <- `c`".
#[test]
fn the_layers_of_the_gateway_import_only_layers_to_their_left() {
    let imports = &*SOURCES;
    let top = imports
        .files
        .iter()
        .find(|file| file.path == "src/gateway/mod.rs")
        .unwrap();
    let line = top
        .text
        .lines()
        .find(|line| line.starts_with("//! `") && line.contains(" <- "))
        .unwrap();
    let layers: Vec<&str> = line
        .trim_start_matches("//! ")
        .split(" <- ")
        .map(|layer| layer.trim_matches('`'))
        .collect();
    assert!(layers.len() >= 4, "{layers:?}");
    let layer_of = |path: &str| {
        let rest = path.strip_prefix("src/gateway/")?;
        let name = rest.split('/').next()?.trim_end_matches(".rs");
        let place = layers.iter().position(|layer| *layer == name);
        assert!(place.is_some() || rest == "mod.rs", "{path} is in no layer");
        place
    };
    let mut broken = Vec::new();
    for (from, targets) in imports.edges() {
        let Some(from_layer) = layer_of(&imports.files[from].path) else {
            continue;
        };
        for to in targets {
            let against = layer_of(&imports.files[to].path).is_some_and(|layer| layer > from_layer);
            if against || imports.files[to].path == top.path {
                broken.push(format!(
                    "{} imports {}",
                    imports.files[from].path, imports.files[to].path
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_type_name_has_one_meaning_in_the_whole_workspace() {
    let imports = &*SOURCES;
    let mut places = BTreeMap::<&str, Vec<&str>>::new();
    for file in shipped(imports) {
        for name in &file.types {
            places.entry(name).or_default().push(&file.path);
        }
    }
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{} names: {places:#?}", places.len());
}

#[test]
fn only_the_gateway_and_the_server_name_pingora() {
    for file in shipped(&SOURCES) {
        let may = matches!(file.module_of("src/"), Some("gateway" | "server"));
        assert!(
            may || !file.names_crate("pingora"),
            "{} names pingora",
            file.path
        );
    }
}

#[test]
fn files_that_somebody_names_are_opened_in_one_place() {
    // They open what is their own: the journal and the trail, a directory to be flushed, a key that
    // is being made.
    let of_their_own = [
        "crates/countersign-client/src/file.rs",
        "src/audit/sink/",
        "src/audit/tail.rs",
        "src/nonces/journal/",
        "src/registry/replace.rs",
        "src/cli/demo/",
        "src/cli/keygen.rs",
    ];
    for file in shipped(&SOURCES) {
        if of_their_own.iter().any(|own| file.path.starts_with(own)) {
            continue;
        }
        let code = file.code();
        for opens in ["File::open", "fs::read(", "fs::read_to_string", "pem_file"] {
            assert!(!code.contains(opens), "{} has {opens}", file.path);
        }
    }
}

#[test]
fn the_decision_core_knows_no_socket_clock_file_or_log() {
    for file in shipped(&SOURCES).filter(|file| file.path.starts_with("crates/countersign-core/")) {
        let code = file.code();
        for banned in [
            "std::fs",
            "std::net",
            "std::env",
            "std::time",
            "tokio",
            "tracing",
            "println",
        ] {
            assert!(!code.contains(banned), "{} uses {banned}", file.path);
        }
    }
}

#[test]
fn files_have_one_job_and_so_a_few_screenfuls() {
    const MOST_LINES: usize = 350;
    for file in shipped(&SOURCES) {
        let lines = file.text_without_tests().lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", file.path);
    }
}
