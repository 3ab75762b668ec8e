//! The answers of a KV engine, version 2, by what they mean.

use std::collections::BTreeMap;
use std::fmt;

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::kv_read::ReadKind;

/// What the backend said to one read.
#[derive(Clone, Debug)]
pub(crate) enum KvAnswer {
    /// The newest version of a secret.
    Fields(SecretFields),
    /// Its number and its state.
    Version(SecretVersion),
    /// The names in a folder; those of folders end in a slash.
    Names(Vec<String>),
    /// There is no such secret or folder, or its newest version is deleted.
    Absent,
    /// 401 or 403: the policy of the backend, or a credential that it refuses. The two look alike
    /// here.
    Denied,
    /// The backend cannot answer now: 429, or any 5xx.
    Failing(StatusCode),
}

/// The fields of a secret, with their values as JSON: a number keeps its digits.
#[derive(Clone)]
pub(crate) struct SecretFields(pub(super) BTreeMap<String, Box<RawValue>>);

/// The newest version of a secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretVersion {
    pub(super) number: u64,
    /// When it was created, as the backend writes it. A secret that is made anew begins with number
    /// 1 again.
    pub(super) created: String,
    /// When it ends or ended; empty: never.
    pub(super) deleted: String,
    pub(super) is_destroyed: bool,
}

/// An answer that no KV engine of version 2 gives, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotKv(pub(crate) &'static str);

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

#[derive(Deserialize)]
struct DataBody {
    data: Option<BTreeMap<String, Box<RawValue>>>,
}

#[derive(Deserialize)]
struct NamesBody {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct MetadataBody {
    current_version: u64,
    #[serde(default)]
    versions: BTreeMap<String, VersionBody>,
}

#[derive(Deserialize)]
struct VersionBody {
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<String>,
}

impl KvAnswer {
    /// Understands an answer.
    ///
    /// # Errors
    ///
    /// [`NotKv`]. That is a fault of the backend or of the configuration, and never a 404 of the
    /// client's: a client gives up for good on one.
    pub(crate) fn understand(
        kind: ReadKind,
        status: StatusCode,
        body: &[u8],
    ) -> Result<KvAnswer, NotKv> {
        match status {
            StatusCode::OK => match kind {
                ReadKind::Data => Ok(match parse::<DataBody>(body)?.data {
                    Some(fields) => KvAnswer::Fields(SecretFields(fields)),
                    None => KvAnswer::Absent,
                }),
                ReadKind::Metadata => Ok(newest(parse::<MetadataBody>(body)?)),
                ReadKind::Folder => Ok(KvAnswer::Names(parse::<NamesBody>(body)?.keys)),
            },
            StatusCode::NOT_FOUND => absent(body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(KvAnswer::Denied),
            StatusCode::TOO_MANY_REQUESTS => Ok(KvAnswer::Failing(status)),
            status if status.is_server_error() => Ok(KvAnswer::Failing(status)),
            _ => Err(NotKv(
                "the status is none that a KV engine answers a read with",
            )),
        }
    }
}

impl SecretVersion {
    /// Whether a read at `now` would find nothing. A deletion can be set for later. A time that
    /// cannot be read counts as later: the client then reads, and the backend tells it.
    pub(super) fn is_gone(&self, now: OffsetDateTime) -> bool {
        let ended = OffsetDateTime::parse(&self.deleted, &Rfc3339);
        self.is_destroyed || ended.is_ok_and(|ended| ended <= now)
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, NotKv> {
    let envelope: Result<Envelope<T>, _> = serde_json::from_slice(body);
    // The error of the parser may hold a piece of the secret.
    envelope
        .map(|envelope| envelope.data)
        .map_err(|_| NotKv("the answer is none of a KV engine, version 2"))
}

/// A 404 with texts is about the mount, and one that is no JSON is not the backend's own.
fn absent(body: &[u8]) -> Result<KvAnswer, NotKv> {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { errors }) if errors.is_empty() => Ok(KvAnswer::Absent),
        Ok(_) => Err(NotKv("the backend has no KV engine at this mount")),
        Err(_) => Err(NotKv("the backend answers 404 without JSON")),
    }
}

fn newest(metadata: MetadataBody) -> KvAnswer {
    let MetadataBody {
        current_version,
        mut versions,
    } = metadata;
    match versions.remove(&current_version.to_string()) {
        None => KvAnswer::Absent,
        Some(version) => KvAnswer::Version(SecretVersion {
            number: current_version,
            created: version.created_time,
            deleted: version.deletion_time,
            is_destroyed: version.destroyed,
        }),
    }
}

/// Without the values.
impl fmt::Debug for SecretFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretFields({})", self.0.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-29 12:00 UTC);

