//! The calls of SikkerKey's clients: the target tells the call, and the body what it is about.

use serde::Deserialize;

use super::kv_read::{KvRead, ReadKind};
use super::secret_path::SecretPath;

/// Most secrets that one poll may watch. Each is a read of the backend. A client that watches more
/// gets 400.
pub(crate) const MOST_WATCHED: usize = 256;

/// A call, by its method and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientCall {
    /// `GET /v1/secret/{id}`
    Secret(SecretPath),
    /// `GET /v1/secrets`
    List,
    /// `POST /v1/secrets/list`
    ListProject,
    /// `GET /v1/cli/secrets`
    CliSecrets,
    /// `GET /v1/cli/projects`
    CliProjects,
    /// `POST /v1/secrets/export`
    Export,
    /// `POST /v1/secrets/poll`
    Poll,
}

/// A call with everything that it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientQuery {
    /// The value of one secret.
    Secret(SecretPath),
    /// The secrets of a folder, and of all folders in it.
    List(SecretPath),
    /// All secrets, as the command line wants them.
    CliSecrets,
    /// The first level of folders.
    CliProjects,
    /// The values of all secrets of a folder, and of all folders in it.
    Export(SecretPath),
    /// Which of these have changed.
    Poll(Vec<WatchedSecret>),
}

/// A secret that a client watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchedSecret {
    /// The id as the client wrote it, and wants to read it in the answer.
    pub(crate) id: String,
    /// `None`: no secret can have this id.
    pub(crate) path: Option<SecretPath>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ProjectBody {
    project_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PollBody {
    watch: Vec<String>,
}

impl ClientCall {
    /// The call that a method and a path make, without the query. `None`: the clients have no such
    /// call, and the path is as one that is not there. Nothing is ever forwarded in its place.
    pub(crate) fn find(method: &str, path: &str) -> Option<ClientCall> {
        Some(match (method, path) {
            ("GET", "/v1/secrets") => ClientCall::List,
            ("POST", "/v1/secrets/list") => ClientCall::ListProject,
            ("POST", "/v1/secrets/export") => ClientCall::Export,
            ("POST", "/v1/secrets/poll") => ClientCall::Poll,
            ("GET", "/v1/cli/secrets") => ClientCall::CliSecrets,
            ("GET", "/v1/cli/projects") => ClientCall::CliProjects,
            ("GET", _) => ClientCall::Secret(SecretPath::parse(path.strip_prefix("/v1/secret/")?)?),
            _ => return None,
        })
    }

    /// What the call asks, by its body.
    ///
    /// # Errors
    ///
    /// Why the body is none of this call, in words for the client. A field that is not known is an
    /// error: it may narrow what is asked for.
    pub(crate) fn query(self, body: &[u8]) -> Result<ClientQuery, &'static str> {
        Ok(match self {
            ClientCall::Secret(path) => ClientQuery::Secret(path),
            ClientCall::List => ClientQuery::List(SecretPath::ROOT),
            ClientCall::ListProject => ClientQuery::List(project(body)?),
            ClientCall::CliSecrets => ClientQuery::CliSecrets,
            ClientCall::CliProjects => ClientQuery::CliProjects,
            ClientCall::Export => ClientQuery::Export(project(body)?),
            ClientCall::Poll => ClientQuery::Poll(watched(body)?),
        })
    }

    /// The first request that it causes at the backend, for people. Those behind it depend on the
    /// answer, or on the body.
    pub(crate) fn first_read(&self, kv: &str) -> String {
        let folder = |more: &str| {
            let root = KvRead::new(ReadKind::Folder, SecretPath::ROOT);
            format!("LIST {}{more}", root.target(kv))
        };
        match self {
            ClientCall::Secret(path) => {
                let read = KvRead::new(ReadKind::Data, path.clone());
                format!("GET {}", read.target(kv))
            }
            ClientCall::CliProjects => folder(""),
            ClientCall::List | ClientCall::CliSecrets => folder(", then the folders in it"),
            ClientCall::ListProject => folder("{projectId}/, then the folders in it"),
            ClientCall::Export => folder("{projectId}/, then the folders in it, then each secret"),
            ClientCall::Poll => format!("GET /v1/{kv}/metadata/{{id}} of each watched secret"),
        }
    }
}

/// The folder that the body names. No body, no `projectId` and an empty one name the whole mount.
fn project(body: &[u8]) -> Result<SecretPath, &'static str> {
    let body: ProjectBody = match body {
        [] => ProjectBody::default(),
        body => serde_json::from_slice(body)
            .map_err(|_| "the body must be a JSON object with no other field than projectId")?,
    };
    match body.project_id.as_deref() {
        None | Some("") => Ok(SecretPath::ROOT),
        Some(id) => SecretPath::parse(id).ok_or("projectId is not the path of a folder"),
    }
}

