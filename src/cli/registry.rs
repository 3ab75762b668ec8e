//! `countersign registry`: a registry as a whole.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use super::configuration::ConfigArgs;
use super::process::runtime;
use super::registry_change::{by_command_line, text_of};
use super::terminal::say;
use crate::config::{self, DatabaseConfig, Environment, RegistrySource};
use crate::registry::IdCase;
use crate::registry::database::{Database, ImportMode, RegistryContents, Revision, WriteError};

/// Export or import a whole registry; migrate its database
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    after_help = "Example:
  countersign registry export --config countersign.yaml > fleet.yaml
  countersign registry import --config countersign.yaml --merge fleet.yaml

The database is the one that the configuration names."
)]
pub(super) struct RegistryArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The action.
    #[command(subcommand)]
    pub action: WholeAction,
}

/// An action on a whole registry.
#[derive(Debug, clap::Subcommand)]
pub(super) enum WholeAction {
    /// Export the registry as YAML: machines, groups and removed machines
    #[command(after_help = "Example:
  countersign registry export --registry machines.d > machines.yaml")]
    Export {
        /// A registry file or directory, in place of the configuration's registry
        #[arg(long, value_name = "FILE|DIR", conflicts_with = "config")]
        registry: Option<PathBuf>,
    },
    /// Import a registry into the database, in place of everything there
    #[command(after_help = "Example:
  countersign registry import --config countersign.yaml machines.yaml

It is one change: all or nothing. Gateways have it within two seconds.")]
    Import {
        /// A registry file or directory; - is standard input
        #[arg(value_name = "FILE|DIR|-")]
        from: PathBuf,
        /// Add to what is there; what differs from it is a mistake
        #[arg(long)]
        merge: bool,
    },
    /// Migrate the schema of the database to this version
    #[command(after_help = "Example:
  countersign registry migrate --config countersign.yaml

Run it before the first start with PostgreSQL, and after an update. SQLite migrates by itself.")]
    Migrate,
}

/// Runs the action at the time that `environment` says.
///
/// # Errors
///
/// [`CommandError::Usage`]: the configuration names no database. [`CommandError::Configuration`]:
/// the configuration, or what is to be imported, has mistakes. [`CommandError::Operation`]: the
/// database refuses, or is not available.
pub(super) fn run(
    args: &RegistryArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    match &args.action {
        WholeAction::Export { registry } => {
            let source = match registry {
                Some(path) => RegistrySource::at(path),
                None => args.source(environment)?.0,
            };
            say(out, &export(&source)?.to_yaml())
        }
        WholeAction::Import { from, merge } => {
            let contents = contents(from)?;
            let mode = match merge {
                true => ImportMode::Merge,
                false => ImportMode::Replace,
            };
            let (source, case) = args.source(environment)?;
            let revision = import(database(&source)?, case, &contents, mode, environment.now)?;
            let (machines, groups) = (contents.machines.len(), contents.groups.len());
            let removed = contents.removed.len();
            say(
                out,
                &format!(
                    "imported {machines} machines, {groups} groups and {removed} removed machines: \
                     revision {revision}\n"
                ),
            )
        }
        WholeAction::Migrate => {
            let (source, _) = args.source(environment)?;
            let migrated = runtime(1)?.block_on(Database::migrate(database(&source)?));
            let (before, after) = migrated.map_err(failed)?;
            say(
                out,
                &match before == after {
                    true => format!("the schema has version {after} already\n"),
                    false => format!("the schema was migrated from version {before} to {after}\n"),
                },
            )
        }
    }
}

impl RegistryArgs {
    /// The registry that the configuration names, and its rule for the case of ids.
    fn source(&self, environment: &Environment) -> Result<(RegistrySource, IdCase), CommandError> {
        let file = self.config.find(environment)?;
        let config = config::load(&file, environment)
            .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?
            .config;
        let case = IdCase::of(&config);
        Ok((config.registry.source, case))
    }
}

fn database(source: &RegistrySource) -> Result<&DatabaseConfig, CommandError> {
    match source {
        RegistrySource::Database(database) => Ok(database),
        source => Err(CommandError::Usage(format!(
            "the machines stand in {source}, not in a database; name one under `registry.database`"
        ))),
    }
}

/// The whole registry.
fn export(source: &RegistrySource) -> Result<RegistryContents, CommandError> {
    let RegistrySource::Database(config) = source else {
        return RegistryContents::read(source)
            .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()));
    };
    let exported = runtime(1)?.block_on(async { Database::open(config).await?.export().await });
    exported.map(|(contents, _)| contents).map_err(failed)
}

fn contents(from: &Path) -> Result<RegistryContents, CommandError> {
    let read = match from == Path::new("-") {
        true => {
            let (name, text) = text_of(from)?;
            RegistryContents::of_text(name, text)
        }
        false => RegistryContents::read(&RegistrySource::at(from)),
    };
    read.map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))
}

fn import(
    config: &DatabaseConfig,
    case: IdCase,
    contents: &RegistryContents,
    mode: ImportMode,
    now: u64,
) -> Result<Revision, CommandError> {
    let author = by_command_line(now)?;
    let imported = runtime(1)?.block_on(async {
        let database = Database::open(config).await?;
        database.set_case(case);
        database.import(contents, mode, &author).await
    });
    imported.map_err(failed)
}

/// A change that was not made.
fn failed(error: WriteError) -> CommandError {
    CommandError::Operation(error.to_string())
}
