//! The request target: one spelling for each path, and nothing that a backend could read
//! another way.
//!
//! The grammar is a subset of RFC 3986's origin form. What it accepts is signed, verified and
//! forwarded byte for byte; nothing is ever normalised, because a gateway that normalises and a
//! backend that does it differently disagree about which secret was asked for.

use std::fmt;

use super::refusal::Refusal;

/// A request target in origin form (RFC 9112, section 3.2.1) that keeps the grammar, borrowed as
/// it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    text: &'a str,
    path_len: usize,
}

/// What a route does with the part of a target behind `?`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryPolicy {
    /// The signature covers the path alone; the query is dropped before forwarding.
    #[default]
    Strip,
    /// A target with a `?` is refused.
    Reject,
    /// The client signed `path?query`; both are verified and forwarded.
    Signed,
}

impl QueryPolicy {
    /// Every policy.
    pub const ALL: [QueryPolicy; 3] =
        [QueryPolicy::Strip, QueryPolicy::Reject, QueryPolicy::Signed];

    /// The word for it in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            QueryPolicy::Strip => "strip",
            QueryPolicy::Reject => "reject",
            QueryPolicy::Signed => "signed",
        }
    }
}

impl fmt::Display for QueryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of a target that the signature covers, and that alone crosses to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedTarget<'a> {
    text: &'a str,
    query_stripped: bool,
}

/// The rule that a request target broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Longer than [`Target::MAX_LEN`].
    #[error("it is longer than 4096 bytes")]
    TooLong,
    /// Absolute form, asterisk form, authority form, or nothing at all.
    #[error("it does not start with '/'")]
    NotOriginForm,
    /// `//` somewhere.
    #[error("it has an empty segment ('//')")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("it has a segment '.' or '..'")]
    DotSegment,
    /// A raw byte that a path or a query may not hold.
    #[error("it holds a character that must be percent-encoded or may not be there at all")]
    ForbiddenByte,
    /// `%` without two hexadecimal digits.
    #[error("it holds '%' without two hexadecimal digits")]
    BadPercent,
    /// `%2a` for `%2A` in a path.
    #[error("percent-encoding in a path must use upper-case digits")]
    LowerCasePercent,
    /// `%41` for `A` in a path: a second spelling.
    #[error("it percent-encodes a character that needs no encoding")]
    NeedlessPercent,
    /// `%2F`, `%5C`, `%3F`, or an encoded control character in a path.
    #[error("it percent-encodes a slash, a backslash, a question mark or a control character")]
    ForbiddenPercent,
}

impl<'a> Target<'a> {
    /// Longest target accepted, in bytes: four times what common servers need, an eighth of the
    /// header block.
    pub const MAX_LEN: usize = 4096;

    /// Parses the target as it stood in the request line, or in HTTP/2's `:path`.
    ///
    /// # Errors
    ///
    /// The first rule broken, from left to right. Whatever is not known to be harmless is
    /// refused.
    pub fn parse(raw: &'a [u8]) -> Result<Target<'a>, TargetError> {
        if raw.len() > Self::MAX_LEN {
            return Err(TargetError::TooLong);
        }
        if raw.first() != Some(&b'/') {
            return Err(TargetError::NotOriginForm);
        }
        let path_len = raw.iter().position(|&b| b == b'?').unwrap_or(raw.len());
        check_path(&raw[..path_len])?;
        if let Some(query) = raw.get(path_len + 1..) {
            check_query(query)?;
        }
        // Every byte has been found to be ASCII; this cannot fail, and would refuse if it did.
        let text = std::str::from_utf8(raw).map_err(|_| TargetError::ForbiddenByte)?;
        Ok(Target { text, path_len })
    }

    /// The target as sent.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The path, without the query.
    pub fn path(&self) -> &'a str {
        &self.text[..self.path_len]
    }

    /// What follows the first `?`; `Some("")` where nothing follows it.
    pub fn query(&self) -> Option<&'a str> {
        self.text.get(self.path_len + 1..)
    }

    /// What is left of it behind `prefix`, which has no slash at its end, on whole segments; `None`
    /// where that is not a target. A part of an accepted target keeps the grammar.
    pub fn behind(self, prefix: &str) -> Option<Target<'a>> {
        let text = self.text.strip_prefix(prefix)?;
        text.starts_with('/').then(|| Target {
            text,
            path_len: self.path_len - prefix.len(),
        })
    }

    /// The part that the signature has to cover under a route's policy.
    ///
    /// # Errors
    ///
    /// [`Refusal::QueryNotAllowed`] for any `?`, also an empty query, under
    /// [`QueryPolicy::Reject`].
    pub fn under(self, policy: QueryPolicy) -> Result<SignedTarget<'a>, Refusal> {
        let has_query = self.query().is_some();
        let (text, query_stripped) = match policy {
            QueryPolicy::Reject if has_query => return Err(Refusal::QueryNotAllowed),
            QueryPolicy::Reject | QueryPolicy::Strip => (self.path(), has_query),
            QueryPolicy::Signed => (self.text, false),
        };
        Ok(SignedTarget {
            text,
            query_stripped,
        })
    }
}

