//! Header names: those reserved for the gateway, and those that the configuration may use.

use countersign_core::header_name::SigningHeader;
pub use countersign_core::header_name::is_same_header;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, header};

use crate::address;
use crate::quoted::quoted;

/// The identity header unless the configuration names another.
pub const DEFAULT_IDENTITY: HeaderName = HeaderName::from_static("x-machine-identity");

/// The machine's name in the registry.
pub const MACHINE_NAME: HeaderName = HeaderName::from_static("x-machine-name");
/// The machine's vault.
pub const MACHINE_VAULT: HeaderName = HeaderName::from_static("x-machine-vault");
/// The machine's owner.
pub const MACHINE_OWNER: HeaderName = HeaderName::from_static("x-machine-owner");
/// The fingerprint of the machine's key.
pub const MACHINE_KEY: HeaderName = HeaderName::from_static("x-machine-key");
/// The gateway's signed assertion about the machine.
pub const MACHINE_ASSERTION: HeaderName = HeaderName::from_static("x-machine-assertion");
/// The gateway's id of the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The code with which `mode: enforce` would have refused the request, on responses of a route with
/// `mode: observe`. The agent logs it, because its clients cannot see the difference.
pub const OBSERVED: HeaderName = HeaderName::from_static("x-countersign-observed");

/// Largest raw header block, in bytes; a larger one is refused with `header_too_large`. It is not
/// configurable, because clients rely on it as part of the protocol.
pub const HEADER_BYTES: usize = 32 * 1024;

/// Identity headers that only the gateway may set, in addition to a configured one.
pub const IDENTITY: [HeaderName; 6] = [
    DEFAULT_IDENTITY,
    MACHINE_NAME,
    MACHINE_VAULT,
    MACHINE_OWNER,
    MACHINE_KEY,
    MACHINE_ASSERTION,
];

/// Unsigned client headers that every route forwards to the backend.
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

/// Hop-by-hop headers and framing headers (RFC 9110, section 7.6.1, and RFC 9112, section 6). They
/// are never forwarded, so no setting may name them.
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

/// Unsigned headers with which some backends let a client override the signed method or path.
const OVERRIDES: [&str; 5] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Whether a name begins, in the normal form, with `prefix`.
fn begins_with(name: &str, prefix: &str) -> bool {
    let beginning = name.get(..prefix.len());
    beginning.is_some_and(|beginning| is_same_header(beginning, prefix))
}

/// Why no client and no setting may supply this header; `None` if one may. The configured identity
/// and credential headers are exempt.
pub fn reserved(name: &str) -> Option<&'static str> {
    let is = |own: &str| is_same_header(name, own);
    if SigningHeader::ALL.iter().any(|header| is(header.name())) {
        Some("is one of the four signing headers")
    } else if IDENTITY.iter().any(|header| is(header.as_str()))
        || is(REQUEST_ID.as_str())
        || is(OBSERVED.as_str())
    {
        Some("is a header that only the gateway writes")
    } else if is("forwarded") || is("x-real-ip") || begins_with(name, "x-forwarded-") {
        Some("tells where a request came from, which only the gateway writes")
    } else if CONNECTION.into_iter().any(is) {
        Some("belongs to the connection or the framing, which the gateway makes anew")
    } else {
        None
    }
}

/// Why a request that is signed here cannot have this header as an extra one; `None` if it can. The
/// signer and the HTTP client write these, and a second one makes the request ambiguous.
pub fn written_by_the_client(name: &str) -> Option<&'static str> {
    let is = |own: &str| is_same_header(name, own);
    if SigningHeader::ALL.iter().any(|header| is(header.name())) {
        Some("is one of the four signing headers, which this command writes")
    } else if CONNECTION.into_iter().any(is) {
        Some("belongs to the connection or the framing, which this command writes")
    } else {
        None
    }
}

/// Whether a client could override a signed field with this header.
pub fn overrides_the_request(name: &HeaderName) -> bool {
    OVERRIDES.iter().any(|own| is_same_header(name, own))
}

/// Parses the name of the identity header. It must be the gateway's alone.
pub fn identity(text: &str) -> Result<HeaderName, String> {
    let name = syntax(text)?;
    if is_same_header(&name, &DEFAULT_IDENTITY) {
        return Ok(name);
    }
    if ALLOWED.iter().any(|allowed| is_same_header(allowed, &name)) {
        return Err(format!(
            "{text} is a header that clients may send; choose another name"
        ));
    }
    free(name)
}

/// Parses the name of a header that a setting may supply. An alias of a header in [`ALLOWED`] is an
/// error: a backend that normalises names would see two values of one header.
pub fn settable(text: &str) -> Result<HeaderName, String> {
    let name = free(syntax(text)?)?;
    let is_alias = |allowed: &&HeaderName| **allowed != name && is_same_header(allowed, &name);
    match ALLOWED.iter().find(is_alias) {
        Some(allowed) => Err(format!(
            "{name} is {allowed} to a backend that reads every sign in a header name as '-'; write {allowed}"
        )),
        None => Ok(name),
    }
}

/// Parses a value of `Host`: a host and perhaps a port (RFC 9110, section 7.2).
pub fn host(text: &str) -> Result<HeaderValue, String> {
    if text.contains('*') {
        return Err(format!(
            "{} holds a star, and no Host does: hosts are compared whole; list each of them",
            quoted(text)
        ));
    }
    let authority: Option<Authority> = text.parse().ok();
    authority
        .filter(|authority| {
            address::port_of(authority).is_ok()
                && !authority.host().is_empty()
                && !text.contains('@')
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
    fn every_reserved_name_is_refused_in_any_case_and_with_any_sign_for_a_hyphen() {
        for name in [
            "X-Machine-Id",
            "x-signature",
            "X_NONCE",
            "X-Timestamp",
            "X-Machine-Identity",
            "x_machine_name",
            "X.Machine.Identity",
            "x!machine~key",
            "X-Machine-Assertion",
            "x|timestamp",
            "X'Request*Id",
            "x.real.ip",
            "transfer+encoding",
            "X-Machine-Vault",
            "X-Machine-Owner",
            "X-Machine-Key",
            "X-Request-Id",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_anything",
            "x^forwarded`for",
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
            "X.Machine.Id",
            "User_Agent",
            "x.forwarded.user",
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
    fn names_are_the_same_in_any_case_and_with_any_sign_for_a_hyphen() {
        // Every byte that a header name may hold and that is neither a letter nor a digit.
        for sign in "!#$%&'*+-.^_`|~".chars() {
            let alias = format!("X{sign}Vault{sign}Token");
            assert!(HeaderName::from_bytes(alias.as_bytes()).is_ok(), "{alias}");
            assert!(is_same_header("x-vault-token", &alias), "{alias}");
        }
        for other in [
            "x-vault-toke",
            "x-vault-tokens",
            "xvaulttoken",
            "x-vault-t0ken",
        ] {
            assert!(!is_same_header("x-vault-token", other), "{other}");
        }
    }

    #[test]
    fn an_alias_of_a_header_that_always_crosses_may_not_be_set() {
        for name in ["Content_Type", "user.agent", "If~Match", "trace-parent"] {
            let is_alias = name != "trace-parent";
            assert_eq!(settable(name).is_err(), is_alias, "{name}");
        }
        assert!(settable("Content-Type").is_ok());
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
