//! Every way a request can be refused: one closed enum, and one exhaustive match for each thing
//! that depends on it (code, text, whether it judges the caller). The code has the status.

use std::borrow::Cow;
use std::sync::Arc;

use super::header_name::{HeaderFault, SigningHeader};
use super::lost_header::LostHeader;
use super::target::{QueryNotAllowed, TargetError};

mod code;

pub use code::Code;

/// Why a request was refused. The client's text shows the fields of a variant. So they hold only
/// text that the client sent, and no secret. Before the signature has verified, they do not reveal
/// whether a machine exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Ambiguous framing (request smuggling), or a header that the gateway never accepts; the text
    /// names it.
    BadRequest(&'static str),
    /// The request target is outside the grammar.
    BadTarget(TargetError),
    /// The route does not forward this header, and without it the request would mean something
    /// else.
    HeaderNotForwarded(LostHeader),
    /// The route takes no query.
    QueryNotAllowed,
    /// The method is not one of the route's; `allow` lists those (RFC 9110, section 15.5.6).
    MethodNotAllowed {
        /// The value of the `Allow` header.
        allow: Arc<str>,
    },
    /// The raw header block is over its limit.
    HeaderTooLarge,
    /// The body is over the route's limit.
    BodyTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The header block or the body was not complete in time.
    RequestTimeout,
    /// One of the four signing headers is absent.
    MissingHeader(SigningHeader),
    /// One of the four signing headers breaks its grammar.
    MalformedHeader(SigningHeader, HeaderFault),
    /// The timestamp is outside the window.
    ClockSkew {
        /// The gateway's clock, in Unix seconds.
        server_time: u64,
    },
    /// The signature is wrong, or the machine is unknown: the two look alike from outside.
    BadSignature,
    /// The nonce has been spent.
    Replayed,
    /// The signature is good; the machine is switched off.
    MachineDisabled,
    /// The signature is good; the machine, or its key, is past its last second or before its first.
    MachineExpired,
    /// The signature is good; the policy does not let this machine do this.
    NotPermitted,
    /// The signature is good; below this path the backend would hand out the gateway's credential.
    PathClosed(&'static str),
    /// No route matches.
    NoRoute,
    /// An enrolment token or JWT is wrong, whatever is wrong with it.
    EnrolmentRefused,
    /// A call to the registry is not valid: one text for each mistake, at least one.
    Invalid(Arc<[String]>),
    /// The registry has no machine of this id. It is a call's answer, after its signature has
    /// verified.
    NoMachine,
    /// The registry has no enrolment token of this id.
    NoEnrolmentToken,
    /// The registry has it already; the text says what.
    Exists(String),
    /// The database of the registry is away, or the registry is staler than allowed.
    RegistryUnavailable(RegistryFault),
    /// Too many failures from this source, or the machine is over its nonce quota or rate limit.
    Throttled {
        /// Seconds to wait before trying again.
        retry_after: u32,
    },
    /// The replay cache is unavailable, so the gateway cannot tell whether the nonce is new.
    ReplayUnavailable {
        /// Seconds to wait before trying again.
        retry_after: u32,
    },
    /// The audit record could not be written.
    AuditUnavailable,
    /// A budget of the gateway is used up.
    Overloaded,
    /// The gateway shut down before the whole body had arrived.
    NotReady,
    /// The gateway's own backend credential is missing or refused.
    UpstreamCredential,
    /// No server of the upstream could be reached.
    UpstreamUnreachable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The upstream closed the connection too early, or its answer may not be forwarded.
    UpstreamError,
    /// A bug of the gateway; the request was not forwarded.
    Internal,
}

/// The part of the registry that is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryFault {
    /// The machines in memory are older than allowed.
    Stale,
    /// The database did not answer; nothing was changed.
    Away,
    /// The database did not tell in time whether it made a change.
    Unknown,
}

