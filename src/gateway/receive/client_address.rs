//! Where a request comes from, through the proxies in front. Pure: headers and addresses are
//! arguments.

use std::net::{IpAddr, SocketAddr};

use crate::config::TrustedProxies;

/// Returns the last address in the chain that is not a trusted proxy.
///
/// `from` is the address of the connection. `forwarded` has the values of all `X-Forwarded-For`
/// lines in order. Each proxy appends the address of its own client, so the list is read from its
/// end. An address counts only if a trusted proxy appended it. An element that is no address ends
/// the search.
///
/// In doubt the result is an address nearer to the gateway than the client, never one that a client
/// made up.
pub(crate) fn client<'a>(
    from: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &TrustedProxies,
) -> IpAddr {
    let mut nearest = from.to_canonical();
    let elements = forwarded
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','));
    for element in elements.take(MOST) {
        if !trusted.contains(nearest) {
            break;
        }
        let Some(address) = address(element) else {
            break;
        };
        nearest = address;
    }
    nearest
}

/// Returns the scheme that a trusted proxy names, if it names exactly one. Otherwise returns
/// `spoken`, the scheme of the connection to the gateway.
pub(crate) fn scheme<'a>(
    from: IpAddr,
    mut forwarded: impl Iterator<Item = &'a [u8]>,
    trusted: &TrustedProxies,
    spoken: &'static str,
) -> &'static str {
    if !trusted.contains(from) {
        return spoken;
    }
    match (forwarded.next(), forwarded.next()) {
        (Some(b"https"), None) => "https",
        (Some(b"http"), None) => "http",
        _ => spoken,
    }
}

/// Most addresses that are read of one list. Nobody has more proxies. A longer list gives the last
/// address read, which is nearer to the gateway.
const MOST: usize = 32;

/// `ip`, `ip:port`, `[v6]`, `[v6]:port`.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element.trim_ascii()).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
    let address: Option<IpAddr> = text.parse().ok().or_else(with_port).or_else(bracketed);
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> TrustedProxies {
        let nets = ["10.0.0.0/8", "2001:db8::/32", "203.0.113.7/32"];
        nets.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn found(from: &str, lines: &[&str]) -> String {
        let lines = lines.iter().map(|line| line.as_bytes());
        client(from.parse().unwrap(), lines, &trusted()).to_string()
    }

    #[test]
    fn without_a_proxy_it_is_the_other_end() {
        assert_eq!(found("192.0.2.9", &[]), "192.0.2.9");
        assert_eq!(found("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn whom_a_trusted_proxy_names_is_believed() {
        assert_eq!(found("10.0.0.1", &["192.0.2.9"]), "192.0.2.9");
    }

    #[test]
    fn what_an_untrusted_peer_says_is_worth_nothing() {
        assert_eq!(found("192.0.2.9", &["198.51.100.1"]), "192.0.2.9");
    }

    #[test]
    fn what_a_client_wrote_before_the_proxy_did_is_worth_nothing() {
        assert_eq!(found("10.0.0.1", &["198.51.100.1, 192.0.2.9"]), "192.0.2.9");
        assert_eq!(
            found("10.0.0.1", &["198.51.100.1", "192.0.2.9"]),
            "192.0.2.9"
        );
        assert_eq!(found("10.0.0.1", &["10.9.9.9, 192.0.2.9"]), "192.0.2.9");
    }

    #[test]
    fn trusted_proxies_are_passed_over_over_several_lines() {
        let lines = ["192.0.2.9, 10.1.1.1", "10.2.2.2,10.3.3.3"];
        assert_eq!(found("10.0.0.1", &lines), "192.0.2.9");
    }

    #[test]
    fn the_hop_that_google_cloud_adds_is_passed_over_where_it_is_listed() {
        // <client>, <address of the load balancer>, from one of its proxies.
        assert_eq!(found("10.0.0.1", &["192.0.2.9, 203.0.113.7"]), "192.0.2.9");
        assert_eq!(
            found("10.0.0.1", &["192.0.2.9, 203.0.113.8"]),
            "203.0.113.8"
        );
    }

    #[test]
    fn every_form_of_an_address_is_read() {
        for (element, expected) in [
            ("192.0.2.9", "192.0.2.9"),
            (" 192.0.2.9:4711\t", "192.0.2.9"),
            ("2001:db9::1", "2001:db9::1"),
            ("[2001:db9::1]", "2001:db9::1"),
            ("[2001:db9::1]:443", "2001:db9::1"),
            ("::ffff:192.0.2.9", "192.0.2.9"),
            ("[::ffff:192.0.2.9]:1", "192.0.2.9"),
        ] {
            assert_eq!(found("10.0.0.1", &[element]), expected, "{element}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_the_last_that_was_vouched_for() {
        for odd in [
            "",
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.9:",
            "[192.0.2.9]x",
            "\u{ff11}",
        ] {
            let list = format!("192.0.2.9, {odd}, 10.5.5.5");
            assert_eq!(found("10.0.0.1", &[&list]), "10.5.5.5", "{odd}");
        }
    }

    #[test]
    fn a_proxy_in_ipv6_clothes_is_the_same_proxy() {
        assert_eq!(found("::ffff:10.0.0.1", &["192.0.2.9"]), "192.0.2.9");
    }

    #[test]
    fn of_a_list_without_end_so_many_are_read() {
        let long = vec!["10.0.0.2"; 1000].join(",");
        assert_eq!(
            found("10.0.0.1", &[&format!("192.0.2.9,{long}")]),
            "10.0.0.2"
        );
    }

    #[test]
    fn a_scheme_is_believed_of_a_trusted_proxy_if_it_is_one_word() {
        let scheme_of = |from: &str, lines: &[&str]| {
            let lines = lines.iter().map(|line| line.as_bytes());
            scheme(from.parse().unwrap(), lines, &trusted(), "http")
        };
        assert_eq!(scheme_of("10.0.0.1", &["https"]), "https");
        assert_eq!(scheme_of("192.0.2.9", &["https"]), "http");
        for odd in [
            &["https", "https"][..],
            &["https, http"],
            &["HTTPS"],
            &["ftp"],
            &[],
        ] {
            assert_eq!(scheme_of("10.0.0.1", odd), "http", "{odd:?}");
        }
    }

    proptest! {
        /// The proxy adds the client's address last, and no text of the client before it hides
        /// that.
        #[test]
        fn nothing_that_a_client_writes_hides_it(forged in "[ -~]{0,80}", more in "[ -~]{0,80}") {
            let line = format!("{more}, 192.0.2.9");
            prop_assert_eq!(found("10.0.0.1", &[&forged, &line]), "192.0.2.9");
        }
    }
}
