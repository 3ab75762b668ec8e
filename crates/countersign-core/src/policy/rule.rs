//! A rule of a policy's `allow` list: methods and a path pattern.
//!
//! ```text
//! rule    = words SP pattern                 ; exactly one space, nothing before or after
//! words   = "any" / word *7("," word)
//! word    = "read" / "write" / method        ; read: GET, HEAD; write: POST, PUT, PATCH
//! method  = an upper-case method token       ; as sent: LIST, DELETE, GET, ..
//! pattern = a request path ([`Target`], without a query); a whole segment may be "*",
//!           the last one also "**"
//! ```
//!
//! A pattern is compared with the verified path. Case and a trailing slash are significant. Clients
//! differ in the bytes that they percent-encode (see [`is_same_path`]), so `/a@b` and `/a%40b` are
//! equal, in the pattern and in the path. `%2A` in a pattern is a literal star.
//!
//! `*` matches exactly one segment that is not empty. `**` matches one or more segments, with or
//! without a trailing slash. So `/a/**` does not match `/a` or `/a/`, and `/a/*` does not match
//! `/a/b/c`.

use std::fmt;

use crate::method::{METHODS, may_be_added};
use crate::target::{Target, TargetError, is_same_path};

/// One rule. It prints back byte for byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    text: Box<str>,
    /// The offset of the pattern, in bytes.
    pattern: u16,
}

/// Why a text is not a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Longer than [`Rule::MAX_LEN`].
    #[error("it is longer than {max} bytes", max = Rule::MAX_LEN)]
    TooLong,
    /// Not two parts with one space between.
    #[error(
        "it must be methods, one space, and a path: \"GET /v1/secret/data/app/*\", \"read,LIST /v1/x/**\""
    )]
    NotTwoParts,
    /// A word that is not a method.
    #[error(
        "it must begin with any, or with read (GET, HEAD), write (POST, PUT, PATCH) or methods in upper \
         case, with commas and no spaces between them"
    )]
    UnknownWord,
    /// `any` beside another word, or one word twice.
    #[error("it names a method twice; remove one")]
    Repeated,
    /// More than [`Rule::MAX_WORDS`].
    #[error("it names more than {max} methods; write any, or two rules", max = Rule::MAX_WORDS)]
    TooManyWords,
    /// The grammar of request targets refuses the path.
    #[error("no request has such a path: {0}")]
    NotAPath(TargetError),
    /// A query in the pattern.
    #[error("it holds a query, and a rule is about the path alone; remove the query")]
    Query,
    /// `*` beside other characters.
    #[error("a * matches a whole segment: write /a/*/b, not /a/x*")]
    PartOfSegment,
    /// `**` before the end.
    #[error("** matches all following segments, so it can only be the last segment")]
    NotAtTheEnd,
}

impl Rule {
    /// Longest rule, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Most words before the pattern.
    pub const MAX_WORDS: usize = 8;

    /// Parses a rule.
    ///
    /// # Errors
    ///
    /// The first mistake. A rule that can never match is a mistake too, because its author relies
    /// on it.
    pub fn parse(text: &str) -> Result<Rule, RuleError> {
        if text.len() > Self::MAX_LEN {
            return Err(RuleError::TooLong);
        }
        let (words, pattern) = text.split_once(' ').ok_or(RuleError::NotTwoParts)?;
        if words.is_empty() || pattern.is_empty() || pattern.contains(' ') {
            return Err(RuleError::NotTwoParts);
        }
        check_words(words)?;
        check_pattern(pattern)?;
        Ok(Rule {
            pattern: u16::try_from(words.len() + 1).map_err(|_| RuleError::TooLong)?,
            text: text.into(),
        })
    }

    /// Whether the rule allows `method` on `path`. `path` has no query.
    pub fn allows(&self, method: &str, path: &str) -> bool {
        let (words, pattern) = self.parts();
        words.split(',').any(|word| covers(word, method)) && matches(pattern, path)
    }

    /// The rule as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn parts(&self) -> (&str, &str) {
        let at = usize::from(self.pattern);
        (&self.text[..at - 1], &self.text[at..])
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

fn check_words(words: &str) -> Result<(), RuleError> {
    let count = words.split(',').count();
    if count > Rule::MAX_WORDS {
        return Err(RuleError::TooManyWords);
    }
    for (index, word) in words.split(',').enumerate() {
        match word {
            "any" if count > 1 => return Err(RuleError::Repeated),
            "any" | "read" | "write" => {}
            // RFC 9110 allows `*` in a method, but here it is a mistyped `any`.
            method if method.contains('*') => return Err(RuleError::UnknownWord),
            method if METHODS.contains(&method) || may_be_added(method) => {}
            _ => return Err(RuleError::UnknownWord),
        }
        if words.split(',').take(index).any(|before| before == word) {
            return Err(RuleError::Repeated);
        }
    }
    Ok(())
}

fn check_pattern(pattern: &str) -> Result<(), RuleError> {
    let target = Target::parse(pattern.as_bytes()).map_err(RuleError::NotAPath)?;
    if target.query().is_some() {
        return Err(RuleError::Query);
    }
    let mut segments = pattern.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "**" if segments.peek().is_some() => return Err(RuleError::NotAtTheEnd),
            "*" | "**" => {}
            other if other.contains('*') => return Err(RuleError::PartOfSegment),
            _ => {}
        }
    }
    Ok(())
}

