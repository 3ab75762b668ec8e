//! A piece of text that somebody wrote, as a message repeats it.

/// Longest piece that a message repeats, in characters.
const MAX_QUOTED: usize = 64;

/// The text quoted, with its control characters escaped, cut after 64 characters.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}..", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_piece_is_escaped_and_capped() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert!(quoted(&"é".repeat(1000)).chars().count() < 70);
    }
}
