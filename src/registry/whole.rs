//! A whole registry out of its files, for a database.

use std::path::Path;

use super::checked_entry::{CheckedEntry, CheckedGroup};
use super::database::RegistryContents;
use super::files::{RegistryFile, RegistryFiles};
use super::ids::IdCase;
use super::load::build;
use crate::config::RegistrySource;
use crate::yaml::{self, Mistakes, Node, Notes};
use countersign_core::identity::PublicKey;

impl RegistryContents {
    /// Reads a file, or the files of a directory.
    ///
    /// # Errors
    ///
    /// All the mistakes, as [`Registry::load_source`](super::Registry::load_source) has them.
    pub fn read(source: &RegistrySource) -> Result<RegistryContents, Mistakes> {
        contents(&RegistryFiles::read(source)?)
    }

    /// Takes the text of one file; `file` is for the messages.
    ///
    /// # Errors
    ///
    /// As [`RegistryContents::read`].
    pub fn of_text(file: &Path, text: String) -> Result<RegistryContents, Mistakes> {
        contents(&RegistryFiles::one(file, text))
    }
}

fn contents(files: &RegistryFiles) -> Result<RegistryContents, Mistakes> {
    let registry = build(files, None, IdCase::Exact, &PublicKey::from_bytes)?;
    let mut contents = RegistryContents {
        removed: registry.removed().to_vec(),
        ..RegistryContents::default()
    };
    for file in &files.files {
        let RegistryFile { path, text } = file;
        let document = yaml::document(text, &Notes::new(path), "");
        let items = |key| {
            let list = document.as_ref().and_then(|root| root.entry(key));
            list.map_or(&[][..], Node::items)
        };
        for node in items("groups") {
            contents.groups.push(CheckedGroup::read(node)?);
        }
        for node in items("machines") {
            contents.machines.push(CheckedEntry::read(node)?);
        }
    }
    Ok(contents)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::fixtures::{entry, key};
    use super::*;
    use crate::registry::Registry;
    use proptest::prelude::*;

    fn read(text: &str) -> RegistryContents {
        RegistryContents::of_text(Path::new("m.yaml"), text.to_owned()).unwrap()
    }

    /// The registry of a text, in a form that shows everything.
    fn shown(text: &str) -> String {
        let registry = Registry::from_bytes(Path::new("m.yaml"), text.as_bytes(), None).unwrap();
        let mut machines: Vec<_> = registry.machines().collect();
        machines.sort_by(|a, b| a.id.cmp(&b.id));
        format!(
            "{machines:?} {:?} {:?}",
            registry.groups(),
            registry.removed()
        )
    }

    #[test]
    fn the_files_of_a_directory_make_one_document() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        write(
            "a.yaml",
            format!("machines:\n{}    groups: [g]\n", entry("a", 1)),
        );
        write(
            "b.yaml",
            format!(
                "groups: [{{ name: g, rate: {{ per_minute: 9 }} }}]\nmachines:\n{}removed:\n- {{ id: old, \
                 at: 2026-01-01, public_keys: [\"{}\"] }}\n",
                entry("b", 2),
                key(3)
            ),
        );
        let source = RegistrySource::Directory(directory.path().to_owned());
        let contents = RegistryContents::read(&source).unwrap();
        let counts = [
            contents.machines.len(),
            contents.groups.len(),
            contents.removed.len(),
        ];
        assert_eq!(counts, [2, 1, 1]);
        assert_eq!(read(&contents.to_yaml()), contents);
    }

    #[test]
    fn a_mistake_is_named_as_in_a_load() {
        let told = RegistryContents::of_text(Path::new("m.yaml"), "machines: [{}]\n".to_owned());
        assert!(
            told.unwrap_err()
                .to_string()
                .starts_with("m.yaml:1: machine no. 1")
        );
    }

    fn date() -> impl Strategy<Value = Option<&'static str>> {
        proptest::option::of(prop_oneof![
            Just("2026-01-01"),
            Just("2026-06-30T12:00:00Z"),
            Just("\"2026-12-31T00:00:00Z\""),
        ])
    }

    /// A machine with any of the fields, under a number that makes its id and keys its own.
    /// Id, name and state; dates and the spelling of the key; rate; the lists.
    type Written = (
        (&'static str, Option<String>, Option<bool>),
        (Option<&'static str>, Option<&'static str>, bool),
        Option<u32>,
        Vec<&'static str>,
        Vec<&'static str>,
        Vec<&'static str>,
    );

    fn machine(number: u64) -> impl Strategy<Value = String> {
        let text = "[ -!#-\\[\\]-~]{0,20}".prop_map(|text| format!("x{}x", text.trim()));
        let id = prop_oneof![Just(""), Just("1e"), Just("0x"), Just("true."), Just("-")];
        let fields = (
            (id, proptest::option::of(text), any::<Option<bool>>()),
            (date(), date(), any::<bool>()),
            proptest::option::of(1..600u32),
            proptest::sample::subsequence(vec!["g1", "g2", "g3"], 0..=3),
            proptest::sample::subsequence(
                vec!["GET /v1/a", "read,LIST /v1/b/**", "POST /v1/x"],
                0..=3,
            ),
            proptest::sample::subsequence(vec!["10.0.0.0/8", "::1/128"], 0..=2),
        );
        let written = move |(
            (id, name, enabled),
            (begin, end, spki),
            rate,
            groups,
            allow,
            cidrs,
        ): Written| {
            let mut lines = vec![format!("id: '{id}{number}'")];
            let mut add = |line: Option<String>| lines.extend(line);
            add(name.map(|name| format!("name: '{}'", name.replace('\'', "''"))));
            add(enabled.map(|enabled| format!("enabled: {enabled}")));
            let dated = begin
                .map(|begin| format!("{{ key: \"{}\", not_before: {begin} }}", key(2 * number)));
            let first = dated.unwrap_or_else(|| format!("\"{}\"", key(2 * number)));
            let second = spki.then(|| {
                let der = [
                    &b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..],
                    &crate::registry::key_format::parse(&key(2 * number + 1)).unwrap(),
                ]
                .concat();
                let engine = base64::engine::general_purpose::STANDARD;
                base64::Engine::encode(&engine, der)
            });
            let second = second.map_or(String::new(), |key| format!(", {key}"));
            add(Some(format!("public_keys: [{first}{second}]")));
            add(end.map(|end| format!("expires: {end}")));
            add(rate.map(|rate| format!("rate: {{ per_minute: {rate} }}")));
            for (key, list) in [("groups", groups), ("allow", allow), ("cidrs", cidrs)] {
                add((!list.is_empty()).then(|| format!("{key}: {list:?}")));
            }
            format!("  - {}\n", lines.join("\n    "))
        };
        fields.prop_map(written)
    }

    fn document() -> impl Strategy<Value = String> {
        let machines = proptest::collection::vec(any::<()>(), 0..6)
            .prop_flat_map(|list| (0..list.len() as u64).map(machine).collect::<Vec<_>>());
        (machines, 0..4u64).prop_map(|(machines, removed)| {
            let groups = "groups:\n  - { name: g1, allow: [GET /v1/g1] }\n  - { name: g2, cidrs: \
                          [10.1.0.0/16] }\n  - { name: g3, rate: { per_minute: 7 } }\n";
            let machines = match machines.is_empty() {
                true => "machines: []\n".to_owned(),
                false => format!("machines:\n{}", machines.concat()),
            };
            let tombstone = |number: u64| {
                let keys = [key(100 + 2 * number), key(101 + 2 * number)];
                format!(
                    "  - {{ id: gone-{number}, at: 2026-02-0{}, public_keys: {keys:?} }}\n",
                    number + 1
                )
            };
            let removed: String = (0..removed).map(tombstone).collect();
            let head = if removed.is_empty() { "" } else { "removed:\n" };
            format!("{groups}{machines}{head}{removed}")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_export_is_the_same_registry_and_exports_as_itself(text in document()) {
            let contents = read(&text);
            let exported = contents.to_yaml();
            prop_assert_eq!(shown(&exported), shown(&text));
            prop_assert_eq!(read(&exported), contents);
        }
    }
}