fn covers(word: &str, method: &str) -> bool {
    match word {
        "any" => true,
        "read" => matches!(method, "GET" | "HEAD"),
        "write" => matches!(method, "POST" | "PUT" | "PATCH"),
        exactly => exactly == method,
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            // In an accepted path only the last segment can be empty, so nothing follows it.
            (Some("**"), Some(segment)) => return !segment.is_empty(),
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(exactly), Some(segment)) if is_same_path(exactly, segment) => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allows(rule: &str, method: &str, path: &str) -> bool {
        Rule::parse(rule).unwrap().allows(method, path)
    }

    fn refused(rule: &str) -> RuleError {
        Rule::parse(rule).unwrap_err()
    }

    #[test]
    fn a_method_is_itself_and_nothing_else() {
        assert!(allows("GET /a", "GET", "/a"));
        for method in ["HEAD", "get", "LIST", "GETX", ""] {
            assert!(!allows("GET /a", method, "/a"), "{method}");
        }
    }

    #[test]
    fn the_words_stand_for_these_methods() {
        for (word, covered) in [
            ("read", &["GET", "HEAD"][..]),
            ("write", &["POST", "PUT", "PATCH"]),
            ("any", &METHODS),
        ] {
            for method in METHODS {
                let allowed = allows(&format!("{word} /a"), method, "/a");
                assert_eq!(allowed, covered.contains(&method), "{word} {method}");
            }
        }
        assert!(allows("any /a", "SCAN", "/a"));
    }

    #[test]
    fn several_words_add_up() {
        for (method, allowed) in [
            ("GET", true),
            ("LIST", true),
            ("DELETE", true),
            ("PUT", false),
        ] {
            assert_eq!(
                allows("read,LIST,DELETE /a", method, "/a"),
                allowed,
                "{method}"
            );
        }
    }

    #[test]
    fn case_slashes_and_other_escapes_count() {
        assert!(allows("any /v1/%C3%A9/a", "GET", "/v1/%C3%A9/a"));
        for other in [
            "/v1/%C3%A9/A",
            "/v1/%C3%A9/a/",
            "/v1/%C3%A9",
            "/V1/%C3%A9/a",
            "/",
        ] {
            assert!(!allows("any /v1/%C3%A9/a", "GET", other), "{other}");
        }
    }

    #[test]
    fn a_byte_that_clients_may_encode_is_one_in_both_spellings_on_both_sides() {
        for rule in ["any /db@prod/(a)", "any /db%40prod/%28a%29"] {
            for path in ["/db@prod/(a)", "/db%40prod/%28a%29", "/db%40prod/(a%29"] {
                assert!(allows(rule, "GET", path), "{rule} {path}");
            }
            for path in ["/db@prod/(a", "/db%2540prod/(a)", "/db@prod/%20a)"] {
                assert!(!allows(rule, "GET", path), "{rule} {path}");
            }
        }
    }

    #[test]
    fn an_encoded_star_is_a_star_and_stands_for_nothing_else() {
        for path in ["/a/*", "/a/%2A"] {
            assert!(allows("any /a/%2A", "GET", path), "{path}");
        }
        for path in ["/a/b", "/a/**", "/a"] {
            assert!(!allows("any /a/%2A", "GET", path), "{path}");
        }
        assert!(allows("any /x%2Ay", "GET", "/x*y"));
    }

    #[test]
    fn one_star_is_one_segment() {
        for (path, allowed) in [
            ("/a/b/c", true),
            ("/a/%2A/c", true),
            ("/a//c", false),
            ("/a/c", false),
            ("/a/b/b/c", false),
            ("/a/b/c/", false),
        ] {
            assert_eq!(allows("any /a/*/c", "GET", path), allowed, "{path}");
        }
        for (path, allowed) in [
            ("/a/b", true),
            ("/a/", false),
            ("/a", false),
            ("/a/b/", false),
        ] {
            assert_eq!(allows("any /a/*", "GET", path), allowed, "{path}");
        }
        assert!(allows("any /a/*/", "GET", "/a/b/"));
    }

    #[test]
    fn two_stars_are_all_that_follows_if_anything_does() {
        for (path, allowed) in [
            ("/a/b", true),
            ("/a/b/", true),
            ("/a/b/c/d", true),
            ("/a", false),
            ("/a/", false),
            ("/ab", false),
            ("/ab/c", false),
        ] {
            assert_eq!(allows("any /a/**", "GET", path), allowed, "{path}");
        }
        assert!(allows("any /**", "GET", "/a"));
        assert!(!allows("any /**", "GET", "/"));
    }

    #[test]
    fn a_rule_has_one_space_and_two_parts() {
        for text in [
            "", "GET", "/a", "GET  /a", " GET /a", "GET /a ", "GET /a b", "GET\t/a", " ",
        ] {
            assert_eq!(refused(text), RuleError::NotTwoParts, "{text:?}");
        }
    }

    #[test]
    fn words_are_known_or_methods_in_upper_case() {
        for text in [
            "get /a",
            "Read /a",
            "* /a",
            "GET,,PUT /a",
            ",GET /a",
            "CONNECT /a",
            "list /a",
        ] {
            assert_eq!(refused(text), RuleError::UnknownWord, "{text}");
        }
    }

    #[test]
    fn no_word_is_written_twice() {
        for text in ["GET,GET /a", "any,GET /a", "GET,any /a", "read,read /a"] {
            assert_eq!(refused(text), RuleError::Repeated, "{text}");
        }
    }

    #[test]
    fn there_are_so_many_words_and_no_more() {
        let words = |count: usize| {
            (0..count)
                .map(|n| format!("M{n}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert!(Rule::parse(&(words(8) + " /a")).is_ok());
        assert_eq!(refused(&(words(9) + " /a")), RuleError::TooManyWords);
    }

    #[test]
    fn a_path_that_no_request_can_have_is_refused() {
        for pattern in [
            "a", "/a//b", "/a/../b", "/%41", "/%2f", "/%2F", "/a;b", "/é", "/a#b",
        ] {
            let error = refused(&format!("GET {pattern}"));
            assert!(
                matches!(error, RuleError::NotAPath(_)),
                "{pattern}: {error}"
            );
        }
        assert_eq!(refused("GET /a?b=c"), RuleError::Query);
    }

    #[test]
    fn a_star_is_a_whole_segment_and_two_are_the_last() {
        for pattern in ["/a*", "/*a", "/a/b*c/d", "/***", "/a/***"] {
            assert_eq!(refused(&format!("GET {pattern}")), RuleError::PartOfSegment);
        }
        for pattern in ["/**/a", "/a/**/", "/**/**"] {
            assert_eq!(refused(&format!("GET {pattern}")), RuleError::NotAtTheEnd);
        }
    }

    #[test]
    fn a_rule_has_a_longest_text() {
        let longest = format!("GET /{}", "a".repeat(Rule::MAX_LEN - 5));
        assert!(Rule::parse(&longest).is_ok());
        assert_eq!(refused(&(longest + "a")), RuleError::TooLong);
    }

    /// A second implementation of the pattern grammar, for comparison.
    fn model(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            (["**"], [first, ..]) => !first.is_empty(),
            ([p, pattern @ ..], [s, path @ ..]) => {
                (p == s || (*p == "*" && !s.is_empty())) && model(pattern, path)
            }
            (p, s) => p.is_empty() && s.is_empty(),
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_back(text in "(any|GET|read|a){1,2},?[A-Z]{0,3} ?[/a*%?4]{0,8}") {
            if let Ok(rule) = Rule::parse(&text) {
                prop_assert_eq!(rule.to_string(), text);
            }
        }

        #[test]
        fn a_pattern_without_stars_is_its_own_path_alone(path in "(/[ab]{1,2}){1,3}/?", other in "(/[ab]{1,2}){1,3}/?") {
            let rule = Rule::parse(&format!("GET {path}")).unwrap();
            prop_assert!(rule.allows("GET", &path));
            prop_assert_eq!(rule.allows("GET", &other), path == other);
        }

        #[test]
        fn stars_match_as_the_grammar_says(pattern in "(/([ab]|\\*)){0,3}(/|/\\*\\*)", path in "(/[ab]){0,4}/?") {
            let path = if path.is_empty() { "/".to_owned() } else { path };
            let split = |text: &'_ str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
            let (p, s) = (split(&pattern), split(&path));
            let (p, s): (Vec<&str>, Vec<&str>) =
                (p.iter().map(String::as_str).collect(), s.iter().map(String::as_str).collect());
            let rule = Rule::parse(&format!("GET {pattern}")).unwrap();
            prop_assert_eq!(rule.allows("GET", &path), model(&p, &s), "{} {}", pattern, path);
        }
    }
}
