//! Where connections and requests come from, as far as it is known or believed.

use std::net::IpAddr;

use http::HeaderMap;
use pingora::protocols::http::ServerSession;

use super::client_address;
use crate::config::TrustedProxies;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The other end.
    pub(crate) peer: IpAddr,
    /// Whom the other end speaks for, by its PROXY line.
    pub(crate) proxied: Option<IpAddr>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The other end of the connection.
    pub(super) peer: Option<IpAddr>,
    /// The client, by the word of trusted proxies; else the other end.
    pub(super) client: Option<IpAddr>,
    /// `http` or `https`, as the client spoke it.
    pub(super) scheme: &'static str,
}

impl Source {
    /// Of a request whose head could not be read: by the connection alone.
    pub(super) fn of_connection(origin: Option<Origin>) -> Source {
        Source {
            peer: origin.map(|origin| origin.peer),
            client: origin.map(|origin| origin.proxied.unwrap_or(origin.peer)),
            scheme: "http",
        }
    }

    /// Of a request whose head has been read.
    pub(super) fn of_request(
        origin: Option<Origin>,
        session: &ServerSession,
        trusted: &TrustedProxies,
    ) -> Source {
        let connection = Source::of_connection(origin);
        let spoken = spoken(session);
        let Some(from) = connection.client else {
            return Source {
                scheme: spoken,
                ..connection
            };
        };
        let headers = &session.req_header().headers;
        Source {
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
