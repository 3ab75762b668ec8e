//! What crosses to the backend: a request built anew, from what was verified and what the
//! gateway knows, and never a copy of the client's with things taken out.

use std::borrow::Cow;
use std::net::IpAddr;

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pingora::Result;
use pingora::http::RequestHeader;

use super::credentials::Injection;
use super::open::OpenRecorded;
use super::recorded::Recorded;
use super::request_id::RequestId;
use super::unsigned::UnsignedRecorded;
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

pub(super) fn is_identity_name(name: &str, identity: &HeaderName) -> bool {
    IDENTITY.iter().any(|own| own == name) || name == hyphened(identity)
}

/// A header's name as trust in it is judged; most names are that already.
pub(super) fn hyphened(name: &HeaderName) -> Cow<'_, str> {
    match name.as_str() {
        text if text.contains('_') => normalised(text).into(),
        text => text.into(),
    }
}

/// Builds the request of a machine for the backend.
///
/// # Errors
///
/// Pingora's, for a header that cannot be built; the request is then not sent.
pub(super) fn request(
    recorded: &Recorded,
    crossing: Crossing<'_>,
    upstream: &Upstream,
    identity: &HeaderName,
) -> Result<RequestHeader> {
    let signed = recorded.signed();
    let message = signed.message();
    // The target is taken from what was verified, not from what the parser holds.
    let mut out = crossing.request(message.method(), message.target())?;

    for (name, value) in &upstream.set_headers {
        out.insert_header(name.clone(), value.clone())?;
    }
    if let Some(Injection { held, value }) = recorded.injection() {
        out.insert_header(held.header().clone(), HeaderValue::clone(value))?;
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

/// Builds the request of nobody in particular, on an open route: what may cross, and no word on
/// who it is from. Neither an identity nor a credential is within its reach.
///
/// # Errors
///
/// As [`request`].
pub(super) fn open_request(open: &OpenRecorded, crossing: Crossing<'_>) -> Result<RequestHeader> {
    crossing.request(open.method(), open.target())
}

/// Builds the request of somebody who did not sign, on a route that still lets it pass: what the
/// client sent, its own credential among it, less every name by which the gateway says something.
/// Neither an identity nor a credential of the gateway is within its reach.
///
/// # Errors
///
/// As [`request`].
pub(super) fn unsigned_request(
    unsigned: &UnsignedRecorded,
    crossing: Crossing<'_>,
    upstream: &Upstream,
    identity: &HeaderName,
) -> Result<RequestHeader> {
    let mut out = crossing.request(unsigned.method(), unsigned.target())?;
    let crossed =
        |name: &HeaderName| ALLOWED.contains(name) || crossing.route.forward_headers.contains(name);
    for (name, value) in &crossing.client.headers {
        let is_cookie = *name == header::COOKIE;
        if !crossed(name) && !is_cookie && !is_the_gateways(name, upstream, identity) {
            out.append_header(name.clone(), value.clone())?;
        }
    }
    if !out.headers.contains_key(header::COOKIE)
        && let Some(cookie) = cookie(&crossing.client.headers)
    {
        out.insert_header(header::COOKIE, cookie)?;
    }
    Ok(out)
}

/// All cookies on one line: HTTP/2 clients send them on several (RFC 9113, section 8.2.3), which
/// HTTP/1 does not know.
fn cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(header::COOKIE).iter();
    let lines: Vec<&[u8]> = lines.map(HeaderValue::as_bytes).collect();
    match lines[..] {
        [] => None,
        _ => HeaderValue::from_bytes(&lines.join(&b"; "[..])).ok(),
    }
}

/// Whether only the gateway sets a header of this name on the way to the upstream, or makes it anew.
fn is_the_gateways(name: &HeaderName, upstream: &Upstream, identity: &HeaderName) -> bool {
    let name = hyphened(name);
    let is_set = |set: &HeaderName| hyphened(set) == name;
    reserved(&name).is_some()
        || is_identity_name(&name, identity)
        || upstream.set_headers.iter().any(|(set, _)| is_set(set))
}

/// What crosses of any request, besides its method and its target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crossing<'a> {
    pub(super) client: &'a RequestHeader,
    pub(super) provenance: &'a Provenance,
    pub(super) body_len: usize,
    pub(super) route: &'a Route,
}

impl Crossing<'_> {
    fn request(&self, method: &str, target: &str) -> Result<RequestHeader> {
        let mut out = RequestHeader::build(method, target.as_bytes(), Some(24))?;
        for name in ALLOWED.iter().chain(&self.route.forward_headers) {
            for value in self.client.headers.get_all(name) {
                out.append_header(name.clone(), value.clone())?;
            }
        }
        if self.body_len > 0 || wants_length(&self.client.method) {
            out.insert_header(header::CONTENT_LENGTH, self.body_len)?;
        }
        let provenance = self.provenance;
        if let Some(address) = provenance.client_ip {
            out.insert_header("X-Forwarded-For", address.to_string())?;
        }
        out.insert_header("X-Forwarded-Proto", provenance.scheme)?;
        out.insert_header("X-Forwarded-Host", provenance.host.as_str())?;
        out.insert_header(REQUEST_ID, provenance.id.as_str())?;
        Ok(out)
    }
}

/// Methods whose empty body is announced as such (RFC 9110, section 8.6).
fn wants_length(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

#[cfg(test)]
mod tests;
