//! Why a text is not one YAML document, with the next step.

use saphyr_parser::ScanError;

pub(super) const ALIAS: &str = "is an alias (*), which is not supported; write the value out";

/// Why the text is not one YAML document, and the line where that shows.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Refuses the control characters that YAML does not allow, also in comments: a terminal that shows
/// the file would obey them. U+0085, U+2028 and U+2029 end a line for some readers and not for
/// others, so what stands behind one in a comment would be a comment or a key.
pub(super) fn refuse_control_characters(text: &str) -> Result<(), SyntaxError> {
    // Bytes are compared, not characters: a registry has up to 64 MiB.
    let bytes = text.as_bytes();
    let found = bytes.iter().enumerate().find(|(at, byte)| match byte {
        b'\t' | b'\n' | b'\r' => false,
        0x00..=0x1f | 0x7f => true,
        // C1: U+0080 to U+009F.
        0xc2 => matches!(bytes.get(at + 1), Some(0x80..=0x9f)),
        0xe2 => matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])),
        _ => false,
    });
    let Some((at, _)) = found else {
        return Ok(());
    };
    let before = text.get(..at).unwrap_or_default();
    let character = text.get(at..).and_then(|rest| rest.chars().next());
    let code = character.map_or(0, u32::from);
    let kind = match character {
        Some('\u{2028}' | '\u{2029}') => "line separators",
        _ => "control characters",
    };
    Err(SyntaxError {
        line: line_behind(before),
        text: format!("{kind} are not allowed; remove U+{code:04X}"),
    })
}

/// The line behind `before`. A carriage return alone ends a line too.
fn line_behind(before: &str) -> usize {
    let bytes = before.as_bytes();
    let ends = bytes.iter().enumerate().filter(|(at, byte)| match byte {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    1 + ends.count()
}

impl SyntaxError {
    /// Adds the likely cause: a bracket without quotes begins a list, also that of an IPv6 address.
    pub(super) fn in_text(mut self, text: &str) -> SyntaxError {
        let line = text.lines().nth(self.line.saturating_sub(1));
        if line.is_some_and(|line| line.contains("[:") || line.contains("]:")) {
            self.text += "; an IPv6 address in brackets needs quotes, such as \"[::]:8080\"";
        }
        self
    }
}

impl From<ScanError> for SyntaxError {
    fn from(error: ScanError) -> SyntaxError {
        SyntaxError {
            line: error.marker().line(),
            text: match error.info() {
                // An alias to an anchor that does not exist.
                info if info.contains("unknown anchor") => ALIAS.to_owned(),
                info => format!("is not YAML: {info}{}", next_step(info)),
            },
        }
    }
}

/// The next step for what other readers of YAML often take. Saphyr refuses all of it; YAML 1.2.2
/// does too (sections 6.1, 6.6, 7.3), but for the tab behind a colon.
fn next_step(info: &str) -> &'static str {
    match info {
        "invalid indentation" => {
            "; indent the closing bracket, and what is in brackets, further than its key"
        }
        "invalid indentation in flow construct" => {
            "; indent what is in brackets further than its key"
        }
        "invalid indentation in quoted scalar" => {
            "; indent each further line of a quoted text further than its key"
        }
        _ if info.starts_with("comments must be separated") => "; write a space before the #",
        _ if info.starts_with("':' must be followed") => "; write a space behind the colon, no tab",
        _ if info.contains("tab") => "; indent with spaces",
        _ => "",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::tree::parse;
    use super::*;

    fn refused(text: &str) -> SyntaxError {
        parse(text).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_bracket_in_the_column_of_its_key_is_refused_with_the_next_step() {
        for text in ["a:\n  k: [\n    'x'\n  ]\n", "a:\n - k: [\n    'x'\n   ]\n"] {
            let error = refused(text);
            assert_eq!(error.line, 4, "{text}");
            assert!(
                error.text.contains("indent the closing bracket"),
                "{text}: {}",
                error.text
            );
        }
        assert!(parse("a:\n  k: [\n    'x'\n   ]\n").is_ok());
    }

    #[test]
    fn a_layout_that_other_readers_take_is_refused_with_the_next_step() {
        for (text, line, next_step) in [
            ("a:\n  k: \"x\n  y\"\n", 2, "indent each further line"),
            ("a:\n  k: 'x\n  y'\n", 2, "indent each further line"),
            ("k: [x]#c\n", 1, "write a space before the #"),
            ("a: 1\nk: \"x\"#c\n", 2, "write a space before the #"),
            ("a: 1\nk:\tx\n", 2, "write a space behind the colon, no tab"),
            ("a: 1\nk:\n\t- x\n", 3, "indent with spaces"),
        ] {
            let error = refused(text);
            assert!(error.text.contains(next_step), "{text}: {}", error.text);
            assert_eq!(error.line, line, "{text}");
        }
        for text in ["k:\t[x]\n", "k: \tx\n", "k:\t\"x\"\n", "k: x\t# c\n"] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_control_character_is_refused_at_its_line_also_in_a_comment() {
        for character in [
            '\u{1}', '\u{7}', '\u{8}', '\u{1b}', '\u{7f}', '\u{80}', '\u{9b}',
        ] {
            for line in [format!("b: 2 # {character}"), format!("b: x{character}")] {
                let error = refused(&format!("a: 1\r\n{line}\n"));
                assert_eq!(error.line, 2, "{line:?}");
                let expected = "control characters are not allowed; remove U+";
                assert!(error.text.starts_with(expected), "{}", error.text);
            }
        }
        assert!(parse("a: 1\t\r\n# \t\u{a0}é\rb: 2\n").is_ok());
    }

    #[test]
    fn a_line_end_with_two_readings_is_refused_at_its_line() {
        for (character, kind) in [
            ('\u{85}', "control characters"),
            ('\u{2028}', "line separators"),
            ('\u{2029}', "line separators"),
        ] {
            let error = refused(&format!("a: 1\rb: 2 # {character}c: 3\n"));
            assert_eq!(error.line, 2);
            let expected = format!(
                "{kind} are not allowed; remove U+{:04X}",
                u32::from(character)
            );
            assert_eq!(error.text, expected);
        }
        assert!(parse("a: \u{2027}\u{2030}\n").is_ok());
    }
}
