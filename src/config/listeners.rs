//! The listeners: for clients, and the admin listener for the operator.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::address;
use super::headers;
use super::operation;
use super::proxies::TrustedProxies;
use super::upstreams::ClientFiles;
use crate::yaml::{Field, Node, Notes, Table, quoted};
use countersign_core::target::Target;

/// The operator's address unless the configuration names another.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9790);

/// One address on which clients connect: plain HTTP/1.1, or TLS with HTTP/2 and HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 lets the system choose one. `[::]` takes IPv4 connections too, unless
    /// [`only_ipv6`] says otherwise.
    pub address: SocketAddr,
    /// The files for TLS. Default: none, and plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Connections begin with a PROXY line, of version 1 or 2, from a trusted proxy; any other
    /// connection is closed. Default: they do not.
    pub proxy_protocol: bool,
    /// The path of the load balancer's health check: 200 or 503, for any `Host`, without a
    /// signature and without a record. Default: none.
    pub health: Option<String>,
}

/// The files of a listener's certificate and key. They are read at the start, and when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM, the listener's own first.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// The authorities for client certificates, PEM; default: none, and clients need no
    /// certificate.
    pub client_ca: Option<PathBuf>,
}

/// The TLS of the admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTls {
    /// Its certificate and key, and the authorities of its clients.
    pub files: TlsFiles,
    /// The certificate and key that `countersign health` and `reload` show. Default: none.
    pub client: Option<ClientFiles>,
}

/// The way of a command to the admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAccess {
    /// Its address.
    pub address: SocketAddr,
    /// Its names besides.
    pub hosts: Vec<String>,
    /// Its TLS; `None`: plain HTTP.
    pub tls: Option<AdminTls>,
}

impl Default for AdminAccess {
    fn default() -> AdminAccess {
        AdminAccess {
            address: DEFAULT_ADMIN,
            hosts: Vec::new(),
            tls: None,
        }
    }
}

/// Reads `listeners` and `admin`, no two of which may want the same port of the same address.
pub(super) fn read(
    root: &mut Table<'_>,
    base: &Path,
    trusted: &TrustedProxies,
) -> (Vec<Listener>, AdminAccess) {
    let mut taken = Vec::new();
    let mut listeners = Vec::new();
    if let Some(list) = root.required("listeners") {
        let items = list.some_items("has no listener; add at least one: - address: 0.0.0.0:8080");
        for item in items {
            let mut table = item.table();
            let proxy_protocol = proxy_protocol(&mut table, trusted);
            let health = table.field("health").and_then(|field| field.parse(health));
            let tls = table.field("tls").map(|field| tls_files(&field, base));
            let field = table.required("address");
            if let Some(address) = field.and_then(|field| free(&field, &mut taken)) {
                listeners.push(Listener {
                    address,
                    tls: tls.flatten(),
                    proxy_protocol,
                    health,
                });
            }
        }
    }
    let mut table = root.table("admin");
    let hosts = table.field("hosts");
    let hosts = hosts.map_or_else(Vec::new, |field| admin_hosts(&field));
    let tls = table.field("tls");
    let tls = tls.and_then(|field| admin_tls(&field, base));
    let asks = (tls.as_ref()).is_some_and(|tls| tls.files.client_ca.is_some());
    let address = admin(table, &mut taken, asks);
    (
        listeners,
        AdminAccess {
            address,
            hosts,
            tls,
        },
    )
}

/// Whether a listener on `address` takes IPv6 connections alone: where another one of `all` listens
/// on the same port by IPv4. Otherwise `[::]` takes the IPv4 ones too, and the system would refuse
/// one of the two.
pub fn only_ipv6(address: SocketAddr, all: impl IntoIterator<Item = SocketAddr>) -> bool {
    let beside = |other: SocketAddr| other.is_ipv4() && other.port() == address.port();
    address.is_ipv6() && address.port() != 0 && all.into_iter().any(beside)
}

fn proxy_protocol(table: &mut Table<'_>, trusted: &TrustedProxies) -> bool {
    let Some(field) = table.field("proxy_protocol") else {
        return false;
    };
    let on = field.truth();
    if on == Some(true) && trusted.is_empty() {
        field.mistake(
            "has no trusted proxy to take PROXY lines from, so every connection would be closed; \
             name the load balancer's addresses in trusted_proxies",
        );
    }
    on.unwrap_or(false)
}

/// Parses the path of a health check.
fn health(text: &str) -> Result<String, String> {
    let target = Target::parse(text.as_bytes());
    match target.is_ok_and(|target| target.query().is_none()) {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is not a path, such as /livez", quoted(text))),
    }
}

fn tls_files(field: &Field<'_>, base: &Path) -> Option<TlsFiles> {
    certificate_and_key(&mut field.table(), base)
}

