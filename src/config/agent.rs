//! The file of the signing proxy beside a machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::operation::{self, Log};
use super::units::{duration, size};
use super::{AgentSettings, GatewayUrl, Listen, MachineCredentials, headers, text_of};
use crate::yaml::{Field, Finding, Mistakes, Notes, Table, document, one_of};
use countersign_core::target::QueryPolicy;

/// The agent's file without a mistake.
#[derive(Clone, Debug)]
pub struct AgentFile {
    /// The agent's settings.
    pub settings: AgentSettings,
    /// The log, on standard error.
    pub log: Log,
}

impl AgentFile {
    /// Reads and checks the agent's file; relative paths in it are relative to its directory.
    ///
    /// # Errors
    ///
    /// Every mistake in it, at least one.
    pub fn load(file: &Path) -> Result<(AgentFile, Vec<Finding>), Mistakes> {
        AgentFile::read(&text_of(file)?, file)
    }

    fn read(text: &str, file: &Path) -> Result<(AgentFile, Vec<Finding>), Mistakes> {
        let notes = Notes::new(file);
        let root = document(text, &notes, "is empty; docs/agent.md has an example");
        let base = file.parent().unwrap_or(Path::new(""));
        let settings = root.and_then(|root| settings(Field::root(&root, &notes).table(), base));
        notes.conclude(settings)
    }
}

fn settings(mut root: Table<'_>, base: &Path) -> Option<AgentFile> {
    let time = |table: &mut Table<'_>, key, default| {
        let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
        table.value(key, default, duration(bounds))
    };
    let words = QueryPolicy::ALL.map(|policy| (policy.as_str(), policy));
    let listen =
        (root.required("listen")).and_then(|it| it.parse(|text| Listen::parse(text, base)));
    let credentials = credentials(&mut root, base);
    let (known, has_credentials) = (listen.is_some(), credentials.is_some());
    let stand_in = Listen::Unix(PathBuf::new());
    let mut it = AgentSettings::new(
        listen.unwrap_or(stand_in),
        credentials.unwrap_or(MachineCredentials::Identity(PathBuf::new())),
    );
    it.gateway = match &it.credentials {
        MachineCredentials::Key { .. } => root.required("gateway"),
        MachineCredentials::Identity(_) => root.field("gateway"),
    }
    .and_then(|field| field.parse(GatewayUrl::parse));
    it.allow_remote_clients = root.truth("allow_remote_clients", false);
    it.allow_plain_gateway = root.truth("allow_plain_gateway", false);
    it.hosts = (root.items("hosts").iter())
        .filter_map(|item| item.parse(AgentSettings::parse_host))
        .collect();
    it.ca = root
        .field("ca")
        .and_then(|field| operation::file(&field, base));
    it.query = root.value("query", it.query, one_of(&words));
    for item in root.items("forward_headers") {
        let Some(name) = item.parse(AgentSettings::parse_forward_header) else {
            continue;
        };
        if headers::overrides_the_request(&name) {
            item.warning(format!(
                "{name} is not signed, and a client could use it to override the signed method or \
                 path; remove it if the backend honours it"
            ));
        }
        it.forward_headers.push(name);
    }
    it.renew = root.truth("renew", false);
    it.connections = root.whole("connections", it.connections, 1..=100_000);
    it.max_body = root.value("max_body", it.max_body, size(1..=32 << 20));
    it.body_budget = root.value("body_budget", it.body_budget, size(1..=1 << 31));
    it.answer_timeout = time(&mut root, "answer_timeout", it.answer_timeout);
    it.retry_for = time(&mut root, "retry_for", it.retry_for);
    it.grace = time(&mut root, "grace", it.grace);
    let log = operation::log(root.table("log"));
    for (key, text) in it.refusals() {
        root.mistake(key, text);
    }
    (known && has_credentials).then_some(AgentFile { settings: it, log })
}

