//! The request target. The grammar admits one spelling for each path, and refuses everything that
//! a backend could parse differently (path confusion).
//!
//! The grammar is a subset of RFC 3986's origin form. An accepted target is signed, verified and
//! forwarded byte for byte. The gateway never normalises: if it and the backend normalised
//! differently, they would disagree about the requested secret.

use std::fmt;

mod grammar;

pub use grammar::TargetError;

use grammar::{check_path, check_query, hex_value, is_optionally_encoded};

/// A request target in origin form (RFC 9112, section 3.2.1) that the grammar accepts, borrowed
/// as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    path: &'a str,
    /// From the first `?` on; empty without one.
    query: &'a str,
}

/// A route's treatment of the query.
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

    /// The policy's name in the configuration.
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

/// The part of a target that the signature covers. Only this part is forwarded to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedTarget<'a> {
    path: &'a str,
    /// With its `?` if the signature covers the query, otherwise empty.
    query: &'a str,
    query_stripped: bool,
}

/// A target has a query, and the route's policy is [`QueryPolicy::Reject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the route takes no query")]
pub struct QueryNotAllowed;

impl<'a> Target<'a> {
    /// Longest target accepted, in bytes: four times what common servers need, an eighth of the
    /// header block.
    pub const MAX_LEN: usize = 4096;

    /// Parses the target of a request line, or of HTTP/2's `:path`.
    ///
    /// # Errors
    ///
    /// The first rule broken, from left to right. It fails closed: a byte or an escape that is not
    /// known to be harmless is an error.
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
        // Every byte is ASCII by now, so this cannot fail. If it did, it would refuse.
        let text = std::str::from_utf8(raw).map_err(|_| TargetError::ForbiddenByte)?;
        let (path, query) = text.split_at(path_len);
        Ok(Target { path, query })
    }

    /// The path, without the query.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The text after the first `?`; `Some("")` for an empty query.
    pub fn query(&self) -> Option<&'a str> {
        self.query.get(1..)
    }

    /// The target without `prefix` (see [`behind`]); `/` if nothing is left. `None` if the path
    /// does not begin with `prefix`. The rest of an accepted target is itself acceptable.
    pub fn behind(self, prefix: &str) -> Option<Target<'a>> {
        let path = match behind(self.path, prefix)? {
            "" => "/",
            rest => rest,
        };
        Some(Target { path, ..self })
    }

    /// The part that the signature must cover under a route's policy.
    ///
    /// # Errors
    ///
    /// [`QueryNotAllowed`] under [`QueryPolicy::Reject`] for any `?`, even with an empty query.
    pub fn under(self, policy: QueryPolicy) -> Result<SignedTarget<'a>, QueryNotAllowed> {
        let has_query = self.query().is_some();
        let (query, query_stripped) = match policy {
            QueryPolicy::Reject if has_query => return Err(QueryNotAllowed),
            QueryPolicy::Reject | QueryPolicy::Strip => ("", has_query),
            QueryPolicy::Signed => (self.query, false),
        };
        Ok(SignedTarget {
            path: self.path,
            query,
            query_stripped,
        })
    }
}

/// The target as sent, without the prefix that [`Target::behind`] removed.
impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)?;
        f.write_str(self.query)
    }
}

impl<'a> SignedTarget<'a> {
    /// The bytes that are signed and forwarded, in two parts: the path, and the query with its `?`.
    /// The second part is empty without a query.
    pub fn parts(&self) -> [&'a str; 2] {
        [self.path, self.query]
    }

    /// Whether the client sent a query that is not forwarded.
    pub fn query_stripped(&self) -> bool {
        self.query_stripped
    }
}

/// The bytes that are signed and forwarded.
impl fmt::Display for SignedTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)?;
        f.write_str(self.query)
    }
}

/// Whether two paths, or two segments, are equal to a server that decodes them. Clients differ in
/// which of `! $ & ' ( ) * + , ; = : @` they percent-encode. No other byte of an accepted path has
/// two spellings.
pub fn is_same_path(one: &str, other: &str) -> bool {
    one == other || Decoded(one.as_bytes()).eq(Decoded(other.as_bytes()))
}

