//! Times on the command line: a date, or how long ago.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::config::instant;

/// A time, absolute or relative to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Moment(OffsetDateTime),
    /// In seconds before now.
    Ago(u64),
}

impl Since {
    /// The time, at `now` (Unix seconds). A time before 1970 is 1970.
    pub(super) fn at(self, now: u64) -> OffsetDateTime {
        match self {
            Since::Moment(at) => at,
            Since::Ago(ago) => {
                let at = i64::try_from(now.saturating_sub(ago)).unwrap_or(i64::MAX);
                OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::seconds(at))
            }
        }
    }
}

/// Parses `2027-01-31T08:00:00Z`, as a record has it with milliseconds too, `2027-01-31`, or `7d`.
///
/// # Errors
///
/// The text is none of these.
pub(super) fn since(text: &str) -> Result<Since, String> {
    let date = instant::to_unix_seconds(text)
        .and_then(|at| OffsetDateTime::from_unix_timestamp(i64::try_from(at).ok()?).ok());
    if let Some(at) = date.or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok()) {
        return Ok(Since::Moment(at));
    }
    ago(text).map(Since::Ago).ok_or_else(|| {
        "is neither a time (2027-01-31T08:00:00Z, 2027-01-31) nor a period such as 7d, 12h or 30m"
            .to_owned()
    })
}

fn ago(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    let number = text.strip_suffix(unit)?;
    // Digits alone: a number may otherwise have a sign.
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.then(|| number.parse().ok())??;
    number.checked_mul(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_moment_a_date_or_so_long_ago() {
        let at = |text| since(text).map(|since| since.at(2_000_000_000).unix_timestamp());
        assert_eq!(at("2027-01-15T08:00:01Z"), Ok(1_800_000_001));
        assert_eq!(at("2027-01-15T09:00:01.250+01:00"), Ok(1_800_000_001));
        assert_eq!(at("2027-01-15"), Ok(1_799_971_200));
        assert_eq!(at("7d"), Ok(2_000_000_000 - 7 * 86_400));
        assert_eq!(at("12h"), Ok(2_000_000_000 - 43_200));
        assert_eq!(at("30m"), Ok(2_000_000_000 - 1_800));
        assert_eq!(at("5s"), Ok(2_000_000_000 - 5));
        assert_eq!(at("99999999d"), Ok(0), "before 1970 is the beginning");
    }

    #[test]
    fn since_is_nothing_else() {
        for text in [
            "",
            "d",
            "7",
            "7w",
            "-7d",
            "+7d",
            " 7d",
            "7 d",
            "7.5d",
            "99999999999999999999d",
            "999999999999999999d",
            "yesterday",
            "7\u{e9}",
        ] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
