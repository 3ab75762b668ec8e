//! Looks at the clock every second, and logs that it was set.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::metrics::Metrics;
use countersign_client::clock::{Clock, ClockSteps, LOOK_EVERY, Now};

/// The clock, and the metric that counts its steps.
pub(super) struct ClockWatch {
    clock: Clock,
    steps: ClockSteps,
    metrics: Arc<Metrics>,
}

impl ClockWatch {
    pub(super) fn new(clock: Clock, metrics: Arc<Metrics>) -> ClockWatch {
        let steps = ClockSteps::new(clock.now());
        ClockWatch {
            clock,
            steps,
            metrics,
        }
    }

    /// Watches the clock until the handle is dropped.
    pub(super) fn start(mut self) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut looks = interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                let now = self.clock.now();
                self.look(now);
            }
        }))
    }

    fn look(&mut self, now: Now) {
        if let Some(step) = self.steps.look(now) {
            self.metrics.clock_stepped();
            warn!("{step}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::time::Duration;

    fn counted(metrics: &Metrics) -> bool {
        metrics
            .render()
            .contains("\ncountersign_clock_steps_total 1\n")
    }

    #[test]
    fn a_step_is_counted_once() {
        let metrics = Arc::new(Metrics::new("", "").unwrap());
        let (clock, hands) = Clock::manual(1_800_000_000_000);
        let mut watch = ClockWatch::new(clock.clone(), Arc::clone(&metrics));
        hands.advance(Duration::from_secs(1));
        watch.look(clock.now());
        assert!(!counted(&metrics));
        hands.set(1_700_000_000_000);
        watch.look(clock.now());
        assert!(counted(&metrics));
        hands.advance(Duration::from_secs(1));
        watch.look(clock.now());
        assert!(counted(&metrics));
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_every_second_until_it_is_dropped() {
        let metrics = Arc::new(Metrics::new("", "").unwrap());
        let (clock, hands) = Clock::manual(1_800_000_000_000);
        let watching = ClockWatch::new(clock, Arc::clone(&metrics)).start();
        hands.set(1_800_000_100_000);
        tokio::time::sleep(LOOK_EVERY * 2).await;
        assert!(counted(&metrics));
        drop(watching);
        tokio::task::yield_now().await;
        hands.set(1_800_000_000_000);
        tokio::time::sleep(LOOK_EVERY * 2).await;
        assert!(counted(&metrics));
    }
}
