//! The audit log: its files, refusals, signatures and rotation.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::operation;
use super::units::{duration, size};
use crate::yaml::{Field, Table};
use countersign_client::file;
use countersign_core::private_key;

/// The files of the audit records, and their signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The audit log: every accepted request, and every refusal of a machine with a valid
    /// signature.
    pub sink: AuditSink,
    /// Refusals before a signature has verified: any client can cause those.
    pub refusals: Refusals,
    /// Longest wait of an accepted request for its record, default 250 ms; then
    /// `audit_unavailable`.
    pub deadline: Duration,
    /// The gateway's own key, which signs checkpoints of the log. Default: none, and no
    /// checkpoints are signed.
    pub signing_key: Option<GatewayKey>,
    /// The file of the key that hashes bearer tokens in records; a missing file is created.
    /// Default: `token-hash.key` in the state directory, or without one, a key in memory for the
    /// life of the process.
    pub token_key: Option<PathBuf>,
    /// Records between two signatures, default 1000.
    pub checkpoint_records: u64,
    /// Longest time from a record to the next signature, default 60 s.
    pub checkpoint_interval: Duration,
    /// The rotation of the log's file.
    pub rotate: Rotate,
}

/// A place for records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditSink {
    /// Standard output, written `-`; the default of the log.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// The records of unauthenticated refusals. Their rate and their total are bounded, so that a flood
/// of them cannot fill the disk that the records of accepted requests need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// Their own file: by default beside that of the log, with `.refused` in its name. `None`:
    /// together with the log on standard output.
    pub file: Option<PathBuf>,
    /// Most records in a second, default 100; a summary counts the others.
    pub per_second: u32,
    /// Largest size of the file, in bytes, default 64 MiB. It is then renamed with the suffix `.1`,
    /// which replaces the previous one.
    pub size: u64,
}

/// The rotation of a file. The gateway deletes no rotated file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotate {
    /// Largest size, in bytes. Default: any.
    pub size: Option<u64>,
    /// Greatest age. Default: any.
    pub age: Option<Duration>,
}

/// The gateway's private key. Its `Debug` prints nothing of it; each clone is wiped on its own.
#[derive(Clone, PartialEq, Eq)]
pub struct GatewayKey(SigningKey);

impl GatewayKey {
    pub(super) fn new(key: SigningKey) -> GatewayKey {
        GatewayKey(key)
    }

    /// A key that a test has made.
    #[cfg(test)]
    pub(crate) fn of_test(key: SigningKey) -> GatewayKey {
        GatewayKey(key)
    }

    /// The key, to sign with.
    pub fn reveal(&self) -> &SigningKey {
        &self.0
    }
}

impl fmt::Debug for GatewayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayKey(..)")
    }
}

pub(super) fn read(mut table: Table<'_>, base: &Path) -> Audit {
    let sink = table.value("file", AuditSink::Stdout, |text| match text {
        "-" => Ok(AuditSink::Stdout),
        _ => operation::path(text, base).map(AuditSink::File),
    });
    let refusals = refusals(table.table("refusals"), &sink, base);
    let deadline = table.value(
        "deadline",
        Duration::from_millis(250),
        duration(Duration::from_millis(10)..=Duration::from_secs(60)),
    );
    let signing_key = (table.field("signing_key")).and_then(|field| signing_key(&field, base));
    let token_key = table.field("token_key").and_then(|field| {
        let file = operation::file(&field, base)?;
        operation::warn_of_mode(&field, &file);
        match file::read_secret(&file, MAX_KEY) {
            // The file is created when it is first needed.
            Err(fault) if !fault.is_gone() => field.mistake(fault.of(&file).to_string()),
            _ => {}
        }
        Some(file)
    });
    let mut checkpoint = table.table("checkpoint");
    let checkpoint_records = checkpoint.whole("records", 1000, 1..=1_000_000);
    let checkpoint_interval = checkpoint.value(
        "interval",
        Duration::from_secs(60),
        duration(Duration::from_secs(1)..=Duration::from_secs(86_400)),
    );
    let rotate = rotate(table.field("rotate"), &sink);
    Audit {
        sink,
        refusals,
        deadline,
        signing_key,
        token_key,
        checkpoint_records,
        checkpoint_interval,
        rotate,
    }
}

fn refusals(mut table: Table<'_>, trail: &AuditSink, base: &Path) -> Refusals {
    let default = match trail {
        AuditSink::Stdout => None,
        AuditSink::File(path) => Some(beside(path)),
    };
    let file = table.value("file", default, |text| {
        let file = operation::path(text, base)?;
        match *trail == AuditSink::File(file.clone()) {
            true => Err("is the file of the accepted ones; name another".into()),
            false => Ok(Some(file)),
        }
    });
    Refusals {
        file,
        per_second: table.whole("per_second", 100, 1..=100_000),
        size: table.value("size", 64 << 20, size(1 << 20..=1 << 40)),
    }
}

/// `audit.jsonl` becomes `audit.refused.jsonl`.
fn beside(trail: &Path) -> PathBuf {
    let extension = trail.extension().and_then(|extension| extension.to_str());
    trail.with_extension(match extension {
        Some(extension) => format!("refused.{extension}"),
        None => "refused".to_owned(),
    })
}

fn rotate(field: Option<Field<'_>>, trail: &AuditSink) -> Rotate {
    let Some(field) = field else {
        return Rotate::default();
    };
    if *trail == AuditSink::Stdout {
        field.mistake("rotates standard output; name an audit.file, or remove it");
    }
    let mut table = field.table();
    let hour = Duration::from_secs(3600);
    Rotate {
        size: table.value("size", None, |text| size(1 << 20..=1 << 40)(text).map(Some)),
        age: table.value("age", None, |text| {
            duration(hour..=24 * 366 * hour)(text).map(Some)
        }),
    }
}

fn signing_key(field: &Field<'_>, base: &Path) -> Option<GatewayKey> {
    field.parse(|text| {
        let path = operation::path(text, base)?;
        operation::warn_of_mode(field, &path);
        let pem = file::read_secret(&path, MAX_KEY).map_err(|fault| fault.of(&path))?;
        let key = private_key::parse(&pem);
        key.map(GatewayKey)
            .map_err(|why| format!("{}: {why}", path.display()))
    })
}

/// A PEM key is some hundred bytes.
const MAX_KEY: usize = 8 * 1024;
