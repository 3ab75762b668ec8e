//! The order to reload, a request to the admin listener.
//!
//! That listener answers every client that reaches it, so an order is accepted only from this
//! machine, and only from a program that means it. A page in a browser here can send a POST
//! anywhere, but a header of its own needs a preflight request (Fetch, section 3.2), which the
//! gateway does not grant. A `Host` that is a name is not accepted, because a name can be made to
//! resolve to this machine.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, header};

use crate::registry::Losses;

/// The path of an order.
pub(crate) const PATH: &str = "/reload";

/// The header that shows that a program means it: `yes`, or `force`.
pub(crate) const HEADER: &str = "X-Countersign-Reload";

/// Reads an order.
///
/// # Errors
///
/// Why it is not accepted, in a few words.
pub(crate) fn read(
    method: &Method,
    headers: &HeaderMap,
    peer: Option<IpAddr>,
) -> Result<Losses, &'static str> {
    if method != Method::POST {
        return Err("a reload is asked for with POST; use countersign reload");
    }
    if !peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
        return Err("a reload is only taken from the gateway's own machine");
    }
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values
            .next()
            .filter(|_| values.next().is_none())?
            .to_str()
            .ok()
    };
    if headers.contains_key(header::ORIGIN) || !one("host").is_some_and(is_address) {
        return Err("a reload is not taken from a browser; use countersign reload");
    }
    match one(HEADER) {
        Some("yes") => Ok(Losses::Few),
        Some("force") => Ok(Losses::Any),
        _ => Err("a reload needs the header X-Countersign-Reload: yes, or force"),
    }
}

/// Whether a `Host` is an address and not a name.
fn is_address(host: &str) -> bool {
    host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                header::HeaderName::from_static(name),
                value.parse().unwrap(),
            )
        };
        lines.iter().map(pair).collect()
    }

    fn order(lines: &[(&'static str, &str)]) -> Result<Losses, &'static str> {
        read(&Method::POST, &headers(lines), HERE)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:9790");
    const MEANT: (&str, &str) = ("x-countersign-reload", "yes");

    #[test]
    fn an_order_says_how_much_may_be_lost() {
        assert_eq!(order(&[HOST, MEANT]), Ok(Losses::Few));
        let force = ("x-countersign-reload", "force");
        assert_eq!(order(&[HOST, force]), Ok(Losses::Any));
    }

    #[test]
    fn an_order_without_its_header_or_with_two_is_not_taken() {
        assert!(order(&[HOST]).is_err());
        assert!(order(&[HOST, ("x-countersign-reload", "no")]).is_err());
        let mut twice = headers(&[HOST, MEANT]);
        twice.append("x-countersign-reload", "force".parse().unwrap());
        assert!(read(&Method::POST, &twice, HERE).is_err());
    }

    #[test]
    fn a_page_in_a_browser_gives_no_orders() {
        let page = ("origin", "http://127.0.0.1:9790");
        assert!(order(&[HOST, MEANT, page]).is_err());
        for host in [
            "localhost:9790",
            "rebound.example",
            "127.0.0.1.example:9790",
            "",
        ] {
            assert!(order(&[("host", host), MEANT]).is_err(), "{host}");
        }
        assert!(order(&[MEANT]).is_err());
        assert_eq!(order(&[("host", "[::1]:9790"), MEANT]), Ok(Losses::Few));
    }

    #[test]
    fn only_this_machine_gives_orders_and_only_by_post() {
        let good = headers(&[HOST, MEANT]);
        for peer in [None, Some("10.0.0.1"), Some("::ffff:10.0.0.1")] {
            let peer = peer.map(|peer| peer.parse().unwrap());
            assert!(read(&Method::POST, &good, peer).is_err(), "{peer:?}");
        }
        let mapped = Some("::ffff:127.0.0.1".parse().unwrap());
        assert!(read(&Method::POST, &good, mapped).is_ok());
        for method in [Method::GET, Method::PUT, Method::OPTIONS] {
            assert!(read(&method, &good, HERE).is_err(), "{method}");
        }
    }
}
