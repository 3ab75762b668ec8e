//! Typed scalars: the type of a plain one is that of YAML 1.2.2, section 10.3.2 (the core schema).

use serde::de::DeserializeOwned;
use serde_yaml::{Number, Value};

use super::reader::Field;
use super::tree;

impl<'a> Field<'a> {
    /// The text here. A plain scalar that YAML takes for a number or a truth value is a mistake:
    /// other readers of the file would change it.
    pub(crate) fn text(&self) -> Option<&'a str> {
        let problem = match &self.node.value {
            tree::Value::Scalar { text, is_plain } if !is_plain || typed(text).is_none() => {
                return Some(text);
            }
            tree::Value::Scalar { .. } => {
                "YAML reads it as a number or a truth value; put it in quotes".to_owned()
            }
            _ => self.unexpected("a text"),
        };
        self.mistake(problem);
        None
    }

    /// The value that `parse` makes of the [`text`](Field::text) here.
    pub(crate) fn parse_text<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let parsed = parse(self.text()?);
        parsed.map_err(|text| self.mistake(text)).ok()
    }

    /// The plain scalar here as YAML types it; `expected` names the type.
    pub(crate) fn typed<T: DeserializeOwned>(&self, expected: &str) -> Option<T> {
        let value = match &self.node.value {
            tree::Value::Scalar { text, is_plain } => {
                let value = is_plain.then(|| typed(text)).flatten();
                value.and_then(|value| T::deserialize(value).ok())
            }
            _ => {
                self.mistake(self.unexpected(expected));
                return None;
            }
        };
        if value.is_none() {
            self.mistake(format!("must be {expected}"));
        }
        value
    }
}

/// The truth value or number that YAML takes a scalar without quotes for; `None` for a text.
fn typed(plain: &str) -> Option<Value> {
    match plain {
        "true" | "True" | "TRUE" => Some(true.into()),
        "false" | "False" | "FALSE" => Some(false.into()),
        _ => plain
            .parse::<Number>()
            .ok()
            .or_else(|| large(plain))
            .map(Value::Number),
    }
}

/// An integer of more than 64 bits, which [`Number`] cannot hold.
#[allow(
    clippy::cast_precision_loss,
    reason = "a number of this size is only refused"
)]
fn large(plain: &str) -> Option<Number> {
    let is_number = !plain.trim_start_matches(['+', '-']).starts_with('0');
    let number = plain.parse::<i128>().ok().filter(|_| is_number)?;
    Some((number as f64).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_of_the_core_schema_are_no_text() {
        for plain in [
            "true",
            "FALSE",
            "0",
            "12345",
            "-1",
            "+1",
            "0x1f",
            "0o17",
            "1.5",
            "1e3",
            ".inf",
            "-.inf",
            ".nan",
            "123456789012345678901234567890",
            "-123456789012345678901234567890",
        ] {
            assert!(typed(plain).is_some(), "{plain}");
        }
    }

    #[test]
    fn other_plain_scalars_are_text() {
        for plain in [
            "yes",
            "off",
            "tRue",
            "007",
            "-",
            "1.2.3",
            "2027-01-31",
            "5b0c6f3e-8a1d",
            "1_000",
            "inf",
            "000000000000000000000000000001",
        ] {
            assert_eq!(typed(plain), None, "{plain}");
        }
    }
}
