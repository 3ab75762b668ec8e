//! The checks of a head, before the body is read: framing, target, route, headers, throttle,
//! signing headers, time, machine. They are cheap, and none of them needs a signature to be
//! verified.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{HOST, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use crate::audit::TokenNames;
use crate::config::{Gate, HEADER_BYTES, Route};
use crate::gateway::decide::bearer::{self, Bearer};
use crate::gateway::decide::decided_request::Provenance;
use crate::gateway::decide::forwarded_headers::{self, Dropped};
use crate::gateway::decide::open::OpenRequest;
use crate::gateway::decide::route_match::RouteMatch;
use crate::gateway::decide::throttle::Throttle;
use crate::gateway::decide::unsigned::{PassReason, UnsignedRequest};
use crate::gateway::plan::Plan;
use crate::gateway::receive::first_line::FirstLine;
use crate::gateway::receive::framing::{self, Framing};
use crate::gateway::receive::origin::RequestSource;
use crate::gateway::receive::request_id::RequestId;
use crate::metrics::Metrics;
use crate::registry::RegistryStore;
use countersign_client::clock::Now;
use countersign_core::decision::{Attempt, Attributed};
use countersign_core::header_name::SigningHeader;
use countersign_core::headers::SigningHeaders;
use countersign_core::refusal::Refusal;

/// The checks of a head, with the parts that they need.
pub(super) struct HeadChecks {
    pub(super) registry: Arc<RegistryStore>,
    pub(super) throttle: Throttle,
    pub(super) token_names: Arc<TokenNames>,
    pub(super) metrics: Arc<Metrics>,
}

/// A head that has passed them.
pub(super) struct CheckedHead {
    pub(super) sender: RequestSender,
    /// The index of the route.
    pub(super) route: usize,
    pub(super) framing: Framing,
    pub(super) provenance: Provenance,
    pub(super) query_stripped: bool,
    pub(super) dropped: Dropped,
}

/// The sender, by the head alone.
pub(super) enum RequestSender {
    /// A claimed machine, not yet verified. On an observed route: also the unsigned request that
    /// passes if a later check fails.
    Claimed(Attributed, Option<UnsignedRequest>),
    /// Unknown: the route is open.
    Open(OpenRequest),
    /// Unsigned, on a route that lets such requests pass.
    Unsigned(UnsignedRequest, PassReason),
}

/// A head on the route that takes it.
struct RoutedHead<'a> {
    plan: &'a Plan,
    matched: RouteMatch<'a>,
    route: &'a Route,
    gate: Gate,
    headers: &'a HeaderMap,
    source: RequestSource,
    arrival: Now,
    dropped: &'a Dropped,
}

impl HeadChecks {
    /// Checks a head. A request that needs no signature skips the throttle, the signing headers,
    /// the time and the machine. A bearer request skips query policy and dropped headers too.
    ///
    /// # Errors
    ///
    /// The first check that refused.
    pub(super) fn check(
        &self,
        plan: &Plan,
        session: &ServerSession,
        line: Option<&FirstLine>,
        source: RequestSource,
        id: RequestId,
        arrival: Now,
    ) -> Result<CheckedHead, Refusal> {
        let head = session.req_header();
        let framing = match line {
            Some(line) => line.check(session)?,
            None => framing::check_h2(head, HEADER_BYTES)?,
        };
        let identity = &plan.config.identity_header;
        if forwarded_headers::names_an_identity(&head.headers, identity) {
            self.metrics.spoofed_identity();
        }
        let host = served_host(head, &plan.config.hosts)?;
        let (method, routes) = (head.method.as_str(), &plan.config.routes);
        let matched = RouteMatch::find(routes, method, head.raw_path())?;
        let route = plan.route(matched.route);
        let gate = route.mode.at(arrival.unix_seconds());
        let is_set = |name: &_, value: &_| {
            gate != Gate::Nothing && plan.upstream(matched.route).sets(name, value)
        };
        let is_withheld = |name: &_| {
            plan.may_carry(matched.route)
                && forwarded_headers::wraps_own_token(name, head.raw_path())
        };
        let dropped = forwarded_headers::check(&head.headers, route, is_set, is_withheld)?;
        let routed = RoutedHead {
            plan,
            matched,
            route,
            gate,
            headers: &head.headers,
            source,
            arrival,
            dropped: &dropped,
        };
        let (sender, query_stripped) = self.sender(&routed)?;
        if matches!(sender, RequestSender::Unsigned(..)) {
            forwarded_headers::check_values(&head.headers)?;
        }
        Ok(CheckedHead {
            sender,
            route: matched.route,
            framing,
            provenance: Provenance {
                id,
                client_ip: source.client,
                scheme: source.scheme,
                host,
            },
            query_stripped,
            dropped,
        })
    }

