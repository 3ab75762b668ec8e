//! The servers of an upstream: their addresses and weights.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use http::HeaderValue;
use http::uri::Authority;
use rustls::pki_types::ServerName;

use super::super::address;
use super::super::environment::{Environment, Resolve};
use crate::yaml::{Field, Table};

/// Largest weight. A larger ratio between two servers is no balance; and a request must not wait
/// for its turn to come round a million times before the small one is tried at all.
const MAX_WEIGHT: u32 = 100;

const FORM: &str = "write http://host:port or https://host:port";

/// One server of an upstream.
#[derive(Clone, Debug)]
pub struct Server {
    /// `host:port` as written, for messages.
    pub authority: String,
    /// The `Host` sent to it: the upstream's `host`, or else the authority as written.
    pub host: HeaderValue,
    /// With TLS: the name or address that its certificate must be valid for. Never empty, which
    /// Pingora would take for a wish not to verify at all. Without TLS: none.
    pub certified_name: Option<String>,
    /// Its addresses when the configuration was read; none where its name did not resolve.
    pub addresses: Vec<SocketAddr>,
    /// The resolver for the next lookup of the name; `None` for an address.
    pub resolve: Option<Resolve>,
    /// How many requests each of its addresses gets for each one of a server of weight 1: 1, the
    /// default, to 100.
    pub weight: u32,
}

/// The settings that all servers of an upstream share.
pub(super) struct Common<'e> {
    pub(super) host: Option<HeaderValue>,
    pub(super) server_name: Option<String>,
    /// Whether there are settings for TLS.
    pub(super) tls: bool,
    pub(super) environment: &'e Environment,
}

/// Reads `servers`: URLs, or tables of `url` and `weight`. All servers use TLS or none does, so
/// that no server receives in plain text what the others receive encrypted.
pub(super) fn read(table: &mut Table<'_>, common: &Common<'_>) -> Option<Vec<Server>> {
    let field = table.required("servers")?;
    let items = field.some_items("has no server; add at least one: [\"http://127.0.0.1:8200\"]");
    let mut servers: Vec<Server> = Vec::with_capacity(items.len());
    for item in &items {
        let Some(server) = server(item, common) else {
            continue;
        };
        let known = |other: &Server| other.authority == server.authority;
        if servers.iter().any(known) {
            item.mistake("is listed twice; remove one of the two");
        }
        let encrypted = |server: &Server| server.certified_name.is_some();
        if (servers.first()).is_some_and(|first| encrypted(first) != encrypted(&server)) {
            item.mistake("mixes http:// and https:// in one upstream; use one of the two");
        }
        servers.push(server);
    }
    (!servers.is_empty()).then_some(servers)
}

fn server(item: &Field<'_>, common: &Common<'_>) -> Option<Server> {
    let parse = |field: &Field<'_>| field.parse(|url| parse_url(url, field, common));
    if !item.is_table() {
        return parse(item);
    }
    let mut table = item.table();
    let weight = table.whole("weight", 1, 1..=MAX_WEIGHT);
    let server = table.required("url").and_then(|url| parse(&url))?;
    Some(Server { weight, ..server })
}

/// Parses `http://host:port` and resolves it. A name that does not resolve is a warning: the
/// gateway tries again. No message repeats the URL: it may hold a password by mistake.
fn parse_url(url: &str, field: &Field<'_>, common: &Common<'_>) -> Result<Server, String> {
    let (encrypted, authority) = match url.split_once("://") {
        Some(("http", authority)) => (false, authority),
        Some(("https", authority)) => (true, authority),
        _ => return Err(format!("is not a server; {FORM}")),
    };
    if authority.contains('@') {
        return Err(format!(
            "holds a user or password; use `credential`, and {FORM}"
        ));
    }
    if authority.contains(['/', '?', '#']) {
        return Err(format!(
            "holds a path or a query, which a server has not; {FORM}"
        ));
    }
    let parsed: Authority =
        (authority.parse()).map_err(|_| format!("has an invalid host; {FORM}"))?;
    match address::port_of(&parsed).map_err(|why| format!("{why}; {FORM}"))? {
        Some(1..) if !parsed.host().is_empty() => {}
        _ => return Err(format!("has no host or no port of 1 to 65535; {FORM}")),
    }
    address::host(parsed.host())?;
    if common.tls && !encrypted {
        return Err(
            "is http://, and the upstream has settings for TLS; write https://, or \
                    remove `tls`"
                .into(),
        );
    }
    let certified_name = match (encrypted, &common.server_name) {
        (false, _) => None,
        (true, Some(name)) => Some(name.clone()),
        (true, None) => {
            let host = parsed.host().trim_matches(['[', ']']);
            let named = certified_name(host);
            Some(named.map_err(|why| format!("{why}; write one in tls.server_name"))?)
        }
    };
    let is_address = authority.parse::<SocketAddr>().is_ok();
    let addresses = match look_up(common.environment.resolve, authority) {
        Ok(addresses) if !addresses.is_empty() => addresses,
        looked_up => {
            let why = looked_up
                .err()
                .map_or("no address".into(), |e| e.to_string());
            field.warning(format!(
                "{authority} cannot be resolved ({why}): the server gets no requests until it can. \
                 The gateway tries again; check the name if it should resolve by now"
            ));
            Vec::new()
        }
    };
    let own_host =
        || HeaderValue::from_str(authority).map_err(|_| format!("has an invalid host; {FORM}"));
    Ok(Server {
        authority: authority.to_owned(),
        host: common.host.clone().map_or_else(own_host, Ok)?,
        certified_name,
        addresses,
        resolve: (!is_address).then_some(common.environment.resolve),
        weight: 1,
    })
}

/// Looks a name up within [`PATIENCE`]: a start or a reload waits for it, and a resolver may take
/// much longer. The gateway tries again later.
fn look_up(resolve: Resolve, authority: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = authority.parse() {
        return Ok(vec![address]);
    }
    let (found, waiting) = mpsc::channel();
    let name = authority.to_owned();
    let look = move || drop(found.send(resolve(&name)));
    thread::Builder::new().name("look-up".into()).spawn(look)?;
    let in_time = waiting.recv_timeout(PATIENCE);
    in_time.unwrap_or_else(|_| Err(io::Error::other("no answer within 2 s")))
}

/// Longest wait for the addresses of a name.
const PATIENCE: Duration = Duration::from_secs(2);

/// A name or an address that a certificate can be valid for.
pub(super) fn certified_name(name: &str) -> Result<String, String> {
    // Pingora would look for a certificate of the name with `-` for `_`: another name.
    if name.contains('_') {
        return Err("has a `_`, which no name in a certificate has".into());
    }
    match ServerName::try_from(name) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => Err("is no name that a certificate can be for, such as vault.internal".into()),
    }
}
