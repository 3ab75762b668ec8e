//! The settings of the signing proxy beside a machine, from its own small file or from the command
//! line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;

mod gateway_url;

pub use gateway_url::GatewayUrl;

use super::address;
use super::operation::{self, Log};
use super::units::{duration, size, whole};
use super::{headers, text_of};
use crate::auth::target::QueryPolicy;
use crate::yaml::{Finding, Mistakes, Notes, Place, Table, document, one_of};

/// The agent's settings without a mistake.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Where the machine's own clients connect.
    pub listen: Listen,
    /// Take connections from other hosts. Default: an address that is not loopback is a mistake.
    pub allow_remote_clients: bool,
    /// Names by which clients may call the agent, besides `localhost`, `127.0.0.1`, `[::1]` and
    /// the address itself; lower case, with or without a port.
    pub hosts: Vec<String>,
    /// Where signed requests go; `None`: where the identity says.
    pub gateway: Option<GatewayUrl>,
    /// Speak plain HTTP to a gateway on another host. Default: that is a mistake.
    pub allow_plain_gateway: bool,
    /// The authorities believed in place of the system's, PEM.
    pub ca: Option<PathBuf>,
    /// The machine and its key.
    pub who: Who,
    /// What the gateway's route does with a query, default `signed`.
    pub query: QueryPolicy,
    /// Client headers that cross besides the usual ones.
    pub forward_headers: Vec<HeaderName>,
    /// Most client connections at once, default 512; further ones wait to be accepted.
    pub connections: usize,
    /// Largest request body, in bytes; default 32 MiB, the most that any route takes.
    pub max_body: u64,
    /// Most bytes of bodies held, all requests together; default 128 MiB.
    pub body_budget: u64,
    /// Longest wait for the gateway to begin its answer, default 120 s.
    pub answer_timeout: Duration,
    /// How long a request is tried again, waits included; default 20 s, more than the quarantine
    /// of a gateway after a power loss.
    pub retry_for: Duration,
    /// How long requests in flight have on SIGTERM; default 25 s.
    pub grace: Duration,
    /// The log, on standard error.
    pub log: Log,
}

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// A Unix socket, of mode 0600.
    Unix(PathBuf),
}

/// Where the machine's id and key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A key file, and the id under which the registry knows the machine.
    Key {
        /// PKCS#8 PEM, of mode 0600 or stricter.
        file: PathBuf,
        /// The id.
        machine_id: String,
    },
    /// A SikkerKey identity directory.
    Identity(PathBuf),
}

impl AgentSettings {
    /// Settings with every default.
    pub fn new(listen: Listen, who: Who) -> AgentSettings {
        AgentSettings {
            listen,
            allow_remote_clients: false,
            hosts: Vec::new(),
            gateway: None,
            allow_plain_gateway: false,
            ca: None,
            who,
            query: QueryPolicy::Signed,
            forward_headers: Vec::new(),
            connections: 512,
            max_body: 32 << 20,
            body_budget: 128 << 20,
            answer_timeout: Duration::from_secs(120),
            retry_for: Duration::from_secs(20),
            grace: Duration::from_secs(25),
            log: operation::default_log(),
        }
    }

    /// Reads and checks the agent's file; relative paths in it are relative to its directory.
    ///
    /// # Errors
    ///
    /// Every mistake in it, at least one.
    pub fn load(file: &Path) -> Result<(AgentSettings, Vec<Finding>), Mistakes> {
        AgentSettings::read(&text_of(file)?, file)
    }

    fn read(text: &str, file: &Path) -> Result<(AgentSettings, Vec<Finding>), Mistakes> {
        let notes = Notes::new(file);
        let root = document(text, &notes, "is empty; docs/agent.md has an example");
        let base = file.parent().unwrap_or(Path::new(""));
        let settings = root.and_then(|root| settings(Place::root(&root, &notes).table(), base));
        notes.conclude(settings)
    }

    /// What would open a hole and was not asked for in so many words: the setting, and the text.
    pub fn refusals(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Listen::Tcp(address) = &self.listen
            && !address.ip().is_loopback()
            && !self.allow_remote_clients
        {
            found.push(("listen", format!(
                "{address} can be reached from other hosts, and whoever reaches the agent is the \
                 machine; use 127.0.0.1 or a Unix socket, or allow remote clients"
            )));
        }
        if let Some(gateway) = &self.gateway
            && let Some(text) = plain(gateway, self.allow_plain_gateway)
        {
            found.push(("gateway", text));
        }
        if self.body_budget < self.max_body {
            found.push(("body_budget", "is less than max_body; raise it".into()));
        }
        found
    }
}

/// Why a gateway is not spoken to in plain HTTP; `None` where it is.
pub(super) fn plain(gateway: &GatewayUrl, allowed: bool) -> Option<String> {
    (!gateway.is_confidential() && !allowed).then(|| {
        format!(
            "http://{} is neither TLS nor this host: secrets would cross the network in the clear; \
             use https://, or allow a plain gateway",
            gateway.authority
        )
    })
}

