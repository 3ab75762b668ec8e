//! Parses addresses, and refuses those that programs read differently. `010.0.0.1` is 10.0.0.1 or,
//! in octal, 8.0.0.1 (CVE-2021-29922), which would change who may connect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::uri::Authority;

use crate::quoted::quoted;

/// Parses an IP address and port to listen on; `example` is for the error text.
pub fn socket(text: &str, example: &str) -> Result<SocketAddr, String> {
    let shown = quoted(text);
    let no_address = || format!("{shown} is not an IP address and port, such as {example}");
    let (host, port) = text.rsplit_once(':').ok_or_else(no_address)?;
    let plain = padded(host).filter(|plain| plain.to_string() != host);
    let is_address = format!("{host}:0").parse::<SocketAddr>().is_ok();
    if plain.is_none() && !is_address {
        return Err(no_address());
    }
    self::port(port).map_err(|why| format!("{shown} {why}"))?;
    if let Some(plain) = plain {
        return Err(format!(
            "{shown} has leading zeros, which some read as octal; write {plain}:{port}"
        ));
    }
    let address: SocketAddr = text.parse().map_err(|_| no_address())?;
    match address.ip().to_canonical() {
        IpAddr::V4(ip) if address.is_ipv6() => Err(format!(
            "{address} is an IPv4 address in IPv6 clothes; write {ip}:{port}"
        )),
        _ => Ok(address),
    }
}

/// The port of an authority, `host` or `host:port`; `None` if it has none. [`Authority::port_u16`]
/// takes `+80` and `080`, which the value of `Host` would then repeat.
pub fn port_of(authority: &Authority) -> Result<Option<u16>, String> {
    let (_, behind_user) =
        (authority.as_str().rsplit_once('@')).unwrap_or(("", authority.as_str()));
    match behind_user.get(authority.host().len()..) {
        None | Some("") => Ok(None),
        Some(rest) => port(rest.strip_prefix(':').unwrap_or(rest)).map(Some),
    }
}

/// A port in decimal digits, without sign and leading zeros.
fn port(text: &str) -> Result<u16, String> {
    let plain = text.trim_start_matches('0');
    match text {
        "" => Err("has no port behind the colon".to_owned()),
        _ if !text.bytes().all(|byte| byte.is_ascii_digit()) => Err(format!(
            "has the port {}, which is not a number in digits",
            quoted(text)
        )),
        "0" => Ok(0),
        _ if plain.len() < text.len() => Err(format!(
            "has the port {text}, with leading zeros; write {}",
            if plain.is_empty() { "0" } else { plain }
        )),
        _ => (text.parse()).map_err(|_| format!("has the port {}, above 65535", quoted(text))),
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
    fn a_wrong_port_is_named_as_what_it_is() {
        for (text, why) in [
            ("127.0.0.1:99999", "has the port \"99999\", above 65535"),
            ("[::1]:65536", "has the port \"65536\", above 65535"),
            (
                "127.0.0.1:+18080",
                "has the port \"+18080\", which is not a number",
            ),
            ("[::1]:80x", "has the port \"80x\", which is not a number"),
            ("127.0.0.1:-1", "has the port \"-1\", which is not a number"),
            ("127.0.0.1:", "has no port behind the colon"),
            (
                "127.0.0.1:018080",
                "has the port 018080, with leading zeros; write 18080",
            ),
            ("127.0.0.1:00", "with leading zeros; write 0"),
            ("010.0.0.1:80x", "which is not a number"),
            ("127.0.0.1", "is not an IP address and port, such as x"),
            ("[::1]", "is not an IP address and port, such as x"),
            ("::1", "is not an IP address and port, such as x"),
            ("vault:80x", "is not an IP address and port, such as x"),
        ] {
            let told = socket(text, "x").unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn the_port_of_an_authority_is_digits_without_sign_and_leading_zeros() {
        let port_of = |text: &str| port_of(&text.parse().unwrap());
        assert_eq!(port_of("gw"), Ok(None));
        assert_eq!(port_of("gw:8200"), Ok(Some(8200)));
        assert_eq!(port_of("[::1]:1"), Ok(Some(1)));
        for text in ["gw:+8200", "gw:08200", "gw:", "[::1]:+1", "gw:99999"] {
            assert!(port_of(text).is_err(), "{text}");
        }
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
