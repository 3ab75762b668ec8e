//! The configuration, and the credentials that it names, read again.

use std::path::{Path, PathBuf};

use tracing::warn;

use super::{Reloading, Told, Why, bad, good};
use crate::config::{self, Environment, Mistakes};

impl Reloading {
    /// The files that say what requests are judged by, besides the registry.
    pub(super) fn configuration_files(&self) -> Vec<PathBuf> {
        let plan = self.gateway.plan();
        let credentials = plan.credentials().filter_map(|held| held.file());
        let configuration: &Path = &plan.config().file;
        [configuration]
            .into_iter()
            .chain(credentials)
            .map(Path::to_owned)
            .collect()
    }

    /// Reads the configuration again, and puts in force what a running gateway can take over of it.
    /// Where somebody asked, one that did not change is put in force once more: the names of its
    /// servers may have other addresses now.
    pub(super) fn configuration(&self, why: Why) -> Told {
        let _one_at_a_time = self.lock();
        let running = self.gateway.plan();
        let rejected = |mistakes: Mistakes| {
            self.metrics.config_reload(false);
            let text = "the configuration was not loaded; the last good one stays in force";
            bad(why, format!("{text}\n{mistakes}"))
        };
        let file = &running.config().file;
        let text = config::text_of(file).map_err(rejected)?;
        if !why.is_asked() && config::digest(&text) == running.config().digest {
            return Ok(None);
        }
        let environment = Environment::of_process(self.clock.now().unix_seconds());
        let loaded = config::read(&text, file, &environment).map_err(rejected)?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let (config, waiting) = loaded.config.taken_over(running.config());
        self.gateway.replace_plan(config);
        self.metrics.config_reload(true);
        self.warn_of_missing_credentials();
        let text = match waiting[..] {
            [] => "the configuration was loaded".to_owned(),
            _ => format!(
                "the configuration was loaded, except for what needs a restart: {}",
                waiting.join(", ")
            ),
        };
        Ok(Some(good(why, text)))
    }

    /// Reads the files of the credentials again. One that is missing or bad is not sent any more.
    pub(super) fn credentials(&self, why: Why) -> Told {
        let _one_at_a_time = self.lock();
        let (mut changed, mut wrong) = (Vec::new(), Vec::new());
        for held in self.gateway.plan().credentials() {
            match held.read_again() {
                Ok(false) => {}
                Ok(true) => changed.push(held.name().to_owned()),
                Err(error) => wrong.push(format!(
                    "credential {}: {error}; requests that carry it get 503 upstream_credential",
                    held.name()
                )),
            }
        }
        if !wrong.is_empty() {
            return Err(bad(why, wrong.join("\n")));
        }
        match changed[..] {
            [] => Ok(None),
            _ => Ok(Some(good(
                why,
                format!("credentials were loaded: {}", changed.join(", ")),
            ))),
        }
    }
}
