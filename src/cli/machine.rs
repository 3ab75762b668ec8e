//! `countersign machine`: shows the registry, and edits one machine so that the rest of its file
//! stays as it is.

mod add;
mod bulk;
mod print;
mod registry_edit;
mod remote;
mod rotate;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::PathBuf;

use super::command_error::CommandError;
use super::configuration::ConfigArgs;
use super::gateway_args::GatewayArgs;
use super::terminal::say;
use crate::config::{self, Environment, RegistrySource};
use crate::registry::edit;
use crate::registry::{EditedFile, Tombstone};
use countersign_core::identity::Machine;

use self::add::AddArgs;
use self::registry_edit::{RegistryEdit, load, unknown};
use self::rotate::RotateArgs;

/// List or edit the machines of a registry, or of a gateway
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    after_help = "Example:
  countersign machine list --registry machines.yaml
  countersign machine disable --registry machines.yaml web-1

An edit keeps comments and layout and replaces the file in one step. A running gateway reloads it within
two seconds.

With a registry in a database, name a gateway, and sign as an operator:
  countersign machine list --gateway https://gw:8443 --machine-id alice --key alice.pem"
)]
pub(super) struct MachineArgs {
    /// The registry, a file or a directory; default: the one that the configuration names
    #[arg(
        long,
        value_name = "FILE|DIR",
        global = true,
        conflicts_with = "config"
    )]
    pub registry: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// The action.
    #[command(subcommand)]
    pub action: RegistryAction,
}

/// An action on the registry.
#[derive(Debug, clap::Subcommand)]
pub(super) enum RegistryAction {
    /// Add a machine, or many, and print their ids
    Add(Box<AddArgs>),
    /// List all machines
    #[command(after_help = "Example:
  countersign machine list --registry machines.yaml --json | jq -r '.[] | select(.enabled) | .id'")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one machine with its keys
    #[command(after_help = "Example:
  countersign machine show --registry machines.yaml web-1")]
    Show {
        /// The id of the machine
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Enable a machine again
    #[command(after_help = "Example:
  countersign machine enable --registry machines.yaml web-1")]
    Enable {
        /// The id of the machine
        id: String,
    },
    /// Disable a machine: refuse its requests and keep its entry
    #[command(after_help = "Example:
  countersign machine disable --registry machines.yaml web-1")]
    Disable {
        /// The id of the machine
        id: String,
    },
    /// Add a new key and let the old ones expire
    Rotate(RotateArgs),
    /// Remove a machine. Its id and keys stay under `removed`, so that no other machine gets them
    #[command(after_help = "Example:
  countersign machine remove --registry machines.yaml web-1")]
    Remove {
        /// The id of the machine
        id: String,
    },
}

/// Runs the action at the gateway that is named, or on the file.
///
/// # Errors
///
/// As [`run`] and [`remote::run`].
pub(super) fn run_anywhere(
    args: &MachineArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    if let Some(client) = args.gateway.client()? {
        return match &args.registry.as_ref().or(args.config.config.as_ref()) {
            Some(_) => Err(CommandError::Usage(
                "--gateway: cannot stand beside --registry or --config; name one of them".into(),
            )),
            None => remote::run(args, &client, out),
        };
    }
    if args.gateway.machine_id.is_some() && !matches!(args.action, RegistryAction::Add(_)) {
        return Err(CommandError::Usage(
            "--machine-id: names the operator at a gateway; add --gateway URL and --key FILE"
                .into(),
        ));
    }
    run(args, &args.registry(environment)?, environment.now, out)
}

/// Runs the action on `registry`, which [`MachineArgs::registry`] found, at `now` (Unix seconds).
///
/// # Errors
///
/// [`CommandError::Configuration`]: the registry has mistakes. [`CommandError::Usage`]: an argument
/// is wrong. [`CommandError::Operation`]: no such machine; the file cannot be edited so that only
/// this machine changes. After an error the file is as it was.
pub(super) fn run(
    args: &MachineArgs,
    registry: &RegistrySource,
    now: u64,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    if let RegistrySource::Database(database) = registry {
        let from = match &args.action {
            RegistryAction::Add(add) => add.from.as_ref(),
            _ => None,
        };
        return match from {
            Some(from) => bulk::say_ids(out, &bulk::add_to_database(from, database, now)?),
            None => Err(CommandError::Usage(format!(
                "the machines stand in the database {registry}, and this command edits a file; name \
                 a gateway with --gateway, or a file with --registry"
            ))),
        };
    }
    match &args.action {
        RegistryAction::Add(add) => {
            let ids = add::add(add, args.gateway.machine_id.as_deref(), registry)?;
            bulk::say_ids(out, &ids)
        }
        RegistryAction::List { json } => {
            let registry = load(registry)?;
            let mut machines: Vec<&Machine> = registry.machines().map(AsRef::as_ref).collect();
            machines.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            say(out, &print::list(&machines, *json))
        }
        RegistryAction::Show { id, json } => {
            let loaded = load(registry)?;
            let machine = loaded.find(id).ok_or_else(|| unknown(id, registry))?;
            say(out, &print::one(machine, *json))
        }
        RegistryAction::Enable { id } => set_enabled(registry, id, true, out),
        RegistryAction::Disable { id } => set_enabled(registry, id, false, out),
        RegistryAction::Rotate(args) => rotate::rotate(args, registry, now, out),
        RegistryAction::Remove { id } => {
            let open = RegistryEdit::new(registry, EditedFile::Of(id))?;
            let machine = open.machine(id)?;
            let tombstone = Tombstone {
                id: machine.id.clone(),
                keys: (machine.keys.iter())
                    .map(|key| *key.public.as_bytes())
                    .collect(),
                at: now,
            };
            let text = edit::remove(open.text(), id)
                .and_then(|text| edit::add_tombstone(&text, &tombstone));
            open.put_with(text, id, None, Some(tombstone))?;
            say(out, &format!("{id}: removed\n"))
        }
    }
}

impl MachineArgs {
    /// The registry: named itself, or by the configuration.
    pub(super) fn registry(
        &self,
        environment: &Environment,
    ) -> Result<RegistrySource, CommandError> {
        if let Some(registry) = &self.registry {
            return Ok(RegistrySource::at(registry));
        }
        let file = self.config.find(environment).map_err(|error| {
            CommandError::Usage(format!("{error}, or the registry with --registry FILE"))
        })?;
        match config::load(&file, environment) {
            Ok(loaded) => Ok(loaded.config.registry.source),
            // Other mistakes need not keep anyone from disabling a machine.
            Err(mistakes) => config::registry_source(&file)
                .ok_or_else(|| CommandError::Configuration(mistakes.to_string())),
        }
    }
}

fn set_enabled(
    registry: &RegistrySource,
    id: &str,
    enabled: bool,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let word = if enabled { "enabled" } else { "disabled" };
    let open = RegistryEdit::new(registry, EditedFile::Of(id))?;
    let machine = open.machine(id)?;
    if machine.enabled == enabled {
        return say(out, &format!("{id}: {word} already\n"));
    }
    let expected = Machine {
        enabled,
        ..machine.clone()
    };
    let text = edit::set_enabled(open.text(), id, enabled);
    open.put(text, id, Some(&expected))?;
    say(out, &format!("{id}: {word}\n"))
}
