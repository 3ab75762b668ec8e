//! The decision over one request, in the order of the design: cheap checks first, and nothing
//! that only a signature may cause before the signature.

use std::net::IpAddr;

use http::header::HeaderName;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use super::Gateway;
use super::body::Body;
use super::edge::send_continue;
use super::forward::Passage;
use super::framing::{self, Framing};
use super::recorded::Recorded;
use super::request_id::RequestId;
use super::stamp::{self, Provenance};
use crate::auth::decision::{Admitted, Attempt, Claimed, Denied};
use crate::auth::headers::{Occurrence, SigningHeader, SigningHeaders};
use crate::auth::message::BodyHash;
use crate::auth::method::{METHODS, Method};
use crate::auth::refusal::Refusal;
use crate::auth::target::Target;
use crate::clock::Now;
use crate::config::{HEADER_BYTES, Route};

/// A refusal, with what is known of who was refused.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody knows who sent it.
    Unverified(Refusal),
    /// The signature is good.
    Denied(Box<Denied>),
}

/// What is known once the head has passed (steps 1 to 6).
struct Opening {
    claimed: Claimed,
    route: usize,
    framing: Framing,
    provenance: Provenance,
    query_stripped: bool,
}

impl Stop {
    pub(super) fn refusal(&self) -> &Refusal {
        match self {
            Stop::Unverified(refusal) => refusal,
            Stop::Denied(denied) => &denied.refusal,
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Unverified(refusal)
    }
}

impl From<Box<Denied>> for Stop {
    fn from(denied: Box<Denied>) -> Stop {
        Stop::Denied(denied)
    }
}

impl Gateway {
    /// Judges a request whose head has been read. Only a request that every check let through,
    /// and whose record is written, comes back as a [`Passage`].
    ///
    /// # Errors
    ///
    /// The first check that refused. The nonce stays spent from the moment it was claimed,
    /// whatever happens afterwards.
    pub(super) async fn decide(
        &self,
        session: &mut ServerSession,
        id: RequestId,
    ) -> Result<(Passage, Body), Stop> {
        let arrival = self.clock.now();
        let opening = self.judge_head(session, id, arrival)?;
        let on_head = self.clock.now().mono.saturating_sub(arrival.mono);

        let route = self.route(opening.route);
        let body = self.read_body(session, &opening.framing, route).await?;

        let complete = self.clock.now();
        let admitted = self.admit(opening.claimed, &body, arrival).await?;
        let admitted = self.check_policy(admitted, route)?;
        let client = opening.provenance.client_ip;
        let receipt = self
            .record_accepted(&admitted, session.req_header(), opening.route, client, id)
            .await;
        let recorded = match receipt {
            Ok(receipt) => Recorded::new(admitted, receipt),
            Err(_) => return Err(admitted.deny(Refusal::AuditUnavailable).into()),
        };
        if opening.query_stripped {
            self.metrics.query_stripped();
        }
        let on_rest = self.clock.now().mono.saturating_sub(complete.mono);
        self.metrics.observe_verify(on_head + on_rest);

        let passage = Passage {
            recorded,
            provenance: opening.provenance,
            route: opening.route,
            body_len: body.bytes().len(),
        };
        Ok((passage, body))
    }

    /// Steps 1 to 6: framing and target, route, signing headers, time, machine.
    fn judge_head(
        &self,
        session: &ServerSession,
        id: RequestId,
        arrival: Now,
    ) -> Result<Opening, Refusal> {
        let head = session.req_header();
        let limit = HEADER_BYTES;
        let framing = if session.is_http2() {
            framing::check_h2(head, limit)?
        } else {
            framing::check_h1(head, &session.to_h1_raw(), limit)?
        };
        let host = self.served_host(head)?;
        let target = Target::parse(head.raw_path()).map_err(Refusal::BadTarget)?;

        let route_index = self
            .config
            .routes
            .find(target.path())
            .ok_or(Refusal::NoRoute)?;
        let route = self.route(route_index);
        let method = Method::accept(head.method.as_str(), &route.methods)
            .ok_or_else(|| not_allowed(route))?;
        let target = target.under(route.query)?;
        stamp::check_crossing(&head.headers, route)?;
        if stamp::names_an_identity(&head.headers, &self.config.identity_header) {
            self.metrics.spoofed_identity();
        }

        let headers = SigningHeaders::parse(|header| occurrence(head, header))?;
        let claimed = Attempt::new(method, target, headers)
            .check_time(arrival.unix_seconds(), &self.window)?
            .look_up(|machine| self.registry.find(machine));
        Ok(Opening {
            claimed,
            route: route_index,
            framing,
            provenance: Provenance {
                id,
                client_ip: client_ip(session),
                scheme: scheme(session),
                host,
            },
            query_stripped: target.query_stripped(),
        })
    }

