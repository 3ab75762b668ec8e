//! The framing of a request. Ambiguous framing (request smuggling) is refused before the route, the
//! signing headers and the body are looked at.
//!
//! Pingora's parser is lenient where old clients are: bare line feeds, both lengths at once, a
//! `#fragment`, an illegal target. Such faults are found here, in the raw header block and in the
//! request line as it was sent.

use std::sync::{Arc, OnceLock};

use http::header::{self, HeaderMap, HeaderName};
use memchr::memchr_iter;
use pingora::http::RequestHeader;

use crate::config::headers::reserved;
use countersign_core::headers::Occurrence;
use countersign_core::method::METHODS;
use countersign_core::refusal::Refusal;
use countersign_core::target::TargetError;

/// The unambiguous framing of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framing {
    /// The declared length of the body, in bytes; `None` for a chunked body and for an HTTP/2
    /// stream without a declared length.
    pub(crate) content_length: Option<u64>,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

/// Judges the head of an HTTP/1 request. `line` is the request line as sent. `raw` is the header
/// block up to the empty line; the parser may have rewritten its request line.
///
/// # Errors
///
/// 400, 405 or 431. Any doubt refuses.
pub(crate) fn check_h1(
    head: &RequestHeader,
    line: &[u8],
    raw: &[u8],
    max_bytes: usize,
) -> Result<Framing, Refusal> {
    if raw.len() > max_bytes {
        return Err(Refusal::HeaderTooLarge);
    }
    if has_bare_line_feed(raw) {
        return Err(Refusal::BadRequest(
            "a header line ends in a line feed without a carriage return",
        ));
    }
    if !matches!(
        head.version,
        http::Version::HTTP_10 | http::Version::HTTP_11
    ) {
        return Err(Refusal::BadRequest("the HTTP version is not supported"));
    }
    forbidden_method(head)?;
    if !request_line_reads_back(head, line) {
        return Err(Refusal::BadTarget(TargetError::ForbiddenByte));
    }
    check_host(&head.headers)?;
    let transfer_encoding = lines(&head.headers, header::TRANSFER_ENCODING);
    if head.version == http::Version::HTTP_10 && !matches!(transfer_encoding, Occurrence::Absent) {
        return Err(Refusal::BadRequest("HTTP/1.0 knows no Transfer-Encoding"));
    }
    // Counted in the raw block: the parser drops Content-Length where both are present.
    let content_lengths = raw_lines_named(raw, b"content-length");
    let content_length = match (transfer_encoding, content_lengths) {
        (Occurrence::Absent, 0) => Some(0),
        (Occurrence::Absent, 1) => Some(content_length(&head.headers)?),
        (Occurrence::Once(value), 0) if value == b"chunked" => None,
        (Occurrence::Absent, _) => return Err(Refusal::BadRequest("Content-Length is sent twice")),
        (_, 0) => {
            return Err(Refusal::BadRequest(
                "Transfer-Encoding must be one line, 'chunked'",
            ));
        }
        _ => {
            return Err(Refusal::BadRequest(
                "Content-Length and Transfer-Encoding are both sent",
            ));
        }
    };
    check_connection(&head.headers)?;
    Ok(Framing {
        content_length,
        expects_continue: expectation(&head.headers)?,
    })
}

