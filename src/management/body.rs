//! The bodies of the calls.

use serde_json::{Map, Value};

use super::json;
use super::overlap;
use crate::enrolment::TokenTerms;
use crate::registry::{CheckedEntry, key_format};
use countersign_client::quoted::quoted;
use countersign_core::identity::PublicKey;

/// Most machines that one call adds. A body at the largest `max_body` holds more.
const MOST_MACHINES: usize = 10_000;

/// Most mistakes that one answer names.
const MOST_MISTAKES: usize = 1000;

/// A key to add to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyToAdd {
    /// The key.
    pub key: PublicKey,
    /// For how long the machine's other keys stay valid, in seconds.
    pub overlap: u64,
}

/// Reads the machines of `{"machines":[..]}`. Checking the keys of thousands takes a while, so a
/// thread that serves requests must not call it.
///
/// # Errors
///
/// Every mistake, up to a thousand. One refuses all machines.
pub fn machines_to_add(body: &[u8]) -> Result<Vec<CheckedEntry>, Vec<String>> {
    let mut fields = json::object(body).map_err(only)?;
    let machines = fields.remove("machines");
    refuse_others(&fields, &["machines"])?;
    let Some(Value::Array(machines)) = machines else {
        return Err(only("machines: it must be a list of machines.".into()));
    };
    match machines.len() {
        0 => return Err(only("machines: it is empty.".into())),
        count if count > MOST_MACHINES => {
            return Err(only(format!(
                "machines: it has {count} machines; at most {MOST_MACHINES} are added at once."
            )));
        }
        _ => {}
    }
    let mut entries = Vec::with_capacity(machines.len());
    let mut mistakes = Vec::new();
    for (index, machine) in machines.iter().enumerate() {
        match CheckedEntry::parse(machine) {
            Ok(entry) => entries.push(entry),
            Err(its) => {
                mistakes.extend(
                    its.into_iter()
                        .map(|text| format!("machines[{index}]: {text}")),
                );
            }
        }
    }
    match mistakes.is_empty() {
        true => Ok(entries),
        false => Err(capped(mistakes)),
    }
}

/// Reads the fields to change of a machine.
///
/// # Errors
///
/// Every mistake. The values are checked with the machine that they are for.
pub fn patch(body: &[u8]) -> Result<Map<String, Value>, Vec<String>> {
    let fields = json::object(body).map_err(only)?;
    match fields.is_empty() {
        true => Err(only("The body names no field to change.".into())),
        false => Ok(fields),
    }
}

/// Reads `{"public_key","overlap"}`. Without an overlap it is a week.
///
/// # Errors
///
/// Every mistake. None repeats the key: it may be a private one, sent by mistake.
pub fn key_to_add(body: &[u8]) -> Result<KeyToAdd, Vec<String>> {
    let mut fields = json::object(body).map_err(only)?;
    let key = match fields.remove("public_key") {
        Some(Value::String(text)) => key_format::parse(&text)
            .map_err(|error| error.to_string())
            .and_then(|bytes| PublicKey::from_bytes(&bytes).map_err(|error| error.to_string()))
            .map_err(|error| format!("public_key: {error}")),
        Some(_) => Err("public_key: it must be a text.".to_owned()),
        None => Err("public_key: it is missing.".to_owned()),
    };
    let overlap = match fields.remove("overlap") {
        None => Ok(overlap::DEFAULT),
        Some(Value::String(text)) => {
            overlap::parse(&text).map_err(|rule| format!("overlap: {rule}."))
        }
        Some(_) => Err("overlap: it must be a text such as \"7d\".".to_owned()),
    };
    let others = refuse_others(&fields, &["public_key", "overlap"]);
    match (key, overlap, others) {
        (Ok(key), Ok(overlap), Ok(())) => Ok(KeyToAdd { key, overlap }),
        (key, overlap, others) => Err([key.err(), overlap.err()]
            .into_iter()
            .flatten()
            .chain(others.err().into_iter().flatten())
            .collect()),
    }
}

/// Reads the terms of an enrolment token.
///
/// # Errors
///
/// Every mistake. None repeats a value that may be a secret.
pub fn token_terms(body: &[u8]) -> Result<TokenTerms, Vec<String>> {
    let fields = json::object(body).map_err(only)?;
    TokenTerms::parse(&Value::Object(fields))
}

/// Refuses a body where the call takes none.
///
/// # Errors
///
/// That there is one.
pub fn none(body: &[u8]) -> Result<(), Vec<String>> {
    match body.is_empty() {
        true => Ok(()),
        false => Err(only("This call takes no body.".into())),
    }
}

