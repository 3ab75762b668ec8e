//! The bearer credential that a request carries, as far as it can be told from other headers.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

use crate::config::headers::is_same_header;
use countersign_core::header_name::SigningHeader;

/// Where Vault's clients put their token.
const VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

/// The bearer credentials of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearer<'a> {
    None,
    One(&'a [u8]),
    /// Different ones: two programs may each take another.
    Several,
}

impl<'a> Bearer<'a> {
    /// Looks in `Authorization: Bearer` (RFC 6750, section 2.1), in `X-Vault-Token`, and in the
    /// headers for which `is_own` holds: those in which the gateway itself sends a credential. An
    /// unknown header is not a credential. An alias of a credential header is not one either, and
    /// is not forwarded ([`is_alias`]).
    pub(crate) fn of(headers: &'a HeaderMap, is_own: impl Fn(&HeaderName) -> bool) -> Bearer<'a> {
        let mut found = Bearer::None;
        for (name, value) in headers {
            let value = value.as_bytes();
            let token = match name {
                &AUTHORIZATION => match bearer_token(value) {
                    None if is_own(&AUTHORIZATION) => value,
                    token => token.unwrap_or_default(),
                },
                name if *name == VAULT_TOKEN || is_own(name) => value,
                _ => b"",
            };
            found = match found {
                _ if token.is_empty() => found,
                Bearer::None => Bearer::One(token),
                Bearer::One(known) if known == token => found,
                Bearer::One(_) | Bearer::Several => Bearer::Several,
            };
        }
        found
    }

    /// The token, if there is exactly one.
    pub(crate) fn token(self) -> Option<&'a [u8]> {
        match self {
            Bearer::One(token) => Some(token),
            Bearer::None | Bearer::Several => None,
        }
    }
}

/// Whether a backend that folds names may read this name as `Authorization` or `X-Vault-Token`. The
/// record does not name the credential of such a header.
pub(crate) fn is_alias(name: &HeaderName) -> bool {
    let known = [AUTHORIZATION, VAULT_TOKEN];
    !known.contains(name) && known.iter().any(|own| is_same_header(own, name))
}

/// Whether any of the four signing headers is present, in any spelling ([`is_same_header`]) and with any
/// value. Such a request is verified or refused. It never passes as an unsigned one.
pub(crate) fn has_signing_header(headers: &HeaderMap) -> bool {
    let mut own = SigningHeader::ALL.iter();
    own.any(|own| headers.keys().any(|name| is_same_header(name, own.name())))
}

fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?;
    scheme
        .eq_ignore_ascii_case(b"bearer")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        list.iter()
            .map(pair)
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    #[track_caller]
    fn assert_found(list: &[(&'static str, &'static str)], expected: Bearer<'_>) {
        let headers = headers(list);
        assert_eq!(
            Bearer::of(&headers, |name| is_same_header(name, "x-api-key")),
            expected
        );
    }

    #[test]
    fn a_vault_token_is_one() {
        assert_found(&[("x-vault-token", "s.1")], Bearer::One(b"s.1"));
    }

    #[test]
    fn a_bearer_authorization_is_one_whatever_the_case_of_its_scheme() {
        assert_found(&[("authorization", "Bearer s.1")], Bearer::One(b"s.1"));
        assert_found(&[("authorization", "bEARER  s.1 ")], Bearer::One(b"s.1"));
    }

    #[test]
    fn the_header_of_the_gateways_own_credential_is_one() {
        assert_found(&[("x-api-key", "k")], Bearer::One(b"k"));
    }

    #[test]
    fn another_scheme_an_empty_token_and_other_headers_are_none() {
        for list in [
            &[("authorization", "Basic dXNlcjpwYXNz")][..],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearers.1")],
            &[("authorization", "")],
            &[("x-vault-token", "")],
            &[("cookie", "session=1")],
            &[],
        ] {
            assert_found(list, Bearer::None);
        }
    }

    #[test]
    fn different_ones_are_several_wherever_they_are() {
        for list in [
            [("x-vault-token", "s.1"), ("x-vault-token", "s.2")],
            [("x-vault-token", "s.1"), ("authorization", "Bearer s.2")],
            [("x-api-key", "s.1"), ("x-vault-token", "s.2")],
        ] {
            assert_found(&list, Bearer::Several);
        }
    }

    #[test]
    fn one_that_is_sent_in_two_places_is_one() {
        let list = [("x-vault-token", "s.1"), ("authorization", "Bearer s.1")];
        assert_found(&list, Bearer::One(b"s.1"));
    }

    #[test]
    fn a_credential_header_in_another_spelling_is_none_and_an_alias() {
        for name in ["x_vault_token", "x.vault.token"] {
            assert_found(&[(name, "s.1")], Bearer::None);
            assert!(is_alias(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["x-vault-token", "authorization", "x-vault-request"] {
            assert!(!is_alias(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn any_one_signing_header_is_found_in_any_spelling() {
        for name in [
            "x-machine-id",
            "x-timestamp",
            "x-nonce",
            "x-signature",
            "x_signature",
            "x-machine_id",
            "x.machine.id",
            "x~nonce",
        ] {
            assert!(has_signing_header(&headers(&[(name, "")])), "{name}");
        }
        assert!(!has_signing_header(&headers(&[("x-machine-name", "a")])));
    }
}
