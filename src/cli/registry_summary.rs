//! The machines of a registry, as far as `check` reports them.

use super::process::runtime;
use crate::config::{DatabaseConfig, RegistrySource};
use crate::registry::{IdCase, Registry, read_database};
use countersign_client::clock::Clock;
use countersign_core::identity::Machine;

/// A registry in a summary.
#[derive(Debug, Default)]
pub(super) struct RegistrySummary {
    pub count: usize,
    /// The credentials that the machines name, each once.
    pub credentials: Vec<String>,
    /// The machines all of whose keys have expired.
    pub ended: Vec<String>,
}

/// Reads a registry, by the rule for the case of ids.
///
/// # Errors
///
/// One line for each of its mistakes.
pub(super) fn check_registry(
    source: &RegistrySource,
    case: IdCase,
) -> Result<RegistrySummary, Vec<String>> {
    if let RegistrySource::Database(database) = source {
        return check_database(database, case);
    }
    match Registry::load_source(source, None, case) {
        Ok(registry) => Ok(RegistrySummary::of(&registry)),
        Err(mistakes) => Err(mistakes.to_string().lines().map(str::to_owned).collect()),
    }
}

/// Reads the machines of a database, by the rule for the case of ids.
///
/// # Errors
///
/// One line for each mistake, or that the database is not available.
fn check_database(config: &DatabaseConfig, case: IdCase) -> Result<RegistrySummary, Vec<String>> {
    let runtime = runtime(1).map_err(|error| vec![error.to_string()])?;
    match runtime.block_on(read_database(config, case)) {
        Ok(registry) => Ok(RegistrySummary::of(&registry)),
        Err(error) => {
            let place = &config.address;
            let lines = error.to_string();
            Err(lines
                .lines()
                .map(|line| format!("{place}: {line}"))
                .collect())
        }
    }
}

impl RegistrySummary {
    fn of(registry: &Registry) -> RegistrySummary {
        let now = Clock::system().now().unix_seconds();
        let is_past = |end: Option<u64>| end.is_some_and(|end| end < now);
        let has_ended = |machine: &Machine| {
            let mut keys = machine.keys.iter();
            keys.all(|key| is_past(key.validity.not_after()))
        };
        let ended = registry.machines().filter(|machine| has_ended(machine));
        RegistrySummary {
            count: registry.len(),
            credentials: (registry.credentials().into_iter())
                .map(str::to_owned)
                .collect(),
            ended: ended.map(|machine| machine.id.to_string()).collect(),
        }
    }
}