    /// The host asked for, where the configuration lets every host in or names this one.
    fn served_host(&self, head: &RequestHeader) -> Result<String, Refusal> {
        let host = framing::host_of(head).unwrap_or_default();
        let hosts = &self.config.hosts;
        if hosts.is_empty() || hosts.iter().any(|served| served.eq_ignore_ascii_case(host)) {
            Ok(host.to_owned())
        } else {
            Err(Refusal::BadRequest("this host is not served here"))
        }
    }

    /// Step 7: the declared length, then the body.
    async fn read_body(
        &self,
        session: &mut ServerSession,
        framing: &Framing,
        route: &Route,
    ) -> Result<Body, Refusal> {
        let limit = route.max_body;
        if framing.content_length.is_some_and(|length| length > limit) {
            return Err(Refusal::BodyTooLarge { limit });
        }
        if framing.expects_continue && !session.is_http2() && !session.is_body_empty() {
            send_continue(session)
                .await
                .map_err(|_| Refusal::RequestTimeout)?;
        }
        Body::read(
            session,
            limit,
            self.config.limits.body_timeout,
            &self.budget,
        )
        .await
    }

    /// Steps 8 to 10: signature, the machine's state, the nonce.
    async fn admit(&self, claimed: Claimed, body: &Body, arrival: Now) -> Result<Admitted, Stop> {
        let signed = claimed.verify(BodyHash::of(body.bytes()))?;
        let ahead = signed.timestamp().unix_seconds().cast_signed();
        let skew = arrival.unix_seconds().cast_signed() - ahead;
        self.metrics.observe_skew(skew);
        let verified = signed.check_state(arrival.unix_seconds())?;
        let admitted = verified.claim(&*self.nonces).await?;
        self.metrics.observe_fresh_skew(skew);
        Ok(admitted)
    }

    /// Step 11: paths at which a Vault-like backend hands out the credential that the gateway
    /// injects, or mints another from it, are closed unless the operator wrote a route for them.
    fn check_policy(&self, admitted: Admitted, route: &Route) -> Result<Admitted, Stop> {
        let path = admitted.signed().message().target();
        let open = self.upstream(route).credential.is_none()
            || CREDENTIAL_PATHS
                .iter()
                .all(|closed| !lies_in(path, closed) || lies_in(&route.path, closed));
        match open {
            true => Ok(admitted),
            false => Err(admitted.deny(Refusal::NotPermitted).into()),
        }
    }
}

/// Where Vault-like servers issue, show and revoke tokens.
const CREDENTIAL_PATHS: [&str; 2] = ["/v1/auth", "/v1/sys"];

/// Whether a path or target lies at or below `prefix`, on whole segments.
fn lies_in(target: &str, prefix: &str) -> bool {
    target
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

fn not_allowed(route: &Route) -> Refusal {
    let methods: Vec<&str> = METHODS
        .into_iter()
        .chain(route.methods.iter().map(String::as_str))
        .collect();
    Refusal::MethodNotAllowed {
        allow: methods.join(", ").into(),
    }
}

fn occurrence(head: &RequestHeader, header: SigningHeader) -> Occurrence<'_> {
    let mut values = head
        .headers
        .get_all(HeaderName::from_static(header.name()))
        .iter();
    match (values.next(), values.next()) {
        (None, _) => Occurrence::Absent,
        (Some(value), None) => Occurrence::Once(value.as_bytes()),
        _ => Occurrence::Repeated,
    }
}

/// The address at the other end of the connection. A connection without one (it closed under
/// us) gets the unspecified address, which no policy can trust.
pub(super) fn client_ip(session: &ServerSession) -> IpAddr {
    session
        .client_addr()
        .and_then(|address| address.as_inet())
        .map_or(IpAddr::from([0, 0, 0, 0]), |address| {
            address.ip().to_canonical()
        })
}

fn scheme(session: &ServerSession) -> &'static str {
    match session
        .digest()
        .is_some_and(|digest| digest.ssl_digest.is_some())
    {
        true => "https",
        false => "http",
    }
}