fn settings(mut root: Table<'_>, base: &Path) -> Option<AgentSettings> {
    let time = |table: &mut Table<'_>, key, default| {
        let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
        table.value(key, default, duration(bounds))
    };
    let truth = one_of(&[("true", true), ("false", false)], &[]);
    let words = QueryPolicy::ALL.map(|policy| (policy.as_str(), policy));
    let listen =
        (root.required("listen")).and_then(|it| it.parse(|text| Listen::parse(text, base)));
    let who = who(&mut root, base);
    let (known, whom) = (listen.is_some(), who.is_some());
    let stand_in = Listen::Unix(PathBuf::new());
    let mut it = AgentSettings::new(
        listen.unwrap_or(stand_in),
        who.unwrap_or(Who::Identity(PathBuf::new())),
    );
    it.gateway = match &it.who {
        Who::Key { .. } => root.required("gateway"),
        Who::Identity(_) => root.place("gateway"),
    }
    .and_then(|place| place.parse(GatewayUrl::parse));
    it.allow_remote_clients = root.value("allow_remote_clients", false, &truth);
    it.allow_plain_gateway = root.value("allow_plain_gateway", false, &truth);
    it.hosts = (root.items("hosts").iter())
        .filter_map(|item| item.parse(host))
        .collect();
    it.ca = root
        .place("ca")
        .and_then(|place| operation::file(&place, base));
    it.query = root.value("query", it.query, one_of(&words, &[]));
    for item in root.items("forward_headers") {
        let Some(name) = item.parse(forwardable) else {
            continue;
        };
        if headers::overrides_the_request(&name) {
            item.warning(format!(
                "{name} is not signed, and lets whoever sends it change the method or path that is"
            ));
        }
        it.forward_headers.push(name);
    }
    it.connections = root.value("connections", it.connections, whole(1..=100_000));
    it.max_body = root.value("max_body", it.max_body, size(1..=32 << 20));
    it.body_budget = root.value("body_budget", it.body_budget, size(1..=1 << 31));
    it.answer_timeout = time(&mut root, "answer_timeout", it.answer_timeout);
    it.retry_for = time(&mut root, "retry_for", it.retry_for);
    it.grace = time(&mut root, "grace", it.grace);
    it.log = operation::log(root.table("log"));
    for (key, text) in it.refusals() {
        root.mistake(key, text);
    }
    (known && whom).then_some(it)
}

fn who(root: &mut Table<'_>, base: &Path) -> Option<Who> {
    let identity = root.place("identity");
    let (key, id) = (root.place("key"), root.place("machine_id"));
    match (identity, key, id) {
        (Some(identity), None, None) => operation::file(&identity, base).map(Who::Identity),
        (Some(identity), ..) => {
            identity
                .mistake("has a key and an id of its own; remove `key` and `machine_id`, or this");
            None
        }
        (None, Some(key), Some(id)) => {
            let file = operation::file(&key, base);
            let machine_id = id.parse(|text| Ok(text.to_owned()));
            let (file, machine_id) = (file?, machine_id?);
            Some(Who::Key { file, machine_id })
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

impl Listen {
    /// Parses `127.0.0.1:8200` or `unix:/path`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str, base: &Path) -> Result<Listen, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return operation::path(path, base).map(Listen::Unix);
        }
        address::socket(text, "127.0.0.1:8200, nor unix:/path").map(Listen::Tcp)
    }
}

/// Parses a name by which the agent may be called.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn host(text: &str) -> Result<String, String> {
    headers::host(text).map(|_| text.to_ascii_lowercase())
}

/// Parses the name of a header that may cross besides the usual ones. What names the client to a
/// backend never does: the signature is there in its place.
///
/// # Errors
///
/// Why it may not.
pub(super) fn forwardable(text: &str) -> Result<HeaderName, String> {
    let name = headers::settable(text)?;
    match CREDENTIALS.iter().any(|own| headers::is_same(&name, own)) {
        true => Err(format!(
            "{name} is a client's credential, which the agent takes away; the signature stands in its place"
        )),
        false => Ok(name),
    }
}

/// Headers in which clients of backends send their credentials.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "x-vault-token"];

impl AgentSettings {
    /// Parsers for the command line, with the words of the file.
    pub const HOST: fn(&str) -> Result<String, String> = host;
    /// See [`AgentSettings::HOST`].
    pub const FORWARD_HEADER: fn(&str) -> Result<HeaderName, String> = forwardable;

    /// Whether a gateway that an identity named may be spoken to; the text says why not.
    pub fn plain_refusal(&self, gateway: &GatewayUrl) -> Option<String> {
        plain(gateway, self.allow_plain_gateway)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const GOOD: &str =
        "listen: 127.0.0.1:8200\ngateway: https://gw:8443\nkey: key.pem\nmachine_id: web-1\n";

    fn read(text: &str) -> Result<AgentSettings, Mistakes> {
        AgentSettings::read(text, Path::new("/etc/agent/agent.yaml")).map(|(it, _)| it)
    }

    fn mistakes(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn four_lines_are_enough_and_files_are_beside_the_file() {
        let settings = read(GOOD).unwrap();
        let file = PathBuf::from("/etc/agent/key.pem");
        let machine_id = "web-1".into();
        assert_eq!(settings.who, Who::Key { file, machine_id });
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
        let (settings, warnings) = AgentSettings::read(&text, Path::new("/a.yaml")).unwrap();
        assert_eq!(settings.forward_headers, ["x-http-method-override"]);
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
