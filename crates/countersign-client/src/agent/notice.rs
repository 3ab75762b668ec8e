//! Rate-limited log lines, and the log lines about the gateway.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Response;
use tracing::{debug, info, warn};

use super::connect::NoConnection;
use super::refused::RefusalCode;
use crate::gateway_headers::OBSERVED;
use crate::gateway_url::GatewayUrl;
use countersign_core::refusal::Code;

/// Shortest time between two log lines about the same event.
const BETWEEN: Duration = Duration::from_secs(30);

/// An event that is logged at once and then at most once in [`BETWEEN`], with a count.
#[derive(Default)]
pub(super) struct NoticeLimiter(Mutex<NoticeState>);

#[derive(Default)]
struct NoticeState {
    /// The last log line, on the monotonic clock.
    at: Option<Duration>,
    /// The events since the last log line.
    since: u64,
}

impl NoticeLimiter {
    /// Counts an event. If a line is due, calls `log` with the count since the last one.
    pub(super) fn count(&self, now: Duration, log: impl FnOnce(u64)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.since += 1;
        if state.at.is_none_or(|at| now.saturating_sub(at) >= BETWEEN) {
            let times = std::mem::take(&mut state.since);
            state.at = Some(now);
            drop(state);
            log(times);
        }
    }
}

/// Events that the client's response does not show, or shows misleadingly.
#[derive(Default)]
pub(super) struct Notices {
    query_dropped: NoticeLimiter,
    passed_unsigned: NoticeLimiter,
    late: NoticeLimiter,
}

impl Notices {
    /// The agent dropped a client's query (`--query strip`).
    pub(super) fn query_dropped(&self, now: Duration) {
        self.query_dropped.count(now, |times| {
            warn!(
                times,
                "a client's query was dropped, since the agent runs with --query strip: the backend answers \
                 as if it had not been sent"
            );
        });
    }

    /// Logs that the gateway let a request for the target `signed` pass unsigned. Its client sees
    /// only the backend's response, often a final 403.
    pub(super) fn passed_unsigned<B>(&self, now: Duration, answer: &Response<B>, signed: &str) {
        let Some(code) = answer.headers().get(OBSERVED) else {
            return;
        };
        let code = RefusalCode::parse(code.to_str().unwrap_or_default());
        self.passed_unsigned.count(now, |times| {
            let status = answer.status().as_u16();
            warn!(
                times,
                code = code.as_str(),
                status,
                "the gateway's route only observes, and let a request pass unsigned: once it enforces, it \
                 refuses such a request with this code"
            );
            refused(&code, signed);
        });
    }

    /// The gateway did not respond within `limit`.
    pub(super) fn late(&self, now: Duration, limit: Duration) {
        self.late.count(now, |times| {
            let seconds = limit.as_secs_f64();
            warn!(
                times,
                "the gateway did not respond within {seconds} s (answer_timeout)"
            );
        });
    }
}

/// Logs the likely cause and the next step if the gateway refuses a request for the target
/// `signed`.
pub(super) fn refused(code: &RefusalCode, signed: &str) {
    match code.known() {
        Some(Code::BadSignature) if signed.contains('?') => warn!(
            "the gateway found the signature of a request with a query wrong: is its route `query: signed`? \
             else start the agent with --query strip"
        ),
        Some(Code::BadSignature) => {
            warn!("the gateway refused a signature; `countersign doctor` shows why");
        }
        _ => debug!(code = code.as_str(), "the gateway refused"),
    }
}

/// Whether the gateway can be reached, for the log.
#[derive(Default)]
pub(super) struct GatewayReachability {
    is_lost: AtomicBool,
    limiter: NoticeLimiter,
}

impl GatewayReachability {
    /// A connection failed.
    pub(super) fn lost(&self, now: Duration, gateway: &GatewayUrl, why: &NoConnection) {
        self.is_lost.store(true, Ordering::Relaxed);
        self.limiter.count(now, |times| {
            warn!(
                times,
                "cannot reach the gateway at {gateway}: {why}. Clients get 502 gateway_unreachable until it \
                 can be reached; is it running, and is this its address?"
            );
        });
    }

    /// A connection works.
    pub(super) fn reached(&self) {
        if self.is_lost.load(Ordering::Relaxed) && self.is_lost.swap(false, Ordering::Relaxed) {
            info!("the gateway is reached again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_logged_and_then_the_number_of_each_half_minute() {
        let limiter = NoticeLimiter::default();
        let logged = |seconds| {
            let mut logged = None;
            limiter.count(Duration::from_secs(seconds), |times| logged = Some(times));
            logged
        };
        assert_eq!(logged(100), Some(1));
        assert_eq!([101, 115, 129].map(logged), [None; 3]);
        assert_eq!([130, 131, 160].map(logged), [Some(4), None, Some(2)]);
    }
}
