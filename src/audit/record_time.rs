//! Unix milliseconds as RFC 3339 text.

use std::fmt;

use serde::{Serialize, Serializer};

/// A moment, printed as RFC 3339 (section 5.6) in UTC with milliseconds:
/// `2025-06-15T14:40:00.000Z`. As everywhere in Unix time, leap seconds do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordTime {
    unix_ms: u64,
}

impl RecordTime {
    /// The time of `unix_ms` milliseconds after the start of 1970.
    pub(super) const fn of(unix_ms: u64) -> RecordTime {
        RecordTime { unix_ms }
    }

    /// Its text, where the year has four digits. Every record has one, and seven formatted numbers
    /// cost as much as the rest of its fields.
    fn usual(self) -> Option<[u8; 24]> {
        let [year, month, day, hour, minute, second, ms] = self.parts();
        if year > 9999 {
            return None;
        }
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put(&mut text[0..4], year);
        put(&mut text[5..7], month);
        put(&mut text[8..10], day);
        put(&mut text[11..13], hour);
        put(&mut text[14..16], minute);
        put(&mut text[17..19], second);
        put(&mut text[20..23], ms);
        Some(text)
    }

    /// Year, month, day, hour, minute, second and millisecond.
    const fn parts(self) -> [u64; 7] {
        let (seconds, ms) = (self.unix_ms / 1000, self.unix_ms % 1000);
        let (minutes, second) = (seconds / 60, seconds % 60);
        let (hours, minute) = (minutes / 60, minutes % 60);
        let (days, hour) = (hours / 24, hours % 24);
        let (year, month, day) = civil(days);
        [year, month, day, hour, minute, second, ms]
    }
}

impl fmt::Display for RecordTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.usual() {
            Some(text) => f.write_str(std::str::from_utf8(&text).unwrap_or_default()),
            None => {
                let [year, month, day, hour, minute, second, ms] = self.parts();
                write!(
                    f,
                    "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
                )
            }
        }
    }
}

impl Serialize for RecordTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Writes the last digits of a number, as many as `text` is long.
fn put(text: &mut [u8], mut number: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`). The year is counted from
/// March, so that the leap day comes last, in eras of 400 years, which are all equally long.
const fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01
    const ERA: u64 = 146_097; // days in 400 years
    let days = days_since_1970 + DAYS_TO_1970;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + (month <= 2) as u64;
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_ms: u64) -> String {
        RecordTime::of(unix_ms).to_string()
    }

    #[test]
    fn zero_is_the_start_of_1970() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn moments_print_as_the_calendar_has_them() {
        // From `date -u -d @<seconds>`.
        for (unix_ms, expected) in [
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_000_000_000_001, "2001-09-09T01:46:40.001Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (1_750_000_000_123, "2025-06-15T15:06:40.123Z"),
            (2_147_483_648_000, "2038-01-19T03:14:08.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(text(unix_ms), expected);
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..146_097 {
            assert_eq!(civil(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn the_end_of_time_prints_without_overflow() {
        assert!(text(u64::MAX).ends_with('Z'));
    }
}