    fn understood(kind: ReadKind, status: u16, body: &str) -> Result<KvAnswer, NotKv> {
        KvAnswer::understand(kind, StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    fn shown(kind: ReadKind, status: u16, body: &str) -> String {
        format!("{:?}", understood(kind, status, body).unwrap())
    }

    #[test]
    fn a_secret_has_its_fields() {
        let body = r#"{"request_id":"x","data":{"data":{"user":"u","pass":"p"},"metadata":{"version":1}},"auth":null}"#;
        let Ok(KvAnswer::Fields(fields)) = understood(ReadKind::Data, 200, body) else {
            panic!("fields");
        };
        assert_eq!(fields.0.keys().collect::<Vec<_>>(), ["pass", "user"]);
    }

    #[test]
    fn a_folder_has_its_names() {
        let body = r#"{"data":{"keys":["api","app/"]}}"#;
        assert_eq!(
            shown(ReadKind::Folder, 200, body),
            r#"Names(["api", "app/"])"#
        );
    }

    #[test]
    fn a_deleted_or_missing_secret_is_absent() {
        let deleted = r#"{"data":{"data":null,"metadata":{"deletion_time":"2026-11-29T07:05:17Z","version":1}},"warnings":null}"#;
        assert_eq!(shown(ReadKind::Data, 404, deleted), "Absent");
        assert_eq!(shown(ReadKind::Data, 200, deleted), "Absent");
        for kind in [ReadKind::Data, ReadKind::Metadata, ReadKind::Folder] {
            assert_eq!(shown(kind, 404, r#"{"errors":[]}"#), "Absent");
        }
    }

    #[test]
    fn a_404_about_the_mount_is_no_missing_secret() {
        let body = r#"{"errors":["no handler for route \"kv/data/x\". route entry not found."]}"#;
        for body in [body, "", "<html>", "404 page not found"] {
            assert!(understood(ReadKind::Data, 404, body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_refusal_is_a_denial_whatever_its_body() {
        for status in [401, 403] {
            for body in ["", r#"{"errors":["permission denied"]}"#] {
                assert_eq!(shown(ReadKind::Data, status, body), "Denied");
            }
        }
    }

    #[test]
    fn what_passes_by_itself_keeps_its_status() {
        for status in [429, 500, 502, 503, 504] {
            let body = r#"{"errors":["Vault is sealed"]}"#;
            assert_eq!(
                shown(ReadKind::Folder, status, body),
                format!("Failing({status})")
            );
        }
    }

    #[test]
    fn another_status_and_another_body_are_no_answer_of_a_kv_engine() {
        for (status, body) in [
            (204, ""),
            (206, "{}"),
            (400, r#"{"errors":["missing client token"]}"#),
            (405, "{}"),
            (412, "{}"),
            (200, ""),
            (200, "{}"),
            (200, r#"{"data":null}"#),
            (200, r#"{"data":{"data":"s3cret"}}"#),
            (200, r#"{"data":{"keys":"s3cret"}}"#),
        ] {
            for kind in [ReadKind::Metadata, ReadKind::Folder, ReadKind::Data] {
                if status == 200 && kind == ReadKind::Data && body.contains("keys") {
                    continue;
                }
                let NotKv(text) = understood(kind, status, body).unwrap_err();
                assert!(!text.contains("s3cret"), "{text}");
            }
        }
    }

    fn version(text: &str) -> Option<SecretVersion> {
        let body = format!(r#"{{"data":{{"current_version":2,"versions":{{{text}}}}}}}"#);
        match understood(ReadKind::Metadata, 200, &body).unwrap() {
            KvAnswer::Version(version) => Some(version),
            KvAnswer::Absent => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_state_of_a_secret_is_that_of_its_newest_version() {
        let first =
            r#""1":{"created_time":"a","deletion_time":"2026-01-01T00:00:00Z","destroyed":true}"#;
        let second = r#""2":{"created_time":"b","deletion_time":"","destroyed":false}"#;
        let found = version(&format!("{first},{second}")).unwrap();
        assert_eq!((found.number, &*found.created), (2, "b"));
        assert!(!found.is_gone(NOW));
        assert_eq!(version(first), None);
    }

    #[test]
    fn a_version_is_gone_when_it_is_destroyed_or_its_end_has_come() {
        let gone = |deleted: &str, destroyed: bool| {
            let text = format!(
                r#""2":{{"created_time":"b","deletion_time":"{deleted}","destroyed":{destroyed}}}"#
            );
            version(&text).unwrap().is_gone(NOW)
        };
        assert!(gone("", true));
        assert!(gone("2026-11-29T07:05:17.061336708Z", false));
        assert!(gone("2026-11-29T12:00:00Z", false));
        // delete_version_after sets an end ahead.
        assert!(!gone("2026-11-29T12:00:01Z", false));
        assert!(!gone("", false));
        assert!(!gone("soon", false));
    }

    #[test]
    fn debug_output_holds_no_value() {
        let body = r#"{"data":{"data":{"a":"s3cret"}}}"#;
        assert_eq!(shown(ReadKind::Data, 200, body), "Fields(SecretFields(1))");
    }
}
