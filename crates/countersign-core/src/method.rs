//! The request method: a closed list, and the methods that a route adds.

/// An accepted method, as sent. Methods are case-sensitive (RFC 9110, section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method<'a>(&'a str);

/// The methods that every route accepts.
pub const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "LIST", "OPTIONS",
];

impl<'a> Method<'a> {
    /// Accepts one of [`METHODS`] or of the route's `added` tokens. It fails closed: `None` for any
    /// other method.
    pub fn accept(sent: &'a str, added: &[String]) -> Option<Method<'a>> {
        (METHODS.contains(&sent) || added.iter().any(|token| **token == *sent))
            .then_some(Method(sent))
    }

    /// The method as sent.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

/// Whether a route may add `token`: a token of RFC 9110, section 5.6.2, without lower-case letters,
/// at most 32 bytes.
///
/// `CONNECT` and `TRACE` are excluded, because a reverse proxy must not forward them. `PRI` is
/// excluded, because it begins HTTP/2. No token holds a `:`, so the signed message is unambiguous.
pub fn may_be_added(token: &str) -> bool {
    const MAX_LEN: usize = 32;
    (1..=MAX_LEN).contains(&token.len())
        && !matches!(token, "CONNECT" | "TRACE" | "PRI")
        && token.bytes().all(|b| {
            b.is_ascii_uppercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listed_methods_pass_and_print_back() {
        for method in METHODS {
            assert_eq!(
                Method::accept(method, &[]).map(|m| m.as_str()),
                Some(method)
            );
        }
    }

    #[test]
    fn case_spaces_and_made_up_methods_do_not_pass() {
        for method in ["get", "Get", "GET ", "", "CONNECT", "TRACE", "BREW", "GET:"] {
            assert_eq!(Method::accept(method, &[]), None, "{method}");
        }
    }

    #[test]
    fn a_route_adds_its_own() {
        assert!(Method::accept("SCAN", &["SCAN".into()]).is_some());
        assert!(Method::accept("scan", &["SCAN".into()]).is_none());
    }

    #[test]
    fn no_addable_token_holds_a_colon_or_is_connect_or_trace() {
        for token in ["", "A:B", "CONNECT", "TRACE", "get", "A B", "É"] {
            assert!(!may_be_added(token), "{token}");
        }
        assert!(may_be_added("SCAN") && may_be_added("M-SEARCH"));
    }
}