/// Judges the head of an HTTP/2 request. Connection-specific headers make such a request
/// malformed (RFC 9113, section 8.2.2), so none is tolerated.
///
/// # Errors
///
/// 400, 405 or 431. Any doubt refuses.
pub(crate) fn check_h2(head: &RequestHeader, max_bytes: usize) -> Result<Framing, Refusal> {
    // The size as HTTP/2 counts it (RFC 9113, section 6.5.2).
    let size: usize = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum();
    if size > max_bytes {
        return Err(Refusal::HeaderTooLarge);
    }
    forbidden_method(head)?;
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::TRANSFER_ENCODING,
        header::HOST,
    ] {
        let host = name == header::HOST;
        match lines(&head.headers, name) {
            Occurrence::Absent => {}
            // A proxy may keep Host beside :authority, if they agree.
            Occurrence::Once(value)
                if host
                    && head
                        .uri
                        .authority()
                        .is_none_or(|a| a.as_str().as_bytes() == value) => {}
            _ if host => return Err(Refusal::BadRequest("Host contradicts :authority")),
            _ => {
                return Err(Refusal::BadRequest(
                    "a connection header has no place in HTTP/2",
                ));
            }
        }
    }
    if host_of(head).is_none_or(|host| !is_authority(host.as_bytes())) {
        return Err(Refusal::BadRequest("the authority is missing or malformed"));
    }
    check_te(&head.headers)?;
    let content_length = match lines(&head.headers, header::CONTENT_LENGTH) {
        Occurrence::Absent => None,
        Occurrence::Once(_) => Some(content_length(&head.headers)?),
        Occurrence::Repeated => return Err(Refusal::BadRequest("Content-Length is sent twice")),
    };
    Ok(Framing {
        content_length,
        expects_continue: expectation(&head.headers)?,
    })
}

/// The trailers of an HTTP/2 request. They arrive after the head, so they are stored beside it.
/// They are checked, and never forwarded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trailers(Arc<OnceLock<HeaderMap>>);

impl Trailers {
    pub(crate) fn arrived(&self, trailers: HeaderMap) {
        // There is one trailer section.
        let _ = self.0.set(trailers);
    }

    pub(crate) fn get(&self) -> Option<&HeaderMap> {
        self.0.get()
    }
}

/// Judges the trailers: what a program that merges them into the head might read there
/// (RFC 9110, section 6.5.1) is refused, and so is a value that has two readings.
///
/// # Errors
///
/// 400. `is_trusted` tells the names that only the gateway writes by this configuration.
pub(crate) fn check_trailers(
    trailers: &HeaderMap,
    is_trusted: impl Fn(&HeaderName) -> bool,
) -> Result<(), Refusal> {
    for (name, value) in trailers {
        if reserved(name.as_str()).is_some() || is_trusted(name) {
            return Err(Refusal::BadRequest("a trailer has a reserved name"));
        }
        let is_visible = |b: &u8| matches!(b, b' '..=b'~' | b'\t');
        if !value.as_bytes().iter().all(is_visible) {
            return Err(Refusal::BadRequest(
                "a trailer value holds bytes outside visible ASCII",
            ));
        }
    }
    Ok(())
}

/// The host that the client asked for, from `:authority` or `Host`.
pub(crate) fn host_of(head: &RequestHeader) -> Option<&str> {
    match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(header::HOST)?.to_str().ok(),
    }
}

/// The header lines of one name.
pub(crate) fn lines(headers: &HeaderMap, name: HeaderName) -> Occurrence<'_> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Occurrence::Absent,
        (Some(value), None) => Occurrence::Once(value.as_bytes()),
        _ => Occurrence::Repeated,
    }
}

fn forbidden_method(head: &RequestHeader) -> Result<(), Refusal> {
    match head.method.as_str() {
        "CONNECT" | "TRACE" => Err(Refusal::MethodNotAllowed {
            allow: METHODS.join(", ").into(),
        }),
        _ => Ok(()),
    }
}

fn has_bare_line_feed(raw: &[u8]) -> bool {
    memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r')
}

/// Whether the line that was sent is the method, the target and the version that were parsed, with
/// single spaces and nothing else.
fn request_line_reads_back(head: &RequestHeader, line: &[u8]) -> bool {
    let version: &[u8] = match head.version {
        http::Version::HTTP_10 => b" HTTP/1.0",
        _ => b" HTTP/1.1",
    };
    line.strip_prefix(head.method.as_str().as_bytes())
        .and_then(|rest| rest.strip_prefix(b" "))
        .and_then(|rest| rest.strip_suffix(version))
        == Some(head.raw_path())
}

/// How many header lines of the raw block have this name (given in lower case).
fn raw_lines_named(raw: &[u8], name: &[u8]) -> usize {
    memchr_iter(b'\n', raw)
        .map(|at| &raw[at + 1..])
        .filter(|line| {
            line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name)
        })
        .count()
}