fn watched(body: &[u8]) -> Result<Vec<WatchedSecret>, &'static str> {
    let body: PollBody = serde_json::from_slice(body)
        .map_err(|_| "the body must be a JSON object with a list of ids under watch")?;
    if body.watch.len() > MOST_WATCHED {
        return Err("watch lists more than 256 ids");
    }
    let watched = body.watch.into_iter();
    Ok(watched
        .map(|id| WatchedSecret {
            path: SecretPath::parse(&id),
            id,
        })
        .collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use super::*;

    fn path(id: &str) -> SecretPath {
        SecretPath::parse(id).unwrap()
    }

    #[test]
    fn every_call_of_the_table_is_known() {
        for (method, target, call) in [
            ("GET", "/v1/secret/sk_db", ClientCall::Secret(path("sk_db"))),
            (
                "GET",
                "/v1/secret/a/b%40c",
                ClientCall::Secret(path("a/b@c")),
            ),
            ("GET", "/v1/secrets", ClientCall::List),
            ("POST", "/v1/secrets/list", ClientCall::ListProject),
            ("GET", "/v1/cli/secrets", ClientCall::CliSecrets),
            ("GET", "/v1/cli/projects", ClientCall::CliProjects),
            ("POST", "/v1/secrets/export", ClientCall::Export),
            ("POST", "/v1/secrets/poll", ClientCall::Poll),
        ] {
            assert_eq!(ClientCall::find(method, target), Some(call), "{target}");
        }
    }

    #[test]
    fn everything_else_is_no_call() {
        for (method, target) in [
            ("POST", "/v1/secret/sk_db"),
            ("PUT", "/v1/secret/sk_db"),
            ("DELETE", "/v1/secret/sk_db"),
            ("HEAD", "/v1/secret/sk_db"),
            ("LIST", "/v1/secrets"),
            ("POST", "/v1/secrets"),
            ("GET", "/v1/secrets/list"),
            ("GET", "/v1/secrets/"),
            ("GET", "/v1/secret"),
            ("GET", "/v1/secret/"),
            ("GET", "/v1/secret/a/"),
            ("GET", "/v1/secret/%FF"),
            ("GET", "/v1/cli/secrets/x"),
            ("GET", "/v1/sys/mounts"),
            ("GET", "/v1/auth/token/lookup-self"),
            ("GET", "/v1/secret%73"),
            ("GET", "/v1"),
            ("GET", "/"),
            ("POST", "/v1/verify-access"),
            ("POST", "/v1/vault_x/enroll/register"),
            ("GET", "/v1/ai/secrets"),
        ] {
            assert_eq!(ClientCall::find(method, target), None, "{method} {target}");
        }
    }

    #[test]
    fn a_list_is_of_the_project_that_its_body_names() {
        let list = |body: &[u8]| ClientCall::ListProject.query(body);
        assert_eq!(
            list(br#"{"projectId":"app"}"#),
            Ok(ClientQuery::List(path("app")))
        );
        assert_eq!(
            list(br#"{"projectId":"a/b"}"#),
            Ok(ClientQuery::List(path("a/b")))
        );
        for all in [
            &b""[..],
            b"{}",
            br#"{"projectId":null}"#,
            br#"{"projectId":""}"#,
        ] {
            assert_eq!(list(all), Ok(ClientQuery::List(SecretPath::ROOT)));
        }
    }

    #[test]
    fn an_export_without_a_body_is_of_everything() {
        let export = |body: &[u8]| ClientCall::Export.query(body);
        assert_eq!(export(b""), Ok(ClientQuery::Export(SecretPath::ROOT)));
        assert_eq!(
            export(br#"{"projectId":"app"}"#),
            Ok(ClientQuery::Export(path("app")))
        );
    }

    #[test]
    fn a_body_with_a_field_that_may_narrow_the_call_is_refused() {
        // The command line scopes an export so; to answer with everything would be wrong.
        for body in [
            &br#"{"applicationId":"a"}"#[..],
            br#"{"projectId":"a","more":1}"#,
            br#"{"projectId":5}"#,
            b"null x",
            b"\xff",
        ] {
            assert!(ClientCall::Export.clone().query(body).is_err());
            assert!(ClientCall::ListProject.query(body).is_err());
        }
    }

    #[test]
    fn a_project_that_cannot_be_a_folder_is_refused() {
        for id in ["..", "../sys", "a//b", "/a", "a/", "a b", "a?b"] {
            let body = format!("{{\"projectId\":{id:?}}}");
            assert!(ClientCall::Export.query(body.as_bytes()).is_err(), "{id}");
        }
    }

    #[test]
    fn a_poll_names_the_ids_as_they_were_written() {
        let body = br#"{"watch":["app/db","a%40b","a@b","a b","../sys"]}"#;
        let Ok(ClientQuery::Poll(watched)) = ClientCall::Poll.query(body) else {
            panic!("a poll");
        };
        let found: Vec<_> = watched
            .iter()
            .map(|it| (&*it.id, it.path.clone()))
            .collect();
        assert_eq!(
            found,
            [
                ("app/db", Some(path("app/db"))),
                ("a%40b", Some(path("a@b"))),
                ("a@b", Some(path("a@b"))),
                ("a b", None),
                ("../sys", None),
            ]
        );
    }

    #[test]
    fn a_poll_watches_a_bounded_number_of_ids() {
        let body = |count: usize| serde_json::json!({ "watch": vec!["a"; count] }).to_string();
        assert!(
            ClientCall::Poll
                .query(body(MOST_WATCHED).as_bytes())
                .is_ok()
        );
        assert!(
            ClientCall::Poll
                .query(body(MOST_WATCHED + 1).as_bytes())
                .is_err()
        );
        for wrong in [
            "",
            "{}",
            r#"{"watch":"a"}"#,
            r#"{"watch":[1]}"#,
            r#"{"watch":[],"x":1}"#,
        ] {
            assert!(ClientCall::Poll.query(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_body_of_a_call_that_has_none_says_nothing() {
        assert_eq!(
            ClientCall::List.query(b"{\"projectId\":\"a\"}"),
            Ok(ClientQuery::List(SecretPath::ROOT))
        );
    }
}
