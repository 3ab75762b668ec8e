//! New tokens that the check refuses. A role whose policies do not let tokens look themselves up
//! makes the check refuse every token. Each denial by policy would then end a good token, and each
//! retry would be a login.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use moka::future::Cache;

use super::token::MachineToken;
use super::{BackendLogin, MOST_TOKENS};
use crate::gateway::upstream::assertion::asserted_machine::AssertedMachine;

/// A token of this age or more has lived: it may have been revoked. A younger one has just been
/// granted.
const NEW: Duration = Duration::from_secs(5);

/// How long a new token that is refused stays in use: a machine whose token is dead waits for this
/// long, and a role that no check can judge makes one login in this time.
const HOLD: Duration = Duration::from_secs(1);

/// A doubt is forgotten after this time without a refusal.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// A machine's new token was refused: the check may be unable to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RefusedNewToken {
    /// When the token was granted, which tells it from its successors.
    granted: Duration,
    /// End of the hold, on the monotonic clock.
    until: Duration,
    /// Whether the backend told that it does not know the token.
    is_unknown: bool,
}

/// The consequence of a refusal for the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway::upstream) enum RefusedToken {
    /// It is dropped, and the next request logs in.
    Dropped,
    /// It is new, so the check cannot tell. It stays in use for this time.
    Held(Duration),
    /// It stays in use until its hold ends.
    StillHeld,
}

/// The doubts at one upstream, by machine.
pub(super) struct Doubts(Cache<AssertedMachine, RefusedNewToken>);

impl Doubts {
    pub(super) fn new() -> Doubts {
        let cache = Cache::builder().max_capacity(MOST_TOKENS);
        Doubts(cache.time_to_live(FORGOTTEN).build())
    }

    /// Whether a new token was refused lately.
    pub(super) fn any(&self) -> bool {
        self.0.iter().any(|(_, doubt)| !doubt.is_unknown)
    }
}

/// Judges the refusal of a token that was granted at `granted`, and the doubt from now on. A token that
/// the backend does not know (`is_unknown`) is dropped, also a new one; but its successor is held, so
/// that a machine makes one login more in this time at most.
fn judge(
    before: Option<RefusedNewToken>,
    granted: Duration,
    now: Duration,
    is_unknown: bool,
) -> (RefusedToken, Option<RefusedNewToken>) {
    match before {
        Some(doubt) if now < doubt.until => (RefusedToken::StillHeld, before),
        // It was refused before and after its hold, so it is dead, or nothing can tell.
        Some(doubt) if doubt.granted == granted => (RefusedToken::Dropped, before),
        _ if now.saturating_sub(granted) >= NEW => (RefusedToken::Dropped, before),
        _ => {
            let until = now + HOLD;
            let doubt = RefusedNewToken {
                granted,
                until,
                is_unknown,
            };
            let verdict = match is_unknown {
                true => RefusedToken::Dropped,
                false => RefusedToken::Held(HOLD),
            };
            (verdict, Some(doubt))
        }
    }
}

impl BackendLogin {
    /// Notes that the check refused the token, at `now` on the monotonic clock. A token that has
    /// lived, or that a check has accepted, is dropped. A new one stays in use: its machine's other
    /// requests may well be permitted.
    pub(in crate::gateway::upstream) async fn refused(
        &self,
        token: &Arc<MachineToken>,
        now: Duration,
    ) -> RefusedToken {
        let doubts = &self.doubts.0;
        let before = doubts.get(token.owner()).await;
        let (verdict, doubt) = match token.was_accepted.load(Ordering::Relaxed) {
            true => (RefusedToken::Dropped, None),
            false => judge(
                before,
                token.granted,
                now,
                token.is_unknown.load(Ordering::Relaxed),
            ),
        };
        match doubt {
            Some(doubt) if before != Some(doubt) => {
                doubts.insert(token.owner().clone(), doubt).await;
            }
            _ => {}
        }
        if verdict == RefusedToken::Dropped {
            self.drop_token(token).await;
        }
        verdict
    }

    /// Notes that the check accepted the token: the check can tell.
    pub(in crate::gateway::upstream) async fn accepted(&self, token: &Arc<MachineToken>) {
        token.was_accepted.store(true, Ordering::Relaxed);
        self.doubts.0.invalidate(token.owner()).await;
    }

    /// What to do where the check seems unable to tell.
    pub(super) fn check_in_doubt(&self) -> Option<&'static str> {
        self.doubts.any().then_some(CANNOT_TELL)
    }
}

/// The next step, in the log and at `/readyz`.
pub(in crate::gateway::upstream) const CANNOT_TELL: &str = "the check refuses a token that the backend has just granted, so it cannot tell a dead token from \
     a denial by policy: let the role's policies read auth/token/lookup-self, or set `check` of the \
     upstream to a path that every token may read";

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_token_that_has_lived_is_dropped_when_it_is_refused() {
        let (verdict, doubt) = judge(None, SECOND, SECOND + NEW, false);
        assert_eq!((verdict, doubt), (RefusedToken::Dropped, None));
    }

    #[test]
    fn a_new_token_stays_until_its_hold_ends_and_is_dropped_then() {
        let now = 10 * SECOND;
        let (verdict, doubt) = judge(None, now, now, false);
        assert_eq!(verdict, RefusedToken::Held(SECOND));
        let (verdict, same) = judge(doubt, now, now + SECOND / 2, false);
        assert_eq!((verdict, same), (RefusedToken::StillHeld, doubt));
        let (verdict, same) = judge(doubt, now, now + SECOND, false);
        assert_eq!((verdict, same), (RefusedToken::Dropped, doubt));
    }

    #[test]
    fn the_next_new_token_that_is_refused_is_held_for_as_long() {
        let (verdict, first) = judge(None, SECOND, SECOND, false);
        assert_eq!(verdict, RefusedToken::Held(HOLD));
        let (verdict, second) = judge(first, 3 * SECOND, 4 * SECOND, false);
        assert_eq!(verdict, RefusedToken::Held(HOLD));
        let (verdict, _) = judge(second, 3 * SECOND, 5 * SECOND, false);
        assert_eq!(verdict, RefusedToken::Dropped);
    }

    #[test]
    fn a_new_token_that_the_backend_does_not_know_is_dropped_and_its_successor_held() {
        let now = 10 * SECOND;
        let (verdict, first) = judge(None, now, now, true);
        assert_eq!(verdict, RefusedToken::Dropped);
        let successor = now + SECOND / 2;
        let (verdict, same) = judge(first, successor, successor, true);
        assert_eq!((verdict, same), (RefusedToken::StillHeld, first));
        let (verdict, _) = judge(first, successor, now + SECOND, true);
        assert_eq!(verdict, RefusedToken::Dropped);
    }
}
