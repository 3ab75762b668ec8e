//! Counts of requests: how many, from when to when, and how many were served.

use countersign_core::refusal::Code;

/// A number of requests, and when they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// The number.
    pub requests: u64,
    /// The times of the first and the last, in Unix seconds.
    pub span: Option<(u64, u64)>,
}

impl Occurrences {
    pub(super) fn note(&mut self, at: u64) {
        self.requests = self.requests.saturating_add(1);
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
    }
}

/// Forwarded requests, and how many the backend served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The requests.
    pub seen: Occurrences,
    /// Requests with a recorded response.
    pub answered: u64,
    /// Requests with a status below 400: their credential is valid.
    pub served: u64,
}

impl Usage {
    pub(super) fn answer(&mut self, served: bool) {
        self.answered = self.answered.saturating_add(1);
        self.served = self.served.saturating_add(u64::from(served));
    }

    /// Whether all were answered and none was served: refusing them breaks no client.
    pub fn is_in_vain(&self) -> bool {
        self.served == 0 && self.answered >= self.seen.requests
    }
}

/// A count for each code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeCounts([u64; Code::ALL.len()]);

impl Default for CodeCounts {
    fn default() -> CodeCounts {
        CodeCounts([0; Code::ALL.len()])
    }
}

impl CodeCounts {
    pub(super) fn note(&mut self, code: Code) {
        let count = &mut self.0[code as usize];
        *count = count.saturating_add(1);
    }

    /// The codes with a count, the most frequent first.
    pub fn list(&self) -> Vec<(Code, u64)> {
        let counts = Code::ALL.into_iter().zip(self.0);
        let mut list: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
        list.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_holds_all_moments_in_whatever_order_they_come() {
        let mut seen = Occurrences::default();
        for at in [5, 3, 9, 4] {
            seen.note(at);
        }
        assert_eq!((seen.requests, seen.span), (4, Some((3, 9))));
    }

    #[test]
    fn in_vain_is_what_was_answered_throughout_and_never_well() {
        let mut usage = Usage::default();
        usage.seen.note(1);
        assert!(!usage.is_in_vain(), "the answer is not known");
        usage.answer(false);
        assert!(usage.is_in_vain());
        usage.seen.note(2);
        usage.answer(true);
        assert!(!usage.is_in_vain());
    }

    #[test]
    fn codes_are_listed_by_frequency_and_only_those_that_came_up() {
        let mut codes = CodeCounts::default();
        for code in [Code::ClockSkew, Code::MissingHeader, Code::ClockSkew] {
            codes.note(code);
        }
        assert_eq!(
            codes.list(),
            [(Code::ClockSkew, 2), (Code::MissingHeader, 1)]
        );
    }
}
