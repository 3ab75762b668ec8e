//! Hot reload of the operators.

use tracing::warn;

use super::parts::ReloadedParts;
use super::result::{ReloadFailure, ReloadResult, Trigger};
use crate::audit::RegistryRecord;
use crate::metrics::Reload;
use crate::registry::Change;

impl ReloadedParts {
    /// Reads the operators again and puts them in force.
    pub(super) fn operators(&self, trigger: Trigger) -> ReloadResult {
        let Some(operators) = &self.operators else {
            return Ok(None);
        };
        let known = operators.current().digest();
        let change = operators
            .reload(&self.registry.current())
            .map_err(|mistakes| {
                let may_pass = mistakes.may_pass;
                self.metrics.config_reload(Reload::failed(may_pass));
                let text = "the operators were not loaded; the last good ones stay in force";
                ReloadFailure {
                    text: format!("{text}\n{mistakes}"),
                    may_pass,
                }
            })?;
        if change.digest == known {
            let text = || "the operators have not changed".to_owned();
            return Ok(trigger.is_asked().then(text));
        }
        self.metrics.config_reload(Reload::Loaded);
        self.report_operators(&change);
        Ok(Some(format!(
            "the operators were loaded: {}, {} added, {} removed, {} with other keys, {} otherwise \
             changed",
            change.machines,
            change.added.len(),
            change.removed.len(),
            change.keys_changed.len(),
            change.otherwise_changed.len()
        )))
    }

    /// Records that operators have come into force.
    pub(super) fn report_operators(&self, change: &Change) {
        let Some(operators) = &self.operators else {
            return;
        };
        let registry = operators.current();
        let with_keys = change.added.iter().chain(&change.keys_changed);
        let keys: Vec<_> = with_keys
            .filter_map(|id| registry.find(id.as_str()).cloned())
            .collect();
        self.audit.registry_loaded(&RegistryRecord {
            wall_ms: self.clock.now().wall_ms,
            digest: &change.digest,
            machines: change.machines,
            added: &change.added,
            removed: &change.removed,
            keys_changed: &change.keys_changed,
            changed: &change.otherwise_changed,
            keys: &keys,
            operators: true,
        });
    }

    /// Warns of operators that have become machines, too, by a change of the machines.
    pub(super) fn warn_of_shared_identities(&self) {
        if let Some(operators) = &self.operators {
            for text in operators.shared_with(&self.registry.current()) {
                warn!("{text}");
            }
        }
    }
}