impl<'a> SignedTarget<'a> {
    /// The bytes that are signed and forwarded.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Whether a query was sent and is left behind.
    pub fn query_stripped(&self) -> bool {
        self.query_stripped
    }
}

/// Splits at the slashes and judges each segment (RFC 3986, section 3.3, less `;`, whose
/// parameters some servers cut off before they look for the file).
fn check_path(path: &[u8]) -> Result<(), TargetError> {
    let mut segments = path[1..].split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            // Only the last segment may be empty: "/" and a trailing slash.
            b"" if segments.peek().is_some() => return Err(TargetError::EmptySegment),
            b"." | b".." => return Err(TargetError::DotSegment),
            _ => check_segment(segment)?,
        }
    }
    Ok(())
}

fn check_segment(segment: &[u8]) -> Result<(), TargetError> {
    let mut rest = segment;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let [high, low, tail @ ..] = tail else {
                return Err(TargetError::BadPercent);
            };
            rest = tail;
            check_encoded(*high, *low)?;
        } else if !is_segment_byte(byte) {
            return Err(TargetError::ForbiddenByte);
        }
    }
    Ok(())
}

/// Judges `%` and two digits in a path. Dots are unreserved, so an encoded dot segment is
/// refused here as a needless encoding.
fn check_encoded(high: u8, low: u8) -> Result<(), TargetError> {
    let (Some(h), Some(l)) = (hex_value(high), hex_value(low)) else {
        return Err(TargetError::BadPercent);
    };
    if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
        return Err(TargetError::LowerCasePercent);
    }
    match h << 4 | l {
        b'/' | b'\\' | b'?' | 0x00..=0x1f | 0x7f => Err(TargetError::ForbiddenPercent),
        byte if is_segment_byte(byte) => Err(TargetError::NeedlessPercent),
        _ => Ok(()),
    }
}

/// RFC 3986, section 3.4; beyond its alphabet the query is opaque.
fn check_query(query: &[u8]) -> Result<(), TargetError> {
    let mut rest = query;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            match tail {
                [h, l, tail @ ..] if hex_value(*h).is_some() && hex_value(*l).is_some() => {
                    rest = tail;
                }
                _ => return Err(TargetError::BadPercent),
            }
        } else if !(is_segment_byte(byte) || matches!(byte, b'/' | b'?' | b';')) {
            return Err(TargetError::ForbiddenByte);
        }
    }
    Ok(())
}

