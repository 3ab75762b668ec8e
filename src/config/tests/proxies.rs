//! The proxies in front.

use super::*;

fn trusted(list: &str) -> TrustedProxies {
    good(&minimal_and(&format!("trusted_proxies: [{list}]"))).trusted_proxies
}

fn with_listener(settings: &str) -> String {
    MINIMAL.replace(":8080", &format!(":8080, {settings}"))
}

#[test]
fn addresses_and_networks_are_trusted_and_nobody_else() {
    let trusted = trusted("10.0.0.0/8, 192.0.2.7, '2001:db8::/32'");
    for inside in [
        "10.0.0.0",
        "10.255.255.255",
        "192.0.2.7",
        "2001:db8::1",
        "::ffff:10.1.1.1",
    ] {
        assert!(trusted.contains(inside.parse().unwrap()), "{inside}");
    }
    for outside in ["11.0.0.0", "192.0.2.8", "2001:db9::1", "127.0.0.1"] {
        assert!(!trusted.contains(outside.parse().unwrap()), "{outside}");
    }
}

#[test]
fn by_default_nobody_is() {
    assert!(good(MINIMAL).trusted_proxies.is_empty());
}

#[test]
fn what_is_no_network_is_a_mistake() {
    for (text, says) in [
        ("nginx", "is not an address or a network"),
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("10.0.0.0/33", "is not an address or a network"),
        ("'::ffff:10.0.0.0/104'", "write it as IPv4"),
    ] {
        let told = wrong(&minimal_and(&format!("trusted_proxies: [{text}]")));
        assert!(
            told.contains("trusted_proxies[0]: ") && told.contains(says),
            "{told}"
        );
    }
}

#[test]
fn trust_in_everybody_is_a_warning() {
    let loaded = read_text(&minimal_and("trusted_proxies: [0.0.0.0/0]")).unwrap();
    assert!(
        loaded.warnings[0]
            .to_string()
            .contains("contains every address")
    );
}

#[test]
fn a_listener_that_takes_proxy_lines_needs_somebody_to_believe() {
    let text = with_listener("proxy_protocol: true");
    let told = wrong(&text);
    assert!(
        told.contains("name the load balancer's addresses in trusted_proxies"),
        "{told}"
    );
    let trusting = format!("{text}trusted_proxies: [10.0.0.1]\n");
    assert!(good(&trusting).listeners[0].proxy_protocol);
}

#[test]
fn a_health_check_is_a_plain_path() {
    let health = |path: &str| with_listener(&format!("health: '{path}'"));
    assert_eq!(
        good(&health("/livez")).listeners[0].health.as_deref(),
        Some("/livez")
    );
    for bad in ["livez", "/a?b", "/a//b", ""] {
        assert!(wrong(&health(bad)).contains("listeners[0].health"), "{bad}");
    }
}
