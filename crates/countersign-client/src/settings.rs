//! The checked settings of the agent, and the credentials of a machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::target::QueryPolicy;
use http::HeaderName;

use crate::gateway_url::GatewayUrl;
use crate::{address, file, gateway_headers};

/// The agent's settings, each one checked.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The listener for clients on this machine.
    pub listen: Listen,
    /// Accept connections from other hosts. By default, an address that is not loopback is a
    /// mistake.
    pub allow_remote_clients: bool,
    /// Further accepted `Host` values; lower case, with or without a port. The agent always accepts
    /// `localhost`, `127.0.0.1`, `[::1]` and its own address.
    pub hosts: Vec<String>,
    /// The gateway; `None` takes the identity's `apiUrl`.
    pub gateway: Option<GatewayUrl>,
    /// Speak plain HTTP to a gateway on another host. By default, that is a mistake.
    pub allow_plain_gateway: bool,
    /// A PEM file of trusted certificate authorities, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The machine's id and key.
    pub credentials: MachineCredentials,
    /// Renew the machine before its end, with a new key. Default: no.
    pub renew: bool,
    /// The query policy of the gateway's route, default `signed`.
    pub query: QueryPolicy,
    /// Client headers to forward, beyond the default list.
    pub forward_headers: Vec<HeaderName>,
    /// Most concurrent client connections, default 512. Further ones wait in the accept queue.
    pub connections: usize,
    /// Largest request body, in bytes; default 32 MiB, the maximum of a route.
    pub max_body: u64,
    /// Most buffered bytes of request bodies, over all requests; default 128 MiB.
    pub body_budget: u64,
    /// Longest wait for the head of the gateway's response, default 120 s.
    pub answer_timeout: Duration,
    /// How long the agent retries a request, pauses included; default 20 s. That is longer than a
    /// gateway's quarantine after a power loss.
    pub retry_for: Duration,
    /// How long in-flight requests may take after SIGTERM; default 25 s.
    pub grace: Duration,
}

/// The agent's listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; with port 0 the system chooses the port.
    Tcp(SocketAddr),
    /// A Unix socket, of mode 0600.
    Unix(PathBuf),
}

/// The source of a machine's id and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineCredentials {
    /// A key file, and the machine's id in the registry.
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
    pub fn new(listen: Listen, credentials: MachineCredentials) -> AgentSettings {
        AgentSettings {
            listen,
            allow_remote_clients: false,
            hosts: Vec::new(),
            gateway: None,
            allow_plain_gateway: false,
            ca: None,
            credentials,
            renew: false,
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

    /// The unsafe settings that were not allowed explicitly: each setting and its error text.
    pub fn refusals(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Listen::Tcp(address) = &self.listen
            && !address.ip().is_loopback()
            && !self.allow_remote_clients
        {
            found.push(("listen", format!(
                "{address} can be reached from other hosts, and any process that connects acts as \
                 the machine; use 127.0.0.1 or a Unix socket, or allow remote clients"
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

    /// The error text if the gateway of an identity would need plain HTTP without permission.
    pub fn plain_refusal(&self, gateway: &GatewayUrl) -> Option<String> {
        plain(gateway, self.allow_plain_gateway)
    }

    /// Parses a further accepted `Host` value.
    ///
    /// # Errors
    ///
    /// Why the value is not a host.
    pub fn parse_host(text: &str) -> Result<String, String> {
        gateway_headers::host(text).map(|_| text.to_ascii_lowercase())
    }

    /// Parses the name of a header to forward. Credentials of clients are refused, because the
    /// signature replaces them.
    ///
    /// # Errors
    ///
    /// Why the header cannot be forwarded.
    pub fn parse_forward_header(text: &str) -> Result<HeaderName, String> {
        let name = gateway_headers::settable(text)?;
        match CREDENTIALS
            .iter()
            .any(|own| gateway_headers::is_same_header(&name, own))
        {
            true => Err(format!(
                "{name} is a client's credential, which the agent removes, because the signature \
                 replaces it; remove this entry"
            )),
            false => Ok(name),
        }
    }
}

/// The error text for plain HTTP to another host; `None` if the gateway may be used.
fn plain(gateway: &GatewayUrl, allowed: bool) -> Option<String> {
    (!gateway.is_confidential() && !allowed).then(|| {
        format!(
            "http://{} is plain HTTP to another host: the network could read the secrets; \
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
    /// Why the text is not a listener.
    pub fn parse(text: &str, base: &Path) -> Result<Listen, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return file::path(path, base).map(Listen::Unix);
        }
        address::socket(text, "127.0.0.1:8200, nor unix:/path").map(Listen::Tcp)
    }
}

/// Headers that hold credentials of a backend's clients.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "x-vault-token"];
