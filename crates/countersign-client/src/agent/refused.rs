//! Distinguishes the gateway's refusals from the backend's responses.

use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use crate::gateway_headers::REQUEST_ID;
use countersign_core::refusal::Code;

/// Largest body that may be a refusal, in bytes; refusals have some hundred.
pub const MOST_BYTES: u64 = 64 * 1024;

/// A refusal of the gateway. The backend did not get the request, or its response was not
/// forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: RefusalCode,
    /// The gateway's clock in Unix seconds, with `clock_skew`.
    pub server_time: Option<u64>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

/// The code of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// A code of this version.
    Known(Code),
    /// A code of a newer gateway, as sent.
    Unknown(String),
}

impl RefusalCode {
    /// The code of a word that a gateway sent.
    pub fn parse(word: &str) -> RefusalCode {
        Code::parse(word).map_or_else(|| RefusalCode::Unknown(word.to_owned()), RefusalCode::Known)
    }

    /// The code, if this version knows it.
    pub fn known(&self) -> Option<Code> {
        match self {
            RefusalCode::Known(code) => Some(*code),
            RefusalCode::Unknown(_) => None,
        }
    }

    /// The word, as sent.
    pub fn as_str(&self) -> &str {
        match self {
            RefusalCode::Known(code) => code.as_str(),
            RefusalCode::Unknown(word) => word,
        }
    }
}

#[derive(Deserialize)]
struct RefusalBody {
    code: String,
    request_id: String,
    server_time: Option<u64>,
}

/// Whether a response with this head may be a refusal, so that its body must be read.
pub fn may_be(status: u16, headers: &HeaderMap) -> bool {
    let json = headers
        .get(CONTENT_TYPE)
        .is_some_and(|it| it == "application/json");
    matches!(status, 400..=599) && json && headers.contains_key(REQUEST_ID)
}

/// Parses a refusal. The body must repeat the request id of the head, which only the gateway sets.
/// So a backend's response cannot look like a refusal by accident.
pub fn parse(headers: &HeaderMap, body: &[u8]) -> Option<Refused> {
    let content: RefusalBody = serde_json::from_slice(body).ok()?;
    let id = headers.get(REQUEST_ID)?;
    (id == content.request_id.as_str()).then(|| Refused {
        code: RefusalCode::parse(&content.code),
        server_time: content.server_time,
        retry_after: retry_after(headers),
    })
}

/// `Retry-After` in seconds; a date is ignored.
pub fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        headers.insert(REQUEST_ID, "0a".parse().unwrap());
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        headers
    }

    #[test]
    fn a_refusal_names_its_code_its_time_and_the_wait() {
        let body = br#"{"error":"e","errors":["e"],"code":"clock_skew","request_id":"0a","server_time":5}"#;
        let expected = Refused {
            code: RefusalCode::Known(Code::ClockSkew),
            server_time: Some(5),
            retry_after: Some(7),
        };
        assert!(may_be(401, &headers()));
        assert_eq!(parse(&headers(), body), Some(expected));
    }

    #[test]
    fn a_code_of_a_newer_gateway_keeps_its_word() {
        let body = br#"{"code":"of_tomorrow","request_id":"0a"}"#;
        let code = parse(&headers(), body).unwrap().code;
        assert_eq!((code.known(), code.as_str()), (None, "of_tomorrow"));
    }

    #[test]
    fn a_backend_that_uses_the_same_word_is_not_the_gateway() {
        for body in [
            &br#"{"code":"not_ready"}"#[..],
            br#"{"code":"not_ready","request_id":"0b"}"#,
            b"not json",
            b"",
        ] {
            assert_eq!(parse(&headers(), body), None);
        }
    }

    #[test]
    fn what_has_no_request_id_or_is_no_json_is_not_looked_into() {
        let mut without = headers();
        without.remove(REQUEST_ID);
        assert!(!may_be(503, &without));
        let mut html = headers();
        html.insert(CONTENT_TYPE, "text/html".parse().unwrap());
        assert!(!may_be(503, &html));
        assert!(!may_be(200, &headers()));
    }
}
