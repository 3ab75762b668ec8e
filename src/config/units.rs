//! Durations and sizes as people write them: `500ms`, `5s`, `5m`, `1h`; `64KiB`, `1MiB`.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::yaml::{is_decimal, quoted};

/// Units of time in milliseconds, the longest first.
const TIME: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size in bytes, the largest first.
const SIZE: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A parser of durations within `bounds`: digits and one unit of `ms`, `s`, `m`, `h`. A bare
/// number is refused, since its reader and its writer may have different units in mind.
pub(super) fn duration(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let (number, unit) = split(text);
        let millis = amount(number)
            .zip(factor(&TIME, unit))
            .and_then(|(number, factor)| number.checked_mul(factor))
            .ok_or_else(|| not_a_duration(text, number, unit))?;
        let duration = Duration::from_millis(millis);
        if bounds.contains(&duration) {
            Ok(duration)
        } else {
            let (low, high) = (show_duration(*bounds.start()), show_duration(*bounds.end()));
            Err(format!("must be between {low} and {high}, not {text}"))
        }
    }
}

/// A parser of whole seconds within `bounds`, written as a [`duration`].
pub(super) fn seconds(bounds: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> {
    let (low, high) = bounds.into_inner();
    let duration = duration(Duration::from_secs(low)..=Duration::from_secs(high));
    move |text| match duration(text)? {
        whole if whole.subsec_nanos() == 0 => Ok(whole.as_secs()),
        _ => Err(format!("must be whole seconds, not {text}")),
    }
}

/// A parser of sizes within `bounds`, in bytes: digits alone, or with `B`, `KiB`, `MiB`, `GiB`.
/// `KB`, `M` and the like are refused: they mean 1000 to some and 1024 to others.
pub(super) fn size(bounds: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let (number, unit) = split(text);
        let unit = if unit.is_empty() { "B" } else { unit };
        let bytes = amount(number)
            .zip(factor(&SIZE, unit))
            .and_then(|(number, factor)| number.checked_mul(factor))
            .ok_or_else(|| {
                format!(
                    "{} is not a size; write bytes, or KiB, MiB, GiB: 64KiB",
                    quoted(text)
                )
            })?;
        if bounds.contains(&bytes) {
            Ok(bytes)
        } else {
            let (low, high) = (show_size(*bounds.start()), show_size(*bounds.end()));
            Err(format!("must be between {low} and {high}, not {text}"))
        }
    }
}

/// A size in the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE)
}

fn show_duration(duration: Duration) -> String {
    show(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        &TIME,
    )
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| amount > 0 && amount.is_multiple_of(*factor);
    match units.iter().find(fits) {
        Some((unit, factor)) => format!("{}{unit}", amount / factor),
        None => "0".to_owned(),
    }
}

fn split(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

/// Decimal digits without a leading zero: some read `010` as octal.
fn amount(digits: &str) -> Option<u64> {
    digits.parse().ok().filter(|_| is_decimal(digits))
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    let known = units.iter().find(|(name, _)| *name == unit)?;
    Some(known.1)
}

fn not_a_duration(text: &str, number: &str, unit: &str) -> String {
    if unit.is_empty() && !number.is_empty() && number.len() <= 6 {
        format!("{text} has no unit; write {text}s if you mean seconds, or use ms, m, h")
    } else {
        format!(
            "{} is not a duration; write digits and ms, s, m or h: 500ms, 5s",
            quoted(text)
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn any_duration(text: &str) -> Result<Duration, String> {
        duration(Duration::ZERO..=Duration::MAX)(text)
    }

    fn any_size(text: &str) -> Result<u64, String> {
        size(0..=u64::MAX)(text)
    }

    #[test]
    fn every_unit_of_time_is_read() {
        assert_eq!(any_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(any_duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(any_duration("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(any_duration("1h").unwrap(), Duration::from_secs(3600));
    }

    #[test]
    fn a_duration_without_a_unit_is_refused_with_the_likely_spelling() {
        assert!(any_duration("30").unwrap_err().contains("write 30s"));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "", "s", "-5s", "+5s", "5 s", " 5s", "5s ", "1.5s", "5S", "5sec", "1m30s", "5d", "٥s",
            "05s", "00ms",
        ] {
            assert!(any_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_beyond_the_integers_is_refused() {
        assert!(any_duration("18446744073709551616ms").is_err());
        assert!(any_duration("18446744073709551615h").is_err());
    }

    #[test]
    fn the_bounds_of_a_duration_are_inclusive_and_named() {
        let parse = duration(Duration::from_millis(100)..=Duration::from_secs(60));
        assert!(parse("100ms").is_ok());
        assert!(parse("1m").is_ok());
        assert_eq!(
            parse("99ms").unwrap_err(),
            "must be between 100ms and 1m, not 99ms"
        );
        assert!(parse("61s").is_err());
    }

    #[test]
    fn fractions_of_a_second_are_refused_where_seconds_are_meant() {
        assert_eq!(seconds(1..=3600)("5m").unwrap(), 300);
        assert!(
            seconds(1..=3600)("1500ms")
                .unwrap_err()
                .contains("whole seconds")
        );
    }

    #[test]
    fn every_unit_of_size_is_read() {
        assert_eq!(any_size("17").unwrap(), 17);
        assert_eq!(any_size("17B").unwrap(), 17);
        assert_eq!(any_size("64KiB").unwrap(), 65_536);
        assert_eq!(any_size("1MiB").unwrap(), 1_048_576);
        assert_eq!(any_size("2GiB").unwrap(), 2_147_483_648);
    }

    #[test]
    fn sizes_with_two_readings_are_refused() {
        for text in [
            "1KB",
            "1M",
            "1k",
            "1kib",
            "1 MiB",
            "1.5MiB",
            "-1",
            "",
            "MiB",
            "99999999999GiB",
            "010",
            "064KiB",
        ] {
            assert!(any_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_bounds_of_a_size_are_inclusive_and_named() {
        let parse = size(1..=32 << 20);
        assert!(parse("32MiB").is_ok());
        assert_eq!(
            parse("33MiB").unwrap_err(),
            "must be between 1B and 32MiB, not 33MiB"
        );
    }

    #[test]
    fn amounts_print_in_the_largest_unit_that_divides_them() {
        assert_eq!(show_size(1_048_576), "1MiB");
        assert_eq!(show_size(1_048_577), "1048577B");
        assert_eq!(show_size(0), "0");
        assert_eq!(show_duration(Duration::from_millis(90_000)), "90s");
    }
}