/// One Content-Length, in its one spelling. A number too large for any body is kept as
/// `u64::MAX`, for the route's limit to refuse.
fn content_length(headers: &HeaderMap) -> Result<u64, Refusal> {
    let value = match lines(headers, header::CONTENT_LENGTH) {
        Occurrence::Once(value) => value,
        _ => b"",
    };
    let one_spelling = !value.is_empty()
        && value.iter().all(u8::is_ascii_digit)
        && (value.len() == 1 || value[0] != b'0');
    if !one_spelling {
        return Err(Refusal::BadRequest("Content-Length is not a plain number"));
    }
    let text = std::str::from_utf8(value).unwrap_or_default();
    Ok(text.parse().unwrap_or(u64::MAX))
}

/// Exactly one Host of the form that RFC 9112, section 3.2 asks for. It is not signed, and reaches
/// the backend as `X-Forwarded-Host` only. But a request without one has no certain reading.
fn check_host(headers: &HeaderMap) -> Result<(), Refusal> {
    match lines(headers, header::HOST) {
        Occurrence::Once(value) if is_authority(value) => Ok(()),
        Occurrence::Absent => Err(Refusal::BadRequest("Host is missing")),
        Occurrence::Once(_) => Err(Refusal::BadRequest("Host is malformed")),
        Occurrence::Repeated => Err(Refusal::BadRequest("Host is sent twice")),
    }
}

/// `host [":" port]` without user information (RFC 3986, section 3.2): a name or an address by its
/// alphabet, an IPv6 address in brackets, and a port of one to five digits.
fn is_authority(value: &[u8]) -> bool {
    const MAX_LEN: usize = 255 + 6;
    let end = |text: &[u8], end: u8| text.iter().position(|&b| b == end).unwrap_or(text.len());
    let (is_host, port) = match value.strip_prefix(b"[") {
        Some(address) => {
            let (address, rest) = address.split_at(end(address, b']'));
            let alphabet = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
            let is_address = !address.is_empty() && address.iter().all(alphabet);
            (
                is_address && !rest.is_empty(),
                rest.get(1..).unwrap_or_default(),
            )
        }
        None => {
            let (name, rest) = value.split_at(end(value, b':'));
            let alphabet =
                |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'~');
            (!name.is_empty() && name.iter().all(alphabet), rest)
        }
    };
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => {
            (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    value.len() <= MAX_LEN && is_host && is_port
}

/// `Connection` may name nothing but itself: a header that it names is dropped on the way, also
/// one that the gateway relies on. Some clients send `Upgrade: h2c` unasked; it is ignored.
fn check_connection(headers: &HeaderMap) -> Result<(), Refusal> {
    let upgrade = match lines(headers, header::UPGRADE) {
        Occurrence::Absent => false,
        Occurrence::Once(value) if value.eq_ignore_ascii_case(b"h2c") => true,
        _ => return Err(Refusal::BadRequest("Upgrade is not accepted")),
    };
    for token in tokens(headers, header::CONNECTION) {
        let known = token.eq_ignore_ascii_case(b"close")
            || token.eq_ignore_ascii_case(b"keep-alive")
            || (upgrade
                && (token.eq_ignore_ascii_case(b"upgrade")
                    || token.eq_ignore_ascii_case(b"http2-settings")));
        if !known {
            return Err(Refusal::BadRequest(
                "Connection may hold only 'close' or 'keep-alive'",
            ));
        }
    }
    check_te(headers)
}

fn check_te(headers: &HeaderMap) -> Result<(), Refusal> {
    match tokens(headers, header::TE).all(|token| token.eq_ignore_ascii_case(b"trailers")) {
        true => Ok(()),
        false => Err(Refusal::BadRequest("TE may hold only 'trailers'")),
    }
}

fn expectation(headers: &HeaderMap) -> Result<bool, Refusal> {
    match lines(headers, header::EXPECT) {
        Occurrence::Absent => Ok(false),
        Occurrence::Once(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Refusal::BadRequest("the expectation cannot be met")),
    }
}

/// The members of a comma-separated list over all lines of a name (RFC 9110, section 5.6.1).
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&b| b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests;
