//! The answers to SikkerKey's clients.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::kv_answer::SecretFields;
use super::secret_path::SecretPath;

/// An answer for the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientAnswer {
    pub(crate) status: StatusCode,
    /// JSON.
    pub(crate) body: Vec<u8>,
    /// Secrets are left out, because there are more than one answer may hold.
    pub(crate) is_cut: bool,
}

/// The secrets below a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(super) secrets: Vec<SecretPath>,
    /// There are more.
    pub(super) is_cut: bool,
}

/// A secret with its value, as an export has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretValue {
    /// A single field `value` as it is; several fields as a JSON object.
    pub(super) text: String,
    /// The names of several fields: a string, because a list breaks the command line.
    pub(super) field_names: Option<String>,
}

/// The state of a watched secret, if there is something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WatchState {
    Changed,
    Deleted,
    AccessDenied,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedSecret {
    id: String,
    name: String,
    /// Not known without reading the secret, which a list does not.
    field_names: Option<String>,
    project_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CliSecret {
    id: String,
    name: String,
    field_names: Option<String>,
    project_id: String,
    project_name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CliProject {
    project_id: String,
    project_name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportedSecret {
    id: String,
    name: String,
    value: String,
    field_names: Option<String>,
}

#[derive(Serialize)]
struct SecretsBody<T> {
    secrets: Vec<T>,
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl ClientAnswer {
    /// The value of one secret.
    pub(super) fn secret(fields: &SecretFields) -> ClientAnswer {
        #[derive(Serialize)]
        struct ValueBody {
            value: String,
        }
        let value = SecretValue::of(fields).text;
        ClientAnswer::ok(&ValueBody { value }, false)
    }

    /// A list; names are those within the folder that was asked for.
    pub(super) fn list(listing: &Listing, within: &SecretPath) -> ClientAnswer {
        let listed = listing.secrets.iter().map(|path| ListedSecret {
            id: path.to_string(),
            name: path.name(within),
            field_names: None,
            project_id: path.project().map(|project| project.to_string()),
        });
        ClientAnswer::secrets(listed.collect(), listing.is_cut)
    }

    /// The same as the command line wants it. Its ids and names of projects are never null.
    pub(super) fn cli_secrets(listing: &Listing) -> ClientAnswer {
        let listed = listing.secrets.iter().map(|path| {
            let project = path.project().unwrap_or_default();
            CliSecret {
                id: path.to_string(),
                name: path.name(&SecretPath::ROOT),
                field_names: None,
                project_id: project.to_string(),
                project_name: project.name(&SecretPath::ROOT),
            }
        });
        ClientAnswer::secrets(listed.collect(), listing.is_cut)
    }

    /// The first level of folders.
    pub(super) fn cli_projects(folders: &Listing) -> ClientAnswer {
        #[derive(Serialize)]
        struct ProjectsBody {
            projects: Vec<CliProject>,
            #[serde(skip_serializing_if = "is_false")]
            truncated: bool,
        }
        let projects = folders.secrets.iter().map(|path| CliProject {
            project_id: path.to_string(),
            project_name: path.name(&SecretPath::ROOT),
        });
        let body = ProjectsBody {
            projects: projects.collect(),
            truncated: folders.is_cut,
        };
        ClientAnswer::ok(&body, folders.is_cut)
    }

    /// Secrets with their values.
    pub(super) fn export(
        values: Vec<(SecretPath, SecretValue)>,
        within: &SecretPath,
        is_cut: bool,
    ) -> ClientAnswer {
        let exported = values.into_iter().map(|(path, value)| ExportedSecret {
            id: path.to_string(),
            name: path.name(within),
            value: value.text,
            field_names: value.field_names,
        });
        ClientAnswer::secrets(exported.collect(), is_cut)
    }

    /// The changes of watched secrets, by the ids that the client wrote.
    pub(super) fn changes(changes: &BTreeMap<String, WatchState>) -> ClientAnswer {
        #[derive(Serialize)]
        struct WatchChange {
            status: WatchState,
        }
        #[derive(Serialize)]
        struct ChangesBody<'a> {
            changes: BTreeMap<&'a str, WatchChange>,
        }
        let changes = changes.iter();
        let changes = changes.map(|(id, &status)| (&**id, WatchChange { status }));
        let body = ChangesBody {
            changes: changes.collect(),
        };
        ClientAnswer::ok(&body, false)
    }

    /// There is no such secret.
    pub(super) fn absent(path: &SecretPath) -> ClientAnswer {
        let text = format!("The backend has no secret {path}, or its newest version is deleted.");
        ClientAnswer::error(StatusCode::NOT_FOUND, &text)
    }

    /// The backend's policy does not let the machine read this.
    pub(super) fn denied(what: &str) -> ClientAnswer {
        let text = format!(
            "The backend's policy denies {what} to this machine. Ask the operator of the backend \
             for the right to read it."
        );
        ClientAnswer::error(StatusCode::FORBIDDEN, &text)
    }

    /// The backend cannot answer now.
    pub(super) fn failing(status: StatusCode) -> ClientAnswer {
        let status_number = status.as_u16();
        let text =
            format!("The backend cannot answer at present (status {status_number}): try again.");
        ClientAnswer::error(status, &text)
    }

    fn secrets<T: Serialize>(secrets: Vec<T>, truncated: bool) -> ClientAnswer {
        ClientAnswer::ok(&SecretsBody { secrets, truncated }, truncated)
    }

    fn ok(body: &impl Serialize, is_cut: bool) -> ClientAnswer {
        match serde_json::to_vec(body) {
            Ok(body) => ClientAnswer {
                status: StatusCode::OK,
                body,
                is_cut,
            },
            // No body here can fail to serialize. If one did, the client would try again.
            Err(_) => ClientAnswer::failing(StatusCode::BAD_GATEWAY),
        }
    }

    /// An error as the clients read it: `error` must be a string.
    fn error(status: StatusCode, text: &str) -> ClientAnswer {
        let body = serde_json::json!({ "error": text, "errors": [text] });
        ClientAnswer {
            status,
            body: body.to_string().into_bytes(),
            is_cut: false,
        }
    }
}

impl SecretValue {
    /// The clients know fields of text alone. A number or an object becomes its JSON text: the
    /// command line drops the whole secret for one field that is no string.
    pub(super) fn of(fields: &SecretFields) -> SecretValue {
        let fields = &fields.0;
        if let (1, Some(only)) = (fields.len(), fields.get("value")) {
            return SecretValue {
                text: text(only),
                field_names: None,
            };
        }
        let texts: BTreeMap<&str, String> = (fields.iter())
            .map(|(name, value)| (&**name, text(value)))
            .collect();
        let names: Vec<&str> = texts.keys().copied().collect();
        SecretValue {
            text: serde_json::to_string(&texts).unwrap_or_default(),
            field_names: (!names.is_empty()).then(|| names.join(",")),
        }
    }
}

fn text(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn fields(json: &str) -> SecretFields {
        SecretFields(serde_json::from_str(json).unwrap())
    }

    fn value(json: &str) -> (String, Option<String>) {
        let SecretValue { text, field_names } = SecretValue::of(&fields(json));
        (text, field_names)
    }

    fn path(id: &str) -> SecretPath {
        SecretPath::parse(id).unwrap()
    }

    fn listing(ids: &[&str]) -> Listing {
        Listing {
            secrets: ids.iter().map(|id| path(id)).collect(),
            is_cut: false,
        }
    }

    fn body(answer: &ClientAnswer) -> String {
        String::from_utf8(answer.body.clone()).unwrap()
    }

    #[test]
    fn a_single_field_named_value_is_the_secret_itself() {
        assert_eq!(value(r#"{"value":"v\"x\n"}"#), ("v\"x\n".into(), None));
        assert_eq!(value(r#"{"value":""}"#), (String::new(), None));
        assert_eq!(
            body(&ClientAnswer::secret(&fields(r#"{"value":"v"}"#))),
            r#"{"value":"v"}"#
        );
    }

    #[test]
    fn several_fields_are_a_json_object_in_a_string() {
        let (text, names) = value(r#"{"user":"u","pass":"p"}"#);
        assert_eq!(text, r#"{"pass":"p","user":"u"}"#);
        assert_eq!(names.as_deref(), Some("pass,user"));
        let answer = ClientAnswer::secret(&fields(r#"{"user":"u","pass":"p"}"#));
        assert_eq!(
            body(&answer),
            r#"{"value":"{\"pass\":\"p\",\"user\":\"u\"}"}"#
        );
    }

    #[test]
    fn a_single_field_of_another_name_is_an_object_too() {
        assert_eq!(
            value(r#"{"pass":"p"}"#),
            (r#"{"pass":"p"}"#.into(), Some("pass".into()))
        );
        assert_eq!(
            value(r#"{"value":"v","x":"y"}"#),
            (r#"{"value":"v","x":"y"}"#.into(), Some("value,x".into()))
        );
    }

    #[test]
    fn a_field_that_is_no_text_is_its_json_as_it_was_stored() {
        assert_eq!(value(r#"{"value":5}"#).0, "5");
        assert_eq!(
            value(r#"{"value":12345678901234567890123}"#).0,
            "12345678901234567890123"
        );
        assert_eq!(value(r#"{"value":1e400}"#).0, "1e400");
        assert_eq!(
            value(r#"{"n":5,"t":true,"o":{"x":[1]},"z":null}"#).0,
            r#"{"n":"5","o":"{\"x\":[1]}","t":"true","z":"null"}"#
        );
    }

    #[test]
    fn a_secret_without_fields_is_an_empty_object() {
        assert_eq!(value("{}"), ("{}".into(), None));
    }

    #[test]
    fn a_list_has_ids_names_and_projects_and_reads_no_fields() {
        let answer = ClientAnswer::list(&listing(&["api", "app/a%20b"]), &SecretPath::ROOT);
        assert_eq!(
            body(&answer),
            r#"{"secrets":[{"id":"api","name":"api","fieldNames":null,"projectId":null},{"id":"app/a%20b","name":"app/a b","fieldNames":null,"projectId":"app"}]}"#
        );
    }

    #[test]
    fn names_of_a_projects_list_are_those_within_the_project() {
        let answer = ClientAnswer::list(&listing(&["app/db", "app/x/y"]), &path("app"));
        assert_eq!(
            body(&answer),
            r#"{"secrets":[{"id":"app/db","name":"db","fieldNames":null,"projectId":"app"},{"id":"app/x/y","name":"x/y","fieldNames":null,"projectId":"app"}]}"#
        );
    }

    #[test]
    fn the_command_line_gets_no_null_for_a_project() {
        let answer = ClientAnswer::cli_secrets(&listing(&["api", "team%40a/db"]));
        assert_eq!(
            body(&answer),
            r#"{"secrets":[{"id":"api","name":"api","fieldNames":null,"projectId":"","projectName":""},{"id":"team%40a/db","name":"team@a/db","fieldNames":null,"projectId":"team%40a","projectName":"team@a"}]}"#
        );
        let answer = ClientAnswer::cli_projects(&listing(&["app", "team%40a"]));
        assert_eq!(
            body(&answer),
            r#"{"projects":[{"projectId":"app","projectName":"app"},{"projectId":"team%40a","projectName":"team@a"}]}"#
        );
    }

    #[test]
    fn field_names_of_an_export_are_a_string_or_null_and_never_a_list() {
        let values = vec![
            (path("api"), SecretValue::of(&fields(r#"{"value":"v"}"#))),
            (
                path("app/db"),
                SecretValue::of(&fields(r#"{"user":"u","pass":"p"}"#)),
            ),
        ];
        assert_eq!(
            body(&ClientAnswer::export(values, &SecretPath::ROOT, false)),
            r#"{"secrets":[{"id":"api","name":"api","value":"v","fieldNames":null},{"id":"app/db","name":"app/db","value":"{\"pass\":\"p\",\"user\":\"u\"}","fieldNames":"pass,user"}]}"#
        );
    }

    #[test]
    fn a_cut_list_says_so() {
        let cut = Listing {
            is_cut: true,
            ..listing(&["a"])
        };
        for answer in [
            ClientAnswer::list(&cut, &SecretPath::ROOT),
            ClientAnswer::cli_secrets(&cut),
            ClientAnswer::cli_projects(&cut),
            ClientAnswer::export(Vec::new(), &SecretPath::ROOT, true),
        ] {
            assert!(answer.is_cut);
            assert!(
                body(&answer).ends_with(r#","truncated":true}"#),
                "{}",
                body(&answer)
            );
        }
    }

    #[test]
    fn the_words_for_a_watched_secret_are_those_of_the_clients() {
        let changes = BTreeMap::from([
            ("a".to_owned(), WatchState::Changed),
            ("b".to_owned(), WatchState::Deleted),
            ("c".to_owned(), WatchState::AccessDenied),
        ]);
        assert_eq!(
            body(&ClientAnswer::changes(&changes)),
            r#"{"changes":{"a":{"status":"changed"},"b":{"status":"deleted"},"c":{"status":"access_denied"}}}"#
        );
        assert_eq!(
            body(&ClientAnswer::changes(&BTreeMap::new())),
            r#"{"changes":{}}"#
        );
    }

    #[test]
    fn an_error_is_a_string_for_these_clients_and_a_list_for_vaults() {
        for (answer, status) in [
            (ClientAnswer::absent(&path("a")), 404),
            (ClientAnswer::denied("the secret a"), 403),
            (ClientAnswer::failing(StatusCode::SERVICE_UNAVAILABLE), 503),
        ] {
            assert_eq!(answer.status.as_u16(), status);
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["error"], body["errors"][0]);
            assert!(body["error"].is_string());
        }
    }
}
