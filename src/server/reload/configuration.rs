//! Hot reload of the configuration, and of the credentials that it names.

use tracing::{info, warn};

use super::parts::ReloadedParts;
use super::result::{FileMistakes, ReloadFailure, ReloadResult, Trigger};
use crate::config::{self, Environment, Mistakes};
use crate::metrics::Reload;
use crate::registry::IdCase;

impl ReloadedParts {
    /// Reads the configuration again, and puts in force the settings that a running gateway can
    /// change. An operator's order reloads an unchanged configuration too: the names of its servers
    /// may have new addresses.
    pub(super) fn configuration(&self, trigger: Trigger) -> ReloadResult {
        let running = self.gateway.plan();
        let rejected = |mistakes: Mistakes| {
            let may_pass = mistakes.may_pass;
            self.metrics.config_reload(Reload::failed(may_pass));
            let text = "the configuration was not loaded; the last good one stays in force";
            ReloadFailure {
                text: format!("{text}\n{mistakes}"),
                may_pass,
            }
        };
        let file = &running.config.file;
        let text = config::text_of(file).map_err(rejected)?;
        if !trigger.is_asked() && config::digest(&text) == running.config.digest {
            return Ok(None);
        }
        let environment = Environment::of_process(self.clock.now().unix_seconds());
        let loaded = config::read(&text, file, &environment).map_err(rejected)?;
        (self.registry)
            .set_case(IdCase::of(&loaded.config))
            .map_err(|text| rejected(Mistakes::only(file, None, text)))?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let (config, waiting) = loaded.config.taken_over(&running.config);
        self.gateway.replace_plan(config);
        self.metrics.config_reload(Reload::Loaded);
        self.warn_of_missing_credentials();
        Ok(Some(match waiting[..] {
            [] => "the configuration was loaded".to_owned(),
            _ => format!(
                "the configuration was loaded, except for what needs a restart: {}",
                waiting.join(", ")
            ),
        }))
    }

    /// Reads the files of the credentials and of the assertion keys again. A missing or bad credential
    /// is no longer sent; after a mistake in a key the last good keys stay.
    pub(super) fn credentials(&self) -> ReloadResult {
        let (mut changed, mut mistakes) = (Vec::new(), FileMistakes::default());
        let plan = self.gateway.plan();
        if let Some(assertions) = plan.assertions() {
            match assertions.read_again() {
                Ok(false) => {}
                Ok(true) => changed.push("the keys of assertions".to_owned()),
                Err(error) => mistakes.add(
                    format!("assertion: {error}; the last good keys stay in force"),
                    error.may_pass,
                ),
            }
        }
        for active in plan.joiners() {
            match active.read_again() {
                Ok(false) => {}
                Ok(true) => changed.push(format!("the keys of the joiner {}", active.joiner.name)),
                Err(error) => mistakes.add(
                    format!(
                        "joiner {}: {error}; the last good keys stay in force",
                        active.joiner.name
                    ),
                    error.may_pass,
                ),
            }
        }
        for credential in plan.credentials() {
            match credential.read_again() {
                Ok(false) => {}
                Ok(true) => changed.push(credential.name().to_owned()),
                Err(error) => {
                    let (name, consequence) = (
                        credential.name(),
                        match credential.is_usable() {
                            true => "the last good one stays in force",
                            false => "requests that carry it get 503 upstream_credential",
                        },
                    );
                    mistakes.add(
                        format!("credential {name}: {error}; {consequence}"),
                        error.may_pass,
                    );
                }
            }
        }
        if !mistakes.lines.is_empty() && !changed.is_empty() {
            info!("credentials were loaded: {}", changed.join(", "));
        }
        mistakes.conclude()?;
        Ok((!changed.is_empty())
            .then(|| format!("credentials were loaded: {}", changed.join(", "))))
    }
}
