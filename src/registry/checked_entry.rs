//! One entry of a registry that does not stand in a file: a machine, or a group.

use std::path::Path;

use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::entry::{Lists, Section};
use super::fields;
use super::ids::IdCase;
use super::key_format;
use super::keys;
use crate::yaml::{Finding, Mistakes, Node, Notes};
use countersign_core::identity::{MachineId, PublicKey};

/// A machine's entry that passed every check that needs no other entry: canonical JSON with the
/// fields of machines.yaml. Only the reader of machines.yaml makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedEntry {
    id: MachineId,
    keys: Vec<[u8; 32]>,
    fields: Map<String, Value>,
    json: String,
}

impl CheckedEntry {
    /// Checks an entry. Whether its groups exist, and whether its id and keys are free, is for the
    /// registry to say that takes it.
    ///
    /// # Errors
    ///
    /// Every mistake, one text each, in the words of machines.yaml. None repeats a value that may
    /// be a secret.
    pub fn parse(value: &Value) -> Result<CheckedEntry, Vec<String>> {
        let node = Node::deserialize(value).map_err(|_| vec![NOT_AN_ENTRY.to_owned()])?;
        CheckedEntry::read(&node).map_err(|mistakes| texts(&mistakes))
    }

    /// Checks an entry of a tree.
    pub(super) fn read(node: &Node<'_>) -> Result<CheckedEntry, Mistakes> {
        let notes = Notes::new(Path::new(""));
        let (id, keys) = {
            let lists = Lists::alone(node, Section::Machines);
            let read = fields::read(&lists, None, IdCase::Exact, &notes);
            keys::check(&read.claims, None, &PublicKey::from_bytes, &notes);
            let id = read
                .machines
                .into_iter()
                .next()
                .map(|(machine, _)| machine.id);
            (id, read.claims.iter().map(|claim| claim.key).collect())
        };
        let (id, _) = notes.conclude(id)?;
        Ok(CheckedEntry::of_checked(id, keys, node))
    }

    /// An entry of a document that was checked as a whole.
    pub(super) fn of_checked(id: MachineId, keys: Vec<[u8; 32]>, node: &Node<'_>) -> CheckedEntry {
        let fields = canonical(node);
        let json = Value::Object(fields.clone()).to_string();
        CheckedEntry {
            id,
            keys,
            fields,
            json,
        }
    }

    /// The machine's id.
    pub fn id(&self) -> &MachineId {
        &self.id
    }

    /// Its public keys, at least one.
    pub fn keys(&self) -> &[[u8; 32]] {
        &self.keys
    }

    /// The names of its groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let groups = self.fields.get("groups").and_then(Value::as_array);
        groups.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The fields, as machines.yaml has them.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The fields as JSON on one line: keys sorted, public keys as base64 of their 32 bytes.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The entry with other fields; `null` removes one.
    ///
    /// # Errors
    ///
    /// Every mistake of the changed entry, or that the patch changes the id.
    pub fn patched(&self, patch: &Map<String, Value>) -> Result<CheckedEntry, Vec<String>> {
        let mut fields = self.fields.clone();
        for (key, value) in patch {
            match value {
                Value::Null => fields.remove(key),
                value => fields.insert(key.clone(), value.clone()),
            };
        }
        if fields.get("id") != self.fields.get("id") {
            return Err(vec![format!(
                "\"{}\": id: cannot be changed; add a machine with the other id, and remove this one",
                self.id
            )]);
        }
        CheckedEntry::parse(&Value::Object(fields))
    }
}

/// A group's entry that passed every check that needs no other entry, as canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedGroup {
    name: String,
    fields: Map<String, Value>,
    json: String,
}

impl CheckedGroup {
    /// Checks a group.
    ///
    /// # Errors
    ///
    /// As [`CheckedEntry::parse`].
    pub fn parse(value: &Value) -> Result<CheckedGroup, Vec<String>> {
        let node = Node::deserialize(value).map_err(|_| vec![NOT_AN_ENTRY.to_owned()])?;
        CheckedGroup::read(&node).map_err(|mistakes| texts(&mistakes))
    }

    /// Checks a group of a tree.
    pub(super) fn read(node: &Node<'_>) -> Result<CheckedGroup, Mistakes> {
        let notes = Notes::new(Path::new(""));
        let name = {
            let lists = Lists::alone(node, Section::Groups);
            let read = fields::read(&lists, None, IdCase::Exact, &notes);
            read.groups.first().map(|group| group.name.to_string())
        };
        let (name, _) = notes.conclude(name)?;
        Ok(CheckedGroup::of_checked(&name, node))
    }

