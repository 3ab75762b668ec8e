//! `countersign agent`: runs a proxy beside a machine that signs for clients that cannot.

use std::path::{Path, PathBuf};

use http::HeaderName;

use super::command_error::CommandError;
use super::machine_options::IdentityArgs;
use super::process::{runtime, start_logging};
use crate::config::{AgentFile, AgentSettings, GatewayUrl, Listen, Log, MachineCredentials};
use crate::server::signals;
use countersign_client::agent::{Agent, AgentStartError};
use countersign_client::clock::{Clock, check_after_release};
use countersign_core::target::QueryPolicy;

/// Run a proxy beside this machine that signs its requests
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign agent --listen 127.0.0.1:8200 --gateway https://gw:8443 \\
    --key key.pem --machine-id web-1
  VAULT_ADDR=http://127.0.0.1:8200 vault kv get secret/db

Any process that can connect to the agent acts as the machine; the agent does not authenticate clients.
SIGTERM, SIGQUIT and SIGINT stop it gracefully.")]
pub(super) struct AgentArgs {
    /// The agent's configuration, in place of all other options
    #[arg(long, value_name = "FILE", conflicts_with_all = OPTIONS)]
    config: Option<PathBuf>,
    /// The address that clients connect to: ADDRESS:PORT, or unix:/path
    #[arg(long, value_name = "WHERE", value_parser = |text: &str| Listen::parse(text, Path::new("")))]
    listen: Option<Listen>,
    /// The gateway that signed requests go to: https://host:port
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::parse)]
    gateway: Option<GatewayUrl>,
    #[command(flatten)]
    machine: IdentityArgs,
    /// Certificate authorities to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The query policy of the gateway's route: signed, strip or reject
    #[arg(long, value_name = "POLICY", default_value = "signed", value_parser = query)]
    query: QueryPolicy,
    /// A further header of the client to forward. Repeat it for several
    #[arg(long, value_name = "NAME", value_parser = AgentSettings::parse_forward_header)]
    forward_header: Vec<HeaderName>,
    /// A further name in Host by which clients call the agent. Repeat it for several
    #[arg(long, value_name = "NAME", value_parser = AgentSettings::parse_host)]
    host: Vec<String>,
    /// Renew the machine before its end: a new key takes the place of the old one in its file
    #[arg(long)]
    renew: bool,
    /// Accept connections from other hosts: each of them then acts as the machine
    #[arg(long)]
    allow_remote_clients: bool,
    /// Speak plain HTTP to a gateway on another host: the network can then read secrets
    #[arg(long)]
    allow_plain_gateway: bool,
}

const OPTIONS: [&str; 13] = [
    "listen",
    "gateway",
    "key",
    "machine_id",
    "identity",
    "home",
    "cacert",
    "query",
    "forward_header",
    "host",
    "renew",
    "allow_remote_clients",
    "allow_plain_gateway",
];

/// Runs until a signal. A mistake in the settings ends it before anything is bound.
///
/// # Errors
///
/// The settings or the key are wrong, or the operating system reports an error.
pub(super) fn run(args: &AgentArgs) -> Result<(), CommandError> {
    let (AgentFile { settings, log }, warnings) = match &args.config {
        Some(file) => AgentFile::load(file)
            .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?,
        None => (args.file()?, Vec::new()),
    };
    start_logging(&log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let clock = Clock::system();
    if let Err(error) = check_after_release(clock.now()) {
        // Not the end: the gateway's time may correct it.
        tracing::warn!("{error}");
    }
    let runtime = runtime(0)?;
    let ended = runtime.block_on(async {
        let agent = Agent::bind(settings, clock).await?;
        let stop = signals().map_err(|e| CommandError::Operation(e.to_string()))?;
        agent.run(stop).await;
        Ok(())
    });
    // A look-up that hangs in the resolver must not keep the process.
    runtime.shutdown_background();
    ended
}

impl AgentArgs {
    /// The configuration that these options amount to.
    fn file(&self) -> Result<AgentFile, CommandError> {
        let usage = |text: &str| CommandError::Usage(text.to_owned());
        let listen = (self.listen.clone()).ok_or_else(|| {
            usage(
                "no address to listen on: name it with --listen, or a configuration with --config",
            )
        })?;
        let credentials = self.machine.machine()?;
        if matches!(credentials, MachineCredentials::Key { .. }) && self.gateway.is_none() {
            return Err(usage("no gateway: name it with --gateway URL"));
        }
        let settings = AgentSettings {
            gateway: self.gateway.clone(),
            ca: self.cacert.clone(),
            query: self.query,
            forward_headers: self.forward_header.clone(),
            hosts: self.host.clone(),
            renew: self.renew,
            allow_remote_clients: self.allow_remote_clients,
            allow_plain_gateway: self.allow_plain_gateway,
            ..AgentSettings::new(listen, credentials)
        };
        let refusals = settings.refusals();
        let lines = refusals
            .iter()
            .map(|(key, text)| format!("--{key}: {text}"));
        match lines.collect::<Vec<_>>() {
            lines if lines.is_empty() => Ok(AgentFile {
                settings,
                log: Log::default(),
            }),
            lines => Err(CommandError::Usage(lines.join("\n"))),
        }
    }
}

fn query(text: &str) -> Result<QueryPolicy, String> {
    (QueryPolicy::ALL.into_iter())
        .find(|policy| policy.as_str() == text)
        .ok_or_else(|| "use signed, strip or reject".to_owned())
}

impl From<AgentStartError> for CommandError {
    fn from(error: AgentStartError) -> CommandError {
        match error {
            AgentStartError::Configuration(text) => CommandError::Configuration(text),
            AgentStartError::System(text) => CommandError::Operation(text),
        }
    }
}
