//! The configuration file of a command: named by `--config`, by the environment, or found.

use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use crate::config::Environment;
use countersign_client::clock::Clock;

/// The environment variable that names the configuration in place of `--config`.
const VARIABLE: &str = "COUNTERSIGN_CONFIG";

/// The default places of a configuration, in the order of the search.
const PLACES: [&str; 2] = ["countersign.yaml", "/etc/countersign/countersign.yaml"];

/// The environment of this process, now.
pub(super) fn environment() -> Environment {
    Environment::of_process(Clock::system().now().unix_seconds())
}

/// The configuration that a command reads.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ConfigArgs {
    /// The gateway's configuration; default: $COUNTERSIGN_CONFIG, ./countersign.yaml,
    /// /etc/countersign/countersign.yaml
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
}

impl ConfigArgs {
    /// The configuration file: the named one, else the first that exists.
    ///
    /// # Errors
    ///
    /// [`CommandError::Usage`]: none is named, and none exists.
    pub(super) fn find(&self, environment: &Environment) -> Result<PathBuf, CommandError> {
        self.look_up(environment).ok_or_else(|| {
            CommandError::Usage(format!(
                "no configuration file found: neither ./{} nor {} exists. Name one with --config FILE or \
                 ${VARIABLE}",
                PLACES[0], PLACES[1]
            ))
        })
    }

    /// The same; `None` where none is named and none exists.
    pub(super) fn look_up(&self, environment: &Environment) -> Option<PathBuf> {
        search(self.config.as_deref(), environment, &PLACES)
    }
}

/// A named file need not exist: reading it then names the fault.
fn search(named: Option<&Path>, environment: &Environment, places: &[&str]) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    if let Ok(named) = (environment.variable)(VARIABLE) {
        return Some(named.into());
    }
    // A file whose state is unknown counts as existing: reading it then names the fault.
    let is_there = |place: &&&str| Path::new(place).try_exists().unwrap_or(true);
    places.iter().find(is_there).map(PathBuf::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::env::VarError;

    use super::*;

    fn environment(variable: fn(&str) -> Result<String, VarError>) -> Environment {
        Environment {
            variable,
            ..Environment::of_process(1_800_000_000)
        }
    }

    #[test]
    fn a_configuration_is_the_named_one_then_the_variables_then_the_first_that_is_there() {
        let none = environment(|_| Err(VarError::NotPresent));
        let variable = environment(|name| {
            assert_eq!(name, "COUNTERSIGN_CONFIG");
            Ok("of/variable.yaml".into())
        });
        let named = Some(Path::new("named.yaml"));
        let places = ["no/such/file.yaml", "Cargo.toml", "README.md"];
        assert_eq!(search(named, &variable, &places), named.map(Path::to_owned));
        let found = |environment| search(None, environment, &places);
        assert_eq!(found(&variable), Some("of/variable.yaml".into()));
        assert_eq!(found(&none), Some("Cargo.toml".into()));
        assert_eq!(search(None, &none, &places[..1]), None);
    }
}
