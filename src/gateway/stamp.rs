//! What crosses to the backend: a request built anew, from what was verified and what the
//! gateway knows, and never a copy of the client's with things taken out.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use super::recorded::Recorded;
use super::request_id::RequestId;
use crate::auth::refusal::Refusal;
use crate::config::headers::{
    ALLOWED, IDENTITY, MACHINE_KEY, MACHINE_NAME, MACHINE_OWNER, MACHINE_VAULT, REQUEST_ID,
    normalised, reserved,
};
use crate::config::{Route, Upstream};

/// What the gateway itself knows about a request, for the headers that it vouches for.
#[derive(Debug)]
pub(super) struct Provenance {
    pub(super) id: RequestId,
    pub(super) client_ip: Option<IpAddr>,
    /// `http` or `https`, as the client spoke it.
    pub(super) scheme: &'static str,
    /// The host the client asked for.
    pub(super) host: String,
}

/// Crossing headers of which there is one or none (RFC 9110, section 5.3): of two, one program
/// takes the first and another the last.
const SINGLE: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
];

/// Refuses a request whose crossing headers hold more than visible ASCII, spaces and tabs, or are
/// repeated where they may not be.
///
/// # Errors
///
/// 400: what two programs may read in two ways does not cross.
pub(super) fn check_crossing(headers: &HeaderMap, route: &Route) -> Result<(), Refusal> {
    let visible = |value: &HeaderValue| {
        value
            .as_bytes()
            .iter()
            .all(|b| matches!(b, 0x20..=0x7e | b'\t'))
    };
    if SINGLE
        .iter()
        .any(|name| headers.get_all(name).iter().count() > 1)
    {
        return Err(Refusal::BadRequest(
            "a header that is sent once was sent twice",
        ));
    }
    let all_visible = |name: &HeaderName| headers.get_all(name).iter().all(visible);
    match ALLOWED.iter().all(all_visible) && route.forward_headers.iter().all(all_visible) {
        true => Ok(()),
        false => Err(Refusal::BadRequest(
            "a header value holds bytes outside visible ASCII",
        )),
    }
}

/// Whether the client tried to name an identity itself, in any case and with `_` for `-`. Such a
/// header never crosses; this is for the count.
pub(super) fn names_an_identity(headers: &HeaderMap, identity: &HeaderName) -> bool {
    headers
        .keys()
        .any(|name| is_identity_name(&hyphened(name), identity))
}

fn is_identity_name(name: &str, identity: &HeaderName) -> bool {
    IDENTITY.iter().any(|own| own == name) || name == hyphened(identity)
}

/// A header's name as trust in it is judged; most names are that already.
fn hyphened(name: &HeaderName) -> Cow<'_, str> {
    match name.as_str() {
        text if text.contains('_') => normalised(text).into(),
        text => text.into(),
    }
}

/// Builds the request for the backend.
///
/// # Errors
///
/// Pingora's, for a header that cannot be built; the request is then not sent.
pub(super) fn request(
    recorded: &Recorded,
    provenance: &Provenance,
    client: &RequestHeader,
    body_len: usize,
    route: &Route,
    upstream: &Upstream,
    identity: &HeaderName,
) -> Result<RequestHeader> {
    let signed = recorded.signed();
    let message = signed.message();
    // The target is taken from what was verified, not from what the parser holds.
    let mut out = RequestHeader::build(message.method(), message.target().as_bytes(), Some(24))?;

    for name in ALLOWED.iter().chain(&route.forward_headers) {
        for value in client.headers.get_all(name) {
            out.append_header(name.clone(), value.clone())?;
        }
    }
    if body_len > 0 || wants_length(&client.method) {
        out.insert_header(header::CONTENT_LENGTH, body_len)?;
    }
    if let Some(address) = provenance.client_ip {
        out.insert_header("X-Forwarded-For", address.to_string())?;
    }
    out.insert_header("X-Forwarded-Proto", provenance.scheme)?;
    out.insert_header("X-Forwarded-Host", provenance.host.as_str())?;
    out.insert_header(REQUEST_ID, provenance.id.to_string())?;

    for (name, value) in &upstream.set_headers {
        out.insert_header(name.clone(), value.clone())?;
    }
    if let Some(credential) = &upstream.credential {
        out.insert_header(credential.header.clone(), credential.value.clone())?;
    }

    // Last, so that nothing above can have the last word on who this is.
    let machine = signed.machine();
    out.insert_header(identity.clone(), machine.id.as_str())?;
    out.insert_header(MACHINE_KEY, signed.key().fingerprint().to_string())?;
    for (name, value) in [
        (MACHINE_NAME, &machine.name),
        (MACHINE_VAULT, &machine.vault),
        (MACHINE_OWNER, &machine.owner),
    ] {
        if let Some(value) = value {
            out.insert_header(name, &**value)?;
        }
    }
    Ok(out)
}

/// Methods whose empty body is announced as such (RFC 9110, section 8.6).
fn wants_length(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Why a backend's response does not cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its length has two readings, or a coding that is not `chunked` alone.
    Framing,
    /// `101 Switching Protocols`: nothing asked for one.
    Upgrade,
    /// A redirect, which some clients would follow with the same four headers, to anywhere.
    Redirect,
}

/// Takes out of a backend's response what only the gateway may say, and marks it as not to be
/// stored: the signing headers are not `Authorization`, so a shared cache in front would feel
/// free to keep a secret.
///
/// # Errors
///
/// `Ok(Some(_))` for a response that may not cross; Pingora's error for a header that cannot be
/// built.
pub(super) fn response(
    out: &mut ResponseHeader,
    id: RequestId,
    upstream: &Upstream,
    identity: &HeaderName,
) -> Result<Option<Unfit>> {
    if out.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Some(Unfit::Upgrade));
    }
    if out.status.is_redirection() && out.status != StatusCode::NOT_MODIFIED {
        return Ok(Some(Unfit::Redirect));
    }
    if !frame_once(out)? {
        return Ok(Some(Unfit::Framing));
    }
    let own = upstream.credential.as_ref().map(|c| hyphened(&c.header));
    let reserved: Vec<HeaderName> = out
        .headers
        .keys()
        .filter(|name| is_reserved_in_response(name, identity) || Some(hyphened(name)) == own)
        .cloned()
        .collect();
    for name in &reserved {
        out.remove_header(name);
    }
    out.insert_header(header::CACHE_CONTROL, "no-store")?;
    out.insert_header(REQUEST_ID, id.to_string())?;
    Ok(None)
}

/// Leaves one plain length, or `chunked` alone, or neither; `false` where that cannot be said.
/// Pingora has read the body by the same values, and takes some that clients differ about.
fn frame_once(out: &mut ResponseHeader) -> Result<bool> {
    let codings: Vec<_> = out
        .headers
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .collect();
    match codings[..] {
        [] => {}
        [coding] if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {}
        _ => return Ok(false),
    }
    if out.status == StatusCode::NO_CONTENT {
        out.remove_header(&header::CONTENT_LENGTH);
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

/// Names a backend has no business to send through: the gateway's own, those that speak about a
/// connection which is not the client's, and those that send the client elsewhere.
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
    let name = hyphened(name);
    is_identity_name(&name, identity)
        || reserved(&name).is_some()
        || ["location", "alt-svc"].contains(&&*name)
}

#[cfg(test)]
mod tests;
