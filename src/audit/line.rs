//! One record, one line: JSON (RFC 8259) in printable ASCII, ended by a line feed.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

/// Room for a usual record, so that it is allocated once.
const USUAL_LINE: usize = 1280;

/// Encodes a record as one line.
///
/// # Errors
///
/// What the record's own `Serialize` reports; the records of this module have nothing to report.
pub(super) fn encode(record: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(USUAL_LINE);
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, Ascii(CompactFormatter));
    record.serialize(&mut serializer)?;
    line.push(b'\n');
    Ok(line)
}

/// Compact JSON that escapes everything but printable ASCII. serde_json by itself lets DEL, the
/// C1 controls (U+009B starts a terminal escape sequence) and the bidirectional overrides (text
/// that reads otherwise than it is) through: a log is read in terminals.
struct Ascii(CompactFormatter);

impl Formatter for Ascii {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_string_fragment(writer, fragment);
        }
        let printable = |c: char| matches!(c, ' '..='~');
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| !printable(c)) {
            self.0.write_string_fragment(writer, &rest[..at])?;
            let end = rest[at..].find(printable).map_or(rest.len(), |n| at + n);
            for unit in rest[at..end].encode_utf16() {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[end..];
        }
        self.0.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> String {
        String::from_utf8(encode(&text).unwrap()).unwrap()
    }

    #[test]
    fn printable_ascii_stays_as_it_is() {
        assert_eq!(line("a b~"), "\"a b~\"\n");
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(line(r#"a"b\c"#), "\"a\\\"b\\\\c\"\n");
    }

    #[test]
    fn a_line_feed_in_a_value_does_not_end_the_line() {
        assert_eq!(line("a\r\nb"), "\"a\\r\\nb\"\n");
    }

    #[test]
    fn terminal_escapes_are_escaped() {
        let shown = line("\u{1b}[2J\u{7f}\u{9b}31m");
        assert_eq!(shown, "\"\\u001b[2J\\u007f\\u009b31m\"\n");
    }

    #[test]
    fn bidirectional_overrides_are_escaped() {
        assert_eq!(line("\u{202e}x"), "\"\\u202ex\"\n");
    }

    #[test]
    fn characters_beyond_sixteen_bits_become_surrogate_pairs() {
        assert_eq!(line("a\u{1f511}b"), "\"a\\ud83d\\udd11b\"\n");
    }

    proptest! {
        #[test]
        fn whatever_the_text_the_line_is_printable_and_reads_back(text in any::<String>()) {
            let line = line(&text);
            let (json, end) = line.split_at(line.len() - 1);
            prop_assert_eq!(end, "\n");
            prop_assert!(json.bytes().all(|b| matches!(b, b' '..=b'~')));
            prop_assert_eq!(serde_json::from_str::<String>(json).unwrap(), text);
        }
    }
}
