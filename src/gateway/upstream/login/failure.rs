//! Failed logins: their causes, what to do about them, and the log of them.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tracing::{info, warn};

use crate::metrics::LoginResult;

/// Why a machine has no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoginFailure {
    /// The role is that of the machine's group, and the machine is in none.
    NoGroup,
    /// No assertion could be made.
    NoAssertion,
    /// Too many logins are in progress.
    Busy,
    /// No server accepts a connection, or the connection broke.
    Unreachable,
    /// The backend did not answer in time.
    TimedOut,
    /// The backend refused the login, perhaps with its reason.
    Refused(StatusCode, Option<String>),
    /// The backend answered with a status that is no refusal.
    Unavailable(StatusCode),
    /// The answer holds no token.
    NoToken,
    /// The token has a limited number of uses.
    LimitedUses,
    /// The machine was changed in the registry, or removed from it, during the login.
    MachineChanged,
}

impl LoginFailure {
    pub(super) fn result(&self) -> LoginResult {
        match self {
            LoginFailure::Refused(..) => LoginResult::Refused,
            LoginFailure::Busy
            | LoginFailure::Unreachable
            | LoginFailure::TimedOut
            | LoginFailure::Unavailable(_) => LoginResult::Unavailable,
            LoginFailure::NoGroup
            | LoginFailure::NoAssertion
            | LoginFailure::NoToken
            | LoginFailure::LimitedUses
            | LoginFailure::MachineChanged => LoginResult::Unusable,
        }
    }

    /// The cause alone.
    pub(super) fn cause(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            LoginFailure::NoGroup => "the machine is in no group",
            LoginFailure::NoAssertion => "no assertion could be made",
            LoginFailure::Busy => "too many logins are in progress",
            LoginFailure::Unreachable => "no server of the upstream answers",
            LoginFailure::TimedOut => "the backend did not answer in time",
            LoginFailure::Refused(status, None) => {
                return format!("the backend refused with {}", status.as_u16()).into();
            }
            LoginFailure::Refused(status, Some(reason)) => {
                return format!("the backend refused with {} ({reason})", status.as_u16()).into();
            }
            LoginFailure::Unavailable(status) => {
                return format!("the backend answered with {}", status.as_u16()).into();
            }
            LoginFailure::NoToken => "the answer to the login holds no token",
            LoginFailure::LimitedUses => "the token has a limited number of uses",
            LoginFailure::MachineChanged => {
                "the machine was changed in the registry during its login"
            }
        })
    }
}

/// What failed, its cause and the next step.
impl fmt::Display for LoginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = match self {
            LoginFailure::NoGroup => {
                ", which would be its role: name one in `groups` of its registry entry"
            }
            LoginFailure::NoAssertion => ": the system gives no random bytes",
            LoginFailure::Busy => {
                ", so the backend is slow or was just restarted; the client's next try logs in"
            }
            LoginFailure::Unreachable => ": is the backend running, and is `servers` its address?",
            LoginFailure::TimedOut => "",
            LoginFailure::Refused(..) => {
                ": compare `login` and `assertion` with the auth method and the role at the backend \
                 (issuer, audience, keys, user_claim), and the clocks"
            }
            LoginFailure::Unavailable(status) if status.is_redirection() => {
                ", a redirect: name the active node in `servers`, or a health check that finds it"
            }
            LoginFailure::Unavailable(_) => ": is it sealed or in standby?",
            LoginFailure::NoToken => ": is this Vault or OpenBao?",
            LoginFailure::LimitedUses => {
                ", and would end between two requests: set token_num_uses of the role to 0"
            }
            LoginFailure::MachineChanged => {
                "; the client's next try is judged by the registry in force"
            }
        };
        write!(f, "{}{next}", self.cause())
    }
}

/// Pause between two lines of the log about failed logins at one upstream: a thousand machines may
/// fail in the same second.
const PAUSE: Duration = Duration::from_secs(1);

/// The log of the failed logins at one upstream.
#[derive(Debug, Default)]
pub(super) struct FailureLog(Mutex<LastFailures>);

#[derive(Debug, Default)]
struct LastFailures {
    /// When the last line was written, on the monotonic clock.
    logged: Option<Duration>,
    /// Failures since then without a line.
    unlogged: u64,
    /// The last failure for which the backend is to blame, until a login works again.
    failing: Option<String>,
}

impl FailureLog {
    /// Logs that a login failed, at `now` on the monotonic clock.
    pub(super) fn failed(&self, login: &str, machine: &str, why: &LoginFailure, now: Duration) {
        let is_of_backend = matches!(
            why.result(),
            LoginResult::Refused | LoginResult::Unavailable
        );
        if let Some(unlogged) = self.turn(now, is_of_backend.then(|| why.to_string())) {
            warn!(
                login,
                machine,
                unlogged,
                "a machine could not log in, and its request gets 503 upstream_credential: {why}"
            );
        }
    }

    /// Logs that logins work again, where the last one failed.
    pub(super) fn worked(&self, login: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.failing.take().is_some() {
            info!(login, "logins at the backend work again");
        }
    }

    /// The last failure, unless a login has worked since.
    pub(super) fn failing(&self) -> Option<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.failing.clone()
    }

    /// Whether a line is due; then the number of failures that had none.
    fn turn(&self, now: Duration, failing: Option<String>) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.failing = failing.or(last.failing.take());
        if last.logged.is_some_and(|logged| now < logged + PAUSE) {
            last.unlogged += 1;
            return None;
        }
        last.logged = Some(now);
        Some(std::mem::take(&mut last.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_failures_is_one_line_a_second_with_their_number() {
        let log = FailureLog::default();
        let at = Duration::from_millis;
        assert_eq!(log.turn(at(5_000), None), Some(0));
        assert_eq!(log.turn(at(5_001), None), None);
        assert_eq!(log.turn(at(5_999), None), None);
        assert_eq!(log.turn(at(6_000), None), Some(2));
        assert_eq!(log.turn(at(7_000), None), Some(0));
    }

    #[test]
    fn a_login_that_the_backend_refused_is_out_of_service_until_one_works() {
        let log = FailureLog::default();
        let now = Duration::from_secs(1);
        log.failed("login:a", "m", &LoginFailure::NoGroup, now);
        assert_eq!(log.failing(), None);
        log.failed("login:a", "m", &LoginFailure::TimedOut, now);
        log.failed("login:a", "m", &LoginFailure::NoGroup, now);
        assert_eq!(log.failing(), Some(LoginFailure::TimedOut.to_string()));
        log.worked("login:a");
        assert_eq!(log.failing(), None);
    }

    #[test]
    fn a_refusal_tells_the_status_the_reason_and_what_to_compare() {
        let status = StatusCode::BAD_REQUEST;
        let text = LoginFailure::Refused(status, Some("\"invalid audience\"".into())).to_string();
        assert!(
            text.contains("with 400 (\"invalid audience\"): compare"),
            "{text}"
        );
        assert!(
            !LoginFailure::Refused(status, None)
                .to_string()
                .contains("400 (")
        );
    }
}
