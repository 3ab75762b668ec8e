//! The fields of the record of a call that changes the registry.

use serde::{Serialize, Serializer};

use super::fields::{IdList, LISTED};
use super::line::Base64;
use super::record::{CalledChange, RegistryCallRecord};
use super::record_time::RecordTime;
use countersign_core::identity::MachineId;

/// Most fields of a patch that a record names; an entry has fewer.
const NAMED_FIELDS: usize = 32;

impl Serialize for RegistryCallRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = CallFields {
            ts: RecordTime::of(self.wall_ms),
            request_id: self.request_id,
            decision: "registry",
            by: self.by,
            call: word(&self.change),
            added: None,
            removed: None,
            changed: None,
            keys_changed: None,
            fields: Vec::new(),
            new_keys: Vec::new(),
            token: None,
        };
        let one = |machine| Some(IdList::from_iter(1, [machine]));
        match self.change {
            CalledChange::AddMachines(machines) => {
                let ids = machines.iter().map(|(id, _)| *id);
                fields.added = Some(IdList::from_iter(machines.len(), ids));
                let listed = machines.iter().take(LISTED);
                fields.new_keys = listed.map(|(id, keys)| NewKeys::of(id, keys)).collect();
            }
            CalledChange::ChangeMachine {
                machine,
                fields: names,
                keys,
            } => {
                fields.fields = names.iter().take(NAMED_FIELDS).copied().collect();
                match keys {
                    None => fields.changed = one(machine),
                    Some(keys) => {
                        fields.keys_changed = one(machine);
                        fields.new_keys = vec![NewKeys::of(machine, keys)];
                    }
                }
            }
            CalledChange::RemoveMachine(machine) => fields.removed = one(machine),
            CalledChange::AddKey(machine, key) => {
                fields.keys_changed = one(machine);
                fields.new_keys = vec![NewKeys::of(machine, std::slice::from_ref(key))];
            }
            CalledChange::CreateToken {
                id,
                max_uses,
                expires,
            } => {
                fields.token = Some(TokenFacts {
                    id,
                    max_uses: Some(max_uses),
                    expires: Some(RecordTime::of(expires.saturating_mul(1000))),
                });
            }
            CalledChange::RevokeToken(id) => {
                fields.token = Some(TokenFacts {
                    id,
                    max_uses: None,
                    expires: None,
                });
            }
        }
        fields.serialize(serializer)
    }
}

const fn word(change: &CalledChange<'_>) -> &'static str {
    match change {
        CalledChange::AddMachines(_) => "add_machines",
        CalledChange::ChangeMachine { .. } => "change_machine",
        CalledChange::RemoveMachine(_) => "remove_machine",
        CalledChange::AddKey(..) => "add_key",
        CalledChange::CreateToken { .. } => "create_token",
        CalledChange::RevokeToken(_) => "revoke_token",
    }
}

#[derive(Serialize)]
struct CallFields<'a> {
    ts: RecordTime,
    request_id: &'a str,
    decision: &'static str,
    by: &'a str,
    call: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<IdList<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<IdList<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<IdList<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_changed: Option<IdList<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<&'a str>,
    /// Not `keys`: those of a load are in force, these may never be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    new_keys: Vec<NewKeys<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenFacts<'a>>,
}

/// A machine, and keys that a call gives it.
#[derive(Serialize)]
struct NewKeys<'a> {
    id: &'a str,
    public_keys: Vec<Base64<&'a [u8; 32]>>,
}

impl<'a> NewKeys<'a> {
    fn of(machine: &'a MachineId, keys: &'a [[u8; 32]]) -> NewKeys<'a> {
        NewKeys {
            id: machine.as_str(),
            public_keys: keys.iter().map(Base64).collect(),
        }
    }
}

/// An enrolment token, without its secret.
#[derive(Serialize)]
struct TokenFacts<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_uses: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<RecordTime>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(change: CalledChange<'_>) -> Value {
        let record = RegistryCallRecord {
            wall_ms: 1_800_000_000_123,
            request_id: "r-1",
            by: "alice",
            change,
        };
        let mut value = serde_json::to_value(record).unwrap();
        for (key, expected) in [
            ("ts", json!("2027-01-15T08:00:00.123Z")),
            ("request_id", json!("r-1")),
            ("decision", json!("registry")),
            ("by", json!("alice")),
        ] {
            assert_eq!(value.as_object_mut().unwrap().remove(key), Some(expected));
        }
        value
    }

    fn id(text: &str) -> MachineId {
        MachineId::parse(text).unwrap()
    }

    const ZEROES: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    #[test]
    fn machines_to_add_are_named_with_their_keys() {
        let (a, b) = (id("a"), id("b"));
        let machines: [(&MachineId, &[[u8; 32]]); 2] = [(&a, &[[0; 32]]), (&b, &[])];
        assert_eq!(
            written(CalledChange::AddMachines(&machines)),
            json!({"call": "add_machines", "added": {"count": 2, "ids": ["a", "b"]},
                "new_keys": [{"id": "a", "public_keys": [ZEROES]}, {"id": "b", "public_keys": []}]})
        );
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let ids: Vec<MachineId> = (0..LISTED + 5).map(|n| id(&format!("m-{n}"))).collect();
        let machines: Vec<(&MachineId, &[[u8; 32]])> = ids.iter().map(|id| (id, &[][..])).collect();
        let value = written(CalledChange::AddMachines(&machines));
        assert_eq!(value["added"]["count"], LISTED + 5);
        assert_eq!(value["added"]["ids"].as_array().unwrap().len(), LISTED);
        assert_eq!(value["new_keys"].as_array().unwrap().len(), LISTED);
    }

    #[test]
    fn a_patch_names_its_fields_and_not_their_values() {
        let change = CalledChange::ChangeMachine {
            machine: &id("a"),
            fields: &["enabled", "owner"],
            keys: None,
        };
        assert_eq!(
            written(change),
            json!({"call": "change_machine", "changed": {"count": 1, "ids": ["a"]},
                "fields": ["enabled", "owner"]})
        );
    }

    #[test]
    fn a_patch_of_keys_has_the_keys() {
        let change = CalledChange::ChangeMachine {
            machine: &id("a"),
            fields: &["public_keys"],
            keys: Some(&[[0; 32]]),
        };
        let value = written(change);
        assert_eq!(value["keys_changed"]["ids"], json!(["a"]));
        assert_eq!(value["new_keys"][0]["public_keys"], json!([ZEROES]));
    }

    #[test]
    fn the_other_calls_name_what_they_are_about() {
        assert_eq!(
            written(CalledChange::RemoveMachine(&id("a"))),
            json!({"call": "remove_machine", "removed": {"count": 1, "ids": ["a"]}})
        );
        assert_eq!(
            written(CalledChange::AddKey(&id("a"), &[0; 32])),
            json!({"call": "add_key", "keys_changed": {"count": 1, "ids": ["a"]},
                "new_keys": [{"id": "a", "public_keys": [ZEROES]}]})
        );
        assert_eq!(
            written(CalledChange::CreateToken {
                id: "t-1",
                max_uses: 10,
                expires: 1_800_000_000
            }),
            json!({"call": "create_token",
                "token": {"id": "t-1", "max_uses": 10, "expires": "2027-01-15T08:00:00.000Z"}})
        );
        assert_eq!(
            written(CalledChange::RevokeToken("t-1")),
            json!({"call": "revoke_token", "token": {"id": "t-1"}})
        );
    }
}