impl RegistryFault {
    const fn text(self) -> &'static str {
        match self {
            RegistryFault::Stale => {
                "The gateway has not heard from the registry's database for too long: try again."
            }
            RegistryFault::Away => {
                "The registry's database cannot be reached at present: try again. Nothing was \
                 changed."
            }
            RegistryFault::Unknown => {
                "The registry's database did not answer in time. It is unknown whether the change \
                 was made: read the machine or the changes before trying again."
            }
        }
    }
}

impl From<QueryNotAllowed> for Refusal {
    fn from(_: QueryNotAllowed) -> Refusal {
        Refusal::QueryNotAllowed
    }
}

impl Refusal {
    /// Whether the refusal is about the caller and its permissions. A route that observes lets such
    /// requests pass. It still refuses malformed requests, requests over a limit, and requests that
    /// the gateway cannot handle now: a client that signs and has no other credential must learn
    /// that it may retry, and not get the backend's 403.
    pub const fn judges_the_caller(&self) -> bool {
        match self {
            Refusal::HeaderNotForwarded(_)
            | Refusal::QueryNotAllowed
            | Refusal::MissingHeader(_)
            | Refusal::MalformedHeader(..)
            | Refusal::ClockSkew { .. }
            | Refusal::BadSignature
            | Refusal::Replayed
            | Refusal::MachineDisabled
            | Refusal::MachineExpired
            | Refusal::NotPermitted
            | Refusal::PathClosed(_) => true,
            Refusal::BadRequest(_)
            | Refusal::BadTarget(_)
            | Refusal::MethodNotAllowed { .. }
            | Refusal::HeaderTooLarge
            | Refusal::BodyTooLarge { .. }
            | Refusal::RequestTimeout
            | Refusal::NoRoute
            | Refusal::EnrolmentRefused
            | Refusal::Invalid(_)
            | Refusal::NoMachine
            | Refusal::NoEnrolmentToken
            | Refusal::Exists(_)
            | Refusal::RegistryUnavailable(_)
            | Refusal::Throttled { .. }
            | Refusal::ReplayUnavailable { .. }
            | Refusal::AuditUnavailable
            | Refusal::Overloaded
            | Refusal::NotReady
            | Refusal::UpstreamCredential
            | Refusal::UpstreamUnreachable
            | Refusal::UpstreamTimeout
            | Refusal::UpstreamError
            | Refusal::Internal => false,
        }
    }

    /// The fixed word for this refusal.
    pub const fn code(&self) -> Code {
        match self {
            Refusal::BadRequest(_) => Code::BadRequest,
            Refusal::BadTarget(_) => Code::BadTarget,
            Refusal::HeaderNotForwarded(_) => Code::HeaderNotForwarded,
            Refusal::QueryNotAllowed => Code::QueryNotAllowed,
            Refusal::MethodNotAllowed { .. } => Code::MethodNotAllowed,
            Refusal::HeaderTooLarge => Code::HeaderTooLarge,
            Refusal::BodyTooLarge { .. } => Code::BodyTooLarge,
            Refusal::RequestTimeout => Code::RequestTimeout,
            Refusal::MissingHeader(_) => Code::MissingHeader,
            Refusal::MalformedHeader(..) => Code::MalformedHeader,
            Refusal::ClockSkew { .. } => Code::ClockSkew,
            Refusal::BadSignature => Code::BadSignature,
            Refusal::Replayed => Code::Replayed,
            Refusal::MachineDisabled => Code::MachineDisabled,
            Refusal::MachineExpired => Code::MachineExpired,
            Refusal::NotPermitted | Refusal::PathClosed(_) => Code::NotPermitted,
            Refusal::NoRoute => Code::NoRoute,
            Refusal::EnrolmentRefused => Code::EnrolmentRefused,
            Refusal::Invalid(_) => Code::Invalid,
            Refusal::NoMachine | Refusal::NoEnrolmentToken => Code::NoMachine,
            Refusal::Exists(_) => Code::Exists,
            Refusal::RegistryUnavailable(_) => Code::RegistryUnavailable,
            Refusal::Throttled { .. } => Code::Throttled,
            Refusal::ReplayUnavailable { .. } => Code::ReplayUnavailable,
            Refusal::AuditUnavailable => Code::AuditUnavailable,
            Refusal::Overloaded => Code::Overloaded,
            Refusal::NotReady => Code::NotReady,
            Refusal::UpstreamCredential => Code::UpstreamCredential,
            Refusal::UpstreamUnreachable => Code::UpstreamUnreachable,
            Refusal::UpstreamTimeout => Code::UpstreamTimeout,
            Refusal::UpstreamError => Code::UpstreamError,
            Refusal::Internal => Code::Internal,
        }
    }

