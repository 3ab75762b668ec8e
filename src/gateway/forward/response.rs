//! The response to the client: the backend's, without the headers that only the gateway may set.

use http::header::{self, HeaderName};
use http::{StatusCode, Version};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::config::headers::{REQUEST_ID, is_same_header, reserved};
use crate::gateway::decide::forwarded_headers::is_identity_name;
use crate::gateway::plan::Plan;
use crate::gateway::receive::request_id::RequestId;

/// Why a backend's response is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnfitResponse {
    /// Its framing is ambiguous, or has a coding that is not `chunked` alone.
    Framing,
    /// A final status outside 200 to 599: its meaning is undefined, and so is whether a body
    /// follows.
    Status,
    /// `101 Switching Protocols`: nothing asked for one.
    Upgrade,
    /// A redirect: some clients would follow it anywhere with the same four signing headers.
    Redirect,
}

impl UnfitResponse {
    /// The reason, for the log.
    pub(super) const fn text(self) -> &'static str {
        match self {
            UnfitResponse::Framing => "the backend's answer has ambiguous framing",
            UnfitResponse::Status => "the backend's answer has a status outside 200 to 599",
            UnfitResponse::Upgrade => "the backend switched protocols",
            UnfitResponse::Redirect => "the backend answered with a redirect",
        }
    }
}

/// Removes the headers that only the gateway may set from a backend's response, and marks the
/// response as not to be stored: the signing headers are not `Authorization`, so a shared cache in
/// front would be free to store a secret. `raw` is its head as sent, `was_head` says that the
/// request was a HEAD, and `ended` that no body follows.
///
/// # Errors
///
/// `Ok(Some(_))` for a response that must not be passed on; Pingora's error for a header that
/// cannot be built.
pub(super) fn prepare(
    out: &mut ResponseHeader,
    raw: &[u8],
    was_head: bool,
    ended: bool,
    id: RequestId,
    plan: &Plan,
) -> Result<Option<UnfitResponse>> {
    if out.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Some(UnfitResponse::Upgrade));
    }
    if !(200..=599).contains(&out.status.as_u16()) {
        return Ok(Some(UnfitResponse::Status));
    }
    if out.status.is_redirection() && out.status != StatusCode::NOT_MODIFIED {
        return Ok(Some(UnfitResponse::Redirect));
    }
    if !frame_once(out, raw, was_head)? {
        return Ok(Some(UnfitResponse::Framing));
    }
    // The status line is the gateway's own: the reason phrase is free text of the backend's, and
    // the version is that of another connection.
    out.set_version(Version::HTTP_11);
    out.set_reason_phrase(None)?;
    let identity = &plan.config.identity_header;
    let reserved: Vec<HeaderName> = out
        .headers
        .keys()
        .filter(|name| {
            is_reserved_in_response(name, identity) || plan.resembles_credential_header(name)
        })
        .cloned()
        .collect();
    for name in &reserved {
        out.remove_header(name);
    }
    out.insert_header(header::CACHE_CONTROL, "no-store")?;
    out.insert_header(REQUEST_ID, id.as_str())?;
    if !was_head && !ended {
        frame_what_the_connection_ends(out)?;
    }
    Ok(None)
}

