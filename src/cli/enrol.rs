//! `countersign enrol`: makes this machine's key, registers it, and stores the identity.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::command_error::CommandError;
use super::terminal::say;
use crate::config::{Environment, GatewayUrl};
use countersign_client::agent::connect::Connector;
use countersign_client::clock::Clock;
use countersign_client::enrolling::{Enrolling, FirstRequest, JoiningSecret};
use countersign_client::file;
use countersign_core::enrolment::EnrolmentToken;

/// Make a key for this machine, and register it at a gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign enrol --gateway https://gw:8443 --vault vault_prod --token @token
  countersign agent --listen 127.0.0.1:8200 --home ~/.sikkerkey

It writes identity.json and private.pem (mode 0600) into vaults/VAULT below --home, as SikkerKey's
clients read them, and then sends one signed request. It refuses if an identity is there.")]
pub(super) struct EnrolArgs {
    /// The gateway: https://host:port
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::parse)]
    gateway: GatewayUrl,
    /// The vault that the machine will belong to
    #[arg(long, value_name = "ID")]
    vault: String,
    /// The file of an enrolment token, as @FILE; @- is standard input
    #[arg(
        long,
        value_name = "@FILE",
        required_unless_present = "jwt",
        conflicts_with = "jwt"
    )]
    token: Option<String>,
    /// The file of a JSON Web Token of the platform, as @FILE; @- is standard input
    #[arg(long, value_name = "@FILE")]
    jwt: Option<String>,
    /// The folder of the identities; default: $SIKKERKEY_HOME, or ~/.sikkerkey
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// The name that the machine asks for; default: its host name
    #[arg(long)]
    name: Option<String>,
    /// The host name that the machine tells; default: the system's
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Make a new identity in place of the one that is there
    #[arg(long)]
    again: bool,
    /// Certificate authorities to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Speak plain HTTP to a gateway on another host: the network can then read the token
    #[arg(long)]
    allow_plain_gateway: bool,
}

/// Largest file of a secret, in bytes: that of the gateway's own limit.
const MAX_SECRET: usize = 16 * 1024;

/// Enrols this machine.
///
/// # Errors
///
/// The arguments are wrong; an identity is there; the gateway refuses; the first signed request
/// fails. No text holds the token, the JWT or the key.
pub(super) fn run(
    args: &EnrolArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    if !args.gateway.is_confidential() && !args.allow_plain_gateway {
        return Err(CommandError::Usage(format!(
            "--gateway: {} is plain HTTP to another host: the network could read the token; use \
             https://, or --allow-plain-gateway",
            args.gateway
        )));
    }
    let secret = secret(args)?;
    let home = match &args.home {
        Some(home) => home.clone(),
        None => environment.identity_home().ok_or_else(|| {
            CommandError::Usage("no folder for the identity: name it with --home DIR".into())
        })?,
    };
    let hostname = match &args.hostname {
        Some(name) => name.clone(),
        None => system_hostname()?,
    };
    let ca = args.cacert.as_deref();
    let connector =
        Connector::new(args.gateway.clone(), ca).map_err(CommandError::Configuration)?;
    let enrolling = Enrolling {
        connector: &connector,
        vault: &args.vault,
        secret: &secret,
        hostname: &hostname,
        name: args.name.as_deref(),
        home: &home,
        again: args.again,
    };
    let clock = Clock::system();
    let identity = enrolling.run(&clock).map_err(CommandError::Operation)?;
    say(
        out,
        &format!(
            "enrolled {} ({}) in {}\nidentity: {}\n",
            identity.machine_id,
            identity.machine_name,
            args.vault,
            identity.folder.display()
        ),
    )?;
    let shown = identity.try_out(ca, &clock).map_err(|why| {
        CommandError::Operation(format!(
            "the machine is enrolled, and its first signed request failed: {why}. Run countersign \
             doctor --identity {}",
            identity.folder.display()
        ))
    })?;
    say(
        out,
        match shown {
            FirstRequest::Verified => "the gateway has verified a signed request\n",
            FirstRequest::NotRouted => {
                "the gateway has no route for /v1/secret, so no signed request was tried\n"
            }
        },
    )
}

fn secret(args: &EnrolArgs) -> Result<JoiningSecret, CommandError> {
    if let Some(argument) = &args.jwt {
        return Ok(JoiningSecret::Jwt(content("--jwt", argument)?));
    }
    let argument = args.token.as_deref().unwrap_or_default();
    let text = content("--token", argument)?;
    let token = EnrolmentToken::parse(&text).ok_or_else(|| {
        CommandError::Configuration(
            "--token: the file holds no enrolment token, which begins with cse_".into(),
        )
    })?;
    Ok(JoiningSecret::Token(token))
}

/// The content of `@FILE`, without the line feed at its end.
fn content(option: &str, argument: &str) -> Result<Zeroizing<String>, CommandError> {
    let Some(name) = argument.strip_prefix('@') else {
        return Err(CommandError::Usage(format!(
            "{option} takes a file, as @FILE, or @- for standard input: other users can read the \
             arguments of a command"
        )));
    };
    let fail = |why: String| CommandError::Configuration(format!("{option}: {why}"));
    let mut bytes = match name {
        "-" => {
            let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 1));
            (io::stdin().lock().take(MAX_SECRET as u64 + 1))
                .read_to_end(&mut bytes)
                .map_err(|error| fail(format!("cannot read standard input: {error}")))?;
            bytes
        }
        name => {
            let path = Path::new(name);
            file::read_secret(path, MAX_SECRET).map_err(|fault| fail(fault.of(path).to_string()))?
        }
    };
    while bytes.last().is_some_and(u8::is_ascii_whitespace) {
        bytes.pop();
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if bytes.len() <= MAX_SECRET => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(fail("holds no token".to_owned())),
    }
}

fn system_hostname() -> Result<String, CommandError> {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| {
            CommandError::Usage("the system has no host name: give one with --hostname".into())
        })
}
