//! The backends: their servers, time-outs, credentials and headers.

mod health;
mod servers;
mod tls;

use std::path::Path;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

pub use health::Health;
pub use servers::Server;
pub use tls::{ClientFiles, ClientTls, TlsMaterial};

use super::assertion;
use super::credential::{self, Credential};
use super::environment::Environment;
use super::headers;
use super::login::{self, Login};
use super::units::duration;
use crate::yaml::{Field, Table, one_of, quoted};
use countersign_core::target::Target;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// One backend, of one or more interchangeable servers. A verified request goes to one of them,
/// at most once: there are no retries to configure.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The name by which routes and metrics call it: `[a-z0-9_-]{1,64}`.
    pub name: String,
    /// Its servers, at least one, used in weighted round robin.
    pub servers: Vec<Server>,
    /// The TLS settings of connections to them; `None`: plain HTTP.
    pub tls: Option<ClientTls>,
    /// The active health check. Default: none; a server that fails connections or requests is
    /// skipped all the same.
    pub health: Option<Health>,
    /// The gateway's own credential for it. Default: none is sent.
    pub credential: Option<Credential>,
    /// The login of each machine, in place of the credential. Default: none.
    pub login: Option<Login>,
    /// The claim `aud` of the assertion that a route sends as a header. Default: that of the login.
    pub audience: Option<String>,
    /// The path of the credential check: after a 401 or 403 the gateway asks the backend there
    /// whether it still takes the request's credential. Default: with a login
    /// `/v1/auth/token/lookup-self`, else no check, and the answer is forwarded.
    pub check: Option<String>,
    /// Whether answers that contain the credential of their request are kept from clients. Default:
    /// yes.
    pub echo_check: bool,
    /// Headers set on every request to it, replacing the client's. Default: none. Their values are
    /// marked as sensitive, so that their `Debug` prints nothing of them.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// Longest wait for a connection, default 2 s; after it the next server is tried.
    pub connect_timeout: Duration,
    /// Longest wait for each piece of the response, default 30 s; then `upstream_timeout`.
    pub read_timeout: Duration,
    /// Longest wait for the server to take each piece of the request, default 30 s.
    pub write_timeout: Duration,
    /// How long an idle connection is kept for the next request, default 4 s: below the shortest
    /// keep-alive in common use (Node's 5 s), so that a request, which is never sent twice, does
    /// not meet a connection that the server is about to close.
    pub idle_timeout: Duration,
    /// The callers that may share an idle connection. Default: one machine.
    pub reuse: ConnectionReuse,
}

/// The callers whose requests one connection to a server may carry, one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionReuse {
    /// Those of one machine, of one bearer token, or of open routes. A server that confuses its
    /// answers confuses only requests of the same caller.
    #[default]
    Machine,
    /// All callers share it. It needs fewer connections, but a server that sends bytes beyond its
    /// answer can hand one machine the answer of another.
    Shared,
}

impl Upstream {
    /// The headers that the gateway sets on every request to it.
    pub(super) fn headers_set(&self) -> impl Iterator<Item = &HeaderName> {
        let namespace = self.login.iter().filter(|login| login.namespace.is_some());
        self.set_headers
            .iter()
            .map(|(name, _)| name)
            .chain(self.secret_header())
            .chain(namespace.map(|_| &login::NAMESPACE))
    }

    /// Whether the gateway sets this header to this value on requests to it. A namespace is the same
    /// with a slash at its end, which the command lines of Vault and OpenBao add.
    pub fn sets(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        fn path(value: &HeaderValue) -> &[u8] {
            let bytes = value.as_bytes();
            bytes.strip_suffix(b"/").unwrap_or(bytes)
        }
        let is_same = |fixed: &HeaderValue| match *name == login::NAMESPACE {
            true => path(fixed) == path(value),
            false => fixed == value,
        };
        let namespace = self
            .login
            .as_ref()
            .and_then(|login| login.namespace.as_ref());
        let of_login = namespace.filter(|_| *name == login::NAMESPACE);
        let fixed = self.set_headers.iter().filter(|(own, _)| own == name);
        fixed.map(|(_, fixed)| fixed).chain(of_login).any(is_same)
    }

    /// The header of its own credential, or of the tokens of its login.
    pub(super) fn secret_header(&self) -> Option<&HeaderName> {
        let credential = self.credential.as_ref().map(|own| &own.header);
        credential.or(self.login.as_ref().map(|login| &login.header))
    }

    /// The claim `aud` of the assertions that are sent to it as a header.
    pub fn assertion_audience(&self) -> Option<&str> {
        let of_login = || self.login.as_ref().map(|login| &*login.audience);
        self.audience.as_deref().or_else(of_login)
    }
}

/// One upstream of the file: its name, even where the rest of it has mistakes, so that a
/// route to it is not called mistaken as well.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) upstream: Option<Upstream>,
    pub(super) field: Field<'a>,
}

/// Reads the table of upstreams. `identity` is the configured identity header, and
/// `secret_headers` those of credentials, which none of them may set.
pub(super) fn read<'a>(
    root: &mut Table<'a>,
    identity: &HeaderName,
    secret_headers: &[HeaderName],
    base: &Path,
    environment: &Environment,
    can_assert: bool,
) -> Vec<Named<'a>> {
    let Some(field) = root.required("upstreams") else {
        return Vec::new();
    };
    let named =
        field.some_entries("names no upstream; add at least one: secrets: { servers: [..] }");
    let read_one = |(name, field): (&'a str, Field<'a>)| Named {
        name,
        upstream: upstream(
            name,
            &field,
            identity,
            secret_headers,
            base,
            environment,
            can_assert,
        ),
        field,
    };
    named.into_iter().map(read_one).collect()
}

