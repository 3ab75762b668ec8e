//! The time for which a machine's old keys stay valid beside a new one.

/// In seconds, where nothing else is said: a week.
pub const DEFAULT: u64 = 7 * 86_400;

/// Longest overlap, in days. A key that is to stay needs no end.
const MOST_DAYS: u64 = 366;

/// Parses a time such as `7d` or `12h`, in seconds.
///
/// # Errors
///
/// The rule that it breaks, for a sentence that begins with the name of the option.
pub fn parse(text: &str) -> Result<u64, String> {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(unit)?;
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| number.parse::<u64>().ok())??
            .checked_mul(seconds)
    });
    match seconds {
        Some(seconds) if seconds <= MOST_DAYS * 86_400 => Ok(seconds),
        _ => Err(format!(
            "it must be a time such as 7d or 12h, at most {MOST_DAYS}d"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_is_a_number_and_a_unit() {
        let parsed = ["7d", "12h", "30m", "0s"].map(parse);
        assert_eq!(parsed, [Ok(604_800), Ok(43_200), Ok(1_800), Ok(0)]);
        assert_eq!(parsed[0], Ok(DEFAULT));
        for text in [
            "",
            "7",
            "d",
            "-1d",
            "+1d",
            "1.5d",
            "7w",
            "7 d",
            "367d",
            "99999999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
