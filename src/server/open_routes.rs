//! Says once a minute which routes let requests pass that nobody signed, and how many did: a state
//! to get out of, and not to forget.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::instant;
use crate::gateway::Gateway;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(60);

/// The open routes as they were last seen.
pub(super) struct OpenRoutes {
    gateway: Arc<Gateway>,
    clock: Clock,
    /// How many requests had passed, by the name of the route.
    seen: HashMap<String, u64>,
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    route: String,
    mode: &'static str,
    until: u64,
    /// Requests without a signature since the last look; `None` where the date has come since then.
    passed: Option<u64>,
}

impl OpenRoutes {
    pub(super) fn new(gateway: Arc<Gateway>, clock: Clock) -> OpenRoutes {
        OpenRoutes {
            gateway,
            clock,
            seen: HashMap::new(),
        }
    }

    /// Looks from now on, until what it returns is dropped.
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

    fn look(&mut self) -> Vec<Line> {
        let now = self.clock.now().unix_seconds();
        let plan = self.gateway.plan();
        let mut seen = HashMap::new();
        let mut lines = Vec::new();
        for (route, mode, until) in plan.open_until() {
            let before = self.seen.get(&route.path).copied();
            let is_open = now < until;
            if !is_open && before.is_none() {
                continue; // it has been said, or was so at the start
            }
            let count = plan.unsigned(&route.path);
            if is_open {
                seen.insert(route.path.clone(), count);
            }
            lines.push(Line {
                route: route.path.clone(),
                mode,
                until,
                passed: is_open.then(|| count - before.unwrap_or(count)),
            });
        }
        self.seen = seen;
        lines
    }
}

fn say(line: &Line) {
    let Line {
        route, mode, until, ..
    } = line;
    let until = instant::to_text(*until);
    match line.passed {
        Some(passed) => warn!(
            route,
            mode,
            until,
            passed,
            "the route lets requests pass that nobody signed; `passed` is how many in the last minute"
        ),
        None => info!(route, mode, until, "the route enforces from now on"),
    }
}
