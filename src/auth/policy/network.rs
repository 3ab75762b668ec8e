//! A network, or a single address, as people write it.

use core::net::IpAddr;

use ipnet::IpNet;

/// What is wrong with the text of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Something else.
    #[error("it is not an address or a network, such as 10.0.0.0/8")]
    NotANetwork,
    /// `10.0.0.1/8` is a mix-up: is it the address or the network?
    #[error("{0} names an address inside the network; write {network}", network = .0.trunc())]
    AddressInside(IpNet),
    /// Addresses are compared in their own clothes, so it would contain none.
    #[error("{0} is an IPv4 network in IPv6 clothes; write it as IPv4")]
    InOtherClothes(IpNet),
}

/// Parses `10.0.0.0/8`, `2001:db8::/32`, or a single address. A network is written with its first
/// address.
///
/// # Errors
///
/// Every [`NetworkError`].
pub fn parse(text: &str) -> Result<IpNet, NetworkError> {
    let parsed =
        (text.parse::<IpNet>().ok()).or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let net = parsed.ok_or(NetworkError::NotANetwork)?;
    if net.network() != net.addr() {
        return Err(NetworkError::AddressInside(net));
    }
    match (net, net.addr().to_canonical()) {
        (IpNet::V6(_), IpAddr::V4(_)) => Err(NetworkError::InOtherClothes(net)),
        _ => Ok(net),
    }
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
            Err(NetworkError::InOtherClothes(_))
        ));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/8 ",
            "localhost",
            "*",
        ] {
            assert_eq!(parse(text), Err(NetworkError::NotANetwork), "{text}");
        }
    }
}