    /// The sentence for a person at the client's end: what was wrong and what to do.
    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Refusal::BadRequest(why) => format!("The request is not acceptable: {why}.").into(),
            Refusal::BadTarget(why) => format!("The request target is not acceptable: {why}.").into(),
            Refusal::HeaderNotForwarded(lost) => lost.text("on this route").into(),
            Refusal::QueryNotAllowed => {
                "This route takes no query: send the path without '?'.".into()
            }
            Refusal::MethodNotAllowed { allow } => {
                format!("The method is not allowed here; allowed are: {allow}.").into()
            }
            Refusal::HeaderTooLarge => "The request header block is too large.".into(),
            Refusal::BodyTooLarge { limit } => {
                format!("The request body is larger than the {limit} bytes this route takes.").into()
            }
            Refusal::RequestTimeout => "The request was not complete in time.".into(),
            Refusal::MissingHeader(header) => {
                format!("The header {header} is missing: every request must be signed.").into()
            }
            Refusal::MalformedHeader(header, fault) => {
                format!("The header {header} is malformed: {fault}.").into()
            }
            Refusal::ClockSkew { .. } => {
                "X-Timestamp is outside the accepted window: set the machine's clock.".into()
            }
            Refusal::BadSignature => {
                "The signature does not verify for this machine id, method, path, time, nonce and body."
                    .into()
            }
            Refusal::Replayed => {
                "This nonce has been used: sign each request, and each retry, afresh.".into()
            }
            Refusal::MachineDisabled => "This machine is disabled.".into(),
            Refusal::MachineExpired => {
                "This machine, or the key it signed with, is outside its period of validity.".into()
            }
            Refusal::NotPermitted => "This machine may not do this.".into(),
            Refusal::PathClosed(path) => format!(
                "Paths under {path} are closed to every machine here: the backend could hand out the \
                 gateway's own credential there. A route whose path (routes[].path) lies under {path} \
                 opens it."
            )
            .into(),
            Refusal::NoRoute => {
                "No route (routes[].path) matches this path: it is closed to every machine here.".into()
            },
            Refusal::EnrolmentRefused => {
                "This token or JWT does not enrol a machine here: ask for a new one.".into()
            }
            Refusal::Invalid(mistakes) => match &**mistakes {
                [only] => only.clone().into(),
                _ => format!("There are {} mistakes; `errors` has each.", mistakes.len()).into(),
            },
            Refusal::NoMachine => "The registry has no machine of this id.".into(),
            Refusal::NoEnrolmentToken => "The registry has no enrolment token of this id.".into(),
            Refusal::Exists(what) => what.clone().into(),
            Refusal::RegistryUnavailable(fault) => fault.text().into(),
            Refusal::Throttled { .. } => "Too many requests: wait before trying again.".into(),
            Refusal::ReplayUnavailable { .. } => {
                "The gateway cannot tell at present whether this request is new: try again.".into()
            }
            Refusal::AuditUnavailable => {
                "The gateway cannot write its audit record at present: try again.".into()
            }
            Refusal::Overloaded => "The gateway is at its limit: try again.".into(),
            Refusal::NotReady => "The gateway is shutting down: try again.".into(),
            Refusal::UpstreamCredential => {
                "The gateway has no credential that the backend accepts for this request: try \
                 again; the gateway's log tells why."
                    .into()
            }
            Refusal::UpstreamUnreachable => "The backend could not be reached.".into(),
            Refusal::UpstreamTimeout => "The backend did not answer in time.".into(),
            Refusal::UpstreamError => "The backend's answer could not be passed on.".into(),
            Refusal::Internal => "The gateway failed; the request was not forwarded.".into(),
        }
    }

    /// One text for each mistake, where the refusal names several.
    pub fn mistakes(&self) -> &[String] {
        match self {
            Refusal::Invalid(mistakes) => mistakes,
            _ => &[],
        }
    }

    /// Seconds for `Retry-After`, where the refusal passes by itself.
    pub const fn retry_after(&self) -> Option<u32> {
        match self {
            Refusal::Throttled { retry_after } | Refusal::ReplayUnavailable { retry_after } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_judges_the_caller_passes_where_a_route_observes() {
        let passes = |refusal: Refusal| refusal.judges_the_caller();
        for refusal in [
            Refusal::MissingHeader(SigningHeader::Nonce),
            Refusal::MalformedHeader(SigningHeader::Nonce, HeaderFault::Repeated),
            Refusal::ClockSkew { server_time: 1 },
            Refusal::BadSignature,
            Refusal::Replayed,
            Refusal::MachineDisabled,
            Refusal::MachineExpired,
            Refusal::NotPermitted,
            Refusal::PathClosed("/v1/sys"),
            Refusal::QueryNotAllowed,
            Refusal::HeaderNotForwarded(LostHeader::of("content-encoding")),
        ] {
            assert!(passes(refusal.clone()), "{refusal:?}");
            assert!((400..404).contains(&refusal.code().status()), "{refusal:?}");
        }
        for refusal in [
            Refusal::BadRequest("why"),
            Refusal::BadTarget(TargetError::TooLong),
            Refusal::BodyTooLarge { limit: 1 },
            Refusal::NoRoute,
            Refusal::EnrolmentRefused,
            Refusal::Invalid(["why".to_owned()].into()),
            Refusal::NoMachine,
            Refusal::Exists("why".into()),
            Refusal::RegistryUnavailable(RegistryFault::Stale),
            Refusal::Throttled { retry_after: 1 },
            Refusal::ReplayUnavailable { retry_after: 1 },
            Refusal::AuditUnavailable,
            Refusal::Overloaded,
            Refusal::UpstreamCredential,
            Refusal::Internal,
        ] {
            assert!(!passes(refusal.clone()), "{refusal:?}");
        }
    }

    #[test]
    fn texts_are_sentences() {
        for refusal in [
            Refusal::BadRequest("why"),
            Refusal::BadTarget(TargetError::TooLong),
            Refusal::MissingHeader(SigningHeader::Nonce),
            Refusal::MalformedHeader(SigningHeader::Nonce, HeaderFault::Repeated),
            Refusal::BodyTooLarge { limit: 1 },
            Refusal::BadSignature,
            Refusal::PathClosed("/v1/sys"),
            Refusal::EnrolmentRefused,
            Refusal::Invalid(["A".to_owned(), "B".to_owned()].into()),
            Refusal::NoMachine,
            Refusal::NoEnrolmentToken,
            Refusal::RegistryUnavailable(RegistryFault::Stale),
            Refusal::RegistryUnavailable(RegistryFault::Away),
            Refusal::RegistryUnavailable(RegistryFault::Unknown),
            Refusal::HeaderNotForwarded(LostHeader::of("content-encoding")),
        ] {
            let text = refusal.text();
            assert!(
                text.ends_with('.') && text.starts_with(char::is_uppercase),
                "{text}"
            );
        }
    }
}
