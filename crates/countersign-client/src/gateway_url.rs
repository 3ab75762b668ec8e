//! The URL of a gateway.

use std::fmt;

use countersign_core::target::Target;
use http::uri::Authority;

use crate::address;
use crate::gateway_headers;
use crate::quoted::quoted;

/// The URL of a gateway: `https://host[:port][/prefix]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayUrl {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// The name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The value of `Host`.
    pub authority: String,
    /// The unsigned prefix of the sent target, for a route with `strip_prefix`. It is empty, or a
    /// path without a trailing slash.
    pub prefix: String,
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

impl GatewayUrl {
    /// Parses `https://host[:port][/prefix]`, or the same with `http://`.
    ///
    /// # Errors
    ///
    /// Why the text is not a gateway's URL.
    pub fn parse(text: &str) -> Result<GatewayUrl, String> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => {
                return Err(format!(
                    "{} does not start with https:// or http://",
                    quoted(text)
                ));
            }
        };
        let (name, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let prefix = prefix.trim_end_matches('/');
        let prefix_is_a_path = prefix.is_empty()
            || Target::parse(prefix.as_bytes()).is_ok_and(|target| target.query().is_none());
        if !prefix_is_a_path {
            return Err(format!("{} is not the path of a route", quoted(prefix)));
        }
        let authority: Authority =
            (name.parse()).map_err(|_| format!("{} is not a host, or host:port", quoted(name)))?;
        let port = address::port_of(&authority).map_err(|why| format!("{} {why}", quoted(name)))?;
        gateway_headers::host(name)?;
        address::host(authority.host())?;
        Ok(GatewayUrl {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            authority: name.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// Whether the connection is confidential and authenticated: TLS, or a loopback address. A name
    /// that resolves to loopback does not count, because the resolver is not trusted.
    pub fn is_confidential(&self) -> bool {
        let address: Option<std::net::IpAddr> = self.host.parse().ok();
        self.tls || self.host == "localhost" || address.is_some_and(|it| it.is_loopback())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_url_has_a_host_and_perhaps_a_port_and_a_prefix() {
        let gateway = GatewayUrl::parse("https://[::1]/vault/").unwrap();
        assert_eq!((gateway.host.as_str(), gateway.port), ("::1", 443));
        assert_eq!(
            (gateway.authority.as_str(), gateway.prefix.as_str()),
            ("[::1]", "/vault")
        );
        for url in [
            "gw",
            "ftp://gw",
            "https://",
            "https://u@gw",
            "https://gw:x",
            "http://gw:+8200",
            "http://gw:08200",
            "http://[::1]:+8200",
            "http://gw:",
            "https://gw/a/../b",
            "https://gw/a?b",
            "https://010.0.0.1",
            "http://127.1:8080",
        ] {
            assert!(GatewayUrl::parse(url).is_err(), "{url}");
        }
    }
}
