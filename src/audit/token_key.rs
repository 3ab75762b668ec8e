//! The key that names bearer tokens in records, and the file that keeps it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing::warn;
use zeroize::Zeroizing;

use countersign_client::file::{self, FileFault};

pub(super) type TokenKey = Zeroizing<[u8; 32]>;

/// A new key. Without random bytes from the system it is a fixed key: the names still tell tokens
/// apart, but a weak token could be guessed from its name.
pub(super) fn fresh() -> TokenKey {
    let mut key = Zeroizing::new([0; 32]);
    if let Err(error) = getrandom::fill(&mut *key) {
        warn!("bearer tokens are named by a weak key: no random bytes from the system: {error}");
    }
    key
}

/// The key in `path`, 64 hexadecimal digits. A missing key is made there, readable for this user
/// alone, and renamed into place, so that a killed start leaves no part of a key. An empty file
/// counts as missing: earlier versions could leave one.
pub(super) fn kept(path: &Path) -> io::Result<TokenKey> {
    let text = match file::read_secret(path, 128) {
        Ok(text) => text,
        Err(FileFault::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
            return made(path);
        }
        Err(fault) => return Err(io::Error::other(fault)),
    };
    if text.is_empty() {
        return made(path);
    }
    let key = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| parse(text.trim_end()));
    key.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "is not a key of 64 hexadecimal digits; remove it, and a new one is made",
        )
    })
}

fn made(file: &Path) -> io::Result<TokenKey> {
    let key = fresh();
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let mut new = (OpenOptions::new().write(true).create(true).truncate(true))
        .mode(0o600)
        .open(&name)?;
    new.write_all(Zeroizing::new(text + "\n").as_bytes())?;
    new.sync_all()?;
    fs::rename(&name, file)?;
    Ok(key)
}

fn parse(text: &str) -> Option<TokenKey> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
    }
    Some(key)
}
