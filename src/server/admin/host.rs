//! The names under which the admin listener answers, against DNS rebinding.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use http::header::HOST;

/// Whether `Host` is there once and is this machine's own name, an address, or one of `hosts`, with
/// any port. A page in a browser whose name was made to resolve to this machine (DNS rebinding)
/// sends its own. It fails closed: a Host that is missing or malformed is refused.
pub(super) fn is_own_host(headers: &HeaderMap, hosts: &[String]) -> bool {
    let mut values = headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(text) = value.to_str() else {
        return false;
    };
    let text = text.to_ascii_lowercase();
    let is_port =
        |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
    let name = match text.rsplit_once(':') {
        Some((name, port)) if is_port(port) && !name.is_empty() => name,
        _ => &text,
    };
    if let Some(address) = name.strip_prefix('[') {
        let address = address.strip_suffix(']').map(str::parse::<Ipv6Addr>);
        return matches!(address, Some(Ok(_)));
    }
    name == "localhost" || name.parse::<Ipv4Addr>().is_ok() || hosts.iter().any(|host| host == name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn own(hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        is_own_host(&headers, &["gw.internal".to_owned()])
    }

    #[test]
    fn this_machine_is_called_by_its_own_name_an_address_or_a_configured_name() {
        for host in [
            "localhost",
            "LocalHost:9790",
            "127.0.0.1",
            "127.0.0.1:1",
            "10.0.0.1:65535",
            "[::1]",
            "[2001:db8::1]:9790",
            "gw.internal",
            "GW.Internal:80",
        ] {
            assert!(own(&[host]), "{host}");
        }
    }

    #[test]
    fn any_other_name_may_be_a_page_of_somebodys() {
        for host in [
            "",
            "rebound.example",
            "localhost.example",
            "example.localhost",
            "127.0.0.1.example:9790",
            "127.1",
            "0x7f000001",
            "2130706433",
            "::1",
            "[::1",
            "::1]",
            "[127.0.0.1]",
            "[localhost]",
            "localhost:",
            "localhost:x",
            "localhost:+1",
            "localhost:65536",
            "localhost:1:2",
            ":9790",
            "user@localhost",
            "localhost,rebound.example",
            "localhost rebound.example",
            "localhost.",
            "other.gw.internal",
            "gw.internal.example",
        ] {
            assert!(!own(&[host]), "{host}");
        }
        assert!(!own(&[]));
        assert!(!own(&["localhost", "localhost"]));
    }
}
