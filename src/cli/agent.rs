//! `countersign agent`: a proxy beside a machine that signs for clients that cannot.

use std::path::{Path, PathBuf};

use http::HeaderName;

use super::Failure;
use super::serve::{runtime, start_logging};
use crate::agent::{Agent, StartError};
use crate::auth::target::QueryPolicy;
use crate::clock::{Clock, check_after_release};
use crate::config::{AgentFile, AgentSettings, GatewayUrl, Listen, Log, Who};
use crate::server::signals;

/// Run a proxy beside this machine that signs its requests
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign agent --listen 127.0.0.1:8200 --gateway https://gw:8443 \\
    --key key.pem --machine-id web-1
  VAULT_ADDR=http://127.0.0.1:8200 vault kv get secret/db

Whoever can reach the agent is the machine. SIGTERM, SIGQUIT and SIGINT stop it in order.")]
pub(super) struct AgentArgs {
    /// The settings, in place of all other options
    #[arg(long, value_name = "FILE", conflicts_with_all = OPTIONS)]
    config: Option<PathBuf>,
    /// Where clients connect: ADDRESS:PORT, or unix:/path
    #[arg(long, value_name = "WHERE", value_parser = |text: &str| Listen::parse(text, Path::new("")))]
    listen: Option<Listen>,
    /// Where signed requests go: https://host:port
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::parse)]
    gateway: Option<GatewayUrl>,
    /// The machine's private key (PKCS#8 PEM, mode 0600 or stricter)
    #[arg(long, value_name = "FILE", requires = "machine_id")]
    key: Option<PathBuf>,
    /// The id under which the registry knows the machine
    #[arg(long, value_name = "ID", requires = "key")]
    machine_id: Option<String>,
    /// A SikkerKey identity directory, in place of --key, --machine-id and --gateway
    #[arg(long, value_name = "DIR", conflicts_with = "key")]
    identity: Option<PathBuf>,
    /// Certificates to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// What the gateway's route does with a query: signed, strip or reject
    #[arg(long, value_name = "POLICY", default_value = "signed", value_parser = query)]
    query: QueryPolicy,
    /// A client's header that crosses besides the usual ones; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = AgentSettings::parse_forward_header)]
    forward_header: Vec<HeaderName>,
    /// Another name by which clients call the agent; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = AgentSettings::parse_host)]
    host: Vec<String>,
    /// Take connections from other hosts: each of them is then the machine
    #[arg(long)]
    allow_remote_clients: bool,
    /// Speak plain HTTP to a gateway on another host: secrets can then be read on the way
    #[arg(long)]
    allow_plain_gateway: bool,
}

const OPTIONS: [&str; 11] = [
    "listen",
    "gateway",
    "key",
    "machine_id",
    "identity",
    "cacert",
    "query",
    "forward_header",
    "host",
    "allow_remote_clients",
    "allow_plain_gateway",
];

/// Runs until a signal. What is wrong ends it before anything is bound.
///
/// # Errors
///
/// Every mistake of the settings; what is wrong with the key; what the system refused.
pub(super) fn run(args: &AgentArgs) -> Result<(), Failure> {
    let (AgentFile { settings, log }, warnings) = match &args.config {
        Some(file) => AgentFile::load(file)
            .map_err(|mistakes| Failure::Configuration(mistakes.to_string()))?,
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
        let stop = signals().map_err(|e| Failure::Operation(e.to_string()))?;
        agent.run(stop).await;
        Ok(())
    });
    // A look-up that hangs in the resolver must not keep the process.
    runtime.shutdown_background();
    ended
}

impl AgentArgs {
    /// What a file with these options would say.
    fn file(&self) -> Result<AgentFile, Failure> {
        let usage = |text: &str| Failure::Usage(text.to_owned());
        let listen = (self.listen.clone())
            .ok_or_else(|| usage("name where to listen with --listen, or a file with --config"))?;
        let who = who(&self.key, &self.machine_id, &self.identity)?;
        if matches!(who, Who::Key { .. }) && self.gateway.is_none() {
            return Err(usage("name the gateway with --gateway URL"));
        }
        let settings = AgentSettings {
            gateway: self.gateway.clone(),
            ca: self.cacert.clone(),
            query: self.query,
            forward_headers: self.forward_header.clone(),
            hosts: self.host.clone(),
            allow_remote_clients: self.allow_remote_clients,
            allow_plain_gateway: self.allow_plain_gateway,
            ..AgentSettings::new(listen, who)
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
            lines => Err(Failure::Usage(lines.join("\n"))),
        }
    }
}

/// The machine that the options name.
///
/// # Errors
///
/// That they name none.
pub(super) fn who(
    key: &Option<PathBuf>,
    machine_id: &Option<String>,
    identity: &Option<PathBuf>,
) -> Result<Who, Failure> {
    match (key, machine_id, identity) {
        (_, _, Some(folder)) => Ok(Who::Identity(folder.clone())),
        (Some(file), Some(id), None) => Ok(Who::Key {
            file: file.clone(),
            machine_id: id.clone(),
        }),
        _ => Err(Failure::Usage(
            "name the machine with --key FILE and --machine-id ID, or with --identity DIR".into(),
        )),
    }
}

fn query(text: &str) -> Result<QueryPolicy, String> {
    (QueryPolicy::ALL.into_iter())
        .find(|policy| policy.as_str() == text)
        .ok_or_else(|| "use signed, strip or reject".to_owned())
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error {
            StartError::Configuration(text) => Failure::Configuration(text),
            StartError::System(text) => Failure::Operation(text),
        }
    }
}
