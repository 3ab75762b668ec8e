//! Credentials: the secrets that authenticate the gateway or a machine to a backend.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::environment::Environment;
use super::headers;
use super::operation;
use crate::yaml::{Field, Table, quoted};
use countersign_client::file::{self, Unusable};

/// Largest secret, in bytes. Tokens have tens to a few thousand, and common servers take no header
/// block beyond 8 KiB. A larger file is a wrong file, and is refused.
const MAX_SECRET: usize = 8 * 1024;

/// Shortest secret, in bytes, that the echo check looks for in answers. Tokens have twenty and more.
/// A shorter text stands in answers by chance, which would then not pass.
pub const SHORTEST_CHECKED_SECRET: usize = 8;

/// A header with a secret that the gateway sends to the backend. It replaces the client's header of
/// that name.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The name in logs and metrics: the key under `credentials`, `[a-z0-9_-]{1,64}`, or for an
    /// upstream's own credential `upstream:` and the upstream's name.
    pub name: String,
    /// The header, such as `X-Vault-Token` or `Authorization`.
    pub header: HeaderName,
    /// The prefix and the secret. It is marked as sensitive: its `Debug` prints nothing of it, and
    /// HTTP/2 does not index it. Clones share one memory, which is wiped when the last is dropped.
    /// `None` while its file is missing or empty: its writer may start later than the gateway.
    pub value: Option<HeaderValue>,
    /// The text before the secret in the value, such as `Bearer `. Default: nothing.
    pub prefix: String,
    /// The file of the secret; `None` for a secret from the environment.
    pub file: Option<PathBuf>,
    /// The upstreams to which it may be sent. Empty, the default: all. For an upstream's own
    /// credential: that upstream.
    pub upstreams: Vec<String>,
}

impl Credential {
    /// The current value: read again from the file, or the value of the environment, which does not
    /// change.
    ///
    /// # Errors
    ///
    /// The mistake in the file; nothing of its content.
    pub fn read_again(&self) -> Result<HeaderValue, Unusable> {
        match &self.file {
            Some(file) => value(&self.prefix, &from_file(file)?).map_err(Unusable::content),
            None => {
                (self.value.clone()).ok_or_else(|| Unusable::content("it has no value".to_owned()))
            }
        }
    }
}

/// A credential that was read, its place, and the places of the upstreams it names.
pub(super) type Unbound<'a> = (Credential, Field<'a>, Vec<Field<'a>>);

/// Reads the credentials that machines may be given.
pub(super) fn named<'a>(
    root: &mut Table<'a>,
    identity: &HeaderName,
    base: &Path,
    environment: &Environment,
) -> Vec<Unbound<'a>> {
    let Some(field) = root.field("credentials") else {
        return Vec::new();
    };
    let read_one = |(name, field): (&str, Field<'a>)| {
        if !is_name(name) {
            field.mistake("has a name outside [a-z0-9_-]{1,64}; it becomes a metric label");
        }
        let mut table = field.table();
        let upstreams = table.items("upstreams");
        let credential = fields(&mut table, &field, name, identity, base, environment)?;
        Some((credential, field, upstreams))
    };
    let named = field.some_entries("names no credential; remove it");
    named.into_iter().filter_map(read_one).collect()
}

/// Whether a text is a valid name of a credential.
pub fn is_name(name: &str) -> bool {
    let word = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(word)
}

/// Sets the upstreams of each credential; they must exist.
pub(super) fn bind(credentials: Vec<Unbound<'_>>, upstreams: &[&str]) -> Vec<Credential> {
    let bind_one = |(mut credential, field, fields): Unbound<'_>| {
        if fields.is_empty() && upstreams.len() > 1 {
            field.warning("is sent to every upstream; name those it is for with `upstreams`");
        }
        for field in fields {
            let known = |name: &str| match upstreams.contains(&name) {
                true => Ok(name.to_owned()),
                false => Err(format!("there is no upstream {}", quoted(name))),
            };
            credential.upstreams.extend(field.parse(known));
        }
        credential
    };
    credentials.into_iter().map(bind_one).collect()
}

/// Reads the credential of the upstream `name`.
pub(super) fn of_upstream(
    field: &Field<'_>,
    name: &str,
    identity: &HeaderName,
    base: &Path,
    environment: &Environment,
) -> Option<Credential> {
    let own = format!("upstream:{name}");
    let mut table = field.table();
    let mut credential = fields(&mut table, field, &own, identity, base, environment)?;
    credential.upstreams.push(name.to_owned());
    Some(credential)
}

