//! Instants as people write them: the dates of machines, keys and routes.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The accepted forms of an instant, for messages.
pub const EXPECTED: &str = "an instant such as \"2027-01-31T12:00:00Z\" (RFC 3339, whole seconds, \
    from 1970 on), or a date such as \"2027-01-31\", which is its first second in UTC";

/// The Unix seconds of an RFC 3339 timestamp, or of the first second (UTC) of a date.
///
/// `None`, and so a refusal, for any other text, for fractions of a second, and before 1970.
pub fn to_unix_seconds(text: &str) -> Option<u64> {
    let midnight;
    let timestamp = if text.len() == "2027-01-31".len() {
        midnight = format!("{text}T00:00:00Z");
        &midnight
    } else {
        text
    };
    // RFC 3339 section 5.6 lets any character stand for the T; one spelling is enough here.
    if timestamp.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let instant = OffsetDateTime::parse(timestamp, &Rfc3339).ok()?;
    if instant.nanosecond() != 0 {
        return None;
    }
    u64::try_from(instant.unix_timestamp()).ok()
}

/// Unix seconds as an RFC 3339 timestamp in UTC, for people; the bare number where the year has
/// more than four digits.
pub fn to_text(unix_seconds: u64) -> String {
    i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|instant| instant.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_in_utc_is_its_second() {
        assert_eq!(to_unix_seconds("2027-01-31T12:00:01Z"), Some(1_801_396_801));
    }

    #[test]
    fn a_timestamp_with_an_offset_is_the_same_instant() {
        assert_eq!(
            to_unix_seconds("2027-01-31T14:00:01+02:00"),
            Some(1_801_396_801)
        );
    }

    #[test]
    fn a_date_is_its_first_second_in_utc() {
        assert_eq!(
            to_unix_seconds("2027-01-31"),
            to_unix_seconds("2027-01-31T00:00:00Z")
        );
        assert_eq!(to_unix_seconds("1970-01-01"), Some(0));
    }

    #[test]
    fn what_is_printed_reads_back() {
        for seconds in [0, 1, 951_782_400, 1_801_396_801, 253_402_300_799] {
            assert_eq!(to_unix_seconds(&to_text(seconds)), Some(seconds));
        }
    }

    #[test]
    fn a_number_past_the_calendar_prints_as_a_number() {
        assert_eq!(to_text(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "tomorrow",
            "1801396801",
            "2027-1-31",
            "2027-02-30",
            "2027/01/31",
            "2027-01-31T",
            "2027-01-31T12:00:01",
            "2027-01-31 12:00:01Z",
            "2027-01-31T12:00:01.5Z",
            "2027-01-31T25:00:00Z",
            "2027-01-31T12:00:01Z ",
            "1969-12-31",
            "+12027-01-31",
            "日本日",
            "2027-01-3é",
        ] {
            assert_eq!(to_unix_seconds(text), None, "{text:?}");
        }
    }
}
