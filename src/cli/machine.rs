//! `countersign machine`: looks at the registry file, and edits it so that everything else in it stays as it is.

mod add;
mod print;
mod rotate;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use super::configuration::ConfigArgs;
use crate::auth::identity::Machine;
use crate::registry::edit::{self, CannotEdit};
use crate::registry::replace::Held;
use crate::registry::{Change, Registry, Tombstone};

pub(in crate::cli) use add::AddArgs;
pub(in crate::cli) use rotate::RotateArgs;

/// Lists the machines of a registry file, or edits it: comments and layout stay, the file is replaced in one
/// step, and a running gateway takes it up within seconds.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    after_help = "Example:
  countersign machine list --registry machines.yaml
  countersign machine disable --registry machines.yaml web-1"
)]
pub(super) struct MachineArgs {
    /// The registry file
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "config")]
    pub registry: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the registry.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// Adds a machine and prints its id
    Add(AddArgs),
    /// Lists all machines
    #[command(after_help = "Example:
  countersign machine list --registry machines.yaml --json | jq -r '.[] | select(.enabled) | .id'")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Shows one machine, with its keys
    #[command(after_help = "Example:
  countersign machine show --registry machines.yaml web-1")]
    Show {
        /// Its id
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Lets a machine act again
    #[command(after_help = "Example:
  countersign machine enable --registry machines.yaml web-1")]
    Enable {
        /// Its id
        id: String,
    },
    /// Refuses every request of a machine, and keeps its entry
    #[command(after_help = "Example:
  countersign machine disable --registry machines.yaml web-1")]
    Disable {
        /// Its id
        id: String,
    },
    /// Adds a new key, beside the old ones for a while
    Rotate(RotateArgs),
    /// Takes a machine out of the file. Its id and keys stay there under `removed`: nobody else gets them
    #[command(after_help = "Example:
  countersign machine remove --registry machines.yaml web-1")]
    Remove {
        /// Its id
        id: String,
    },
}

/// Does it to `registry`, the file that `--registry` or `--config` came to, at `now` (Unix seconds).
///
/// # Errors
///
/// [`Failure::Configuration`]: the registry has mistakes. [`Failure::Usage`]: an argument is wrong.
/// [`Failure::Operation`]: no such machine; the file cannot be edited so that only this machine changes. After an
/// error the file is as it was.
pub(super) fn run(
    args: &MachineArgs,
    registry: &Path,
    now: u64,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match &args.action {
        Action::Add(add) => {
            let id = add::add(add, registry)?;
            say(out, &format!("{id}\n"))
        }
        Action::List { json } => {
            let registry = load(registry)?;
            let mut machines: Vec<&Machine> = registry.machines().map(AsRef::as_ref).collect();
            machines.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            say(out, &print::list(&machines, *json))
        }
        Action::Show { id, json } => {
            let loaded = load(registry)?;
            let machine = loaded.find(id).ok_or_else(|| unknown(id, registry))?;
            say(out, &print::one(machine, *json))
        }
        Action::Enable { id } => set_enabled(registry, id, true, out),
        Action::Disable { id } => set_enabled(registry, id, false, out),
        Action::Rotate(args) => rotate::rotate(args, registry, now, out),
        Action::Remove { id } => {
            let open = Open::new(registry)?;
            let machine = open.machine(id)?;
            let tombstone = Tombstone {
                id: machine.id.clone(),
                keys: (machine.keys.iter())
                    .map(|key| *key.public.as_bytes())
                    .collect(),
                at: now,
            };
            let text =
                edit::remove(open.held.text(), id).and_then(|text| edit::bury(&text, &tombstone));
            open.put_with(text, id, None, Some(tombstone))?;
            say(out, &format!("{id}: removed\n"))
        }
    }
}

fn set_enabled(
    registry: &Path,
    id: &str,
    enabled: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let word = if enabled { "enabled" } else { "disabled" };
    let open = Open::new(registry)?;
    let machine = open.machine(id)?;
    if machine.enabled == enabled {
        return say(out, &format!("{id}: {word} already\n"));
    }
    let expected = Machine {
        enabled,
        ..machine.clone()
    };
    let text = edit::set_enabled(open.held.text(), id, enabled);
    open.put(text, id, Some(&expected))?;
    say(out, &format!("{id}: {word}\n"))
}

/// A registry file that is being edited.
struct Open<'p> {
    path: &'p Path,
    held: Held,
    before: Registry,
}

impl Open<'_> {
    fn new(path: &Path) -> Result<Open<'_>, Failure> {
        let held = Held::take(path).map_err(|error| cannot_open(path, &error))?;
        let before = Registry::from_bytes(path, held.text().as_bytes(), None)
            .map_err(|mistakes| Failure::Configuration(mistakes.to_string()))?;
        Ok(Open { path, held, before })
    }

    fn machine(&self, id: &str) -> Result<&Machine, Failure> {
        let machine = self.before.find(id).ok_or_else(|| unknown(id, self.path))?;
        Ok(machine)
    }

    /// Puts the edited text in place, if it is a good registry in which the machine `id` is as `expected` and
    /// nothing else has changed. An edit goes by indentation, so it is not believed before that.
    fn put(
        self,
        text: Result<String, CannotEdit>,
        id: &str,
        expected: Option<&Machine>,
    ) -> Result<(), Failure> {
        self.put_with(text, id, expected, None)
    }

    /// The same, with one machine more among those that were removed.
    fn put_with(
        self,
        text: Result<String, CannotEdit>,
        id: &str,
        expected: Option<&Machine>,
        buried: Option<Tombstone>,
    ) -> Result<(), Failure> {
        let nothing_written = |why: String| {
            Failure::Operation(format!(
                "{}: nothing was written: {why}",
                self.path.display()
            ))
        };
        let text = text.map_err(|error| nothing_written(error.to_string()))?;
        let after = Registry::from_bytes(self.path, text.as_bytes(), Some(&self.before)).map_err(
            |mistakes| nothing_written(format!("the result would be wrong:\n{mistakes}")),
        )?;
        let as_expected = after.find(id).map(AsRef::as_ref) == expected;
        let others = self
            .before
            .removed()
            .iter()
            .chain(&buried)
            .eq(after.removed())
            && self.before.groups() == after.groups()
            && Change::between(&self.before, &after).touched() == 1;
        if !as_expected || !others {
            return Err(nothing_written(format!(
                "in the layout of this file more than the machine {id} would change; edit it by hand"
            )));
        }
        let path = self.path;
        self.held.replace(&text).map_err(|error| {
            Failure::Operation(format!("{} cannot be replaced: {error}", path.display()))
        })
    }
}

fn load(path: &Path) -> Result<Registry, Failure> {
    Registry::load(path, None).map_err(|mistakes| Failure::Configuration(mistakes.to_string()))
}

fn cannot_open(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::Operation(match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{path}: there is no such file; to start a registry: echo 'machines: []' > {path}"
        ),
        io::ErrorKind::WouldBlock => {
            format!("{path}: somebody else is editing it; try again when that is done")
        }
        _ => format!("{path} cannot be opened for editing: {error}"),
    })
}

fn unknown(id: &str, registry: &Path) -> Failure {
    Failure::Operation(format!(
        "{}: there is no machine {id:?}; `countersign machine list` shows those there are",
        registry.display()
    ))
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes())
        .map_err(|error| Failure::Operation(format!("cannot print: {error}")))
}
