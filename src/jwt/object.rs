//! JSON objects without ambiguity: a key that is there twice is an error, at every depth.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A JSON object in which no key is there twice. Of two, one reader takes the first and another the
/// last, so that two programs would read two tokens out of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonObject(Map<String, Value>);

impl JsonObject {
    /// Parses an object.
    ///
    /// # Errors
    ///
    /// The bytes are no JSON, another value than an object, deeper than 128 levels, or name a key
    /// twice. The error shows nothing of a value.
    pub fn parse(bytes: &[u8]) -> Result<JsonObject, NotAnObject> {
        serde_json::from_slice(bytes).map_err(|_| NotAnObject)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The entries, taken out.
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// The entries.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// The bytes are not one unambiguous JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a JSON object in which every key is there once")]
pub struct NotAnObject;

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonObject, D::Error> {
        match StrictValue::deserialize(deserializer)?.0 {
            Value::Object(map) => Ok(JsonObject(map)),
            _ => Err(de::Error::custom("not an object")),
        }
    }
}

struct StrictValue(Value);

impl<'de> Deserialize<'de> for StrictValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StrictValue, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(StrictValue)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).map(Value::Number);
        number.ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(StrictValue(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, StrictValue(value))) = entries.next_entry::<String, _>()? {
            if map.insert(key, value).is_some() {
                return Err(de::Error::custom("a key is there twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_what_any_reader_makes_of_it() {
        let text = r#"{"a":1,"b":[true,null,-2,1.5,"x\u0041"],"c":{"a":{}}}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        let object = JsonObject::parse(text.as_bytes()).unwrap();
        assert_eq!(Value::Object(object.0), expected);
    }

    #[test]
    fn a_key_that_is_there_twice_is_an_error_at_every_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"b":[[{"a":1,"a":2}]]}"#,
        ] {
            assert_eq!(
                JsonObject::parse(text.as_bytes()),
                Err(NotAnObject),
                "{text}"
            );
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for text in [
            "",
            "[]",
            "1",
            "\"{}\"",
            "{} {}",
            "{\"a\":NaN}",
            "{'a':1}",
            &deep,
        ] {
            assert_eq!(
                JsonObject::parse(text.as_bytes()),
                Err(NotAnObject),
                "{text}"
            );
        }
        assert!(JsonObject::parse(b"{\"\xff\":1}").is_err());
    }
}
