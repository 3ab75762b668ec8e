//! The health of one server, by the outcome of requests to it and by its health checks, where it
//! has any. Pure: time is an argument.

use std::time::Duration;

use crate::config::Health;

/// Consecutive failed requests after which a server is ejected. One may be an accident. Three have
/// cost enough: each waits up to two seconds for a connection.
const FAILURES: u32 = 3;

/// How long a server is ejected at first. Each trial that fails doubles it.
const FIRST_HOLD: Duration = Duration::from_secs(1);

/// Longest ejection: how late requests alone may notice a server that came back.
const LAST_HOLD: Duration = Duration::from_secs(30);

/// The health of one server.
#[derive(Debug, Default)]
pub(super) struct ServerHealth {
    /// Consecutive requests that failed.
    failures: u32,
    ejection: Option<Ejection>,
    /// Whether the server is unwell by its health checks.
    unwell: bool,
    /// Whether a check has ended.
    checked: bool,
    /// Consecutive checks that contradict `unwell`.
    contrary: u32,
}

#[derive(Debug)]
struct Ejection {
    hold: Duration,
    /// End of the ejection, on the monotonic clock. Then one request may try.
    until: Duration,
    /// Whether such a request is under way.
    trial: bool,
}

/// Preference of a server; best first. Unfit servers are tried last, never skipped: a request that
/// fails is better than one that was not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    /// In service, or due for a trial.
    Fit,
    /// Requests to it have failed, and it is not time to try again.
    Ejected,
    /// Its health checks fail.
    Unwell,
}

/// A change of whether the server is in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthChange {
    /// It is in service again.
    Back,
    /// It is out of service.
    Out,
}

impl ServerHealth {
    pub(super) fn fitness(&self, now: Duration) -> Fitness {
        match &self.ejection {
            _ if self.unwell => Fitness::Unwell,
            Some(ejection) if now < ejection.until => Fitness::Ejected,
            _ => Fitness::Fit,
        }
    }

    /// Whether it gets requests in turn.
    pub(super) fn in_service(&self) -> bool {
        !self.unwell && self.ejection.is_none()
    }

    /// Notes that a request is about to be sent. A trial is the only request until its end is
    /// reported. If the client leaves, no report comes; then the trial ends after its longest time.
    pub(super) fn chosen(&mut self, now: Duration, longest: Duration) {
        if let Some(ejection) = &mut self.ejection
            && ejection.until <= now
        {
            ejection.until = now + longest;
            ejection.trial = true;
        }
    }

    /// Notes an answer to a request.
    pub(super) fn answered(&mut self) -> Option<HealthChange> {
        let before = self.in_service();
        self.failures = 0;
        self.ejection = None;
        change(before, self.in_service())
    }

    /// Notes a request that could not be sent, or got no answer in time.
    pub(super) fn failed(&mut self, now: Duration) -> Option<HealthChange> {
        let before = self.in_service();
        self.failures = self.failures.saturating_add(1);
        match &mut self.ejection {
            Some(ejection) if ejection.trial => {
                let hold = (ejection.hold * 2).min(LAST_HOLD);
                self.ejection = Some(Ejection::begin(hold, now));
            }
            // Requests that were under way, or that had no other server to go to.
            Some(_) => {}
            None if self.failures >= FAILURES => {
                self.ejection = Some(Ejection::begin(FIRST_HOLD, now));
            }
            None => {}
        }
        change(before, self.in_service())
    }

    /// A health check has ended. The first one counts at once; a good one also makes the next
    /// trial due, so that a server that is back need not wait for the end of a long hold.
    pub(super) fn checked(
        &mut self,
        well: bool,
        now: Duration,
        health: &Health,
    ) -> Option<HealthChange> {
        let before = self.in_service();
        let needed = match well {
            _ if !self.checked => 1,
            true => health.healthy,
            false => health.unhealthy,
        };
        self.checked = true;
        self.contrary = match well == self.unwell {
            true => self.contrary.saturating_add(1),
            false => 0,
        };
        if self.contrary >= needed {
            self.unwell = !well;
            self.contrary = 0;
        }
        if let (true, Some(ejection)) = (well, &mut self.ejection)
            && !ejection.trial
        {
            ejection.until = now;
        }
        change(before, self.in_service())
    }

    /// Notes that checks have ended, so their results no longer count.
    pub(super) fn unchecked(&mut self) -> Option<HealthChange> {
        let before = self.in_service();
        (self.unwell, self.checked, self.contrary) = (false, false, 0);
        change(before, self.in_service())
    }
}

impl Ejection {
    fn begin(hold: Duration, now: Duration) -> Ejection {
        Ejection {
            hold,
            until: now + hold,
            trial: false,
        }
    }
}

fn change(before: bool, after: bool) -> Option<HealthChange> {
    match (before, after) {
        (false, true) => Some(HealthChange::Back),
        (true, false) => Some(HealthChange::Out),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