/// The mistakes of an answer, cut where it would become too long.
pub fn capped(mut mistakes: Vec<String>) -> Vec<String> {
    let more = mistakes.len().saturating_sub(MOST_MISTAKES);
    if more > 0 {
        mistakes.truncate(MOST_MISTAKES);
        mistakes.push(format!("There are {more} more mistakes."));
    }
    mistakes
}

fn refuse_others(fields: &Map<String, Value>, known: &[&str]) -> Result<(), Vec<String>> {
    let unknown = fields.keys().map(|key| {
        let known = known.join(", ");
        format!(
            "{} is no field of this call; it takes: {known}.",
            quoted(key)
        )
    });
    let unknown: Vec<String> = unknown.collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(capped(unknown)),
    }
}

fn only(mistake: String) -> Vec<String> {
    vec![mistake]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use serde_json::json;

    fn key(seed: u8) -> String {
        let key = SigningKey::from_bytes(&[seed; 32]).verifying_key();
        key_format::to_base64(key.as_bytes())
    }

    fn bytes(value: &Value) -> Vec<u8> {
        serde_json::to_vec(value).unwrap()
    }

    #[test]
    fn machines_are_read_in_their_order() {
        let body = json!({"machines": [
            {"id": "b", "public_keys": [key(1)]},
            {"id": "a", "public_keys": [key(2)], "owner": "ops"},
        ]});
        let entries = machines_to_add(&bytes(&body)).unwrap();
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id().as_str()).collect();
        assert_eq!(ids, ["b", "a"]);
    }

    #[test]
    fn every_mistake_of_every_machine_is_told_with_its_place() {
        let body = json!({"machines": [
            {"id": "a", "public_keys": [key(1)]},
            {"id": "b b", "public_keys": ["x"]},
            {"id": "c", "public_keys": [key(2)], "colour": "red"},
        ]});
        let told = machines_to_add(&bytes(&body)).unwrap_err();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("machines[1]: "), "{told:?}");
        assert!(told[2].starts_with("machines[2]: ") && told[2].contains("colour"));
    }

    #[test]
    fn a_list_of_machines_has_its_bounds() {
        for body in [
            json!({}),
            json!({"machines": []}),
            json!({"machines": {}}),
            json!({"machines": null}),
            json!({"machines": vec![0; MOST_MACHINES + 1]}),
            json!({"machines": [{"id": "a", "public_keys": [key(1)]}], "force": true}),
        ] {
            let told = machines_to_add(&bytes(&body)).unwrap_err();
            assert_eq!(told.len(), 1, "{told:?}");
        }
    }

    #[test]
    fn an_answer_names_a_thousand_mistakes_and_counts_the_rest() {
        let told = capped(vec!["x".to_owned(); 1500]);
        assert_eq!(told.len(), 1001);
        assert_eq!(told[1000], "There are 500 more mistakes.");
    }

    #[test]
    fn a_patch_names_a_field() {
        assert_eq!(patch(br#"{"enabled":false}"#).unwrap().len(), 1);
        assert!(patch(b"{}").is_err());
        assert!(patch(br#"{"enabled":false,"enabled":true}"#).is_err());
    }

    #[test]
    fn a_key_to_add_has_an_overlap_of_a_week_unless_it_says_another() {
        let read = |body: Value| key_to_add(&bytes(&body));
        let with_default = read(json!({"public_key": key(1)})).unwrap();
        assert_eq!(with_default.overlap, 604_800);
        let without = read(json!({"public_key": key(1), "overlap": "0s"})).unwrap();
        assert_eq!(without.overlap, 0);
        assert_eq!(key_format::to_base64(without.key.as_bytes()), key(1));
    }

    #[test]
    fn every_mistake_of_a_key_to_add_is_told_without_the_key() {
        let body = json!({"public_key": "MC4CAQAwBQYDK2VwBCIEI", "overlap": "1y", "x": 1});
        let told = key_to_add(&bytes(&body)).unwrap_err();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(!told.join("").contains("MC4CAQ"), "{told:?}");
        for body in [
            json!({}),
            json!({"public_key": 1}),
            json!({"public_key": key(1), "overlap": 7}),
        ] {
            assert!(key_to_add(&bytes(&body)).is_err(), "{body}");
        }
    }

    #[test]
    fn a_weak_key_is_not_added() {
        let weak = key_format::to_base64(&[0; 32]);
        assert!(key_to_add(&bytes(&json!({"public_key": weak}))).is_err());
    }

    #[test]
    fn the_terms_of_a_token_have_one_reading() {
        assert!(token_terms(br#"{"name":"n","vault":"v"}"#).is_ok());
        assert!(token_terms(br#"{"name":"n","vault":"v","vault":"w"}"#).is_err());
    }

    #[test]
    fn a_call_without_a_body_takes_none() {
        assert_eq!(none(b""), Ok(()));
        assert!(none(b"{}").is_err());
    }
}