/// Has a body that lasts as long as the backend's connection sent in chunks, so that the client's
/// connection need not end with it.
fn frame_what_the_connection_ends(out: &mut ResponseHeader) -> Result<()> {
    let is_framed = [header::TRANSFER_ENCODING, header::CONTENT_LENGTH]
        .iter()
        .any(|name| out.headers.contains_key(name));
    if !is_framed && !matches!(out.status.as_u16(), 204 | 304) {
        out.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// Leaves one plain length, or `chunked` alone, or neither; `false` where that cannot be said.
/// Pingora has read the body by the same values, and takes some that clients differ about.
fn frame_once(out: &mut ResponseHeader, raw: &[u8], was_head: bool) -> Result<bool> {
    let mut codings = out.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            // HTTP/1.0 knows no codings (RFC 9112, section 6.1), and Pingora has dropped a
            // Content-Length beside one.
            if out.version != Version::HTTP_11 || has_line(raw, b"content-length") {
                return Ok(false);
            }
        }
        _ => return Ok(false),
    }
    // An answer without a body (RFC 9110, sections 6.4.1 and 15.4.5) has no coding of it, and a 204
    // no length either. To HEAD, and in a 304, the length is that of the body left out.
    if was_head || matches!(out.status.as_u16(), 204 | 304) {
        out.remove_header(&header::TRANSFER_ENCODING);
    }
    if out.status == StatusCode::NO_CONTENT {
        out.remove_header(&header::CONTENT_LENGTH);
    }
    // Nearly all are fine as they stand.
    let mut all = out.headers.get_all(header::CONTENT_LENGTH).iter();
    if let (Some(only), None) = (all.next(), all.next())
        && is_plain_number(only.as_bytes())
    {
        return Ok(true);
    }
    let lengths: Vec<_> = out.headers.get_all(header::CONTENT_LENGTH).iter().collect();
    let values = lengths
        .iter()
        .flat_map(|value| value.as_bytes().split(|&b| b == b','));
    let numbers: Option<Vec<u64>> = values
        .map(|text| std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok())
        .collect();
    match numbers.as_deref() {
        Some([]) => Ok(true),
        Some([first, rest @ ..]) if rest.iter().all(|other| other == first) => {
            let first = *first;
            out.insert_header(header::CONTENT_LENGTH, first)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Whether a head as sent has a line of this name, given in lower case.
fn has_line(raw: &[u8], name: &[u8]) -> bool {
    raw.split(|&byte| byte == b'\n').any(|line| {
        let named = line.split(|&byte| byte == b':').next().unwrap_or_default();
        named.trim_ascii().eq_ignore_ascii_case(name)
    })
}

/// Whether a length is in its one spelling, and none is longer.
fn is_plain_number(value: &[u8]) -> bool {
    let (digits, most) = (
        value.iter().all(u8::is_ascii_digit),
        u64::MAX.ilog10() as usize,
    );
    digits && (value == b"0" || (1..=most).contains(&value.len()) && value[0] != b'0')
}

/// Names that are removed from a backend's response: the gateway's own, those about a connection
/// that is not the client's, and those that send the client elsewhere.
fn is_reserved_in_response(name: &HeaderName, identity: &HeaderName) -> bool {
    // These frame the response, and Pingora makes them anew where that is needed.
    let framing = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
    ];
    if framing.contains(name) {
        return false;
    }
    is_identity_name(name, identity)
        || reserved(name.as_str()).is_some()
        || ["location", "alt-svc"]
            .iter()
            .any(|own| is_same_header(name, own))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn identity() -> HeaderName {
        HeaderName::from_static("x-machine-identity")
    }

    /// An answer with this head, as Pingora's parser gives it, and whether it is framed once.
    fn framed(head: &str, was_head: bool) -> (bool, ResponseHeader) {
        let mut lines = head.lines();
        let (version, status) = lines.next().unwrap().split_once(' ').unwrap();
        let mut out = ResponseHeader::build(status, None).unwrap();
        if version == "HTTP/1.0" {
            out.set_version(Version::HTTP_10);
        }
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            out.append_header(name.trim().to_owned(), value).unwrap();
        }
        if out.headers.contains_key(header::TRANSFER_ENCODING) {
            out.remove_header(&header::CONTENT_LENGTH);
        }
        let is_framed = frame_once(&mut out, head.as_bytes(), was_head).unwrap();
        (is_framed, out)
    }

    #[test]
    fn framing_with_two_readings_does_not_cross() {
        for head in [
            "HTTP/1.1 200\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked",
            "HTTP/1.1 200\nTransfer-Encoding: chunked, chunked",
            "HTTP/1.1 200\nTransfer-Encoding: gzip, chunked",
            "HTTP/1.1 200\nTransfer-Encoding: identity",
            "HTTP/1.1 200\nTransfer-Encoding: chunked\nContent-Length: 5",
            "HTTP/1.1 200\nCONTENT-LENGTH : 5\nTransfer-Encoding: chunked",
            "HTTP/1.0 200\nTransfer-Encoding: chunked",
            "HTTP/1.1 200\nContent-Length: 5\nContent-Length: 6",
            "HTTP/1.1 200\nContent-Length: 5, 6",
            "HTTP/1.1 200\nContent-Length: +5x",
        ] {
            assert!(!framed(head, false).0, "{head}");
        }
    }

    #[test]
    fn framing_with_one_reading_crosses() {
        for head in [
            "HTTP/1.1 200\nTransfer-Encoding: chunked",
            "HTTP/1.1 200\nTransfer-Encoding: Chunked",
            "HTTP/1.1 200\nContent-Length: 5",
            "HTTP/1.0 200\nContent-Length: 5",
            "HTTP/1.1 200\nContent-Length: 5\nContent-Length: 5",
            "HTTP/1.1 200\nX-Content-Length: 5\nTransfer-Encoding: chunked",
            "HTTP/1.0 200\nX: y",
        ] {
            assert!(framed(head, false).0, "{head}");
        }
    }

    #[test]
    fn an_answer_without_a_body_keeps_no_framing_that_does_not_belong_to_it() {
        let cases = [
            ("HTTP/1.1 204\nTransfer-Encoding: chunked", false, None),
            ("HTTP/1.1 204\nContent-Length: 0", false, None),
            ("HTTP/1.1 304\nTransfer-Encoding: chunked", false, None),
            ("HTTP/1.1 304\nContent-Length: 5", false, Some("5")),
            ("HTTP/1.1 200\nTransfer-Encoding: chunked", true, None),
            ("HTTP/1.1 200\nContent-Length: 5", true, Some("5")),
        ];
        for (head, was_head, length) in cases {
            let (is_framed, out) = framed(head, was_head);
            let found = out.headers.get(header::CONTENT_LENGTH);
            assert!(is_framed, "{head}");
            assert!(
                !out.headers.contains_key(header::TRANSFER_ENCODING),
                "{head}"
            );
            assert_eq!(found.map(|value| value.to_str().unwrap()), length, "{head}");
        }
    }

    #[test]
    fn what_the_gateway_says_is_reserved_in_responses() {
        for name in [
            "location",
            "x-request-id",
            "x-machine-identity",
            "x_machine_identity",
            "x.machine.identity",
            "content_length",
            "alt.svc",
            "x-signature",
            "x-forwarded-for",
            "keep-alive",
        ] {
            assert!(
                is_reserved_in_response(&HeaderName::from_static(name), &identity()),
                "{name}"
            );
        }
        for name in ["content-type", "etag", "x-vault-index", "retry-after"] {
            assert!(
                !is_reserved_in_response(&HeaderName::from_static(name), &identity()),
                "{name}"
            );
        }
    }
}
