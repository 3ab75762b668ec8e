//! Texts of the status: instants, spans of time, and names that may be hostile.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::config::instant;

/// Most characters of a name or a mistake.
const MOST_CHARACTERS: usize = 300;

/// An instant: RFC 3339 in UTC, as text and as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&instant::to_text(self.0))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text from a file, cut to a bounded length. Control characters, and those that turn the
/// direction of the text around them, are written out: a name must not look like another.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == MOST_CHARACTERS {
            shown.push('…');
            break;
        }
        match character {
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{61c}' => shown.extend(character.escape_unicode()),
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

/// A span of time in its two greatest units, such as `3 d 4 h`.
pub(crate) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, 0) => format!("{hours} h"),
        (0, ..) => format!("{hours} h {minutes} min"),
        (1..=13, 1.., _) => format!("{days} d {hours} h"),
        _ => format!("{days} d"),
    }
}

/// A number with its noun, in the singular or the plural.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// A whole number with its digits in groups of three, by narrow spaces.
pub(crate) fn grouped(number: impl fmt::Display) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_two_greatest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_600, "1 h"),
            (3_660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
            (86_400, "1 d"),
            (14 * 86_400 + 7_200, "14 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn digits_stand_in_groups_of_three() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(counted(1, "machine", "machines"), "1 machine");
    }

    #[test]
    fn what_would_change_the_look_of_other_text_is_written_out() {
        assert_eq!(shown("a\u{202e}b\u{7}c\n"), "a\\u{202e}b\\u{7}c\\n");
        assert_eq!(shown("<b>ä日</b>"), "<b>ä日</b>");
        let long = shown(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), MOST_CHARACTERS + 1);
    }

    #[test]
    fn a_moment_is_data_as_it_is_text() {
        let text = serde_json::to_string(&Moment(1_801_396_801)).unwrap_or_default();
        assert_eq!(text, "\"2027-01-31T12:00:01Z\"");
    }
}
