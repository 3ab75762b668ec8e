//! Parses a network or a single address.

use core::net::IpAddr;

use ipnet::IpNet;

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No address and no network.
    #[error("it is not an address or a network, such as 10.0.0.0/8")]
    NotANetwork,
    /// Parsers disagree: `010.0.0.0/8` is 10.0.0.0/8 or, in octal, 8.0.0.0/8.
    #[error("it has leading zeros, which some parsers read as octal; write {0}")]
    LeadingZeros(IpNet),
    /// `10.0.0.1/8` is ambiguous: the address 10.0.0.1, or the network 10.0.0.0/8.
    #[error("{0} names an address inside the network; write {network}", network = .0.trunc())]
    AddressInside(IpNet),
    /// An IPv4-mapped IPv6 network. Addresses are compared in canonical form, so it matches none.
    #[error("{0} is an IPv4-mapped IPv6 network, which matches no address; write it as IPv4")]
    Ipv4Mapped(IpNet),
}

/// Parses `10.0.0.0/8`, `2001:db8::/32`, or a single address. A network is written with its first
/// address.
///
/// # Errors
///
/// Every [`NetworkError`].
pub fn parse(text: &str) -> Result<IpNet, NetworkError> {
    let net = read(text).ok_or_else(|| {
        let lenient = text.parse().or_else(|_| format!("{text}/32").parse());
        lenient.map_or(NetworkError::NotANetwork, NetworkError::LeadingZeros)
    })?;
    if net.network() != net.addr() {
        return Err(NetworkError::AddressInside(net));
    }
    match (net, net.addr().to_canonical()) {
        (IpNet::V6(_), IpAddr::V4(_)) => Err(NetworkError::Ipv4Mapped(net)),
        _ => Ok(net),
    }
}

/// `ipnet`'s own parser accepts leading zeros (CVE-2021-29922), so this one is used.
fn read(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let is_plain = length == "0" || (!length.starts_with('0') && !length.starts_with('+'));
    let length = length.parse().ok().filter(|_| is_plain)?;
    IpNet::new(address.parse().ok()?, length).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_network_of_one() {
        assert_eq!(parse("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(parse("::1").unwrap().to_string(), "::1/128");
    }

    #[test]
    fn a_network_starts_at_its_first_address() {
        assert!(parse("10.0.0.0/8").is_ok());
        let error = parse("10.0.0.1/8").unwrap_err();
        assert!(error.to_string().ends_with("write 10.0.0.0/8"), "{error}");
    }

    #[test]
    fn ipv4_is_written_as_ipv4() {
        assert!(matches!(
            parse("::ffff:10.0.0.0/104"),
            Err(NetworkError::Ipv4Mapped(_))
        ));
    }

    #[test]
    fn leading_zeros_are_refused_with_what_to_write() {
        for (text, plain) in [
            ("010.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/08", "10.0.0.0/8"),
            ("010.0.0.1", "10.0.0.1/32"),
            ("10.00.0.1/32", "10.0.0.1/32"),
            ("2001:db8::/032", "2001:db8::/32"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, NetworkError::LeadingZeros(_)), "{text}");
            assert!(
                error.to_string().ends_with(&format!("write {plain}")),
                "{error}"
            );
        }
        for text in ["10.0.0.0/00", "::ffff:010.0.0.1"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("2001:0db8::/32").is_ok(), "IPv6 is written so");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/8/8",
            "10.0.0.0/8 ",
            "localhost",
            "*",
        ] {
            assert_eq!(parse(text), Err(NetworkError::NotANetwork), "{text}");
        }
    }
}
