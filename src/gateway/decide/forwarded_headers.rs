//! The client's headers: which of them are forwarded, and which refuse the request because they are
//! not.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::audit::DroppedHeaders;
use crate::config::Route;
use crate::config::headers::{ALLOWED, IDENTITY, is_same_header, reserved};
use crate::metrics::Metrics;
use countersign_core::lost_header::LostHeader;
use countersign_core::refusal::Refusal;

/// Forwarded headers of which there is one or none (RFC 9110, section 5.3): of two, one program
/// takes the first and another the last.
const SINGLE: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
];

/// Most dropped headers that a record names. Clients send a handful besides those that are
/// forwarded. Of more, the record says that there were more, and the metric counts them as `other`.
const NAMED: usize = 16;

/// The client's headers that are neither forwarded nor written anew by the gateway.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    names: Vec<HeaderName>,
    /// How many there were beyond [`NAMED`].
    unnamed: usize,
    refusing: Option<LostHeader>,
}

impl Dropped {
    /// Refuses a request that would mean something else without one of them.
    ///
    /// # Errors
    ///
    /// [`Refusal::HeaderNotForwarded`] with the first such header.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        (self.refusing).map_or(Ok(()), |lost| Err(Refusal::HeaderNotForwarded(lost)))
    }

    /// Their names, for the record.
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

/// Refuses a request whose forwarded headers hold more than visible ASCII, spaces and tabs, or are
/// repeated where they may not be. Returns the headers that are dropped. `is_set` tells whether the
/// gateway sets a header itself to the client's own value: it is not lost then.
///
/// # Errors
///
/// 400: a value that two programs may read in two ways is not forwarded.
pub(crate) fn check(
    headers: &HeaderMap,
    route: &Route,
    is_set: impl Fn(&HeaderName, &HeaderValue) -> bool,
    is_withheld: impl Fn(&HeaderName) -> bool,
) -> Result<Dropped, Refusal> {
    let is_repeated = |name| headers.get_all(name).iter().count() > 1;
    // If there are as many names as lines, no header is repeated.
    if headers.len() != headers.keys_len() && SINGLE.iter().any(is_repeated) {
        return Err(Refusal::BadRequest(
            "a header that is sent once was sent twice",
        ));
    }
    let mut dropped = Dropped::default();
    for (name, value) in headers {
        if is_forwarded(name, route) && !is_withheld(name) {
            visible(value)?;
        } else if reserved(name.as_str()).is_none() {
            let lost = LostHeader::of(name.as_str());
            if lost.refuses() && dropped.refusing.is_none() && !is_set(name, value) {
                dropped.refusing = Some(lost);
            }
            dropped.add(name);
        }
    }
    Ok(dropped)
}

/// Refuses header values that hold more than visible ASCII, spaces and tabs, in a request that is
/// forwarded with all of the client's headers.
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

/// The client's header lines that are forwarded.
pub(crate) fn forwarded<'a>(
    headers: &'a HeaderMap,
    route: &'a Route,
) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
    headers.iter().filter(|(name, _)| is_forwarded(name, route))
}

/// Whether a client's header of this name is forwarded.
pub(crate) fn is_forwarded(name: &HeaderName, route: &Route) -> bool {
    ALLOWED.contains(name) || route.forward_headers.contains(name)
}

/// Whether a header would have the backend wrap its answer, at a path where the answer shows the token
/// of the request. The answer would lie at the backend, out of reach of the echo check, and whoever
/// has the wrapping token would get it there.
pub(crate) fn wraps_own_token(name: &HeaderName, target: &[u8]) -> bool {
    const WRAP: &str = "x-vault-wrap-ttl";
    const SHOWN: [&[u8]; 4] = [b"lookup", b"lookup-self", b"renew", b"renew-self"];
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
    let last = path.strip_prefix(b"/v1/auth/token/".as_slice());
    let last = last.map(|last| last.strip_suffix(b"/").unwrap_or(last));
    name.as_str() == WRAP && last.is_some_and(|last| SHOWN.contains(&last))
}

/// Whether the client tried to name an identity itself, in any spelling that a backend could read
/// as one ([`is_same_header`]). Such a header is never forwarded; this is for the count.
pub(crate) fn names_an_identity(headers: &HeaderMap, identity: &HeaderName) -> bool {
    headers.keys().any(|name| is_identity_name(name, identity))
}

pub(crate) fn is_identity_name(name: &HeaderName, identity: &HeaderName) -> bool {
    is_same_header(name, identity) || IDENTITY.iter().any(|own| is_same_header(name, own))
}

#[cfg(test)]
mod tests;
