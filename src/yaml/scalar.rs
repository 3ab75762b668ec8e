//! The type of a plain scalar (YAML 1.2.2, section 10.3.2, the core schema).

use serde_yaml::{Number, Value};

/// The truth value or number that YAML takes a scalar without quotes for; `None` for a text.
pub(crate) fn typed(plain: &str) -> Option<Value> {
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
