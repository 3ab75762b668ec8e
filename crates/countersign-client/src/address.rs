//! Parses addresses, and refuses those that programs read differently. `010.0.0.1` is 10.0.0.1 or,
//! in octal, 8.0.0.1 (CVE-2021-29922), which would change who may connect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::quoted::quoted;

/// Parses an IP address and port to listen on; `example` is for the error text.
pub fn socket(text: &str, example: &str) -> Result<SocketAddr, String> {
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    let is_padded = port.len() > 1 && port.starts_with('0');
    let parsed: Option<SocketAddr> = text.parse().ok().filter(|_| !is_padded);
    let address = parsed.ok_or_else(|| {
        let shown = quoted(text);
        match text.rsplit_once(':').and_then(|(host, _)| padded(host)) {
            Some(plain) => {
                format!("{shown} has leading zeros, which some read as octal; write {plain}:{port}")
            }
            None => format!("{shown} is not an IP address and port, such as {example}"),
        }
    })?;
    match address.ip().to_canonical() {
        IpAddr::V4(ip) if address.is_ipv6() => Err(format!(
            "{address} is an IPv4 address in IPv6 clothes; write {ip}:{port}"
        )),
        _ => Ok(address),
    }
}

/// Checks the host of a URL: a name, or an unambiguous address. Resolvers read `127.1`, `0x7f.1`
/// and `010.0.0.1` as addresses, by different rules. So a host whose last part is a number (WHATWG
/// URL, "ends in a number") must be an address of four parts without leading zeros.
pub fn host(host: &str) -> Result<(), String> {
    let last = host.strip_suffix('.').unwrap_or(host);
    let last = last.rsplit_once('.').map_or(last, |(_, last)| last);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let hexadecimal = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let prefixes = ["0x", "0X"];
    let is_number = digits(last)
        || (prefixes.iter()).any(|prefix| last.strip_prefix(prefix).is_some_and(hexadecimal));
    if !is_number || host.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    Err(match padded(host) {
        Some(plain) => format!(
            "{} has leading zeros, which some read as octal; write {plain}",
            quoted(host)
        ),
        None => format!(
            "{} is not an IPv4 address of four parts, such as 10.0.0.1",
            quoted(host)
        ),
    })
}

/// The IPv4 address without its leading zeros, if those are the only mistake.
fn padded(host: &str) -> Option<Ipv4Addr> {
    let part = |part: &str| {
        let plain = part.trim_start_matches('0');
        if plain.is_empty() && !part.is_empty() {
            "0"
        } else {
            plain
        }
        .to_owned()
    };
    let plain: Vec<String> = host.split('.').map(part).collect();
    plain.join(".").parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_port_have_one_reading() {
        for text in ["127.0.0.1:80", "[::]:8080", "[2001:0db8::1]:1", "0.0.0.0:0"] {
            assert!(socket(text, "x").is_ok(), "{text}");
        }
        for text in [
            "010.0.0.1:80",
            "127.0.0.1:080",
            "127.0.0.1:00",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:010.0.0.1]:80",
            "127.1:80",
            "127.0.0.1",
            "localhost:80",
        ] {
            assert!(socket(text, "x").is_err(), "{text}");
        }
        let text = socket("010.0.00.1:80", "x").unwrap_err();
        assert!(text.ends_with("write 10.0.0.1:80"), "{text}");
        let text = socket("[::ffff:10.0.0.1]:80", "x").unwrap_err();
        assert!(text.ends_with("write 10.0.0.1:80"), "{text}");
    }

    #[test]
    fn a_host_that_ends_in_a_number_is_an_address_of_four_plain_parts() {
        for name in [
            "vault",
            "10.0.0.1",
            "a.1b",
            "1.example",
            "x0x1",
            "[::1]",
            "0xg",
        ] {
            assert_eq!(host(name), Ok(()), "{name}");
        }
        for name in [
            "010.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0X7F000001",
            "10.0.0.01",
            "10.0.0.1.",
            "256.0.0.1",
            "a.5",
        ] {
            assert!(host(name).is_err(), "{name}");
        }
        assert!(host("010.0.0.1").unwrap_err().ends_with("write 10.0.0.1"));
    }
}
