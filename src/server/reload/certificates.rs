//! Hot reload of the listeners' TLS files.

use tracing::warn;

use super::parts::ReloadedParts;
use super::result::{FileMistakes, ReloadResult, Trigger};
use crate::metrics::Reload;

impl ReloadedParts {
    /// Reads the TLS files of the listeners again.
    pub(super) fn tls(&self, trigger: Trigger) -> ReloadResult {
        let (mut loaded, mut mistakes) = (0, FileMistakes::default());
        for tls in &self.tls {
            match tls.reload() {
                Ok(false) => {}
                Ok(true) => {
                    self.metrics.tls_reload(Reload::Loaded);
                    tls.show(&self.metrics);
                    for warning in tls.warnings(self.clock.now().unix_seconds()) {
                        warn!("{warning}");
                    }
                    loaded += 1;
                }
                Err(error) => {
                    self.metrics.tls_reload(Reload::failed(error.may_pass));
                    mistakes.add(
                        format!("a listener keeps its last good certificate: {error}"),
                        error.may_pass,
                    );
                }
            }
        }
        mistakes.conclude()?;
        Ok(match loaded {
            0 if self.tls.is_empty() || !trigger.is_asked() => None,
            0 => Some("the certificates have not changed".to_owned()),
            _ => Some(format!(
                "the certificates of {loaded} listeners were loaded; new connections use them"
            )),
        })
    }
}
