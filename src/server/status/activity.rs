//! The requests of the last hour: the counters of the metrics as they were at each minute.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::data::{MinuteStatus, RefusalStatus, TrafficStatus};
use crate::gateway::Gateway;
use crate::metrics::{Metrics, Outcome};
use countersign_core::refusal::Code;

/// Number of minutes that are remembered.
const MINUTES: usize = 60;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(60);

/// The counters of the last hour.
pub(crate) struct Activity {
    gateway: Arc<Gateway>,
    metrics: Arc<Metrics>,
    /// The oldest first.
    minutes: Mutex<VecDeque<RequestCounts>>,
}

/// The counters at one moment.
#[derive(Clone, Debug)]
pub(super) struct RequestCounts {
    pub(super) outcomes: [u64; Outcome::ALL.len()],
    pub(super) refusals: [u64; Code::ALL.len()],
}

impl Activity {
    pub(crate) fn new(gateway: Arc<Gateway>, metrics: Arc<Metrics>) -> Arc<Activity> {
        Arc::new(Activity {
            gateway,
            metrics,
            minutes: Mutex::default(),
        })
    }

    /// Notes the counters once a minute, until the handle is dropped.
    pub(crate) fn start(self: &Arc<Self>) -> AbortOnDropHandle<()> {
        let this = Arc::clone(self);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut looks = interval(EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                let counts = this.counts();
                let mut minutes = this.minutes();
                if minutes.len() == MINUTES {
                    minutes.pop_front();
                }
                minutes.push_back(counts);
            }
        }))
    }

    /// The requests of the last hour, and the counts of the last five minutes.
    pub(super) fn of_last_hour(&self, uptime: u64) -> (TrafficStatus, RequestCounts) {
        let mut counts: Vec<_> = self.minutes().iter().cloned().collect();
        counts.push(self.counts());
        let hour = (EVERY * MINUTES as u32).as_secs();
        (traffic(&counts, uptime.min(hour)), lately(&counts))
    }

    fn counts(&self) -> RequestCounts {
        RequestCounts {
            outcomes: self.gateway.plan().by_outcome(),
            refusals: self.metrics.refusals(),
        }
    }

    fn minutes(&self) -> MutexGuard<'_, VecDeque<RequestCounts>> {
        self.minutes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestCounts {
    /// What was counted since `before`. A reload may have dropped a route with its counts.
    fn since(&self, before: &RequestCounts) -> RequestCounts {
        let fewer = |now: u64, before: u64| now.saturating_sub(before);
        RequestCounts {
            outcomes: std::array::from_fn(|at| fewer(self.outcomes[at], before.outcomes[at])),
            refusals: std::array::from_fn(|at| fewer(self.refusals[at], before.refusals[at])),
        }
    }

    pub(super) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }
}

/// What was counted in the last five minutes.
fn lately(counts: &[RequestCounts]) -> RequestCounts {
    const LATELY: usize = 5;
    let end = &counts[counts.len() - 1];
    end.since(&counts[counts.len().saturating_sub(LATELY + 1)])
}

/// The requests between the first and the last of these counts, of which there is at least one.
fn traffic(counts: &[RequestCounts], seconds: u64) -> TrafficStatus {
    let all = counts[counts.len() - 1].since(&counts[0]);
    let minutes = counts.windows(2).map(|pair| {
        let of_minute = pair[1].since(&pair[0]);
        MinuteStatus {
            passed: of_minute.of(Outcome::Forwarded) + of_minute.of(Outcome::Observed),
            not_passed: of_minute.of(Outcome::Refused) + of_minute.of(Outcome::Failed),
        }
    });
    let mut refusals: Vec<_> = (Code::ALL.into_iter())
        .map(|code| RefusalStatus {
            code: code.as_str(),
            status: code.status(),
            count: all.refusals[code as usize],
        })
        .filter(|refusals| refusals.count > 0)
        .collect();
    refusals.sort_by_key(|refusals| std::cmp::Reverse(refusals.count));
    TrafficStatus {
        seconds,
        forwarded: all.of(Outcome::Forwarded),
        failed: all.of(Outcome::Failed),
        observed: all.of(Outcome::Observed),
        refused: all.of(Outcome::Refused),
        minutes: minutes.collect(),
        refusals,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(forwarded: u64, replayed: u64) -> RequestCounts {
        let mut counts = RequestCounts {
            outcomes: [0; Outcome::ALL.len()],
            refusals: [0; Code::ALL.len()],
        };
        counts.outcomes[Outcome::Forwarded as usize] = forwarded;
        counts.outcomes[Outcome::Refused as usize] = replayed;
        counts.refusals[Code::Replayed as usize] = replayed;
        counts
    }

    #[test]
    fn the_hour_is_what_was_counted_since_its_first_look() {
        let traffic = traffic(&[counts(10, 1), counts(12, 1), counts(12, 4)], 120);
        assert_eq!((traffic.forwarded, traffic.refused), (2, 3));
        let minutes: Vec<_> = (traffic.minutes.iter())
            .map(|minute| (minute.passed, minute.not_passed))
            .collect();
        assert_eq!(minutes, [(2, 0), (0, 3)]);
        let refusals: Vec<_> = (traffic.refusals.iter())
            .map(|refusals| (refusals.code, refusals.count))
            .collect();
        assert_eq!(refusals, [("replayed", 3)]);
    }

    #[test]
    fn the_last_five_minutes_are_apart() {
        let all: Vec<_> = (0..20).map(|n| counts(n, 0)).collect();
        assert_eq!(lately(&all).of(Outcome::Forwarded), 5);
        assert_eq!(lately(&all[..1]).of(Outcome::Forwarded), 0);
    }

    #[test]
    fn a_route_that_a_reload_drops_takes_no_number_below_zero() {
        let traffic = traffic(&[counts(10, 1), counts(3, 0)], 60);
        assert_eq!((traffic.forwarded, traffic.refused), (0, 0));
    }
}
