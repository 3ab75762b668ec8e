//! The request to the upstream: built anew from what was verified and what the gateway knows. It is
//! never a copy of the client's request with some headers removed.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr, Result};

use crate::config::headers::{
    MACHINE_ASSERTION, MACHINE_KEY, MACHINE_NAME, MACHINE_OWNER, MACHINE_VAULT, REQUEST_ID,
    is_same_header, reserved,
};
use crate::config::{Login, Route, Upstream};
use crate::gateway::decide::bearer;
use crate::gateway::decide::decided_request::Provenance;
use crate::gateway::decide::forwarded_headers::{forwarded, is_forwarded, is_identity_name};
use crate::gateway::decide::open::OpenRequest;
use crate::gateway::decide::policy::Permitted;
use crate::gateway::decide::unsigned::UnsignedRequest;
use crate::gateway::plan::Plan;
use crate::gateway::record::authorized::Recorded;
use crate::gateway::upstream::credentials::injection::Injection;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The secrets that prove to the backend who sends the request of a machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestSecrets<'a> {
    /// The credential, or the token of the machine.
    pub(super) injection: Option<&'a Injection>,
    /// The gateway's assertion about the machine and the request.
    pub(super) assertion: Option<&'a HeaderValue>,
}

/// Builds the upstream request of a machine.
///
/// # Errors
///
/// Pingora's, for a header that cannot be built; the request is then not sent.
pub(super) fn signed(
    recorded: &Recorded<Permitted>,
    secrets: RequestSecrets<'_>,
    forwarded: ForwardedHeaders<'_>,
    upstream: &Upstream,
    identity: &HeaderName,
) -> Result<RequestHeader> {
    let headers = of_machine(recorded, secrets, forwarded, upstream, identity)?;
    // The target is taken from what was verified, not from what the parser holds.
    let message = recorded.signed().message();
    head(message.method(), message.target(), headers)
}

/// Builds a read of a KV engine that the request of a machine causes. It carries the same identity
/// and credential as the request itself would. `forwarded` has the headers of
/// [`client_head_of_read`].
///
/// # Errors
///
/// As [`signed`].
pub(super) fn read(
    recorded: &Recorded<Permitted>,
    injection: &Injection,
    forwarded: ForwardedHeaders<'_>,
    upstream: &Upstream,
    identity: &HeaderName,
    (method, target): (&str, &str),
) -> Result<RequestHeader> {
    let secrets = RequestSecrets {
        injection: Some(injection),
        assertion: None,
    };
    let headers = of_machine(recorded, secrets, forwarded, upstream, identity)?;
    head(method, target, headers)
}

/// The client's headers that its reads carry too: its name and its trace. Others are about the
/// client's own request. `Accept-Encoding` would have the answers compressed, and `If-None-Match`
/// would leave them out.
pub(super) fn client_head_of_read(client: &RequestHeader) -> Result<RequestHeader> {
    let mut head = RequestHeader::build("GET", b"/", Some(4))?;
    for name in ["user-agent", "traceparent", "tracestate"] {
        if let Some(value) = client.headers.get(name) {
            head.insert_header(name, value.clone())?;
        }
    }
    head.insert_header(header::ACCEPT, "application/json")?;
    Ok(head)
}

/// The headers of a request for a machine: its identity, and the secrets.
fn of_machine(
    recorded: &Recorded<Permitted>,
    secrets: RequestSecrets<'_>,
    forwarded: ForwardedHeaders<'_>,
    upstream: &Upstream,
    identity: &HeaderName,
) -> Result<HeaderMap> {
    let mut headers = forwarded.headers()?;
    let has_secret = secrets.injection.is_some() || secrets.assertion.is_some();
    if has_secret && upstream.echo_check {
        // The echo check cannot read a coding, and the client must not choose whether it can.
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
    }
    for (name, value) in &upstream.set_headers {
        headers.insert(name, value.clone());
    }
    if let Some((name, value)) = upstream.login.as_ref().and_then(Login::namespace_header) {
        headers.insert(name, value);
    }
    if let Some(injection) = secrets.injection {
        headers.insert(injection.header(), injection.value().clone());
    }

    // The identity comes last, so that no header above can replace it.
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
    if let Some(assertion) = secrets.assertion {
        headers.insert(MACHINE_ASSERTION, assertion.clone());
    }
    Ok(headers)
}

/// Builds the upstream request of an open route. It names no sender: neither an identity nor a
/// credential is within its reach.
///
/// # Errors
///
/// As [`signed`].
pub(super) fn open(
    open: &Recorded<OpenRequest>,
    forwarded: ForwardedHeaders<'_>,
) -> Result<RequestHeader> {
    head(open.method(), open.target(), forwarded.headers()?)
}

/// Builds the upstream request of a migration route: the client's headers, its own credential among
/// them. Removed are the headers that only the gateway sets, and every alias of a credential's
/// header, because the record does not name that credential. Neither an identity nor a credential
/// of the gateway is within its reach.
///
/// # Errors
///
/// As [`signed`].
pub(super) fn unsigned(
    unsigned: &Recorded<UnsignedRequest>,
    forwarded: ForwardedHeaders<'_>,
    upstream: &Upstream,
    plan: &Plan,
) -> Result<RequestHeader> {
    let identity = &plan.config.identity_header;
    let mut headers = forwarded.headers()?;
    for (name, value) in &forwarded.client.headers {
        let is_cookie = *name == header::COOKIE;
        let is_removed = is_the_gateways(name, upstream, identity)
            || bearer::is_alias(name)
            || (plan.resembles_credential_header(name) && !plan.is_credential_header(name));
        if !is_forwarded(name, forwarded.route) && !is_cookie && !is_removed {
            append(&mut headers, name, value)?;
        }
    }
    if !headers.contains_key(header::COOKIE)
        && let Some(cookie) = cookie(&forwarded.client.headers)
    {
        headers.insert(header::COOKIE, cookie);
    }
    head(unsigned.method(), unsigned.target(), headers)
}

/// All cookies on one line: HTTP/2 clients send them on several (RFC 9113, section 8.2.3), HTTP/1
/// allows one.
fn cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(header::COOKIE).iter();
    let lines: Vec<&[u8]> = lines.map(HeaderValue::as_bytes).collect();
    match lines[..] {
        [] => None,
        _ => HeaderValue::from_bytes(&lines.join(&b"; "[..])).ok(),
    }
}

/// Whether only the gateway sets a header of this name in the upstream request.
fn is_the_gateways(name: &HeaderName, upstream: &Upstream, identity: &HeaderName) -> bool {
    let mut set = upstream.set_headers.iter();
    reserved(name.as_str()).is_some()
        || is_identity_name(name, identity)
        || set.any(|(set, _)| is_same_header(set, name))
}

/// The headers that every upstream request has.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardedHeaders<'a> {
    pub(super) client: &'a RequestHeader,
    pub(super) provenance: &'a Provenance,
    pub(super) body_len: usize,
    pub(super) route: &'a Route,
    /// The `Host` that is sent to the server.
    pub(super) host: &'a HeaderValue,
}

impl ForwardedHeaders<'_> {
    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::with_capacity(24);
        headers.insert(header::HOST, self.host.clone());
        for (name, value) in forwarded(&self.client.headers, self.route) {
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

/// The head of an HTTP/1.1 request. [`RequestHeader`]'s own methods are not used, because they
/// store each name twice, to keep its case.
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
