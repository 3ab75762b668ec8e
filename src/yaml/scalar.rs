//! Typed scalars: the type of a plain one is that of YAML 1.2.2, section 10.3.2 (the core schema).

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use countersign_client::quoted::quoted;
use serde_yaml::Number;

use super::reader::{Field, Table};
use super::tree;

impl<'a> Field<'a> {
    /// The text here. A plain scalar that YAML takes for a number or a truth value is a mistake:
    /// other readers of the file would change it.
    pub(crate) fn text(&self) -> Option<&'a str> {
        let problem = match &self.node.value {
            tree::Value::Scalar { text, is_plain } if !is_plain || !is_typed(text) => {
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

    /// The truth value here: `true` or `false`, without quotes. Other readers take `"false"` for a
    /// text, and a text for true; and of `False`, `no` and `off` each takes others.
    pub(crate) fn truth(&self) -> Option<bool> {
        self.plain("true or false", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false, in lower case and without quotes".to_owned()),
        })
    }

    /// The number here, parsed by `parse` such as [`whole`].
    pub(crate) fn number<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.plain("a whole number", parse)
    }

    /// What `parse` makes of the plain scalar here; `expected` names its type. Quotes make a text
    /// of it (YAML 1.2.2, section 10.3.2).
    fn plain<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let parsed = match &self.node.value {
            tree::Value::Scalar {
                text,
                is_plain: true,
            } => parse(text),
            tree::Value::Scalar { .. } => Err(format!("must be {expected}, without quotes")),
            _ => Err(self.unexpected(expected)),
        };
        parsed.map_err(|text| self.mistake(text)).ok()
    }
}

impl Table<'_> {
    /// The truth value of `key`; as [`Table::value`] otherwise.
    pub(crate) fn truth(&mut self, key: &'static str, default: bool) -> bool {
        let field = self.field(key);
        field.and_then(|field| field.truth()).unwrap_or(default)
    }

    /// The whole number of `key`, within `bounds`; as [`Table::value`] otherwise.
    pub(crate) fn whole<T>(&mut self, key: &'static str, default: T, bounds: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + Display,
    {
        let field = self.field(key);
        field
            .and_then(|field| field.number(whole(bounds)))
            .unwrap_or(default)
    }
}

/// A parser of whole numbers within `bounds`: decimal digits alone. `010` is 10 or, in octal, 8.
pub(crate) fn whole<T>(bounds: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| {
        if !is_decimal(text) {
            return Err(format!(
                "{} is not a whole number; write decimal digits, without sign and leading zeros",
                quoted(text)
            ));
        }
        match text.parse() {
            Ok(number) if bounds.contains(&number) => Ok(number),
            _ => Err(format!(
                "must be between {} and {}, not {}",
                bounds.start(),
                bounds.end(),
                quoted(text)
            )),
        }
    }
}

/// Whether a text is a number in decimal digits, without a leading zero.
pub(crate) fn is_decimal(text: &str) -> bool {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits && (text == "0" || !text.starts_with('0'))
}

/// Whether YAML takes a scalar without quotes for a truth value or a number.
fn is_typed(plain: &str) -> bool {
    let is_truth = matches!(
        plain,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE"
    );
    is_truth || plain.parse::<Number>().is_ok() || is_integer(plain)
}

/// Whether this is an integer of any length: [`Number`] holds no more than 64 bits.
fn is_integer(plain: &str) -> bool {
    let digits = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let of_base = |prefix, base| {
        let digits = digits.strip_prefix(prefix);
        digits.is_some_and(|digits: &str| {
            !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base))
        })
    };
    is_decimal(digits) || of_base("0x", 16) || of_base("0o", 8) || of_base("0b", 2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::path::Path;

    use super::super::mistakes::Notes;
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
            "12345678901234567890123456789012345678901234567890",
            "0x123456789abcdef0123456789",
            "0o7777777777777777777777777777",
        ] {
            assert!(is_typed(plain), "{plain}");
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
            "0x",
            "0x123456789abcdefg123456789",
            "0o8888888888888888888888888888",
            "000000000000000000000000000001",
        ] {
            assert!(!is_typed(plain), "{plain}");
        }
    }

    #[test]
    fn numbers_are_decimal_digits_within_bounds() {
        assert_eq!(whole(0..=8u32)("8"), Ok(8));
        assert_eq!(whole(0..=8u32)("0"), Ok(0));
        for text in [
            "9",
            "-1",
            "+1",
            "01",
            "00",
            "1_0",
            "0x1",
            "1e1",
            "1.0",
            "four",
            "",
            "99999999999999999999",
        ] {
            assert!(whole(0..=8u32)(text).is_err(), "{text}");
        }
    }

    /// What `read` makes of the plain or quoted value in `text`, or the mistake.
    fn read<T>(text: &str, read: fn(&Field<'_>) -> Option<T>) -> Result<T, String> {
        let notes = Notes::new(Path::new("x"));
        let node = tree::parse(text).unwrap().unwrap();
        let value = read(&Field::root(&node, &notes));
        let read = notes.conclude(value);
        read.map(|(value, _)| value)
            .map_err(|mistakes| mistakes.list[0].text.clone())
    }

    #[test]
    fn a_truth_value_is_true_or_false_in_lower_case_and_without_quotes() {
        assert_eq!(read("true", |field| field.truth()), Ok(true));
        assert_eq!(read("false", |field| field.truth()), Ok(false));
        for text in [
            "True",
            "FALSE",
            "yes",
            "off",
            "1",
            "\"false\"",
            "'true'",
            "[]",
        ] {
            let mistake = read(text, |field| field.truth()).unwrap_err();
            assert!(mistake.contains("true or false"), "{text}: {mistake}");
        }
    }

    #[test]
    fn a_number_has_no_quotes() {
        let number: fn(&Field<'_>) -> Option<u8> = |field| field.number(whole(1..=9));
        assert_eq!(read("2", number), Ok(2));
        for text in ["\"2\"", "'2'"] {
            let mistake = read(text, number).unwrap_err();
            assert_eq!(mistake, "must be a whole number, without quotes");
        }
    }
}