fn credentials(root: &mut Table<'_>, base: &Path) -> Option<MachineCredentials> {
    let identity = root.field("identity");
    let (key, id) = (root.field("key"), root.field("machine_id"));
    match (identity, key, id) {
        (Some(identity), None, None) => {
            operation::file(&identity, base).map(MachineCredentials::Identity)
        }
        (Some(identity), ..) => {
            identity
                .mistake("has a key and an id of its own; remove `key` and `machine_id`, or this");
            None
        }
        (None, Some(key), Some(id)) => {
            let file = operation::file(&key, base);
            let machine_id = id.parse(|text| Ok(text.to_owned()));
            let (file, machine_id) = (file?, machine_id?);
            Some(MachineCredentials::Key { file, machine_id })
        }
        (None, key, id) => {
            for (name, there) in [("key", key.is_some()), ("machine_id", id.is_some())] {
                if !there {
                    root.mistake(
                        name,
                        "is missing; give `key` and `machine_id`, or `identity`",
                    );
                }
            }
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const GOOD: &str =
        "listen: 127.0.0.1:8200\ngateway: https://gw:8443\nkey: key.pem\nmachine_id: web-1\n";

    fn read(text: &str) -> Result<AgentSettings, Mistakes> {
        AgentFile::read(text, Path::new("/etc/agent/agent.yaml")).map(|(file, _)| file.settings)
    }

    fn mistakes(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn four_lines_are_enough_and_files_are_beside_the_file() {
        let settings = read(GOOD).unwrap();
        let file = PathBuf::from("/etc/agent/key.pem");
        let machine_id = "web-1".into();
        assert_eq!(
            settings.credentials,
            MachineCredentials::Key { file, machine_id }
        );
        assert_eq!(settings.query, QueryPolicy::Signed);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = mistakes(
            "listen: 8200\ngateway: gw:8443\nkey: key.pem\nqery: strip\nmax_body: 1GiB\n\
             forward_headers: [Authorization, X-Signature]\n",
        );
        for key in [
            "listen:",
            "gateway:",
            "machine_id:",
            "qery:",
            "max_body:",
            "forward_headers[0]:",
            "forward_headers[1]:",
        ] {
            assert!(text.contains(key), "{key} in\n{text}");
        }
    }

    #[test]
    fn a_header_that_overrides_the_request_is_forwarded_with_a_warning() {
        let text = format!("{GOOD}forward_headers: [X-HTTP-Method-Override]\n");
        let (file, warnings) = AgentFile::read(&text, Path::new("/a.yaml")).unwrap();
        assert_eq!(file.settings.forward_headers, ["x-http-method-override"]);
        assert_eq!(warnings[0].key, "forward_headers[0]");
    }

    #[test]
    fn an_address_that_others_reach_has_to_be_meant() {
        let open = GOOD.replace("127.0.0.1", "0.0.0.0");
        assert!(mistakes(&open).contains("allow remote clients"));
        assert!(read(&format!("{open}allow_remote_clients: true\n")).is_ok());
    }

    #[test]
    fn plain_http_goes_to_this_host_alone_unless_it_is_meant() {
        for (url, fine) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost:8080", true),
            ("http://[::1]:8080", true),
            ("http://gw:8080", false),
            ("http://localhost.evil.example", false),
            ("http://10.0.0.1", false),
        ] {
            let text = GOOD.replace("https://gw:8443", url);
            assert_eq!(read(&text).is_ok(), fine, "{url}");
            assert!(
                read(&format!("{text}allow_plain_gateway: true\n")).is_ok(),
                "{url}"
            );
        }
    }

    #[test]
    fn an_identity_stands_for_key_id_and_gateway_and_not_beside_them() {
        let text = "listen: unix:agent.sock\nidentity: web\n";
        assert_eq!(
            read(text).unwrap().listen,
            Listen::Unix("/etc/agent/agent.sock".into())
        );
        assert!(mistakes(&format!("{text}key: key.pem\n")).contains("identity:"));
    }
}
