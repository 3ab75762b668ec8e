//! Hot reload of the registry.

use std::sync::Arc;

use tracing::warn;

use super::parts::ReloadedParts;
use super::result::{ReloadFailure, ReloadResult, Trigger};
use crate::audit::RegistryRecord;
use crate::metrics::Reload;
use crate::registry::{Change, Losses};

impl ReloadedParts {
    /// Reads the registry again and puts it in force.
    pub(super) fn registry(&self, trigger: Trigger, losses: Losses) -> ReloadResult {
        let known = self.registry.current().digest();
        let change = self.registry.reload(losses).map_err(|mistakes| {
            let may_pass = mistakes.may_pass;
            self.metrics.registry_not_loaded(Reload::failed(may_pass));
            let text = "the registry was not loaded; the last good one stays in force";
            ReloadFailure {
                text: format!("{text}\n{mistakes}"),
                may_pass,
            }
        })?;
        if change.digest == known {
            // The metric counts the attempt. An audit record would claim a change.
            if trigger == Trigger::Start {
                return Ok(None);
            }
            let now = self.clock.now().unix_seconds();
            self.metrics.registry_loaded(change.machines, now);
            return Ok(Some("the registry has not changed".into()));
        }
        self.put_into_effect(&change);
        Ok(Some(format!(
            "the registry was loaded: {}",
            counts(&change)
        )))
    }

    /// What follows from a registry that has come into force.
    pub(super) fn put_into_effect(&self, change: &Change) {
        self.report(change);
        let registry = self.registry.current();
        for login in self.gateway.plan().logins() {
            let registry = Arc::clone(&registry);
            login.keep_only(move |machine| {
                let known = registry.find(machine.id.as_str());
                known.is_some_and(|known| Arc::ptr_eq(known, machine))
            });
        }
        self.warn_of_missing_credentials();
        self.warn_of_shared_identities();
    }

    /// Warns of credentials that machines name and that the configuration lacks.
    pub(super) fn warn_of_missing_credentials(&self) {
        let (registry, plan) = (self.registry.current(), self.gateway.plan());
        for credential in registry.credentials() {
            if !plan.has_credential(credential) {
                warn!(
                    credential,
                    "machines name a credential that is not among `credentials`: their requests \
                     get 503 upstream_credential"
                );
            }
        }
    }

    /// Records that a registry has come into force.
    pub(super) fn report(&self, change: &Change) {
        let now = self.clock.now();
        self.metrics
            .registry_loaded(change.machines, now.unix_seconds());
        for machine in &change.removed {
            self.metrics.machine_removed(machine);
        }
        for machine in &change.keys_changed {
            self.metrics.machine_keys_changed(machine);
        }
        let registry = self.registry.current();
        let with_keys = change.added.iter().chain(&change.keys_changed);
        let keys: Vec<_> = with_keys
            .filter_map(|id| registry.find(id.as_str()).cloned())
            .collect();
        self.audit.registry_loaded(&RegistryRecord {
            wall_ms: now.wall_ms,
            digest: &change.digest,
            machines: change.machines,
            added: &change.added,
            removed: &change.removed,
            keys_changed: &change.keys_changed,
            changed: &change.otherwise_changed,
            keys: &keys,
            operators: false,
        });
    }
}

/// The counts of a change, for the log.
pub(super) fn counts(change: &Change) -> String {
    format!(
        "{} machines, {} added, {} removed, {} with other keys, {} otherwise changed",
        change.machines,
        change.added.len(),
        change.removed.len(),
        change.keys_changed.len(),
        change.otherwise_changed.len()
    )
}
