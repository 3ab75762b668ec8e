//! Patterns: a text, or the beginning of one with a `*` behind it.

use std::fmt;

/// A pattern that texts are compared with, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is empty, or too long.
    #[error("must have 1 to {max} characters", max = Pattern::MAX_LEN)]
    Length,
    /// It holds a control character.
    #[error("holds a control character")]
    Control,
    /// It holds a `*` before its end.
    #[error("holds a `*` before its end; write one only as the last character: web-*")]
    InnerStar,
}

impl Pattern {
    /// Longest pattern, in bytes.
    pub const MAX_LEN: usize = 256;

    /// Parses a pattern: plain text, whose last character may be a `*`.
    ///
    /// # Errors
    ///
    /// [`PatternError`]. It fails closed: a `*` elsewhere is an error, not plain text.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if !(1..=Self::MAX_LEN).contains(&text.len()) {
            return Err(PatternError::Length);
        }
        if text.chars().any(char::is_control) {
            return Err(PatternError::Control);
        }
        match text.strip_suffix('*').unwrap_or(text).contains('*') {
            true => Err(PatternError::InnerStar),
            false => Ok(Pattern(text.to_owned())),
        }
    }

    /// Whether the text is the one of the pattern, or begins with what stands before its `*`.
    pub fn matches(&self, text: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => text.starts_with(beginning),
            None => text == self.0,
        }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_plain_text_matches_itself_alone() {
        let pattern = Pattern::parse("web-1").unwrap();
        assert!(pattern.matches("web-1"));
        for other in ["web-", "web-11", "Web-1", "", " web-1"] {
            assert!(!pattern.matches(other), "{other}");
        }
    }

    #[test]
    fn a_star_at_the_end_matches_every_end_and_none() {
        let pattern = Pattern::parse("web-*").unwrap();
        for text in ["web-", "web-1", "web-*", "web-a/b:c"] {
            assert!(pattern.matches(text), "{text}");
        }
        assert!(!pattern.matches("web"));
        assert!(Pattern::parse("*").unwrap().matches(""));
    }

    #[test]
    fn a_star_elsewhere_is_no_pattern() {
        for text in ["*-web", "w*b", "web**", "**"] {
            assert_eq!(Pattern::parse(text), Err(PatternError::InnerStar), "{text}");
        }
        assert_eq!(Pattern::parse(""), Err(PatternError::Length));
        assert_eq!(Pattern::parse(&"x".repeat(257)), Err(PatternError::Length));
        assert_eq!(Pattern::parse("a\n*"), Err(PatternError::Control));
    }

    #[test]
    fn a_pattern_prints_back() {
        for text in ["web-1", "web-*", "*"] {
            assert_eq!(Pattern::parse(text).unwrap().to_string(), text);
        }
    }
}
