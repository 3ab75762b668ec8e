//! The checked options of the agent, and what a machine is known by.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::target::QueryPolicy;
use http::HeaderName;

use crate::gateway_url::GatewayUrl;
use crate::{address, file, gateway_headers};

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
        }
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

    /// Whether a gateway that an identity named may be spoken to; the text says why not.
    pub fn plain_refusal(&self, gateway: &GatewayUrl) -> Option<String> {
        plain(gateway, self.allow_plain_gateway)
    }

    /// Parses a name by which the agent may be called.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse_host(text: &str) -> Result<String, String> {
        gateway_headers::host(text).map(|_| text.to_ascii_lowercase())
    }

    /// Parses the name of a header that may cross besides the usual ones. What names the client to a
    /// backend never does: the signature is there in its place.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn parse_forward_header(text: &str) -> Result<HeaderName, String> {
        let name = gateway_headers::settable(text)?;
        match CREDENTIALS
            .iter()
            .any(|own| gateway_headers::is_same(&name, own))
        {
            true => Err(format!(
                "{name} is a client's credential, which the agent takes away; the signature stands \
                 in its place"
            )),
            false => Ok(name),
        }
    }
}

/// Why a gateway is not spoken to in plain HTTP; `None` where it is.
fn plain(gateway: &GatewayUrl, allowed: bool) -> Option<String> {
    (!gateway.is_confidential() && !allowed).then(|| {
        format!(
            "http://{} is neither TLS nor this host: secrets would cross the network in the clear; \
             use https://, or allow a plain gateway",
            gateway.authority
        )
    })
}

impl Listen {
    /// Parses `127.0.0.1:8200` or `unix:/path`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str, base: &Path) -> Result<Listen, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return file::path(path, base).map(Listen::Unix);
        }
        address::socket(text, "127.0.0.1:8200, nor unix:/path").map(Listen::Tcp)
    }
}

/// Headers in which clients of backends send their credentials.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "x-vault-token"];
