//! The client of the calls that manage the registry.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::command_error::CommandError;
use super::terminal::visible;
use crate::management::query::MAX_LIMIT;
use countersign_client::agent::connect::Connector;
use countersign_client::clock::Clock;
use countersign_client::http_client::{self, ExchangeLimits, RequestError};
use countersign_client::signing::Signer;

/// The path of the route that manages the registry.
const PREFIX: &str = "/countersign/v1";

/// The gateway waits ten seconds for its database. A page of machines has some megabytes at most.
const LIMITS: ExchangeLimits = ExchangeLimits {
    time: Duration::from_secs(30),
    answer: 64 * 1024 * 1024,
};

/// Most mistakes that a message shows.
const MOST_SHOWN: usize = 100;

/// Calls one gateway as one operator.
pub(super) struct ManagementClient {
    connector: Connector,
    signer: Signer,
}

/// A refusal as the gateway writes it.
#[derive(Deserialize)]
struct RefusedCall {
    code: String,
    errors: Vec<String>,
}

/// The machines of a registry, and the groups that they are in.
#[derive(Debug, Default)]
pub(super) struct ListedMachines {
    pub(super) machines: Vec<Value>,
    pub(super) groups: Vec<Value>,
}

/// A page of machines.
#[derive(Deserialize)]
struct ListedPage {
    machines: Vec<Value>,
    groups: Vec<Value>,
    next: Option<String>,
}

impl ManagementClient {
    pub(super) fn new(connector: Connector, signer: Signer) -> ManagementClient {
        ManagementClient { connector, signer }
    }

    /// The gateway, for messages.
    pub(super) fn gateway(&self) -> String {
        self.connector.gateway.to_string()
    }

    /// Reads what a path shows.
    ///
    /// # Errors
    ///
    /// [`CommandError::Operation`].
    pub(super) fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.call("GET", path, None)
    }

    /// Makes a call. `path` is that behind the route's, with its query.
    ///
    /// # Errors
    ///
    /// [`CommandError::Operation`]: no answer, or a refusal with every mistake. It tells where it is
    /// unknown whether a change was made.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CommandError> {
        let target = format!("{PREFIX}{path}");
        let body = body.map(Value::to_string).unwrap_or_default();
        let now = Clock::system().now().unix_seconds();
        let headers = (self.signer).sign_text(method, &target, body.as_bytes(), now)?;
        let mut request = Request::builder().method(method).uri(&target);
        for (header, value) in &headers {
            request = request.header(header.name(), value);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Bytes::from(body))
            .map_err(|e| CommandError::Usage(format!("the request cannot be built: {e}")))?;
        let answer = http_client::send(&self.connector, request, LIMITS)
            .map_err(|error| self.no_answer(method, &error))?;
        match answer.status() {
            StatusCode::OK => serde_json::from_slice(answer.body())
                .map_err(|_| self.failure("its answer is no JSON")),
            status => Err(self.refusal(status, answer.body())),
        }
    }

    /// All machines, page by page; with `text`, those whose entry has it.
    ///
    /// # Errors
    ///
    /// As [`ManagementClient::call`].
    pub(super) fn machines(&self, text: Option<&str>) -> Result<ListedMachines, CommandError> {
        let mut listed = ListedMachines::default();
        let mut after = None;
        loop {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &MAX_LIMIT.to_string());
            for (name, value) in [("after", after.as_deref()), ("text", text)] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            let page = self.get(&format!("/machines?{}", query.finish()))?;
            let page: ListedPage = serde_json::from_value(page)
                .map_err(|_| self.failure("its answer is no page of machines"))?;
            listed.machines.extend(page.machines);
            for group in page.groups {
                if !listed.groups.contains(&group) {
                    listed.groups.push(group);
                }
            }
            match page.next {
                // A page that does not go on would be asked for without an end.
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => return Ok(listed),
            }
        }
    }

    /// One machine's entry.
    ///
    /// # Errors
    ///
    /// As [`ManagementClient::call`].
    pub(super) fn machine(&self, id: &str) -> Result<Map<String, Value>, CommandError> {
        match self.get(&machine_path(id)?)? {
            Value::Object(mut entry) => {
                entry.remove("last_used");
                Ok(entry)
            }
            _ => Err(self.failure("its answer is no machine")),
        }
    }

    /// Adds machines, all or none.
    ///
    /// # Errors
    ///
    /// As [`ManagementClient::call`].
    pub(super) fn add(&self, machines: &[Value]) -> Result<(), CommandError> {
        let body = json!({ "machines": machines });
        self.call("POST", "/machines", Some(&body)).map(drop)
    }

    fn failure(&self, why: &str) -> CommandError {
        CommandError::Operation(format!("the gateway at {}: {why}", self.gateway()))
    }

    fn no_answer(&self, method: &str, error: &RequestError) -> CommandError {
        let gateway = self.gateway();
        CommandError::Operation(match error {
            RequestError::Unconnected(_) => {
                format!("cannot reach the gateway at {gateway}: {}", error.cause())
            }
            _ if method == "GET" => format!("no answer from the gateway at {gateway}: {error}"),
            _ => format!(
                "no answer from the gateway at {gateway}: {error}. It is unknown whether the \
                 change was made: list or show before you repeat the command"
            ),
        })
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> CommandError {
        let Ok(RefusedCall { code, errors }) = serde_json::from_slice(body) else {
            return self.failure(&format!("it answered {status}"));
        };
        let more = errors.len().saturating_sub(MOST_SHOWN);
        let mut lines: Vec<String> = (errors.iter().take(MOST_SHOWN))
            .map(|text| visible(text))
            .collect();
        if more > 0 {
            lines.push(format!("and {more} more mistakes"));
        }
        let code = visible(&code);
        self.failure(&format!(
            "{code} ({}): {}",
            status.as_u16(),
            lines.join("\n")
        ))
    }
}

/// The path of a machine.
///
/// # Errors
///
/// [`CommandError::Usage`]: the id is none.
pub(super) fn machine_path(id: &str) -> Result<String, CommandError> {
    match countersign_core::identity::MachineId::parse(id) {
        Some(id) => Ok(format!("/machines/{id}")),
        None => Err(CommandError::Usage(
            "an id is 1 to 128 of the characters A-Z a-z 0-9 . _ -".into(),
        )),
    }
}
