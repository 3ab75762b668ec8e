//! Counts once a minute the machines that end soon, so that an alert comes before their requests are
//! refused.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::Metrics;
use crate::registry::{Registry, RegistryStore};
use countersign_client::clock::Clock;

/// Time between two counts: each looks at every machine, a million of them in some milliseconds.
const EVERY: Duration = Duration::from_secs(60);

const DAY: u64 = 86_400;

/// The machines of a registry that end soon.
pub(super) struct ExpiringMachines {
    registry: Arc<RegistryStore>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl ExpiringMachines {
    pub(super) fn new(
        registry: Arc<RegistryStore>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> ExpiringMachines {
        ExpiringMachines {
            registry,
            metrics,
            clock,
        }
    }

    /// Counts now and once a minute, until the handle is dropped.
    pub(super) fn start(self) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut looks = interval(EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                let (registry, now) = (self.registry.current(), self.clock.now().unix_seconds());
                let counting = tokio::task::spawn_blocking(move || count(&registry, now));
                if let Ok((within_day, within_week)) = counting.await {
                    self.metrics.machines_expiring(within_day, within_week);
                }
            }
        }))
    }
}

/// The enabled machines that end within a day, and within a week, of `now` (Unix seconds).
fn count(registry: &Registry, now: u64) -> (usize, usize) {
    let mut counts = (0, 0);
    for machine in registry.machines().filter(|machine| machine.enabled) {
        let left = machine.expires.and_then(|end| end.checked_sub(now));
        if let Some(left @ 1..) = left {
            counts.0 += usize::from(left <= DAY);
            counts.1 += usize::from(left <= 7 * DAY);
        }
    }
    counts
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::config::instant;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ed25519_dalek::SigningKey;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_machine_that_ends_within_a_day_ends_within_a_week_too() {
        let mut text = "machines:\n".to_owned();
        for (number, (end, more)) in [
            (NOW, ""),
            (NOW + 1, ""),
            (NOW + 2, ", enabled: false"),
            (NOW + DAY, ""),
            (NOW + DAY + 1, ""),
            (NOW + 7 * DAY, ""),
            (NOW + 7 * DAY + 1, ""),
        ]
        .into_iter()
        .enumerate()
        {
            let seed = [u8::try_from(number + 1).unwrap(); 32];
            let key = STANDARD.encode(SigningKey::from_bytes(&seed).verifying_key().as_bytes());
            let end = instant::to_text(end);
            text += &format!(
                "  - {{ id: m{number}, public_keys: ['{key}'], expires: '{end}'{more} }}\n"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("machines.yaml");
        std::fs::write(&file, text).unwrap();
        let registry = Registry::load(&file, None).unwrap();
        assert_eq!(count(&registry, NOW), (2, 4));
    }
}
