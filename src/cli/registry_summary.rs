//! The machines of a registry, as far as `check` reports them.

use crate::config::RegistrySource;
use crate::registry::{IdCase, Registry};
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
    let now = Clock::system().now().unix_seconds();
    let is_past = |end: Option<u64>| end.is_some_and(|end| end < now);
    let has_ended = |machine: &Machine| {
        machine
            .keys
            .iter()
            .all(|key| is_past(key.validity.not_after()))
    };
    match Registry::load_source(source, None, case) {
        Ok(registry) => Ok(RegistrySummary {
            count: registry.len(),
            credentials: registry
                .credentials()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            ended: registry
                .machines()
                .filter(|machine| has_ended(machine))
                .map(|machine| machine.id.to_string())
                .collect(),
        }),
        Err(mistakes) => Err(mistakes.to_string().lines().map(str::to_owned).collect()),
    }
}
