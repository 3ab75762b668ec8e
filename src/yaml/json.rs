//! JSON as the same tree, so that one reader checks entries of a file, a database and a request.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::scalar::is_decimal;
use super::tree::{Node, Value};

impl<'de> Deserialize<'de> for Node<'de> {
    /// Reads a JSON value. Its lines are 0: messages then name no line. Repeated keys are kept for
    /// the reader to refuse. The depth is bounded by the parser of the JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node<'de>, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

fn node<'de, E>(value: Value<'de>) -> Result<Node<'de>, E> {
    Ok(Node { line: 0, value })
}

fn plain<'de, E>(text: String) -> Result<Node<'de>, E> {
    node(Value::Scalar {
        text: text.into(),
        is_plain: true,
    })
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        node(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Node<'de>, E> {
        plain(truth.to_string())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node<'de>, E> {
        plain(number.to_string())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node<'de>, E> {
        plain(number.to_string())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node<'de>, E> {
        plain(number.to_string())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Node<'de>, E> {
        node(Value::Scalar {
            text: Cow::Borrowed(text),
            is_plain: false,
        })
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Node<'de>, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E>(self, text: String) -> Result<Node<'de>, E> {
        node(Value::Scalar {
            text: Cow::Owned(text),
            is_plain: false,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        node(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node<'de>, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            table.push(entry);
        }
        node(Value::Table(table))
    }
}

impl Node<'_> {
    /// The value as JSON: plain truth values and whole numbers by their type, any other scalar as a
    /// text. Of repeated keys the last counts. Unsupported YAML is null; the reader refuses both.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null | Value::Unsupported(_) => serde_json::Value::Null,
            Value::Scalar { text, is_plain } => scalar(text, *is_plain),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Table(entries) => entries
                .iter()
                .map(|(key, value)| (key.text().unwrap_or_default().to_owned(), value.to_json()))
                .collect(),
        }
    }
}

fn scalar(text: &str, is_plain: bool) -> serde_json::Value {
    match text {
        "true" if is_plain => true.into(),
        "false" if is_plain => false.into(),
        _ if is_plain && is_decimal(text) => match text.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => text.into(),
        },
        _ => text.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::tree::parse;
    use super::*;

    #[test]
    fn a_json_text_comes_back_as_it_was() {
        for text in [
            r#"{"a":1,"b":[true,null,"x"],"c":{"d":"true","e":"1"}}"#,
            r#"{"n":18446744073709551615,"é\n":"\""}"#,
        ] {
            let node: Node<'_> = serde_json::from_str(text).unwrap();
            assert_eq!(node.to_json().to_string(), text);
        }
    }

    #[test]
    fn yaml_and_json_give_the_same_value() {
        let yaml = parse("a: 7\nb: \"7\"\nc: [x, true]\n").unwrap().unwrap();
        assert_eq!(
            yaml.to_json().to_string(),
            r#"{"a":7,"b":"7","c":["x",true]}"#
        );
    }

    #[test]
    fn a_repeated_key_of_json_is_kept_for_the_reader_to_refuse() {
        let node: Node<'_> = serde_json::from_str(r#"{"a":1,"a":2}"#).unwrap();
        assert!(matches!(node.value, Value::Table(entries) if entries.len() == 2));
    }
}