/// Reads `tls` of the admin listener.
fn admin_tls(field: &Field<'_>, base: &Path) -> Option<AdminTls> {
    let mut table = field.table();
    let client = table.field("client");
    let client_files = client.as_ref().and_then(|field| {
        let mut table = field.table();
        let cert = table.required("cert");
        let cert = cert.and_then(|field| operation::file(&field, base));
        let key = table
            .required("key")
            .and_then(|field| key_file(&field, base));
        Some(ClientFiles {
            cert: cert?,
            key: key?,
        })
    });
    let files = certificate_and_key(&mut table, base)?;
    match (&files.client_ca, &client) {
        (None, Some(client)) => client
            .mistake("is not asked for without `client_ca` beside it; add that, or remove this"),
        (Some(_), None) => field.warning(
            "asks for client certificates, and countersign health and reload have none to show; \
             name one in `client`",
        ),
        _ => {}
    }
    Some(AdminTls {
        files,
        client: client_files,
    })
}

fn key_file(field: &Field<'_>, base: &Path) -> Option<PathBuf> {
    let file = operation::file(field, base)?;
    operation::warn_of_mode(field, &file);
    Some(file)
}

fn certificate_and_key(table: &mut Table<'_>, base: &Path) -> Option<TlsFiles> {
    let cert = table.required("cert");
    let cert = cert.and_then(|field| operation::file(&field, base));
    let key = table
        .required("key")
        .and_then(|field| key_file(&field, base));
    let client_ca = table.field("client_ca");
    let client_ca = client_ca.and_then(|field| operation::file(&field, base));
    Some(TlsFiles {
        cert: cert?,
        key: key?,
        client_ca,
    })
}

/// Reads the names of the admin listener. A port is not among them: the listener has one.
fn admin_hosts(field: &Field<'_>) -> Vec<String> {
    let name = |text: &str| match headers::host(text) {
        Ok(_) if !text.contains(':') => Ok(text.to_ascii_lowercase()),
        _ => Err(format!(
            "{} is not a host name; write it without a port",
            quoted(text)
        )),
    };
    let items = field.some_items("is empty; remove it, or name a host");
    items.iter().filter_map(|item| item.parse(name)).collect()
}

fn admin(mut table: Table<'_>, taken: &mut Vec<SocketAddr>, asks: bool) -> SocketAddr {
    let Some(field) = table.field("address") else {
        if let Some(other) = taken.iter().find(|other| collide(other, &DEFAULT_ADMIN)) {
            let text = format!(
                "the default, {DEFAULT_ADMIN}, is in use by {}; name another",
                written(other)
            );
            table.mistake("address", text);
        }
        return DEFAULT_ADMIN;
    };
    let address = free(&field, taken).unwrap_or(DEFAULT_ADMIN);
    if !address.ip().is_loopback() && !asks {
        field.warning(format!(
            "{} is reachable from outside, and the admin listener does not authenticate clients; \
             use 127.0.0.1 unless the network is closed, or name authorities in admin.tls.client_ca",
            written(&address)
        ));
    }
    address
}

/// The admin listener, from its place in a configuration.
pub(super) fn admin_alone(admin: &Node<'_>, notes: &Notes, base: &Path) -> Option<AdminAccess> {
    let field = |key: &str| {
        let node = admin.entry(key)?;
        Some(Field::entry(node, format!("admin.{key}"), notes))
    };
    let address = field("address");
    Some(AdminAccess {
        address: address.map_or(Some(DEFAULT_ADMIN), |field| field.parse(address_and_port))?,
        hosts: field("hosts").map_or_else(Vec::new, |field| admin_hosts(&field)),
        tls: field("tls").and_then(|field| admin_tls(&field, base)),
    })
}

fn address_and_port(text: &str) -> Result<SocketAddr, String> {
    address::socket(text, "0.0.0.0:8080 or \"[::]:8080\" (with the quotes)")
}

fn free(field: &Field<'_>, taken: &mut Vec<SocketAddr>) -> Option<SocketAddr> {
    let address = field.parse(address_and_port)?;
    if let Some(other) = taken.iter().find(|other| collide(other, &address)) {
        field.mistake(format!(
            "{} is in use by {} above; choose another port",
            written(&address),
            written(other)
        ));
    }
    taken.push(address);
    Some(address)
}

/// An address as the file must have it: where it begins with a bracket YAML reads a list.
fn written(address: &SocketAddr) -> String {
    match address.is_ipv6() {
        true => format!("\"{address}\""),
        false => address.to_string(),
    }
}

/// Whether the system would refuse the second of the two. An unspecified address takes the port of
/// all of its kind.
fn collide(one: &SocketAddr, other: &SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    let same_kind = a.is_ipv4() == b.is_ipv4();
    let overlap = a == b || (same_kind && (a.is_unspecified() || b.is_unspecified()));
    one.port() != 0 && one.port() == other.port() && overlap
}
