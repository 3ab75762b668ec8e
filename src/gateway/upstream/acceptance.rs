//! Whether the backend accepts one secret, as far as is known: the value of a credential, or the
//! token of a machine.
//!
//! A result counts for a refusal only if its inquiry began after the refusal: the secret may have
//! been revoked after an earlier one. A secret has one inquiry at a time. Refusals that arrive
//! during an inquiry wait for the next one, and share its result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::{HeaderValue, StatusCode};
use tokio::sync::Mutex;

use crate::metrics::CredentialCheck;

#[derive(Debug, Default)]
pub(super) struct Acceptance {
    /// Number of inquiries that have begun.
    begun: AtomicU64,
    /// The result of the last inquiry. The lock is held during an inquiry, so that there is one at
    /// a time.
    last: Mutex<Option<LastCheck>>,
    /// Whether the last inquiry ended without an acceptance.
    in_doubt: AtomicBool,
}

#[derive(Debug)]
struct LastCheck {
    /// The value that was asked about. Another value in the file is another credential.
    value: Arc<HeaderValue>,
    /// The number of the inquiry.
    inquiry: u64,
    result: CredentialCheck,
}

/// The end of an inquiry, for its log and its counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    pub(super) result: CredentialCheck,
    pub(super) status: Option<StatusCode>,
    /// Whether the last inquiry about the value ended otherwise, or there was none.
    pub(super) is_new: bool,
}

impl Acceptance {
    /// Number of inquiries that have begun: a refusal is noted with it.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Returns the result of an inquiry with a number above `before`, which another refusal may have
    /// begun. `ask` is the inquiry, and `note` gets its end.
    pub(super) async fn ask_or_share(
        &self,
        value: &Arc<HeaderValue>,
        before: u64,
        ask: impl AsyncFnOnce() -> Option<StatusCode>,
        note: impl FnOnce(Checked),
    ) -> CredentialCheck {
        let mut last = self.last.lock().await;
        let known = last.as_ref().filter(|last| last.value == *value);
        if let Some(known) = known
            && known.inquiry > before
        {
            return known.result;
        }
        let known = known.map(|known| known.result);
        let inquiry = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let status = ask().await;
        let result = status.map_or(CredentialCheck::Unknown, judge);
        *last = Some(LastCheck {
            value: Arc::clone(value),
            inquiry,
            result,
        });
        note(Checked {
            result,
            status,
            is_new: known != Some(result),
        });
        result
    }

    /// Notes that the backend accepted a request with the value. Returns whether that ends a doubt
    /// about it.
    pub(super) fn worked(&self, value: &Arc<HeaderValue>) -> bool {
        // `try_lock` fails while an inquiry runs. Its result decides instead.
        self.in_doubt.load(Ordering::Relaxed)
            && (self.last.try_lock())
                .is_ok_and(|mut last| last.take_if(|last| last.value == *value).is_some())
            && self.set_doubt(false)
    }

    /// Sets whether the value is in doubt. Returns whether it was.
    pub(super) fn set_doubt(&self, is_in_doubt: bool) -> bool {
        self.in_doubt.swap(is_in_doubt, Ordering::Relaxed)
    }
}

/// The result that a status means. A redirect, a 404 or a server error means nothing.
fn judge(status: StatusCode) -> CredentialCheck {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CredentialCheck::Refused,
        status if status.is_success() => CredentialCheck::Accepted,
        _ => CredentialCheck::Unknown,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn secret() -> (Arc<Acceptance>, Arc<HeaderValue>) {
        let value = HeaderValue::from_static("secret");
        (Arc::default(), Arc::new(value))
    }

    #[tokio::test]
    async fn an_answer_counts_only_if_its_inquiry_began_after_the_refusal() {
        let (acceptance, value) = secret();
        let ask = async |before, status| {
            let took = async || Some(status);
            acceptance.ask_or_share(&value, before, took, |_| {}).await
        };
        let first = acceptance.begun();
        assert_eq!(ask(first, StatusCode::OK).await, CredentialCheck::Accepted);
        // A refusal that came before that inquiry began shares its answer.
        let result = ask(first, StatusCode::FORBIDDEN).await;
        assert_eq!(result, CredentialCheck::Accepted);
        // One that came after it, however soon, asks again.
        let second = acceptance.begun();
        let result = ask(second, StatusCode::FORBIDDEN).await;
        assert_eq!(result, CredentialCheck::Refused);
        assert_eq!(acceptance.begun(), 2);
    }

    #[tokio::test]
    async fn refusals_during_an_inquiry_share_the_next_one() {
        let (acceptance, value) = secret();
        let (release, held_back) = tokio::sync::oneshot::channel::<()>();
        let early = {
            let (acceptance, value) = (Arc::clone(&acceptance), Arc::clone(&value));
            let before = acceptance.begun();
            tokio::spawn(async move {
                let answer = async || {
                    let _ = held_back.await;
                    Some(StatusCode::OK)
                };
                acceptance
                    .ask_or_share(&value, before, answer, |_| {})
                    .await
            })
        };
        while acceptance.begun() == 0 {
            tokio::task::yield_now().await;
        }
        let late: Vec<_> = (0..10)
            .map(|_| {
                let (acceptance, value) = (Arc::clone(&acceptance), Arc::clone(&value));
                let before = acceptance.begun();
                tokio::spawn(async move {
                    let answer = async || Some(StatusCode::FORBIDDEN);
                    acceptance
                        .ask_or_share(&value, before, answer, |_| {})
                        .await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        assert_eq!(early.await.unwrap(), CredentialCheck::Accepted);
        for one in late {
            assert_eq!(one.await.unwrap(), CredentialCheck::Refused);
        }
        assert_eq!(acceptance.begun(), 2);
    }

    #[tokio::test]
    async fn a_result_about_another_value_does_not_count() {
        let (acceptance, value) = secret();
        let other = Arc::new(HeaderValue::from_static("other"));
        let took = async || Some(StatusCode::FORBIDDEN);
        acceptance.ask_or_share(&value, 0, took, |_| {}).await;
        let took = async || Some(StatusCode::OK);
        let result = acceptance.ask_or_share(&other, 0, took, |_| {}).await;
        assert_eq!(result, CredentialCheck::Accepted);
    }

    #[tokio::test]
    async fn a_request_that_works_ends_a_doubt_once() {
        let (acceptance, value) = secret();
        assert!(!acceptance.worked(&value));
        let took = async || Some(StatusCode::FORBIDDEN);
        acceptance.ask_or_share(&value, 0, took, |_| {}).await;
        acceptance.set_doubt(true);
        assert!(acceptance.worked(&value));
        assert!(!acceptance.worked(&value));
    }

    #[test]
    fn only_success_vouches_and_only_401_and_403_refuse() {
        let judged = |status| judge(StatusCode::from_u16(status).unwrap_or_default());
        assert_eq!([200, 204].map(judged), [CredentialCheck::Accepted; 2]);
        assert_eq!([401, 403].map(judged), [CredentialCheck::Refused; 2]);
        let others = [302, 400, 404, 429, 500, 503].map(judged);
        assert_eq!(others, [CredentialCheck::Unknown; 6]);
    }
}
