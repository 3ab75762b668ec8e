//! The sources of connections and requests.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;
use pingora::protocols::http::ServerSession;

use crate::config::TrustedProxies;
use crate::gateway::receive::client_address;

/// The source of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The other end.
    pub(crate) peer: IpAddr,
    /// The client behind the other end, by its PROXY line.
    pub(crate) proxied: Option<IpAddr>,
}

/// The source of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestSource {
    /// The other end of the connection.
    pub(crate) peer: Option<IpAddr>,
    /// The client, by the word of trusted proxies; else the other end.
    pub(crate) client: Option<IpAddr>,
    /// `http` or `https`, as the client spoke it.
    pub(crate) scheme: &'static str,
}

/// A source, as far as failures and connections are counted: an IPv4 address, or an IPv6 network of
/// 64 bits, which is what one customer of a provider has at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceKey(IpAddr);

impl SourceKey {
    pub(crate) fn of(address: IpAddr) -> SourceKey {
        SourceKey(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            address => address,
        })
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

impl RequestSource {
    /// Of a request whose head could not be read: by the connection alone.
    pub(crate) fn of_connection(origin: Option<Origin>) -> RequestSource {
        RequestSource {
            peer: origin.map(|origin| origin.peer),
            client: origin.map(|origin| origin.proxied.unwrap_or(origin.peer)),
            scheme: "http",
        }
    }

    /// Of a request whose head has been read.
    pub(crate) fn of_request(
        origin: Option<Origin>,
        session: &ServerSession,
        trusted: &TrustedProxies,
    ) -> RequestSource {
        let connection = RequestSource::of_connection(origin);
        let spoken = spoken(session);
        let Some(from) = connection.client else {
            return RequestSource {
                scheme: spoken,
                ..connection
            };
        };
        let headers = &session.req_header().headers;
        RequestSource {
            peer: connection.peer,
            client: Some(client_address::client(
                from,
                lines(headers, "x-forwarded-for"),
                trusted,
            )),
            scheme: client_address::scheme(
                from,
                lines(headers, "x-forwarded-proto"),
                trusted,
                spoken,
            ),
        }
    }
}

fn lines<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    headers.get_all(name).iter().map(|value| value.as_bytes())
}

fn spoken(session: &ServerSession) -> &'static str {
    match session
        .digest()
        .is_some_and(|digest| digest.ssl_digest.is_some())
    {
        true => "https",
        false => "http",
    }
}