    /// A group of a document that was checked as a whole.
    pub(super) fn of_checked(name: &str, node: &Node<'_>) -> CheckedGroup {
        let fields = canonical(node);
        let json = Value::Object(fields.clone()).to_string();
        CheckedGroup {
            name: name.to_owned(),
            fields,
            json,
        }
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields, as machines.yaml has them.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The fields as JSON on one line, keys sorted.
    pub fn json(&self) -> &str {
        &self.json
    }
}

const NOT_AN_ENTRY: &str = "is no JSON value";

/// The texts of mistakes: the key and the mistake, without a file.
pub(super) fn texts(mistakes: &Mistakes) -> Vec<String> {
    let text = |found: &Finding| match found.key.is_empty() {
        true => found.text.clone(),
        false => format!("{}: {}", found.key, found.text),
    };
    let more = (mistakes.unlisted > 0).then(|| format!("and {} more mistakes", mistakes.unlisted));
    mistakes.list.iter().map(text).chain(more).collect()
}

/// The fields of an entry without mistakes, its keys in one spelling.
fn canonical(node: &Node<'_>) -> Map<String, Value> {
    let Value::Object(mut fields) = node.to_json() else {
        return Map::new();
    };
    if let Some(Value::Array(keys)) = fields.get_mut("public_keys") {
        for key in keys {
            let text = match key {
                Value::Object(dated) => dated.get_mut("key"),
                text => Some(text),
            };
            if let Some(text) = text
                && let Some(Ok(bytes)) = text.as_str().map(key_format::parse)
            {
                *text = Value::String(key_format::to_base64(&bytes));
            }
        }
    }
    fields
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::fixtures::key;
    use super::*;
    use serde_json::json;

    fn entry(value: Value) -> CheckedEntry {
        CheckedEntry::parse(&value).unwrap()
    }

    fn mistakes(value: Value) -> String {
        CheckedEntry::parse(&value).unwrap_err().join("\n")
    }

    #[test]
    fn an_entry_knows_its_id_keys_and_groups() {
        let entry = entry(
            json!({"id": "web-1", "public_keys": [key(1), {"key": key(2),
            "not_after": "2027-01-01"}], "groups": ["web", "eu"]}),
        );
        assert_eq!(entry.id().as_str(), "web-1");
        assert_eq!(entry.keys().len(), 2);
        assert_eq!(entry.groups().collect::<Vec<_>>(), ["web", "eu"]);
    }

    #[test]
    fn keys_of_every_format_become_base64_of_the_raw_bytes() {
        let raw = key(1);
        let bytes = key_format::parse(&raw).unwrap();
        let mut spki = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
        spki.extend(bytes);
        let spki = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, spki);
        let one = entry(json!({"id": "a", "public_keys": [spki]}));
        let other = entry(json!({"public_keys": [raw], "id": "a"}));
        assert_eq!(one.json(), other.json());
    }

    #[test]
    fn json_of_an_entry_is_read_as_the_same_entry() {
        let entry = entry(json!({"id": "a", "public_keys": [key(1)], "enabled": false,
            "rate": {"per_minute": 9}, "expires": "2027-01-01"}));
        let again = CheckedEntry::parse(&serde_json::from_str(entry.json()).unwrap()).unwrap();
        assert_eq!(entry, again);
    }

    #[test]
    fn every_mistake_is_named() {
        let told = mistakes(
            json!({"id": "a b", "public_keys": ["AAAA"], "enabled": "no",
            "nme": "x"}),
        );
        for part in [
            "id:",
            "public_keys[0]:",
            "enabled:",
            "nme: is an unknown key",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    #[test]
    fn a_weak_key_is_refused() {
        use base64::Engine as _;
        let zero = base64::engine::general_purpose::STANDARD.encode([0; 32]);
        let told = mistakes(json!({"id": "a", "public_keys": [zero]}));
        assert!(told.contains("\"a\": public_keys[0]:"), "{told}");
    }

    #[test]
    fn a_value_that_is_no_mapping_is_refused() {
        for value in [json!(null), json!([]), json!("x"), json!(1)] {
            assert!(CheckedEntry::parse(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_patch_sets_fields_and_null_removes_them() {
        let before = entry(json!({"id": "a", "public_keys": [key(1)], "owner": "ops"}));
        let patch = json!({"owner": null, "enabled": false});
        let after = before.patched(patch.as_object().unwrap()).unwrap();
        assert_eq!(
            after,
            entry(json!({"id": "a", "public_keys": [key(1)], "enabled": false}))
        );
    }

    #[test]
    fn a_patch_cannot_change_the_id_or_take_the_last_key() {
        let before = entry(json!({"id": "a", "public_keys": [key(1)]}));
        for patch in [
            json!({"id": "b"}),
            json!({"id": null}),
            json!({"public_keys": null}),
            json!({"public_keys": []}),
        ] {
            assert!(
                before.patched(patch.as_object().unwrap()).is_err(),
                "{patch}"
            );
        }
    }

    #[test]
    fn a_group_is_checked_by_itself() {
        let group = CheckedGroup::parse(&json!({"name": "web", "allow": ["GET /v1/a"]})).unwrap();
        assert_eq!(group.name(), "web");
        assert!(CheckedGroup::parse(&json!({"name": "web"})).is_err());
    }
}
