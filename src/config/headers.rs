//! Which header names the configuration may use for what, and which belong to the gateway.

use std::borrow::Cow;

use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use http::header;

use super::mistakes::quoted;
use crate::auth::headers::SigningHeader;

/// The identity header unless the configuration names another.
pub const DEFAULT_IDENTITY: HeaderName = HeaderName::from_static("x-machine-identity");

/// What the registry calls the machine.
pub const MACHINE_NAME: HeaderName = HeaderName::from_static("x-machine-name");
/// The vault it belongs to.
pub const MACHINE_VAULT: HeaderName = HeaderName::from_static("x-machine-vault");
/// Who is responsible for it.
pub const MACHINE_OWNER: HeaderName = HeaderName::from_static("x-machine-owner");
/// The fingerprint of the key it signed with.
pub const MACHINE_KEY: HeaderName = HeaderName::from_static("x-machine-key");
/// The gateway's name for the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers by which only the gateway says who asks, besides a configured identity header.
pub const IDENTITY: [HeaderName; 5] = [
    DEFAULT_IDENTITY,
    MACHINE_NAME,
    MACHINE_VAULT,
    MACHINE_OWNER,
    MACHINE_KEY,
];

/// Client headers that cross to the backend on every route, though they are not signed.
pub const ALLOWED: [HeaderName; 9] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::USER_AGENT,
    header::IF_NONE_MATCH,
    header::IF_MATCH,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Headers about one connection or the framing of one message (RFC 9110, section 7.6.1, and RFC
/// 9112, section 6): they never cross, so no setting may name them.
const CONNECTION: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Unsigned headers by which some backends let a client change the method or the path, and so
/// what was signed.
const OVERRIDES: [&str; 5] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// A header's name as trust in it is judged: lower case, and `_` read as `-`, since backends that
/// follow CGI (RFC 3875, section 4.1.18) cannot tell the two apart.
pub fn normalised(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Whether a name is as [`normalised`] leaves it: nearly all are, and are judged as they stand.
fn is_normalised(name: &str) -> bool {
    !name
        .bytes()
        .any(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Whether a backend that reads `_` as `-` would take the two names for one.
pub(super) fn is_same(one: &HeaderName, other: &HeaderName) -> bool {
    normalised(one.as_str()) == normalised(other.as_str())
}

/// Why no client and no setting may supply this header, besides the configured identity and
/// credential headers; `None` where one may.
pub fn reserved(name: &str) -> Option<&'static str> {
    let as_judged: Cow<'_, str> = match is_normalised(name) {
        true => name.into(),
        false => normalised(name).into(),
    };
    let name = &*as_judged;
    if SigningHeader::ALL
        .iter()
        .any(|header| header.name() == name)
    {
        Some("is one of the four signing headers")
    } else if IDENTITY.iter().any(|header| header == name) || REQUEST_ID == name {
        Some("is a header that only the gateway writes")
    } else if matches!(name, "forwarded" | "x-real-ip") || name.starts_with("x-forwarded-") {
        Some("tells where a request came from, which only the gateway writes")
    } else if CONNECTION.contains(&name) {
        Some("belongs to the connection or the framing, which the gateway makes anew")
    } else {
        None
    }
}

/// Whether a client could change by this header what a signature covers.
pub(super) fn overrides_the_request(name: &HeaderName) -> bool {
    OVERRIDES.contains(&normalised(name.as_str()).as_str())
}

/// Parses the name of the identity header. It must be the gateway's alone.
pub(super) fn identity(text: &str) -> Result<HeaderName, String> {
    let name = syntax(text)?;
    let normal = normalised(text);
    if normal == DEFAULT_IDENTITY.as_str() {
        return Ok(name);
    }
    if ALLOWED.iter().any(|name| name == normal.as_str()) {
        return Err(format!(
            "{text} is a header that clients may send; choose another name"
        ));
    }
    free(name)
}

/// Parses the name of a header that a setting may supply.
pub(super) fn settable(text: &str) -> Result<HeaderName, String> {
    free(syntax(text)?)
}

/// Parses a value of `Host`: a host and perhaps a port (RFC 9110, section 7.2).
pub(super) fn host(text: &str) -> Result<HeaderValue, String> {
    if text.contains('*') {
        return Err(format!(
            "{} holds a star, and no Host does: hosts are compared whole; list each of them",
            quoted(text)
        ));
    }
    let authority: Option<Authority> = text.parse().ok();
    authority
        .filter(|authority| {
            let port_fits = text == authority.host() || authority.port_u16().is_some();
            port_fits && !authority.host().is_empty() && !text.contains('@')
        })
        .and_then(|_| HeaderValue::from_str(text).ok())
        .ok_or_else(|| format!("{} is not a host, or host:port", quoted(text)))
}

fn free(name: HeaderName) -> Result<HeaderName, String> {
    match reserved(name.as_str()) {
        Some(why) => Err(format!("{name} {why}; choose another name")),
        None => Ok(name),
    }
}

fn syntax(text: &str) -> Result<HeaderName, String> {
    // A token may have one, and no header does.
    if text.contains('*') {
        return Err(format!(
            "{} holds a star, and headers are named one by one; list each of them",
            quoted(text)
        ));
    }
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{} is not a header name", quoted(text)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_name_is_refused_in_any_case_and_with_underscores() {
        for name in [
            "X-Machine-Id",
            "x-signature",
            "X_NONCE",
            "X-Timestamp",
            "X-Machine-Identity",
            "x_machine_name",
            "X-Machine-Vault",
            "X-Machine-Owner",
            "X-Machine-Key",
            "X-Request-Id",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_anything",
            "X-Real-Ip",
            "Connection",
            "TE",
            "Transfer-Encoding",
            "Content-Length",
            "Host",
            "Upgrade",
            "Expect",
            "Trailer",
        ] {
            assert!(settable(name).is_err(), "{name}");
        }
    }

    #[test]
    fn ordinary_names_may_be_set() {
        for name in [
            "X-Vault-Token",
            "Authorization",
            "X-Vault-Namespace",
            "Cookie",
            "Range",
        ] {
            assert!(settable(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_not_a_header_name_is_refused() {
        for name in ["", "X Y", "X:Y", "X-Ü", "a\nb"] {
            assert!(
                settable(name).unwrap_err().contains("not a header name"),
                "{name}"
            );
        }
    }

    #[test]
    fn the_identity_header_may_be_its_default_or_a_name_of_nobody_else() {
        assert_eq!(identity("X-Machine-Identity").unwrap(), DEFAULT_IDENTITY);
        assert!(identity("X-Caller").is_ok());
    }

    #[test]
    fn the_identity_header_may_not_be_another_headers_name() {
        for name in [
            "X-Machine-Id",
            "X-Machine-Name",
            "User-Agent",
            "Host",
            "X-Forwarded-User",
        ] {
            assert!(identity(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_allow_list_names_nothing_reserved() {
        for name in ALLOWED {
            assert_eq!(reserved(name.as_str()), None, "{name}");
        }
    }

    #[test]
    fn hosts_are_a_name_or_address_and_perhaps_a_port() {
        for text in [
            "gate.example.com",
            "gate.example.com:8443",
            "10.0.0.1",
            "[::1]:80",
        ] {
            assert_eq!(host(text).unwrap(), text);
        }
        for text in [
            "", ":80", "a b", "http://a", "user@a", "a/b", "a:port", "a:", "a:70000", "a?b",
        ] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn headers_that_override_method_or_path_are_known() {
        assert!(overrides_the_request(&HeaderName::from_static(
            "x-original-url"
        )));
        assert!(overrides_the_request(&HeaderName::from_static(
            "x_http_method_override"
        )));
        assert!(!overrides_the_request(&HeaderName::from_static("range")));
    }
}
