//! Where the gateway listens: for clients, and for the operator.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::mistakes::quoted;
use super::operation;
use super::reader::{Place, Table};

/// The operator's address unless the configuration names another.
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// One address on which clients connect: plain HTTP/1.1, or TLS with HTTP/2 and HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 lets the system choose one.
    pub address: SocketAddr,
    /// The files for TLS. Default: none, and plain HTTP.
    pub tls: Option<TlsFiles>,
}

/// Where a listener's certificate and key lie. They are read at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM, the listener's own first.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// Reads `listeners` and `admin`, no two of which may want the same port of the same address.
pub(super) fn read(root: &mut Table<'_>, base: &Path) -> (Vec<Listener>, SocketAddr) {
    let mut taken = Vec::new();
    let mut listeners = Vec::new();
    if let Some(list) = root.required("listeners") {
        let items = list.some_items("has no listener; add at least one: - address: 0.0.0.0:8080");
        for item in items {
            let mut table = item.table();
            table.not_yet(&["proxy_protocol"]);
            let tls = table.place("tls").map(|place| tls_files(&place, base));
            let place = table.required("address");
            if let Some(address) = place.and_then(|place| free(&place, &mut taken)) {
                listeners.push(Listener {
                    address,
                    tls: tls.flatten(),
                });
            }
        }
    }
    (listeners, admin(root.table("admin"), &mut taken))
}

fn tls_files(place: &Place<'_>, base: &Path) -> Option<TlsFiles> {
    let mut table = place.table();
    let mut file = |key| {
        table
            .required(key)
            .and_then(|place| operation::file(&place, base))
    };
    let (cert, key) = (file("cert"), file("key"));
    Some(TlsFiles {
        cert: cert?,
        key: key?,
    })
}

fn admin(mut table: Table<'_>, taken: &mut Vec<SocketAddr>) -> SocketAddr {
    let Some(place) = table.place("address") else {
        if let Some(other) = taken.iter().find(|other| collide(other, &DEFAULT_ADMIN)) {
            let text = format!("the default, {DEFAULT_ADMIN}, is in use by {other}; name another");
            table.mistake("address", text);
        }
        return DEFAULT_ADMIN;
    };
    let address = free(&place, taken).unwrap_or(DEFAULT_ADMIN);
    if !address.ip().is_loopback() {
        place.warning(format!(
            "{address} is reachable from outside, and the admin pages ask nobody who they are; \
             use 127.0.0.1 unless the network is closed"
        ));
    }
    address
}

fn free(place: &Place<'_>, taken: &mut Vec<SocketAddr>) -> Option<SocketAddr> {
    let address = place.parse(|text| {
        text.parse().map_err(|_| {
            format!(
                "{} is not an IP address and port, such as 0.0.0.0:8080 or [::]:8080",
                quoted(text)
            )
        })
    })?;
    if let Some(other) = taken.iter().find(|other| collide(other, &address)) {
        place.mistake(format!(
            "{address} is in use by {other} above; choose another port"
        ));
    }
    taken.push(address);
    Some(address)
}

/// Whether the system would refuse the second of the two. An unspecified address takes the port of
/// all of its kind.
fn collide(one: &SocketAddr, other: &SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    let same_kind = a.is_ipv4() == b.is_ipv4();
    let overlap = a == b || (same_kind && (a.is_unspecified() || b.is_unspecified()));
    one.port() != 0 && one.port() == other.port() && overlap
}
