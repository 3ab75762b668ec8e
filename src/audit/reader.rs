//! Reading a log back, for every command that does: lines of bounded length, and the record in
//! each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Longest line read, in bytes. A registry record with a thousand machines has some 300 KB. A
/// longer line comes in pieces, of which only the last ends in a line feed.
pub const MAX_LINE: u64 = 4 * 1024 * 1024;

/// Reads the next line into `line`, with its line feed if it has one, and gives its length in
/// bytes; zero at the end.
///
/// # Errors
///
/// The file cannot be read.
pub fn next_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    file.take(MAX_LINE).read_until(b'\n', line)
}

/// A record of any kind, with the fields that a command uses. Only its decision is sure to be
/// there.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "the fields have the names of the log format")]
pub struct Record<'a> {
    #[serde(borrow)]
    pub decision: RecordText<'a>,
    pub ts: Option<RecordText<'a>>,
    // Decisions and responses.
    pub request_id: Option<RecordText<'a>>,
    pub auth: Option<RecordText<'a>>,
    pub code: Option<RecordText<'a>>,
    pub machine: Option<RecordedMachine<'a>>,
    pub claimed_machine: Option<RecordText<'a>>,
    pub token_hash: Option<RecordText<'a>>,
    pub client_ip: Option<RecordText<'a>>,
    pub method: Option<RecordText<'a>>,
    pub path: Option<RecordText<'a>>,
    pub signed_path: Option<RecordText<'a>>,
    pub route: Option<RecordText<'a>>,
    pub timestamp: Option<u64>,
    pub nonce: Option<RecordText<'a>>,
    pub body_sha256: Option<RecordText<'a>>,
    /// Also of a checkpoint.
    pub signature: Option<RecordText<'a>>,
    pub status: Option<u16>,
    // Registries, and calls that change them.
    pub by: Option<RecordText<'a>>,
    pub call: Option<RecordText<'a>>,
    pub digest: Option<RecordText<'a>>,
    pub machines: Option<u64>,
    #[serde(default)]
    pub keys: Vec<RecordedKeys<'a>>,
    // The log's own records: opening, checkpoint, summary.
    pub event: Option<RecordText<'a>>,
    pub after: Option<RecordText<'a>>,
    #[serde(default)]
    pub torn: bool,
    pub head: Option<RecordText<'a>>,
    pub gateway_key: Option<RecordText<'a>>,
    pub left_out: Option<BTreeMap<RecordText<'a>, u64>>,
}

/// A machine whose signature verified, as a record names it.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "the fields have the names of the log format")]
pub struct RecordedMachine<'a> {
    #[serde(borrow)]
    pub id: RecordText<'a>,
    pub public_key: Option<RecordText<'a>>,
}

/// A machine and its keys, as a registry record names them.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "the fields have the names of the log format")]
pub struct RecordedKeys<'a> {
    #[serde(borrow)]
    pub id: RecordText<'a>,
    pub public_keys: Vec<RecordText<'a>>,
}

impl Record<'_> {
    /// Reads the record of a line. `None` for what is no record: no JSON object, without a
    /// decision, or with a field of another type or one that is there twice. Other fields are
    /// skipped, because a newer gateway may write more.
    pub fn parse(line: &[u8]) -> Option<Record<'_>> {
        serde_json::from_slice(line).ok()
    }

    /// When it was recorded. `None` where it does not say, or not in the format of RFC 3339.
    pub fn time(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.ts.as_deref()?, &Rfc3339).ok()
    }

    /// The same in Unix seconds. `None` also before 1970.
    pub fn unix_seconds(&self) -> Option<u64> {
        u64::try_from(self.time()?.unix_timestamp()).ok()
    }
}

/// Text of a record, borrowed from its line where it holds no escape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct RecordText<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for RecordText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_there_twice_makes_no_record() {
        for line in [
            r#"{"decision":"accepted","decision":"refused"}"#,
            r#"{"decision":"refused","machine":{"id":"a"},"machine":{"id":"b"}}"#,
            r#"{"decision":"refused","machine":{"id":"a","id":"b"}}"#,
        ] {
            assert!(Record::parse(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn a_field_of_another_type_makes_no_record() {
        for field in [
            r#""path":7"#,
            r#""status":"200""#,
            r#""machine":"m-1""#,
            r#""torn":1"#,
        ] {
            let line = format!(r#"{{"decision":"accepted",{field}}}"#);
            assert!(Record::parse(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn a_field_that_this_version_does_not_know_is_skipped() {
        let record = Record::parse(br#"{"decision":"refused","later":{"a":[1]},"path":"/a"}"#);
        assert_eq!(record.unwrap().path.as_deref(), Some("/a"));
    }

    #[test]
    fn text_is_copied_only_where_it_holds_an_escape() {
        let record = Record::parse(br#"{"decision":"refused","path":"/a\u001b"}"#).unwrap();
        assert!(matches!(record.decision.0, Cow::Borrowed("refused")));
        assert_eq!(record.path.as_deref(), Some("/a\u{1b}"));
    }
}