/// Reads `{ header, prefix, file | env }`. A secret with bytes outside visible ASCII is a mistake,
/// and so is an unset variable: the gateway does not start with it. A missing file is a warning.
/// No message repeats any part of the secret.
fn fields(
    table: &mut Table<'_>,
    field: &Field<'_>,
    name: &str,
    identity: &HeaderName,
    base: &Path,
    environment: &Environment,
) -> Option<Credential> {
    let header = table
        .required("header")
        .and_then(|header| header.parse(|text| header_of(text, identity)));
    let prefix = table.value("prefix", String::new(), prefix);
    let mut path = None;
    let secret = secret(table, base, environment, &mut path);
    if let Some(Some(secret)) = &secret
        && secret.len() < SHORTEST_CHECKED_SECRET
    {
        field.warning(format!(
            "holds a secret of fewer than {SHORTEST_CHECKED_SECRET} bytes: the echo check cannot \
             look for it, because it stands in answers by chance. Use a longer one"
        ));
    }
    let value = secret?.map(|secret| value(&prefix, &secret)).transpose();
    let value = value.map_err(|text| field.mistake(text)).ok()?;
    Some(Credential {
        name: name.to_owned(),
        header: header?,
        value,
        prefix,
        file: path,
        upstreams: Vec::new(),
    })
}

/// A header that only the credential sets.
pub(super) fn header_of(text: &str, identity: &HeaderName) -> Result<HeaderName, String> {
    let header = headers::settable(text)?;
    if headers::is_same_header(&header, identity) {
        Err(format!("{header} is the identity header"))
    } else if (headers::ALLOWED.iter()).any(|allowed| headers::is_same_header(allowed, &header)) {
        Err(format!("{header} crosses from clients; choose another"))
    } else {
        Ok(header)
    }
}

fn secret(
    table: &mut Table<'_>,
    base: &Path,
    environment: &Environment,
    path: &mut Option<PathBuf>,
) -> Option<Option<Zeroizing<Vec<u8>>>> {
    match (table.field("file"), table.field("env")) {
        (Some(field), None) => {
            let secret = field.parse(|text| {
                let path = path.insert(base.join(text));
                if is_not_written_yet(path) {
                    field.warning(format!(
                        "{} does not exist yet, or is empty: requests that carry its secret get \
                         503 upstream_credential. Write the secret to the file; the gateway reads \
                         it without a restart",
                        path.display()
                    ));
                    return Ok(None);
                }
                Ok(Some(from_file(path)?))
            });
            if let (Some(Some(_)), Some(file)) = (&secret, path) {
                operation::warn_of_mode(&field, file);
            }
            secret
        }
        (None, Some(env)) => env.parse(|name| from_variable(name, environment).map(Some)),
        (Some(_), Some(env)) => {
            env.mistake("is set together with `file`; remove one of the two");
            None
        }
        (None, None) => {
            table.mistake(
                "file",
                "is missing, and so is `env`; the secret comes from one of the two",
            );
            None
        }
    }
}

/// Whether the file may still appear: an agent on the same host may fetch the secret after a
/// reboot.
fn is_not_written_yet(path: &Path) -> bool {
    match path.metadata() {
        Ok(found) => found.is_file() && found.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

pub(super) fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    let mut secret = file::read_secret(path, MAX_SECRET + 2).map_err(|fault| fault.of(path))?;
    for end in [b'\n', b'\r'] {
        if secret.last() == Some(&end) {
            secret.pop();
        }
    }
    match checked(&secret) {
        Ok(()) => Ok(secret),
        Err(why) => Err(Unusable::content(format!("{} {why}", path.display()))),
    }
}

pub(super) fn from_variable(
    name: &str,
    environment: &Environment,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(word)
    {
        // The text is not repeated: it may be the secret itself, which belongs in no log.
        return Err("is not the name of an environment variable: letters, digits and _".into());
    }
    let secret = (environment.variable)(name)
        .map_err(|_| "names an environment variable that is not set, or is not text".to_owned())?;
    let secret = Zeroizing::new(secret.into_bytes());
    checked(&secret)
        .map(|()| secret)
        .map_err(|why| format!("names an environment variable that {why}"))
}

fn checked(secret: &[u8]) -> Result<(), &'static str> {
    if secret.is_empty() {
        Err("is empty")
    } else if secret.len() > MAX_SECRET {
        Err("holds more than 8 KiB, which no token has")
    } else if !secret.iter().all(u8::is_ascii_graphic) {
        Err("holds a space, a line break or another byte that is not visible ASCII")
    } else {
        Ok(())
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let printable = text
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if text.len() <= 64 && printable && !text.starts_with(' ') {
        Ok(text.to_owned())
    } else {
        Err("must be at most 64 visible ASCII characters, such as \"Bearer \"".into())
    }
}

fn value(prefix: &str, secret: &[u8]) -> Result<HeaderValue, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.len()));
    bytes.extend_from_slice(prefix.as_bytes());
    bytes.extend_from_slice(secret);
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
        .map_err(|_| "does not make a header value".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
