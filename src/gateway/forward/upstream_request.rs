//! What crosses to the backend: a request built anew, from what was verified and what the
//! gateway knows, and never a copy of the client's with things taken out.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr, Result};

use crate::audit::DroppedHeaders;
use crate::auth::lost_header::LostHeader;
use crate::auth::refusal::Refusal;
use crate::config::headers::{
    ALLOWED, IDENTITY, MACHINE_KEY, MACHINE_NAME, MACHINE_OWNER, MACHINE_VAULT, REQUEST_ID,
    is_same, reserved,
};
use crate::config::{Route, Upstream};
use crate::gateway::decide::bearer;
use crate::gateway::decide::open::OpenRecorded;
use crate::gateway::decide::plan::Plan;
use crate::gateway::decide::unsigned::UnsignedRecorded;
use crate::gateway::receive::request_id::RequestId;
use crate::gateway::record::authorized::Recorded;
use crate::gateway::upstream::credentials::Injection;
use crate::metrics::Metrics;

/// What the gateway itself knows about a request, for the headers that it vouches for.
#[derive(Debug)]
pub(crate) struct Provenance {
    pub(crate) id: RequestId,
    pub(crate) client_ip: Option<IpAddr>,
    /// `http` or `https`, as the client spoke it.
    pub(crate) scheme: &'static str,
    /// The host the client asked for.
    pub(crate) host: HeaderValue,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Crossing headers of which there is one or none (RFC 9110, section 5.3): of two, one program
/// takes the first and another the last.
const SINGLE: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
];

/// Most dropped headers that are named. Clients send a handful besides those that cross; of more,
/// the record tells that there were more, and they are counted as others.
const NAMED: usize = 16;

/// The client's headers that do not cross, and that the gateway does not write anew.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    names: Vec<HeaderName>,
    /// How many there were beyond [`NAMED`].
    unnamed: usize,
    refusing: Option<LostHeader>,
}

impl Dropped {
    /// Refuses a request that without one of them would mean something else.
    ///
    /// # Errors
    ///
    /// [`Refusal::HeaderNotForwarded`] with the first of those.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        (self.refusing).map_or(Ok(()), |lost| Err(Refusal::HeaderNotForwarded(lost)))
    }

    /// For the record.
    pub(crate) fn names(&self) -> DroppedHeaders<'_> {
        DroppedHeaders {
            names: &self.names,
            and_more: self.unnamed > 0,
        }
    }

    pub(crate) fn count(&self, metrics: &Metrics) {
        for name in &self.names {
            metrics.header_dropped(LostHeader::of(name.as_str()), 1);
        }
        if self.unnamed > 0 {
            metrics.header_dropped(LostHeader::of(""), self.unnamed);
        }
    }

    fn add(&mut self, name: &HeaderName) {
        if self.names.last() == Some(name) {
            return; // lines of one name come one after the other
        }
        match self.names.len() < NAMED {
            true => self.names.push(name.clone()),
            false => self.unnamed += 1,
        }
    }
}

/// Refuses a request whose crossing headers hold more than visible ASCII, spaces and tabs, or are
/// repeated where they may not be; tells which headers do not cross. `set` are those that the upstream
/// sets itself: of one that it sets to the very value that the client sent, nothing is lost.
///
/// # Errors
///
/// 400: what two programs may read in two ways does not cross.
pub(crate) fn check_crossing(
    headers: &HeaderMap,
    route: &Route,
    set: &[(HeaderName, HeaderValue)],
) -> Result<Dropped, Refusal> {
    let is_repeated = |name| headers.get_all(name).iter().count() > 1;
    // Where there are as many names as lines none is.
    if headers.len() != headers.keys_len() && SINGLE.iter().any(is_repeated) {
        return Err(Refusal::BadRequest(
            "a header that is sent once was sent twice",
        ));
    }
    let mut dropped = Dropped::default();
    for (name, value) in headers {
        if crosses(name, route) {
            visible(value)?;
        } else if reserved(name.as_str()).is_none() {
            let lost = LostHeader::of(name.as_str());
            let is_set = |(own, fixed): &(HeaderName, HeaderValue)| own == name && fixed == value;
            if lost.refuses() && dropped.refusing.is_none() && !set.iter().any(is_set) {
                dropped.refusing = Some(lost);
            }
            dropped.add(name);
        }
    }
    Ok(dropped)
}

/// Refuses header values that hold more than visible ASCII, spaces and tabs, in a request that crosses
/// with the client's own headers.
///
/// # Errors
///
/// 400.
pub(crate) fn check_values(headers: &HeaderMap) -> Result<(), Refusal> {
    headers.values().try_for_each(visible)
}

fn visible(value: &HeaderValue) -> Result<(), Refusal> {
    let is_visible = |b: &u8| matches!(b, 0x20..=0x7e | b'\t');
    match value.as_bytes().iter().all(is_visible) {
        true => Ok(()),
        false => Err(Refusal::BadRequest(
            "a header value holds bytes outside visible ASCII",
        )),
    }
}

/// The header lines of the client's that cross.
fn crossing<'a>(
    headers: &'a HeaderMap,
    route: &'a Route,
) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
    headers.iter().filter(|(name, _)| crosses(name, route))
}

/// Whether a client's header of this name crosses.
fn crosses(name: &HeaderName, route: &Route) -> bool {
    ALLOWED.contains(name) || route.forward_headers.contains(name)
}

/// Whether the client tried to name an identity itself, in any spelling that a backend could read as
/// one ([`is_same`]). Such a header never crosses; this is for the count.
pub(crate) fn names_an_identity(headers: &HeaderMap, identity: &HeaderName) -> bool {
    headers.keys().any(|name| is_identity_name(name, identity))
}

