//! The secret by which the gateway itself is known to a backend.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::environment::Environment;
use super::headers;
use super::reader::{Place, Table};
use super::secret_file;

/// Largest secret, in bytes. Tokens have tens to a few thousand; common servers take no header
/// block beyond 8 KiB, so a larger file is a mix-up, and is not read on.
const MAX_SECRET: usize = 8 * 1024;

/// A header with a secret that the gateway sends to the backend, in place of whatever the client
/// sent under that name.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The header, such as `X-Vault-Token` or `Authorization`.
    pub header: HeaderName,
    /// The prefix and the secret. Marked as sensitive, so that its `Debug` prints nothing of it and
    /// HTTP/2 does not index it; clones share one memory, wiped when the last of them goes.
    pub value: HeaderValue,
}

/// Reads `{ header, prefix, file | env }`. A secret that is missing, empty or not visible ASCII
/// is a mistake: the gateway does not start without it. No message repeats any of it.
pub(super) fn read(
    place: &Place<'_>,
    base: &Path,
    environment: &Environment,
) -> Option<Credential> {
    let mut table = place.table();
    let header = table
        .required("header")
        .and_then(|header| header.parse(headers::settable));
    let prefix = table.value("prefix", String::new(), prefix);
    let secret = secret(&mut table, base, environment);
    let value = value(&prefix, &secret?)
        .map_err(|text| place.mistake(text))
        .ok()?;
    Some(Credential {
        header: header?,
        value,
    })
}

fn secret(
    table: &mut Table<'_>,
    base: &Path,
    environment: &Environment,
) -> Option<Zeroizing<Vec<u8>>> {
    match (table.place("file"), table.place("env")) {
        (Some(file), None) => file.parse(|path| from_file(&base.join(path))),
        (None, Some(env)) => env.parse(|name| from_variable(name, environment)),
        (Some(_), Some(env)) => {
            env.mistake("stands beside `file`; the secret comes from exactly one of the two");
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

pub(super) fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut secret = secret_file::read(path, MAX_SECRET + 2)?;
    for end in [b'\n', b'\r'] {
        if secret.last() == Some(&end) {
            secret.pop();
        }
    }
    match checked(&secret) {
        Ok(()) => Ok(secret),
        Err(why) => Err(format!("{} {why}", path.display())),
    }
}

pub(super) fn from_variable(
    name: &str,
    environment: &Environment,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(word)
    {
        // Not repeated: whoever writes the secret itself here should not find it in a log.
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
