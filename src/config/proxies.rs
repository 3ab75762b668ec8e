//! The trusted proxies: their statements about a client's address are believed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::yaml::{Table, quoted};
use countersign_core::policy::network::{self, NetworkError};

/// Addresses of trusted proxies: their `X-Forwarded-For`, `X-Forwarded-Proto` and PROXY lines are
/// believed. Empty, the default: no proxy is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether `address` is one of them. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<IpNet> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> TrustedProxies {
        TrustedProxies(nets.into_iter().collect())
    }
}

pub(super) fn read(root: &mut Table<'_>) -> TrustedProxies {
    let items = root.items("trusted_proxies");
    let mut nets = Vec::new();
    for item in &items {
        let Some(net) = item.parse(net) else {
            continue;
        };
        if net.prefix_len() == 0 {
            item.warning(format!(
                "{net} contains every address, so any client could forge its own address; list \
                 only your proxies"
            ));
        }
        nets.push(net);
    }
    TrustedProxies(nets)
}

fn net(text: &str) -> Result<IpNet, String> {
    network::parse(text).map_err(|error| match error {
        NetworkError::NotANetwork => format!(
            "{} is not an address or a network, such as 10.0.0.0/8",
            quoted(text)
        ),
        other => other.to_string(),
    })
}
