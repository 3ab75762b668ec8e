//! Pending responses: the response to a request is a later line of its own.

use std::collections::{HashMap, VecDeque};

/// Forwarded requests whose response has not been read yet.
#[derive(Debug, Default)]
pub(super) struct PendingResponses<T> {
    waiting: HashMap<String, T>,
    order: VecDeque<String>,
}

/// Most pending requests. A gateway has no more in flight than connections and streams. Beyond, the
/// oldest is given up and counts as not answered.
const MOST: usize = 65_536;

/// Longest request id, in bytes; those of the gateway have half of that. A request with a longer
/// one counts as not answered.
const LONGEST_ID: usize = 64;

impl<T> PendingResponses<T> {
    pub(super) fn ask(&mut self, request_id: &str, what: T) {
        if request_id.len() > LONGEST_ID {
            return;
        }
        if self.order.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
        self.order.push_back(request_id.to_owned());
        self.waiting.insert(request_id.to_owned(), what);
    }

    /// The request of this id, once.
    pub(super) fn answer(&mut self, request_id: &str) -> Option<T> {
        self.waiting.remove(request_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once() {
        let mut answers = PendingResponses::default();
        answers.ask("r1", 1);
        assert_eq!(answers.answer("r2"), None);
        assert_eq!(answers.answer("r1"), Some(1));
        assert_eq!(answers.answer("r1"), None);
    }

    #[test]
    fn of_more_than_can_wait_the_oldest_is_given_up() {
        let mut answers = PendingResponses::default();
        for n in 0..=MOST {
            answers.ask(&n.to_string(), n);
        }
        assert_eq!(answers.answer("0"), None);
        assert_eq!(answers.answer("1"), Some(1));
        assert_eq!(answers.answer(&MOST.to_string()), Some(MOST));
        assert!(answers.order.len() <= MOST && answers.waiting.len() <= MOST);
    }

    #[test]
    fn an_id_that_no_gateway_makes_is_not_kept() {
        let mut answers = PendingResponses::default();
        answers.ask(&"x".repeat(65), ());
        assert!(answers.waiting.is_empty() && answers.order.is_empty());
    }
}
