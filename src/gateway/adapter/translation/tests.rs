//! Calls against a table in place of a backend.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use serde_json::{Value, json};
use time::macros::datetime;

use super::*;
use crate::gateway::adapter::client_call::ClientCall;

const NOW: OffsetDateTime = datetime!(2026-11-29 12:00 UTC);

/// The answers by method and target. What it does not have is 404, as in an engine.
#[derive(Default)]
struct Table {
    answers: HashMap<String, (u16, Value)>,
    asked: Mutex<Vec<String>>,
    running: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl KvReader for Table {
    type Failure = String;

    async fn read(&self, read: &KvRead) -> Result<KvAnswer, String> {
        let asked = format!("{} {}", read.method(), read.target("kv"));
        self.asked.lock().unwrap().push(asked.clone());
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(running, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        let absent = (404, json!({ "errors": [] }));
        let (status, body) = self.answers.get(&asked).unwrap_or(&absent);
        let status = StatusCode::from_u16(*status).unwrap();
        KvAnswer::understand(read.kind(), status, body.to_string().as_bytes())
            .map_err(|not_kv| not_kv.0.to_owned())
    }
}

impl Table {
    fn with(mut self, request: &str, status: u16, body: Value) -> Table {
        self.answers.insert(request.to_owned(), (status, body));
        self
    }

    fn secret(self, id: &str, fields: Value) -> Table {
        let body = json!({ "data": { "data": fields, "metadata": { "version": 1 } } });
        self.with(&format!("GET /v1/kv/data/{id}"), 200, body)
    }

    fn folder(self, path: &str, names: &[&str]) -> Table {
        let body = json!({ "data": { "keys": names } });
        self.with(&format!("LIST /v1/kv/metadata/{path}"), 200, body)
    }

    fn version(self, id: &str, number: u64, deletion_time: &str) -> Table {
        let version = json!({
            "created_time": format!("t{number}"), "deletion_time": deletion_time, "destroyed": false,
        });
        let versions = json!({ number.to_string(): version });
        let body = json!({ "data": { "current_version": number, "versions": versions } });
        self.with(&format!("GET /v1/kv/metadata/{id}"), 200, body)
    }

    fn deny(self, request: &str) -> Table {
        self.with(request, 403, json!({ "errors": ["permission denied"] }))
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn translated(
    kv: &Table,
    method: &str,
    target: &str,
    body: &str,
    marks: &MachineMarks,
) -> Result<Translated, String> {
    let call = ClientCall::find(method, target).unwrap();
    let query = call.query(body.as_bytes()).unwrap();
    let poll = PollContext {
        marks,
        place: "up /v1/kv",
        now: NOW,
    };
    translate(query, kv, poll).await
}

/// The status and the body for a client that has not polled.
async fn ask(kv: &Table, method: &str, target: &str, body: &str) -> (u16, Value) {
    let answer = translated(kv, method, target, body, &MachineMarks::new()).await;
    let answer = answer.unwrap().answer;
    (
        answer.status.as_u16(),
        serde_json::from_slice(&answer.body).unwrap(),
    )
}

fn ids(body: &Value) -> Vec<&str> {
    let secrets = body["secrets"].as_array().unwrap();
    secrets
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect()
}

/// Three secrets in two folders, and one beside them.
fn store() -> Table {
    Table::default()
        .folder("", &["api", "app/", "web/"])
        .folder("app/", &["db", "deep/"])
        .folder("app/deep/", &["key"])
        .folder("web/", &["a b@c"])
        .secret("api", json!({ "value": "v" }))
        .secret("app/db", json!({ "user": "u", "pass": "p" }))
        .secret("app/deep/key", json!({ "value": "k" }))
        .secret("web/a%20b%40c", json!({ "n": 5 }))
}

#[tokio::test]
async fn a_secret_is_one_read_of_its_data() {
    let kv = store();
    let answer = ask(&kv, "GET", "/v1/secret/api", "").await;
    assert_eq!(answer, (200, json!({ "value": "v" })));
    assert_eq!(kv.asked(), ["GET /v1/kv/data/api"]);
    let answer = ask(&kv, "GET", "/v1/secret/app/db", "").await;
    assert_eq!(answer.1["value"], r#"{"pass":"p","user":"u"}"#);
}

#[tokio::test]
async fn a_secret_in_any_spelling_is_asked_in_one() {
    let kv = store();
    for id in ["web/a%20b@c", "web/a%20b%40c"] {
        assert_eq!(
            ask(&kv, "GET", &format!("/v1/secret/{id}"), "").await.0,
            200
        );
        assert_eq!(kv.asked(), ["GET /v1/kv/data/web/a%20b%40c"]);
    }
}

#[tokio::test]
async fn errors_of_a_read_keep_their_meaning() {
    for (status, body, expected) in [
        (404, json!({ "errors": [] }), 404),
        (
            404,
            json!({ "data": { "data": null, "metadata": {} } }),
            404,
        ),
        (403, json!({ "errors": ["permission denied"] }), 403),
        (429, json!({ "errors": [] }), 429),
        (500, json!({ "errors": ["internal error"] }), 500),
        (503, json!({ "errors": ["Vault is sealed"] }), 503),
    ] {
        let kv = Table::default().with("GET /v1/kv/data/a", status, body);
        let (found, body) = ask(&kv, "GET", "/v1/secret/a", "").await;
        assert_eq!(found, expected);
        assert!(body["error"].is_string());
    }
}

#[tokio::test]
async fn a_mount_that_is_not_there_fails_the_call_and_is_no_404() {
    let missing = json!({ "errors": ["no handler for route \"kv/data/a\""] });
    let kv = Table::default()
        .with("GET /v1/kv/data/a", 404, missing.clone())
        .with("LIST /v1/kv/metadata/", 404, missing);
    for target in ["/v1/secret/a", "/v1/secrets", "/v1/cli/projects"] {
        let answer = translated(&kv, "GET", target, "", &MachineMarks::new()).await;
        assert!(answer.is_err(), "{target}");
    }
}

#[tokio::test]
async fn a_list_follows_folders_and_reads_no_secret() {
    let kv = store();
    let (status, body) = ask(&kv, "GET", "/v1/secrets", "").await;
    assert_eq!(status, 200);
    assert_eq!(
        ids(&body),
        ["api", "app/db", "app/deep/key", "web/a%20b%40c"]
    );
    assert_eq!(
        kv.asked(),
        [
            "LIST /v1/kv/metadata/",
            "LIST /v1/kv/metadata/app/",
            "LIST /v1/kv/metadata/web/",
            "LIST /v1/kv/metadata/app/deep/",
        ]
    );
}

#[tokio::test]
async fn every_id_of_a_list_can_be_read_and_watched_as_it_stands() {
    let kv = store();
    let (_, body) = ask(&kv, "GET", "/v1/secrets", "").await;
    for id in ids(&body) {
        assert_eq!(
            ask(&kv, "GET", &format!("/v1/secret/{id}"), "").await.0,
            200,
            "{id}"
        );
        assert!(SecretPath::parse(id).is_some());
    }
}

#[tokio::test]
async fn a_projects_list_is_of_that_folder() {
    let kv = store();
    let (_, body) = ask(&kv, "POST", "/v1/secrets/list", r#"{"projectId":"app"}"#).await;
    assert_eq!(ids(&body), ["app/db", "app/deep/key"]);
    assert_eq!(body["secrets"][1]["name"], "deep/key");
    assert_eq!(body["secrets"][1]["projectId"], "app");
    assert_eq!(kv.asked()[0], "LIST /v1/kv/metadata/app/");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_empty() {
    let kv = Table::default();
    let (status, body) = ask(&kv, "POST", "/v1/secrets/list", r#"{"projectId":"x"}"#).await;
    assert_eq!((status, body), (200, json!({ "secrets": [] })));
    assert_eq!(
        ask(&kv, "GET", "/v1/secrets", "").await.1,
        json!({ "secrets": [] })
    );
    assert_eq!(
        ask(&kv, "GET", "/v1/cli/projects", "").await.1,
        json!({ "projects": [] })
    );
}

#[tokio::test]
async fn denied_folders_are_left_out() {
    let kv = store().deny("LIST /v1/kv/metadata/app/");
    let (status, body) = ask(&kv, "GET", "/v1/secrets", "").await;
    assert_eq!((status, ids(&body)), (200, vec!["api", "web/a%20b%40c"]));
}

#[tokio::test]
async fn the_folder_that_was_asked_for_is_not_left_out_but_denied() {
    let kv = store()
        .deny("LIST /v1/kv/metadata/")
        .deny("LIST /v1/kv/metadata/app/");
    for (method, target, body) in [
        ("GET", "/v1/secrets", ""),
        ("GET", "/v1/cli/secrets", ""),
        ("GET", "/v1/cli/projects", ""),
        ("POST", "/v1/secrets/export", ""),
        ("POST", "/v1/secrets/list", r#"{"projectId":"app"}"#),
        ("POST", "/v1/secrets/export", r#"{"projectId":"app"}"#),
    ] {
        assert_eq!(ask(&kv, method, target, body).await.0, 403, "{target}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_listed_now_fails_the_whole_list() {
    for status in [429, 500, 503] {
        let kv = store().with("LIST /v1/kv/metadata/app/deep/", status, json!({}));
        assert_eq!(ask(&kv, "GET", "/v1/secrets", "").await.0, status);
        assert_eq!(ask(&kv, "POST", "/v1/secrets/export", "").await.0, status);
    }
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_left_out() {
    let hostile = [
        "..", "../", ".", "a/b", "..%2f", "", "/", "x?y", "ok", "a\\b/", "\u{1}",
    ];
    let kv = Table::default().folder("", &hostile);
    let (_, body) = ask(&kv, "GET", "/v1/secrets", "").await;
    assert_eq!(ids(&body), ["..%252f", "ok"]);
    assert_eq!(kv.asked(), ["LIST /v1/kv/metadata/"]);
}

#[tokio::test]
async fn a_list_ends_at_a_thousand_secrets_and_says_so() {
    let names: Vec<String> = (0..1500).map(|number| format!("s{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let exactly = Table::default().folder("", &names[..MOST_SECRETS]);
    let (_, body) = ask(&exactly, "GET", "/v1/secrets", "").await;
    assert_eq!((ids(&body).len(), &body["truncated"]), (1000, &Value::Null));

    let more = Table::default().folder("", &names);
    let answer = translated(&more, "GET", "/v1/secrets", "", &MachineMarks::new()).await;
    let answer = answer.unwrap().answer;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((ids(&body).len(), &body["truncated"]), (1000, &json!(true)));
    assert!(answer.is_cut);
}

#[tokio::test]
async fn a_list_looks_into_a_bounded_number_of_folders() {
    let names: Vec<String> = (0..600).map(|number| format!("f{number:04}/")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut kv = Table::default().folder("", &names);
    for name in &names {
        kv = kv.folder(name, &["s"]);
    }
    let (_, body) = ask(&kv, "GET", "/v1/secrets", "").await;
    assert_eq!(body["truncated"], true);
    assert_eq!(kv.asked().len(), MOST_FOLDERS);
    assert_eq!(ids(&body).len(), MOST_FOLDERS - 1);
}

#[tokio::test]
async fn a_list_follows_folders_to_a_bounded_depth() {
    let mut kv = Table::default();
    for depth in 0..40 {
        kv = kv.folder(&"d/".repeat(depth), &["s", "d/"]);
    }
    let (_, body) = ask(&kv, "GET", "/v1/secrets", "").await;
    assert_eq!(body["truncated"], true);
    assert_eq!(
        (ids(&body).len(), kv.asked().len()),
        (MOST_LEVELS, MOST_LEVELS)
    );
}

#[tokio::test]
async fn reads_run_at_once_and_in_a_bounded_number() {
    let names: Vec<String> = (0..100).map(|number| format!("f{number:03}/")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let kv = Table::default().folder("", &names);
    ask(&kv, "GET", "/v1/secrets", "").await;
    assert_eq!(kv.most_at_once.load(Ordering::SeqCst), AT_ONCE);
}

#[tokio::test]
async fn the_command_line_gets_projects_and_secrets_with_their_projects() {
    let kv = store();
    let (_, body) = ask(&kv, "GET", "/v1/cli/projects", "").await;
    assert_eq!(
        body,
        json!({ "projects": [
            { "projectId": "app", "projectName": "app" },
            { "projectId": "web", "projectName": "web" },
        ] })
    );
    assert_eq!(kv.asked(), ["LIST /v1/kv/metadata/"]);
    let (_, body) = ask(&kv, "GET", "/v1/cli/secrets", "").await;
    assert_eq!(body["secrets"][3]["projectName"], "web");
    assert_eq!(body["secrets"][0]["projectId"], "");
}

#[tokio::test]
async fn an_export_has_the_value_of_each_secret() {
    let kv = store();
    let (status, body) = ask(&kv, "POST", "/v1/secrets/export", "").await;
    assert_eq!(status, 200);
    assert_eq!(
        body["secrets"][1],
        json!({ "id": "app/db", "name": "app/db", "fieldNames": "pass,user",
                "value": r#"{"pass":"p","user":"u"}"# })
    );
    assert_eq!(
        body["secrets"][0],
        json!({ "id": "api", "name": "api", "fieldNames": null, "value": "v" })
    );
    assert_eq!(kv.asked().len(), 4 + 4);
}

#[tokio::test]
async fn an_export_of_a_project_reads_nothing_of_the_others() {
    let kv = store();
    let (_, body) = ask(&kv, "POST", "/v1/secrets/export", r#"{"projectId":"web"}"#).await;
    assert_eq!(ids(&body), ["web/a%20b%40c"]);
    assert_eq!(body["secrets"][0]["name"], "a b@c");
    assert_eq!(
        kv.asked(),
        ["LIST /v1/kv/metadata/web/", "GET /v1/kv/data/web/a%20b%40c"]
    );
}

#[tokio::test]
async fn an_export_leaves_out_what_is_deleted_or_denied_and_fails_with_the_backend() {
    let kv = store()
        .with(
            "GET /v1/kv/data/api",
            404,
            json!({ "data": { "data": null } }),
        )
        .deny("GET /v1/kv/data/app/db");
    let (_, body) = ask(&kv, "POST", "/v1/secrets/export", "").await;
    assert_eq!(ids(&body), ["app/deep/key", "web/a%20b%40c"]);
    let kv = store().with("GET /v1/kv/data/api", 503, json!({}));
    assert_eq!(ask(&kv, "POST", "/v1/secrets/export", "").await.0, 503);
}

const POLL: &str = r#"{"watch":["a","b","gone","denied"]}"#;

fn watched() -> Table {
    Table::default()
        .version("a", 1, "")
        .version("b", 1, "2027-01-01T00:00:00Z")
        .deny("GET /v1/kv/metadata/denied")
}

async fn poll(kv: &Table, body: &str, marks: &MachineMarks) -> (Value, MachineMarks) {
    let answer = translated(kv, "POST", "/v1/secrets/poll", body, marks)
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&answer.answer.body).unwrap();
    (body["changes"].clone(), answer.seen.unwrap())
}

#[tokio::test]
async fn the_first_poll_tells_what_is_gone_or_denied_and_the_next_one_nothing() {
    let kv = watched();
    let (changes, seen) = poll(&kv, POLL, &MachineMarks::new()).await;
    assert_eq!(
        changes,
        json!({ "gone": { "status": "deleted" }, "denied": { "status": "access_denied" } })
    );
    assert_eq!(kv.asked().len(), 4);
    assert_eq!(poll(&kv, POLL, &seen).await.0, json!({}));
}

#[tokio::test]
async fn a_poll_tells_what_has_changed_since_the_last_one() {
    let (_, seen) = poll(&watched(), POLL, &MachineMarks::new()).await;
    let kv = watched()
        .version("a", 2, "")
        .version("b", 1, "2026-11-29T11:59:59Z");
    let (changes, seen) = poll(&kv, POLL, &seen).await;
    assert_eq!(
        changes,
        json!({ "a": { "status": "changed" }, "b": { "status": "deleted" } })
    );
    let kv = kv.version("b", 2, "").version("gone", 1, "");
    let (changes, _) = poll(&kv, POLL, &seen).await;
    assert_eq!(
        changes,
        json!({ "b": { "status": "changed" }, "gone": { "status": "changed" } })
    );
}

#[tokio::test]
async fn a_secret_that_is_watched_in_two_spellings_is_read_once_and_told_in_both() {
    let body = r#"{"watch":["a@b","a%40b","a@b"]}"#;
    let kv = Table::default().version("a%40b", 1, "");
    let (_, seen) = poll(&kv, body, &MachineMarks::new()).await;
    assert_eq!(kv.asked(), ["GET /v1/kv/metadata/a%40b"]);
    let (changes, _) = poll(&kv.version("a%40b", 2, ""), body, &seen).await;
    assert_eq!(
        changes,
        json!({ "a@b": { "status": "changed" }, "a%40b": { "status": "changed" } })
    );
}

#[tokio::test]
async fn an_id_that_no_secret_can_have_asks_the_backend_nothing_and_is_deleted() {
    let kv = Table::default();
    let body = r#"{"watch":["../sys/mounts","a b","", "a?x"]}"#;
    let (changes, seen) = poll(&kv, body, &MachineMarks::new()).await;
    assert_eq!(changes.as_object().unwrap().len(), 4);
    assert_eq!(changes["../sys/mounts"]["status"], "deleted");
    assert!(kv.asked().is_empty());
    assert_eq!(poll(&kv, body, &seen).await.0, json!({}));
}

#[tokio::test]
async fn a_poll_that_fails_sets_no_mark() {
    let kv = watched().with("GET /v1/kv/metadata/b", 503, json!({}));
    let answer = translated(&kv, "POST", "/v1/secrets/poll", POLL, &MachineMarks::new()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.answer.status.as_u16(), 503);
    assert!(answer.seen.is_none());
}

#[tokio::test]
async fn marks_of_another_mount_are_not_compared_with() {
    let kv = watched();
    let (_, seen) = poll(&kv, POLL, &MachineMarks::new()).await;
    let query = ClientCall::Poll.query(POLL.as_bytes()).unwrap();
    let elsewhere = PollContext {
        marks: &seen,
        place: "up /v1/other",
        now: NOW,
    };
    let answer = translate(query, &watched().version("a", 2, ""), elsewhere)
        .await
        .unwrap();
    assert!(
        !String::from_utf8(answer.answer.body)
            .unwrap()
            .contains("changed")
    );
}

#[tokio::test]
async fn a_poll_of_nothing_asks_nothing() {
    let kv = Table::default();
    assert_eq!(
        poll(&kv, r#"{"watch":[]}"#, &MachineMarks::new()).await.0,
        json!({})
    );
    assert!(kv.asked().is_empty());
}
