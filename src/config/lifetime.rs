//! Lifetimes of machines and tokens: digits and a unit, up to days.

use std::ops::RangeInclusive;

use crate::yaml::{is_decimal, quoted};

/// Units in seconds, the longest first.
const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// A parser of lifetimes within `bounds`, in seconds: digits and one unit of `s`, `m`, `h`, `d`.
pub fn lifetime(bounds: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let seconds = seconds(text).ok_or_else(|| {
            format!(
                "{} is not a time; write digits and s, m, h or d: 10m, 24h, 7d",
                quoted(text)
            )
        })?;
        match bounds.contains(&seconds) {
            true => Ok(seconds),
            false => Err(format!(
                "must be between {} and {}, not {text}",
                show_lifetime(*bounds.start()),
                show_lifetime(*bounds.end())
            )),
        }
    }
}

/// Seconds in the largest unit that divides them, as [`lifetime`] reads them.
pub fn show_lifetime(seconds: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| seconds > 0 && seconds.is_multiple_of(*factor);
    match UNITS.iter().find(fits) {
        Some((unit, factor)) => format!("{}{unit}", seconds / factor),
        None => "0s".to_owned(),
    }
}

fn seconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let number: u64 = number.parse().ok().filter(|_| is_decimal(number))?;
    number.checked_mul(*factor)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_digits_and_a_unit_and_prints_back() {
        let parse = lifetime(1..=u64::MAX);
        for (text, seconds) in [("1s", 1), ("10m", 600), ("36h", 129_600), ("7d", 604_800)] {
            assert_eq!(parse(text), Ok(seconds));
            assert_eq!(show_lifetime(seconds), text);
        }
        assert_eq!(show_lifetime(86_400), "1d");
    }

    #[test]
    fn other_texts_are_no_lifetimes() {
        let parse = lifetime(0..=u64::MAX);
        for text in [
            "",
            "7",
            "d",
            "07d",
            "-1d",
            "+1d",
            "1.5h",
            "1w",
            "1D",
            " 1d",
            "1d ",
            "1ms",
            "213503982334602d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lifetime_outside_the_bounds_is_told_with_them() {
        let told = lifetime(10..=600)("1h").unwrap_err();
        assert_eq!(told, "must be between 10s and 10m, not 1h");
    }
}