    /// The sender by the rules of the route, and whether the query is stripped.
    fn sender(&self, head: &RoutedHead<'_>) -> Result<(RequestSender, bool), Refusal> {
        match head.gate {
            Gate::Nothing => head.open(),
            Gate::SignatureOrBearer if !bearer::has_signing_header(head.headers) => {
                match head.bearer() {
                    Bearer::Several => {
                        Err(Refusal::BadRequest("it holds different bearer credentials"))
                    }
                    found @ Bearer::One(_) => {
                        let request = self.unsigned(head, found);
                        Ok((RequestSender::Unsigned(request, PassReason::Bearer), false))
                    }
                    Bearer::None => self.signed(head),
                }
            }
            Gate::Signature | Gate::SignatureOrBearer => self.signed(head),
            Gate::Observed => self.observed(head),
        }
    }

    /// Nothing but a signature passes.
    fn signed(&self, head: &RoutedHead<'_>) -> Result<(RequestSender, bool), Refusal> {
        let (attributed, query_stripped) = self.attribute(head)?;
        Ok((RequestSender::Claimed(attributed, None), query_stripped))
    }

    /// The request passes with any signature or none, and the record tells what was wrong.
    fn observed(&self, head: &RoutedHead<'_>) -> Result<(RequestSender, bool), Refusal> {
        match self.attribute(head) {
            Ok((attributed, query_stripped)) => {
                let otherwise = self.unsigned(head, head.bearer());
                let sender = RequestSender::Claimed(attributed, Some(otherwise));
                Ok((sender, query_stripped))
            }
            Err(refusal) if refusal.judges_the_caller() => {
                let reason = PassReason::observed(&refusal.into());
                let request = self.unsigned(head, head.bearer());
                Ok((RequestSender::Unsigned(request, reason), false))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The machine that the signing headers name, and whether the query is stripped.
    fn attribute(&self, head: &RoutedHead<'_>) -> Result<(Attributed, bool), Refusal> {
        let signed = head.matched.target.under(head.route.query)?;
        let query_stripped = signed.query_stripped();
        // Observed routes have no throttle: a failing request passes anyway, so an attacker gains
        // nothing there. A client that shares the attacker's address must not be refused.
        if head.gate != Gate::Observed {
            head.dropped.check()?;
            self.throttle_source(head)?;
        }
        let headers = SigningHeaders::parse(|header| {
            framing::lines(head.headers, HeaderName::from_static(header.name()))
        })?;
        let attributed = Attempt::new(head.matched.method, signed, headers)
            .check_time(head.arrival.unix_seconds(), &head.plan.window)?
            .look_up(|machine| self.registry.find(machine));
        // An observed route reports a signature fault before a header fault.
        head.dropped.check()?;
        Ok((attributed, query_stripped))
    }

    /// Refuses a source that has failed too often.
    fn throttle_source(&self, head: &RoutedHead<'_>) -> Result<(), Refusal> {
        let claimed = head.headers.get(SigningHeader::MachineId.name());
        self.throttle.check(
            head.source.client,
            claimed.map(|value| value.as_bytes()),
            head.arrival.mono,
            &head.plan.config.throttle,
        )
    }

    fn unsigned(&self, head: &RoutedHead<'_>, bearer: Bearer<'_>) -> UnsignedRequest {
        let token = bearer.token().map(|token| self.token_names.of(token));
        UnsignedRequest::new(head.matched.method, head.matched.target, token)
    }
}

impl RoutedHead<'_> {
    fn open(&self) -> Result<(RequestSender, bool), Refusal> {
        self.dropped.check()?;
        let target = self.matched.target.under(self.route.query)?;
        let query_stripped = target.query_stripped();
        let request = OpenRequest::new(self.matched.method, target);
        Ok((RequestSender::Open(request), query_stripped))
    }

    /// The bearer credentials that the client sent.
    fn bearer(&self) -> Bearer<'_> {
        Bearer::of(self.headers, |name| self.plan.is_credential_header(name))
    }
}

/// Returns the host asked for, if the gateway serves it.
fn served_host(head: &RequestHeader, hosts: &[String]) -> Result<HeaderValue, Refusal> {
    let host = framing::host_of(head).unwrap_or_default();
    if !hosts.is_empty() && !hosts.iter().any(|served| served.eq_ignore_ascii_case(host)) {
        return Err(Refusal::BadRequest("this host is not served here"));
    }
    match (head.uri.authority(), head.headers.get(HOST)) {
        (None, Some(value)) => Ok(value.clone()),
        _ => HeaderValue::from_str(host).map_err(|_| Refusal::BadRequest("Host is malformed")),
    }
}