/// `pchar` of RFC 3986 without `;` and without percent-encoding.
const fn is_segment_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' // unreserved
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' // sub-delims
            | b':' | b'@'
        )
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(raw: &str) -> TargetError {
        Target::parse(raw.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_prefix_comes_off_on_whole_segments_and_leaves_a_target() {
        let behind = |raw: &'static str, prefix| {
            let target = Target::parse(raw.as_bytes()).unwrap();
            target
                .behind(prefix)
                .map(|rest| (rest.path(), rest.query()))
        };
        assert_eq!(behind("/a/b?x=1", "/a"), Some(("/b", Some("x=1"))));
        assert_eq!(behind("/a/b", ""), Some(("/a/b", None)));
        assert_eq!(behind("/a/", "/a"), Some(("/", None)));
        for (raw, prefix) in [("/a", "/a"), ("/a?x", "/a"), ("/ab", "/a"), ("/b/a", "/a")] {
            assert_eq!(behind(raw, prefix), None, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn what_is_behind_a_prefix_is_what_would_be_parsed(
            head in "(/[a-z]{1,3}){0,2}", rest in "(/[a-z:@]{1,3}){1,3}/?(\\?[a-z=&]{0,4})?"
        ) {
            let sent = format!("{head}{rest}");
            let target = Target::parse(sent.as_bytes()).unwrap();
            prop_assert_eq!(target.behind(&head), Some(Target::parse(rest.as_bytes()).unwrap()));
        }
    }

    #[test]
    fn plain_paths_pass_unchanged() {
        for raw in [
            "/",
            "/v1/secret/abc",
            "/v1/secret/",
            "/a.b/..c/...",
            "/%20",
            "/%C3%A9",
            "/%25",
            "/%3B",
            "/:@!$&'()*+,=-._~",
        ] {
            let target = Target::parse(raw.as_bytes()).unwrap();
            assert_eq!((target.as_str(), target.query()), (raw, None));
        }
    }

    #[test]
    fn the_query_starts_at_the_first_question_mark() {
        let target = Target::parse(b"/a?b?c=/;d").unwrap();
        assert_eq!((target.path(), target.query()), ("/a", Some("b?c=/;d")));
    }

    #[test]
    fn an_empty_query_is_a_query() {
        let target = Target::parse(b"/a?").unwrap();
        assert_eq!(target.query(), Some(""));
        assert_eq!(
            target.under(QueryPolicy::Reject),
            Err(Refusal::QueryNotAllowed)
        );
        assert!(target.under(QueryPolicy::Strip).unwrap().query_stripped());
        assert_eq!(target.under(QueryPolicy::Signed).unwrap().as_str(), "/a?");
    }

    #[test]
    fn only_origin_form_is_a_target() {
        for raw in ["", "*", "a", "http://h/a", "h:443", "?a"] {
            assert_eq!(refused(raw), TargetError::NotOriginForm, "{raw}");
        }
    }

    #[test]
    fn empty_segments_are_refused_but_a_trailing_slash_is_not() {
        for raw in ["//", "//a", "/a//b", "/a//"] {
            assert_eq!(refused(raw), TargetError::EmptySegment, "{raw}");
        }
        assert!(Target::parse(b"/a/").is_ok());
    }

    #[test]
    fn dot_segments_are_refused_in_every_spelling() {
        for raw in ["/.", "/..", "/a/./b", "/a/../b", "/a/.."] {
            assert_eq!(refused(raw), TargetError::DotSegment, "{raw}");
        }
        for raw in ["/%2E", "/%2E%2E", "/.%2E", "/a/%2E./b"] {
            assert_eq!(refused(raw), TargetError::NeedlessPercent, "{raw}");
        }
        assert_eq!(refused("/%2e%2e"), TargetError::LowerCasePercent);
    }

    #[test]
    fn encoded_delimiters_and_controls_are_refused() {
        for raw in ["/%2F", "/%5C", "/%3F", "/%00", "/%0D%0A", "/%1F", "/%7F"] {
            assert_eq!(refused(raw), TargetError::ForbiddenPercent, "{raw}");
        }
    }

    #[test]
    fn percent_needs_two_hexadecimal_digits() {
        for raw in [
            "/%", "/%2", "/%zz", "/%2G", "/a%", "/a?%", "/a?%4", "/a?%zz",
        ] {
            assert_eq!(refused(raw), TargetError::BadPercent, "{raw}");
        }
    }

    #[test]
    fn bytes_outside_the_alphabet_are_refused() {
        for raw in [
            "/a b", "/a\tb", "/a\0b", "/a#b", "/a;b", "/a\\b", "/é", "/a\"", "/a<", "/a|b", "/a[b",
            "/a?b c", "/a?b#c", "/a?é", "/a?b\\c",
        ] {
            assert_eq!(refused(raw), TargetError::ForbiddenByte, "{raw}");
        }
    }

    #[test]
    fn the_limit_is_inclusive() {
        let longest = format!("/{}", "a".repeat(Target::MAX_LEN - 1));
        assert!(Target::parse(longest.as_bytes()).is_ok());
        assert_eq!(refused(&format!("{longest}a")), TargetError::TooLong);
    }

    proptest! {
        #[test]
        fn what_parses_prints_back_byte_for_byte(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut raw = raw;
            raw.insert(0, b'/');
            if let Ok(target) = Target::parse(&raw) {
                prop_assert_eq!(target.as_str().as_bytes(), &raw[..]);
                let rebuilt = match target.query() {
                    Some(query) => format!("{}?{query}", target.path()),
                    None => target.path().to_owned(),
                };
                prop_assert_eq!(rebuilt.as_bytes(), &raw[..]);
            }
        }

        #[test]
        fn an_accepted_path_has_one_reading_for_a_server_that_decodes_it(raw in "/[%./a-cA-F0-9?;]{0,24}") {
            if let Ok(target) = Target::parse(raw.as_bytes()) {
                let decoded = percent_decode(target.path());
                prop_assert_eq!(
                    decoded.iter().filter(|&&b| b == b'/').count(),
                    target.path().bytes().filter(|&b| b == b'/').count()
                );
                for segment in decoded[1..].split(|&b| b == b'/') {
                    prop_assert!(segment != b"." && segment != b"..");
                }
            }
        }
    }

    fn percent_decode(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            out.push(match byte {
                b'%' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                byte => byte,
            });
        }
        out
    }
}
