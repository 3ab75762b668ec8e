//! The TLS files of the listeners, read again.

use tracing::warn;

use super::{Reloading, Told, Why, Wrong};
use crate::metrics::Reload;

impl Reloading {
    /// Reads the TLS files of the listeners again.
    pub(super) fn tls(&self, why: Why) -> Told {
        let (mut loaded, mut wrong) = (0, Wrong::default());
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
                    wrong.add(
                        format!("a listener keeps its last good certificate: {error}"),
                        error.may_pass,
                    );
                }
            }
        }
        wrong.conclude()?;
        Ok(match loaded {
            0 if self.tls.is_empty() || !why.is_asked() => None,
            0 => Some("the certificates are as they were".to_owned()),
            _ => Some(format!(
                "certificates of {loaded} listeners were loaded; new connections get them"
            )),
        })
    }
}
