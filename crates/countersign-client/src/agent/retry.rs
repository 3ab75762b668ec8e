//! The retry policy. Pure: time and randomness are arguments.

use std::time::Duration;

use super::refused::Refused;
use countersign_core::refusal::Code;

/// Most attempts of one request. The deadline usually ends them earlier. This bounds a gateway that
/// always allows an immediate retry.
const MOST_TRIES: u32 = 8;

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause without a `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long one request is retried.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryPolicy {
    total: Duration,
}

/// The outcome of an attempt that may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryOutcome<'a> {
    /// No connection, so no byte was sent.
    Unsent,
    /// The gateway refused the request, and the backend did not get it.
    Refused(&'a Refused),
    /// 429 with this `Retry-After`: the gateway or the backend did not carry out the request.
    TooMany(Option<u64>),
}

impl RetryPolicy {
    pub(super) fn new(total: Duration) -> RetryPolicy {
        RetryPolicy { total }
    }

    /// The pause before the next attempt; `None` if there is none. `tries` attempts have been made,
    /// and `spent` has passed since the first began. `chance`, from 0 to 1, is jitter against a
    /// thundering herd.
    ///
    /// A request that may have reached the backend has no [`RetryOutcome`], so it is never retried.
    pub(super) fn pause(
        &self,
        outcome: RetryOutcome<'_>,
        tries: u32,
        spent: Duration,
        chance: f64,
    ) -> Option<Duration> {
        let asked = match outcome {
            RetryOutcome::Unsent => None,
            RetryOutcome::TooMany(retry_after) => retry_after,
            RetryOutcome::Refused(refused) => match refused.code.known() {
                Some(code) if is_temporary(code) => refused.retry_after,
                _ => return None,
            },
        };
        if tries >= MOST_TRIES {
            return None;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16));
        let own = doubled.min(LONGEST_PAUSE).mul_f64(0.5 + 0.5 * chance);
        let pause = asked.map_or(own, |seconds| Duration::from_secs(seconds).max(own));
        // A pause beyond the retry time would only delay the client's response.
        (spent.saturating_add(pause) < self.total).then_some(pause)
    }
}

/// Whether a refusal with this code is temporary, and the backend did not get the request.
fn is_temporary(code: Code) -> bool {
    match code {
        Code::ReplayUnavailable | Code::NotReady | Code::Throttled => true,
        Code::BadRequest
        | Code::BadTarget
        | Code::HeaderNotForwarded
        | Code::QueryNotAllowed
        | Code::MethodNotAllowed
        | Code::HeaderTooLarge
        | Code::BodyTooLarge
        | Code::RequestTimeout
        | Code::MissingHeader
        | Code::MalformedHeader
        | Code::ClockSkew
        | Code::BadSignature
        | Code::Replayed
        | Code::MachineDisabled
        | Code::MachineExpired
        | Code::NotPermitted
        | Code::NoRoute
        | Code::EnrolmentRefused
        | Code::Invalid
        | Code::NoMachine
        | Code::Exists
        // Also the answer to a change whose result is unknown.
        | Code::RegistryUnavailable
        | Code::AuditUnavailable
        | Code::Overloaded
        | Code::UpstreamCredential
        | Code::UpstreamUnreachable
        | Code::UpstreamTimeout
        | Code::UpstreamError
        | Code::Internal => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::refused::RefusalCode;
    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn patience() -> RetryPolicy {
        RetryPolicy::new(Duration::from_secs(20))
    }

    fn refused(code: &str, retry_after: Option<u64>) -> Refused {
        Refused {
            code: RefusalCode::parse(code),
            server_time: None,
            retry_after,
        }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for code in ["replay_unavailable", "not_ready", "throttled"] {
            let refused = refused(code, None);
            let pause = patience().pause(RetryOutcome::Refused(&refused), 1, NONE, 1.0);
            assert_eq!(pause, Some(FIRST_PAUSE), "{code}");
        }
        assert!(
            patience()
                .pause(RetryOutcome::Unsent, 1, NONE, 0.5)
                .is_some()
        );
        assert!(
            patience()
                .pause(RetryOutcome::TooMany(None), 1, NONE, 0.5)
                .is_some()
        );
    }

    #[test]
    fn every_other_refusal_is_the_last_word() {
        let codes = Code::ALL.map(Code::as_str);
        for code in codes.into_iter().chain(["of_a_newer_gateway"]) {
            if !matches!(code, "replay_unavailable" | "not_ready" | "throttled") {
                let refused = refused(code, Some(1));
                let pause = patience().pause(RetryOutcome::Refused(&refused), 1, NONE, 0.5);
                assert_eq!(pause, None, "{code}");
            }
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_vary_by_half() {
        let pause = |tries, chance| patience().pause(RetryOutcome::Unsent, tries, NONE, chance);
        assert_eq!(pause(2, 1.0), Some(2 * FIRST_PAUSE));
        assert_eq!(pause(2, 0.0), Some(FIRST_PAUSE));
        assert_eq!(pause(7, 1.0), Some(LONGEST_PAUSE));
    }

    #[test]
    fn retry_after_is_honoured_within_the_patience() {
        let asked = |seconds| {
            let refused = refused("replay_unavailable", Some(seconds));
            patience().pause(RetryOutcome::Refused(&refused), 1, NONE, 1.0)
        };
        assert_eq!(asked(15), Some(Duration::from_secs(15)));
        assert_eq!(asked(0), Some(FIRST_PAUSE));
        assert_eq!(asked(20), None);
        assert_eq!(asked(u64::MAX), None);
    }

    #[test]
    fn tries_and_time_end() {
        let nearly = Duration::from_millis(19_950);
        assert_eq!(patience().pause(RetryOutcome::Unsent, 1, nearly, 1.0), None);
        assert_eq!(
            patience().pause(RetryOutcome::Unsent, MOST_TRIES, NONE, 1.0),
            None
        );
    }
}