/// The rest of `path` after `prefix`, as sent: empty, or beginning with a slash. `prefix` has no
/// trailing slash. `None` if the path does not begin with the prefix. The comparison is on whole
/// segments and follows [`is_same_path`].
pub fn behind<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = match path.strip_prefix(prefix) {
        Some(rest) => rest,
        // The fast path: nearly every such path has another prefix and no escape.
        None if !path.contains('%') && !prefix.contains('%') => return None,
        None => {
            let mut found = Decoded(path.as_bytes());
            if !Decoded(prefix.as_bytes()).all(|byte| found.next() == Some(byte)) {
                return None;
            }
            path.get(path.len() - found.0.len()..)?
        }
    };
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The bytes of a path. The optional escapes (see [`is_same_path`]) are decoded, all others are
/// not.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        if let (b'%', [high, low, tail @ ..]) = (byte, rest)
            && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
            && is_optionally_encoded(high << 4 | low)
        {
            self.0 = tail;
            return Some(high << 4 | low);
        }
        self.0 = rest;
        Some(byte)
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
        for (raw, prefix) in [
            ("/ab", "/a"),
            ("/b/a", "/a"),
            ("/a%40/b", "/a"),
            ("/%61/b", "/a"),
        ] {
            assert_eq!(super::behind(raw, prefix), None, "{raw}");
        }
    }

    #[test]
    fn the_prefix_itself_leaves_the_root() {
        for (raw, left) in [("/edge", "/"), ("/edge?", "/?"), ("/edge?a=/b", "/?a=/b")] {
            let target = Target::parse(raw.as_bytes()).unwrap();
            let rest = target.behind("/edge").unwrap();
            assert_eq!(rest, Target::parse(left.as_bytes()).unwrap(), "{raw}");
            let signed = rest.under(QueryPolicy::Signed).unwrap();
            assert_eq!(signed.to_string(), left, "{raw}");
        }
    }

    #[test]
    fn a_prefix_is_found_in_either_spelling_and_the_rest_is_left_as_sent() {
        for (path, prefix, left) in [
            ("/team%40a/x%40y", "/team@a", Some("/x%40y")),
            ("/team@a/x", "/team%40a", Some("/x")),
            ("/kv%282%29", "/kv(2)", Some("")),
            ("/kv%282%29%20", "/kv(2)", None),
            ("/kv%20", "/kv ", None),
            ("/kv%25", "/kv%", None),
            ("/kv", "/kv%40", None),
        ] {
            assert_eq!(super::behind(path, prefix), left, "{path} {prefix}");
        }
    }

    #[test]
    fn only_the_escapes_that_a_client_may_leave_out_make_no_difference() {
        for byte in 0x20..0x7f_u8 {
            let (raw, encoded) = (format!("/a{}", char::from(byte)), format!("/a%{byte:02X}"));
            let is_one = is_same_path(&raw, &encoded);
            assert_eq!(is_one, b"!$&'()*+,;=:@".contains(&byte), "{raw}");
            assert_eq!(is_one, is_same_path(&encoded, &raw), "{raw}");
        }
        assert!(is_same_path("/%40%28", "/@%28") && !is_same_path("/%2540", "/%40"));
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
            "/db%40prod%3A1",
            "/%21%24%26%27%28%29%2A%2B%2C%3D",
        ] {
            let target = Target::parse(raw.as_bytes()).unwrap();
            assert_eq!((target.to_string().as_str(), target.query()), (raw, None));
        }
    }

    #[test]
    fn every_byte_may_be_encoded_but_those_with_one_spelling_or_another_meaning() {
        for byte in 0..=u8::MAX {
            let parsed = Target::parse(format!("/a%{byte:02X}").as_bytes()).map(drop);
            let expected = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    Err(TargetError::NeedlessPercent)
                }
                b'/' | b'\\' | b'?' | 0..0x20 | 0x7f => Err(TargetError::ForbiddenPercent),
                _ => Ok(()),
            };
            assert_eq!(parsed, expected, "{byte:#x}");
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
        assert_eq!(target.under(QueryPolicy::Reject), Err(QueryNotAllowed));
        assert!(target.under(QueryPolicy::Strip).unwrap().query_stripped());
        assert_eq!(
            target.under(QueryPolicy::Signed).unwrap().parts(),
            ["/a", "?"]
        );
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
        fn paths_are_one_if_and_only_if_they_decode_to_one(
            one in "/(a|@|\\(|%40|%28|%20|%25|/b){0,4}", other in "/(a|@|\\(|%40|%28|%20|%25|/b){0,4}"
        ) {
            let same = percent_decode(&one) == percent_decode(&other);
            prop_assert_eq!(is_same_path(&one, &other), same);
            let lies_behind = percent_decode(&one).strip_prefix(&percent_decode(&other)[..])
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
            prop_assert_eq!(super::behind(&one, &other).is_some(), lies_behind);
        }

        #[test]
        fn what_parses_prints_back_byte_for_byte(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut raw = raw;
            raw.insert(0, b'/');
            if let Ok(target) = Target::parse(&raw) {
                prop_assert_eq!(target.to_string().into_bytes(), raw.clone());
                let rebuilt = match target.query() {
                    Some(query) => format!("{}?{query}", target.path()),
                    None => target.path().to_owned(),
                };
                prop_assert_eq!(rebuilt.as_bytes(), &raw[..]);
            }
        }

        #[test]
        fn an_accepted_path_has_one_reading_for_a_server_that_decodes_it(raw in "/(%[0-9A-F]{2}|[%./a-cA-F0-9?;]){0,24}") {
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
