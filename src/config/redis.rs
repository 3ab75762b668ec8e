//! The nonce store that several gateways share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::address;
use super::credential::{from_file, from_variable};
use super::environment::Environment;
use super::operation;
use super::units::{duration, seconds};
use crate::yaml::{Field, Table, quoted};

/// One Redis or Valkey primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// The server's address; key `url`.
    pub server: Endpoint,
    /// Longest time for one claim, default 50 ms; beyond it, `replay_unavailable`.
    pub timeout: Duration,
    /// The allowed difference between a gateway's clock and the store's, in seconds, default 5. The
    /// store keeps every nonce for the window plus twice this margin.
    pub clock_margin: u64,
    /// The user of the login; `None`: the store's default user.
    pub username: Option<String>,
    /// That user's password.
    pub password: Option<Password>,
    /// The authorities (PEM) for the store's certificate; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The prefix of every key, default `countersign:`. Gateways with different prefixes do not see
    /// each other's nonces.
    pub prefix: String,
}

/// The address in a `redis://` or `rediss://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address; an IPv6 address has no brackets here.
    pub host: String,
    /// Default 6379.
    pub port: u16,
    /// Whether the URL starts with `rediss://`.
    pub tls: bool,
    /// The number of the database, default 0.
    pub database: i64,
}

/// A password. It is wiped when it is dropped, and its `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The password itself, for the login.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

const TIMEOUT: Duration = Duration::from_millis(50);

/// Reads `{ url, timeout, clock_margin, username, password_file | password_env, ca, prefix }`.
pub(super) fn read(field: &Field<'_>, base: &Path, environment: &Environment) -> Option<Redis> {
    let mut table = field.table();
    let server = table.required("url").and_then(|url| url.parse(endpoint));
    let bounds = Duration::from_millis(1)..=Duration::from_secs(5);
    let timeout = table.value("timeout", TIMEOUT, duration(bounds));
    let clock_margin = table.value("clock_margin", 5, seconds(1..=60));
    let username = table.field("username").and_then(|name| name.parse(word));
    let password = password(&mut table, base, environment);
    if let (Some(_), None) = (&username, &password) {
        let text = "has no password beside it; add `password_file` or `password_env`";
        table.mistake("username", text);
    }
    let ca = table.field("ca").and_then(|field| {
        if server.as_ref().is_some_and(|server| !server.tls) {
            field.mistake("is for TLS; write rediss:// in `url`, or remove it");
        }
        operation::file(&field, base)
    });
    let prefix = table.value("prefix", "countersign:".to_owned(), word);
    Some(Redis {
        server: server?,
        timeout,
        clock_margin,
        username,
        password,
        ca,
        prefix,
    })
}

fn password(table: &mut Table<'_>, base: &Path, environment: &Environment) -> Option<Password> {
    let secret = match (table.field("password_file"), table.field("password_env")) {
        (Some(field), None) => {
            let file = operation::file(&field, base)?;
            operation::warn_of_mode(&field, &file);
            field.parse(|_| Ok(from_file(&file)?))
        }
        (None, Some(env)) => env.parse(|name| from_variable(name, environment)),
        (Some(_), Some(env)) => {
            env.mistake("is set together with `password_file`; remove one of the two");
            None
        }
        (None, None) => None,
    }?;
    let text = std::str::from_utf8(&secret).ok()?;
    Some(Password(Zeroizing::new(text.to_owned())))
}

/// No message repeats a URL: it may hold a password, at its proper place or by mistake.
fn endpoint(url: &str) -> Result<Endpoint, String> {
    const FORM: &str = "must be redis://host:port or rediss://host:port (TLS), with /1 at its end \
                        for a database other than 0";
    let (tls, rest) = match url.split_once("://") {
        Some(("redis" | "valkey", rest)) => (false, rest),
        Some(("rediss" | "valkeys", rest)) => (true, rest),
        _ => return Err(FORM.into()),
    };
    if rest.contains('@') {
        return Err(
            "holds a user or a password, which a file like this one should not; \
                    use `username` and `password_file` or `password_env`"
                .into(),
        );
    }
    let (authority, database) = match rest.split_once('/') {
        Some((authority, "")) => (authority, 0),
        Some((authority, number)) => (authority, database(number).ok_or(FORM)?),
        None => (rest, 0),
    };
    let authority: http::uri::Authority = authority.parse().map_err(|_| FORM)?;
    let host = authority.host();
    let port = match address::port_of(&authority)? {
        Some(0) => return Err(FORM.into()),
        port => port.unwrap_or(6379),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(FORM.into());
    }
    address::host(host)?;
    Ok(Endpoint {
        host: host.to_owned(),
        port,
        tls,
        database,
    })
}

/// Redis has 16 databases by default.
fn database(number: &str) -> Option<i64> {
    let digits = (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| number.parse().ok()).flatten()
}

fn word(text: &str) -> Result<String, String> {
    if (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        let quoted = quoted(text);
        Err(format!("{quoted} is not 1 to 64 visible ASCII characters"))
    }
}
