//! The requests of a route, and whether the route can enforce signatures.

use super::usage::{CodeCounts, Occurrences, Usage};

/// Requests on one route, by how they were authenticated.
#[derive(Clone, Debug, Default)]
pub struct RouteUse {
    /// Accepted with a signature.
    pub signed: Occurrences,
    /// Forwarded with a bearer credential, where the route takes those until a date.
    pub bearer: Usage,
    /// Forwarded because the route is observed; enforcing would have refused them.
    pub observed: Usage,
    /// The codes it would have refused them with.
    pub observed_codes: CodeCounts,
    /// Observed requests with a bearer credential.
    pub observed_with_token: u64,
    /// Forwarded on an open route.
    pub open: Occurrences,
    /// Refused.
    pub refused: Occurrences,
    /// The codes.
    pub refused_codes: CodeCounts,
}

/// Whether a route can enforce signatures, by its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationStatus {
    /// It is an open route, without authentication.
    Open,
    /// No request passed that shows whether any would be refused.
    Silent,
    /// All requests that passed were signed.
    Clear,
    /// The backend refused every unsigned request that passed: their credentials are invalid.
    Failing,
    /// Requests pass that would be refused.
    NotYet,
}

impl RouteUse {
    /// It errs towards [`MigrationStatus::NotYet`]: a request without a recorded response counts as
    /// served. So does a request that passed while the route was open, unless the route always was.
    pub fn verdict(&self) -> MigrationStatus {
        let tried = [&self.bearer, &self.observed];
        let open = self.open.requests;
        let moves = self.signed.requests > 0 || self.unsigned() > open;
        if tried.iter().any(|usage| !usage.is_in_vain()) || (open > 0 && moves) {
            MigrationStatus::NotYet
        } else if open > 0 {
            MigrationStatus::Open
        } else if self.unsigned() > 0 {
            MigrationStatus::Failing
        } else if self.signed.requests > 0 {
            MigrationStatus::Clear
        } else {
            MigrationStatus::Silent
        }
    }

    /// Requests that would have been refused, had the route enforced.
    pub fn unsigned(&self) -> u64 {
        let (bearer, observed) = (self.bearer.seen.requests, self.observed.seen.requests);
        (bearer.saturating_add(observed)).saturating_add(self.open.requests)
    }

    /// The last of them, in Unix seconds.
    pub fn last_unsigned(&self) -> Option<u64> {
        let spans = [self.bearer.seen, self.observed.seen, self.open].map(|seen| seen.span);
        spans.into_iter().flatten().map(|(_, last)| last).max()
    }
}

impl MigrationStatus {
    /// The word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            MigrationStatus::Open => "open",
            MigrationStatus::Silent => "silent",
            MigrationStatus::Clear => "clear",
            MigrationStatus::Failing => "failing",
            MigrationStatus::NotYet => "not_yet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> RouteUse {
        let mut route = RouteUse::default();
        route.signed.note(1);
        route
    }

    #[test]
    fn a_route_without_a_request_tells_nothing() {
        let mut route = RouteUse::default();
        assert_eq!(route.verdict(), MigrationStatus::Silent);
        route.refused.note(1);
        assert_eq!(route.verdict(), MigrationStatus::Silent);
    }

    #[test]
    fn a_route_on_which_all_was_signed_is_clear() {
        assert_eq!(signed().verdict(), MigrationStatus::Clear);
    }

    #[test]
    fn one_bearer_request_that_was_served_is_enough_to_wait() {
        let mut route = signed();
        route.bearer.seen.note(2);
        route.bearer.answer(true);
        assert_eq!(route.verdict(), MigrationStatus::NotYet);
    }

    #[test]
    fn one_observed_request_without_a_known_answer_is_enough_to_wait() {
        let mut route = signed();
        route.observed.seen.note(2);
        assert_eq!(route.verdict(), MigrationStatus::NotYet);
    }

    #[test]
    fn what_the_backend_refused_each_time_need_not_be_waited_for() {
        let mut route = signed();
        route.bearer.seen.note(2);
        route.bearer.answer(false);
        assert_eq!(route.verdict(), MigrationStatus::Failing);
        route.observed.seen.note(3);
        assert_eq!(route.verdict(), MigrationStatus::NotYet);
    }

    #[test]
    fn an_open_route_is_none_to_move() {
        let mut route = RouteUse::default();
        route.open.note(1);
        assert_eq!(route.verdict(), MigrationStatus::Open);
    }

    #[test]
    fn a_route_that_was_open_for_a_time_is_not_clear() {
        let mut route = signed();
        route.open.note(2);
        assert_eq!(route.verdict(), MigrationStatus::NotYet);
        assert_eq!((route.last_unsigned(), route.unsigned()), (Some(2), 1));
    }

    #[test]
    fn the_last_unsigned_request_is_the_later_of_both_kinds() {
        let mut route = signed();
        assert_eq!(route.last_unsigned(), None);
        route.bearer.seen.note(7);
        route.observed.seen.note(5);
        assert_eq!((route.last_unsigned(), route.unsigned()), (Some(7), 2));
    }
}
