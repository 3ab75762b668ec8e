//! Printing of texts that untrusted clients may have written.

use std::io::{self, Write};

use super::command_error::CommandError;

/// A text with all characters escaped except visible ASCII and spaces: an attacker's text must not
/// move the cursor, or reverse the direction of the text.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => shown.push(c),
            _ => shown.extend(c.escape_unicode()),
        }
    }
    shown
}

/// Prints a text.
///
/// # Errors
///
/// [`CommandError::Operation`]: it cannot be printed.
pub(super) fn say(out: &mut dyn Write, text: &str) -> Result<(), CommandError> {
    printed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The result of printing, as one of the command.
///
/// # Errors
///
/// [`CommandError::Operation`]: it could not be printed.
pub(super) fn printed(result: io::Result<()>) -> Result<(), CommandError> {
    result.map_err(cannot_print)
}

/// The failure to print.
pub(super) fn cannot_print(error: io::Error) -> CommandError {
    CommandError::Operation(format!("cannot print: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_those_that_turn_a_text_round_are_escaped() {
        assert_eq!(
            visible("/a \u{1b}[2J\u{202e}\u{7f}\n"),
            "/a \\u{1b}[2J\\u{202e}\\u{7f}\\u{a}"
        );
    }
}
