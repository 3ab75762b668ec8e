//! Logs once a minute which routes let unsigned requests pass, and how many passed: a migration is
//! not forgotten before it is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::config::instant;
use crate::gateway::Gateway;
use countersign_client::clock::Clock;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(60);

/// The migration routes, and the counts of the last look.
pub(super) struct MigrationRoutes {
    gateway: Arc<Gateway>,
    clock: Clock,
    seen: PassedCounts,
}

/// The requests that had passed at the last look, by the name of the route.
#[derive(Default)]
struct PassedCounts(HashMap<String, u64>);

/// A route that lets unsigned requests pass until a date.
struct MigrationRoute<'r> {
    route: &'r str,
    mode: &'static str,
    until: u64,
    /// Number of requests without a signature that have passed so far.
    passed: u64,
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
struct RouteNotice {
    route: String,
    mode: &'static str,
    until: u64,
    /// Requests without a signature since the last look; `None` if the date has come since then.
    passed: Option<u64>,
}

impl MigrationRoutes {
    pub(super) fn new(gateway: Arc<Gateway>, clock: Clock) -> MigrationRoutes {
        MigrationRoutes {
            gateway,
            clock,
            seen: PassedCounts::default(),
        }
    }

    /// Looks once a minute, until the handle is dropped.
    pub(super) fn start(mut self) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut looks = interval(EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                self.look().iter().for_each(say);
            }
        }))
    }

    fn look(&mut self) -> Vec<RouteNotice> {
        let plan = self.gateway.plan();
        let states = plan
            .unsigned_until()
            .map(|(route, mode, until)| MigrationRoute {
                route: &route.path,
                mode,
                until,
                passed: plan.unsigned(&route.path),
            });
        self.seen.compare(states, self.clock.now().unix_seconds())
    }
}

impl PassedCounts {
    /// The notices about these routes at `now`, in Unix seconds.
    fn compare<'r>(
        &mut self,
        states: impl Iterator<Item = MigrationRoute<'r>>,
        now: u64,
    ) -> Vec<RouteNotice> {
        let mut seen = HashMap::new();
        let mut lines = Vec::new();
        for state in states {
            let before = self.0.get(state.route).copied();
            let is_open = now < state.until;
            if !is_open && before.is_none() {
                continue; // it has been said, or was so at the start
            }
            if is_open {
                seen.insert(state.route.to_owned(), state.passed);
            }
            let since = before.unwrap_or(state.passed);
            lines.push(RouteNotice {
                route: state.route.to_owned(),
                mode: state.mode,
                until: state.until,
                passed: is_open.then(|| state.passed.saturating_sub(since)),
            });
        }
        self.0 = seen;
        lines
    }
}

fn say(line: &RouteNotice) {
    let RouteNotice {
        route, mode, until, ..
    } = line;
    let until = instant::to_text(*until);
    match line.passed {
        Some(passed) => warn!(
            route,
            mode,
            until,
            passed,
            "the route lets unsigned requests pass; `passed` is how many in the last minute"
        ),
        None => info!(route, mode, until, "the route enforces from now on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: u64 = 1_800_000_000;

    fn look(seen: &mut PassedCounts, passed: u64, now: u64) -> Vec<Option<u64>> {
        let state = MigrationRoute {
            route: "/v1",
            mode: "observe",
            until: UNTIL,
            passed,
        };
        let lines = seen.compare([state].into_iter(), now);
        lines.iter().map(|line| line.passed).collect()
    }

    #[test]
    fn each_look_says_how_many_passed_since_the_last() {
        let mut seen = PassedCounts::default();
        assert_eq!(look(&mut seen, 5, UNTIL - 180), [Some(0)]);
        assert_eq!(look(&mut seen, 12, UNTIL - 120), [Some(7)]);
        assert_eq!(look(&mut seen, 12, UNTIL - 60), [Some(0)]);
    }

    #[test]
    fn the_end_is_said_once() {
        let mut seen = PassedCounts::default();
        look(&mut seen, 5, UNTIL - 1);
        assert_eq!(look(&mut seen, 6, UNTIL), [None]);
        assert!(look(&mut seen, 6, UNTIL + 60).is_empty());
    }

    #[test]
    fn of_a_date_that_was_past_at_the_start_nothing_is_said() {
        assert!(look(&mut PassedCounts::default(), 0, UNTIL).is_empty());
    }

    #[test]
    fn a_route_that_the_configuration_opens_no_more_is_forgotten() {
        let mut seen = PassedCounts::default();
        look(&mut seen, 5, UNTIL - 120);
        assert!(seen.compare(std::iter::empty(), UNTIL - 60).is_empty());
        assert_eq!(look(&mut seen, 9, UNTIL - 30), [Some(0)], "as if new");
    }
}