pub(crate) fn is_identity_name(name: &HeaderName, identity: &HeaderName) -> bool {
    is_same(name, identity) || IDENTITY.iter().any(|own| is_same(name, own))
}

/// Builds the request of a machine for the backend.
///
/// # Errors
///
/// Pingora's, for a header that cannot be built; the request is then not sent.
pub(crate) fn request(
    recorded: &Recorded,
    crossing: Crossing<'_>,
    upstream: &Upstream,
    identity: &HeaderName,
) -> Result<RequestHeader> {
    let mut headers = crossing.headers()?;
    for (name, value) in &upstream.set_headers {
        headers.insert(name, value.clone());
    }
    if let Some(Injection { held, value }) = recorded.injection() {
        headers.insert(held.header(), HeaderValue::clone(value));
    }

    // Last, so that nothing above can have the last word on who this is.
    let signed = recorded.signed();
    let machine = signed.machine();
    headers.insert(identity, value(machine.id.as_str())?);
    headers.insert(MACHINE_KEY, value(&signed.key().fingerprint().to_string())?);
    for (name, text) in [
        (MACHINE_NAME, &machine.name),
        (MACHINE_VAULT, &machine.vault),
        (MACHINE_OWNER, &machine.owner),
    ] {
        if let Some(text) = text {
            headers.insert(name, value(text)?);
        }
    }
    // The target is taken from what was verified, not from what the parser holds.
    let message = signed.message();
    head(message.method(), message.target(), headers)
}

/// Builds the request of nobody in particular, on an open route: what may cross, and no word on
/// who it is from. Neither an identity nor a credential is within its reach.
///
/// # Errors
///
/// As [`request`].
pub(crate) fn open_request(open: &OpenRecorded, crossing: Crossing<'_>) -> Result<RequestHeader> {
    head(open.method(), open.target(), crossing.headers()?)
}

/// Builds the request of somebody who did not sign, on a route that still lets it pass: what the
/// client sent, its own credential among it, less every name by which the gateway says something, and
/// less every alias of a credential's header, which the record does not name.
/// Neither an identity nor a credential of the gateway is within its reach.
///
/// # Errors
///
/// As [`request`].
pub(crate) fn unsigned_request(
    unsigned: &UnsignedRecorded,
    crossing: Crossing<'_>,
    plan: &Plan,
) -> Result<RequestHeader> {
    let upstream = &plan.config.upstreams[crossing.route.upstream];
    let identity = &plan.config.identity_header;
    let mut headers = crossing.headers()?;
    for (name, value) in &crossing.client.headers {
        let is_cookie = *name == header::COOKIE;
        let is_held_back = is_the_gateways(name, upstream, identity)
            || bearer::is_alias(name)
            || (plan.owns_header(name) && !plan.takes_credential(name));
        if !crosses(name, crossing.route) && !is_cookie && !is_held_back {
            append(&mut headers, name, value)?;
        }
    }
    if !headers.contains_key(header::COOKIE)
        && let Some(cookie) = cookie(&crossing.client.headers)
    {
        headers.insert(header::COOKIE, cookie);
    }
    head(unsigned.method(), unsigned.target(), headers)
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
    let mut set = upstream.set_headers.iter();
    reserved(name.as_str()).is_some()
        || is_identity_name(name, identity)
        || set.any(|(set, _)| is_same(set, name))
}

/// What crosses of any request, besides its method and its target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing<'a> {
    pub(crate) client: &'a RequestHeader,
    pub(crate) provenance: &'a Provenance,
    pub(crate) body_len: usize,
    pub(crate) route: &'a Route,
    /// The `Host` that the server is told.
    pub(crate) host: &'a HeaderValue,
}

impl Crossing<'_> {
    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::with_capacity(24);
        headers.insert(header::HOST, self.host.clone());
        for (name, value) in crossing(&self.client.headers, self.route) {
            append(&mut headers, name, value)?;
        }
        if self.body_len > 0 || wants_length(&self.client.method) {
            headers.insert(header::CONTENT_LENGTH, self.body_len.into());
        }
        let provenance = self.provenance;
        if let Some(address) = provenance.client_ip {
            headers.insert(FORWARDED_FOR, value(&address.to_string())?);
        }
        let scheme = HeaderValue::from_static(provenance.scheme);
        headers.insert(FORWARDED_PROTO, scheme);
        headers.insert(FORWARDED_HOST, provenance.host.clone());
        headers.insert(REQUEST_ID, value(provenance.id.as_str())?);
        Ok(headers)
    }
}

/// The head of a request in HTTP/1.1. It is put together here and not by [`RequestHeader`]'s own
/// methods: those keep each name twice, for the sake of its case.
fn head(method: &str, target: &str, headers: HeaderMap) -> Result<RequestHeader> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes())
        .or_err(ErrorType::InvalidHTTPHeader, "the method is no token")?;
    parts.headers = headers;
    let mut head = RequestHeader::from(parts);
    head.set_raw_path(target.as_bytes())?;
    Ok(head)
}

fn append(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) -> Result<()> {
    let appended = headers.try_append(name, value.clone());
    appended
        .or_err(ErrorType::InvalidHTTPHeader, "too many headers")
        .map(drop)
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).or_err(ErrorType::InvalidHTTPHeader, "no value of a header")
}

/// Methods whose empty body is announced as such (RFC 9110, section 8.6).
fn wants_length(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

#[cfg(test)]
mod tests;