fn upstream(
    name: &str,
    field: &Field<'_>,
    identity: &HeaderName,
    secret_headers: &[HeaderName],
    base: &Path,
    environment: &Environment,
    can_assert: bool,
) -> Option<Upstream> {
    if !credential::is_name(name) {
        field.mistake("has a name outside [a-z0-9_-]{1,64}; it becomes a metric label");
    }
    let mut table = field.table();
    let host = table.field("host").map(|host| host.parse(headers::host));
    let settings = tls::read(&mut table, base, environment);
    let common = servers::Common {
        host: host.flatten(),
        server_name: (settings.as_ref()).and_then(|settings| settings.server_name.clone()),
        tls: settings.is_some(),
        environment,
    };
    let servers = servers::read(&mut table, &common);
    let health = health::read(&mut table);
    let credential = (table.field("credential"))
        .and_then(|field| credential::of_upstream(&field, name, identity, base, environment));
    let login_field = table.field("login");
    let login = (login_field.as_ref()).and_then(|field| login::read(field, identity, can_assert));
    if let (Some(field), Some(_)) = (&login_field, &credential) {
        field.mistake("is set together with `credential`; remove one of the two");
    }
    let audience = table.field("audience");
    let audience = audience.and_then(|field| field.parse(assertion::name));
    let namespace = login
        .as_ref()
        .is_some_and(|login| login.namespace.is_some());
    let secret_header = credential.as_ref().map(|credential| &credential.header);
    let taken: Vec<&HeaderName> = (secret_headers.iter())
        .chain(secret_header)
        .chain(login.as_ref().map(|login| &login.header))
        .chain(namespace.then_some(&login::NAMESPACE))
        .chain([identity])
        .collect();
    let set_headers = set_headers(&mut table, &taken);
    let check = table.field("check").and_then(|field| field.parse(check));
    let check = check.or_else(|| login.as_ref().map(|_| login::LOOK_UP.to_owned()));
    if check.is_some() && credential.is_none() && login.is_none() && secret_headers.is_empty() {
        field.warning("has a check, and there is no credential to look up");
    }
    let echo_check = echo_check(&mut table);
    let timeout = |table: &mut Table<'_>, key, default| {
        table.value(
            key,
            Duration::from_millis(default),
            duration(10 * MS..=HOUR),
        )
    };
    let connect_timeout = timeout(&mut table, "connect_timeout", 2_000);
    let read_timeout = timeout(&mut table, "read_timeout", 30_000);
    let write_timeout = timeout(&mut table, "write_timeout", 30_000);
    let idle_timeout = timeout(&mut table, "idle_timeout", 4_000);
    let reuse = table.value("reuse", ConnectionReuse::default(), connection_reuse);
    let servers = servers?;
    let is_encrypted = servers.iter().any(|server| server.certified_name.is_some());
    let tls = settings.map(|settings| settings.tls).unwrap_or_default();
    Some(Upstream {
        name: name.to_owned(),
        servers,
        tls: is_encrypted.then_some(tls),
        health,
        credential,
        login,
        audience,
        check,
        echo_check,
        set_headers,
        connect_timeout,
        read_timeout,
        write_timeout,
        idle_timeout,
        reuse,
    })
}

fn echo_check(table: &mut Table<'_>) -> bool {
    let Some(field) = table.field("echo_check") else {
        return true;
    };
    let is_on = field.parse(one_of(&[("on", true), ("off", false)]));
    if is_on == Some(false) {
        field.warning(
            "lets answers pass that contain the credential: a machine that finds a page of the \
             backend that shows request headers has the credential. Remove it if you can",
        );
    }
    is_on.unwrap_or(true)
}

fn connection_reuse(text: &str) -> Result<ConnectionReuse, String> {
    match text {
        "machine" => Ok(ConnectionReuse::Machine),
        "shared" => Ok(ConnectionReuse::Shared),
        _ => Err(format!(
            "{} is neither machine nor shared: machine keeps a connection to a server for requests \
             of one machine, shared lets all machines use it",
            quoted(text)
        )),
    }
}

/// Parses `GET /path`.
fn check(text: &str) -> Result<String, String> {
    let path = text.strip_prefix("GET ").unwrap_or_default();
    match Target::parse(path.as_bytes()) {
        Ok(target) if target.query().is_none() => Ok(path.to_owned()),
        _ => Err(format!(
            "{} is not GET and a path; write GET /v1/auth/token/lookup-self",
            quoted(text)
        )),
    }
}

fn set_headers(table: &mut Table<'_>, taken: &[&HeaderName]) -> Vec<(HeaderName, HeaderValue)> {
    let Some(field) = table.field("set_headers") else {
        return Vec::new();
    };
    let mut set: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in field.some_entries("names no header; remove it") {
        let name = match headers::settable(name) {
            Ok(name) => name,
            Err(text) => {
                value.mistake(text);
                continue;
            }
        };
        let clash = taken
            .iter()
            .any(|taken| headers::is_same_header(taken, &name));
        if clash
            || set
                .iter()
                .any(|(known, _)| headers::is_same_header(known, &name))
        {
            value.mistake(format!(
                "{name} is already set by another setting; remove one"
            ));
        } else if let Some(value) = value.parse(fixed_value) {
            set.push((name, value));
        }
    }
    set
}

/// Not repeated in a message: a fixed header may be a secret in all but name.
fn fixed_value(text: &str) -> Result<HeaderValue, String> {
    let printable = text
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    match HeaderValue::from_str(text) {
        Ok(mut value) if printable && text.trim() == text && text.len() <= 4096 => {
            value.set_sensitive(true);
            Ok(value)
        }
        _ => Err("must be at most 4096 visible ASCII characters, with no space at an end".into()),
    }
}
