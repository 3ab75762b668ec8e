//! The credential check: when the backend refuses a request that carried a credential, the gateway
//! asks the backend whether it still accepts that credential. A client that gets 401 or 403 gives
//! up for good, so it must not get the backend's refusal of the gateway.
//!
//! A result counts for a refusal only if its inquiry began after the refusal: the credential may
//! have been revoked after an earlier one. A credential has one inquiry at a time. Refusals that
//! arrive during an inquiry wait for the next one, and share its result.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderValue, StatusCode};
use pingora::Result;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tracing::{info, warn};

use super::state::{Injection, LastCheck};
use crate::gateway::upstream::MOST_INTERIM;
use crate::metrics::CredentialCheck;

/// Longest wait for the answer, connecting included. A client is waiting.
const DEADLINE: Duration = Duration::from_secs(2);

/// The server that the gateway asks, and what it asks for.
#[derive(Clone)]
pub(crate) struct CheckTarget {
    pub(crate) connector: Arc<Connector>,
    /// The server that refused the request.
    pub(crate) peer: Arc<HttpPeer>,
    pub(crate) host: HeaderValue,
    pub(crate) path: String,
}

impl Injection {
    /// Whether the backend refused the credential, and not the request. In doubt it refused the
    /// credential: the client then tries again, where a refusal of the request would make it give
    /// up.
    pub(crate) async fn is_refused(&self, target: CheckTarget) -> bool {
        let before = self.credential.acceptance.begun.load(Ordering::SeqCst);
        let this = self.clone();
        // A task of its own: a client that goes away must not end the question for the others.
        let asked = tokio::spawn(async move {
            this.ask_or_share(before, async |this: &Injection| {
                let asked = tokio::time::timeout(DEADLINE, look_up(&target, this)).await;
                asked.ok().and_then(Result::ok)
            })
            .await
        });
        !matches!(asked.await, Ok(CredentialCheck::Accepted))
    }

    /// Notes that the backend accepted a request with the credential.
    pub(crate) async fn worked(&self) {
        let acceptance = &self.credential.acceptance;
        // `try_lock` fails while an inquiry runs. Its result decides instead.
        if acceptance.in_doubt.load(Ordering::Relaxed)
            && let Ok(mut last) = acceptance.last.try_lock()
            && last.take_if(|last| last.value == self.value).is_some()
        {
            self.set_usable(true);
        }
    }

    /// Returns the result of an inquiry with a number above `before`. Another refusal may have
    /// begun that inquiry.
    async fn ask_or_share(
        &self,
        before: u64,
        ask: impl AsyncFnOnce(&Injection) -> Option<StatusCode>,
    ) -> CredentialCheck {
        let acceptance = &self.credential.acceptance;
        let mut last = acceptance.last.lock().await;
        let known = (last.as_ref()).filter(|last| last.value == self.value);
        if let Some(known) = known
            && known.inquiry > before
        {
            return known.result;
        }
        let known = known.map(|known| known.result);
        let inquiry = acceptance.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let status = ask(self).await;
        let result = status.map_or(CredentialCheck::Unknown, judge);
        *last = Some(LastCheck {
            value: Arc::clone(&self.value),
            inquiry,
            result,
        });
        self.credential.counts.checked(result);
        if known != Some(result) {
            self.log_result(result, status.map(|status| status.as_u16()));
            self.set_usable(result == CredentialCheck::Accepted);
        }
        result
    }

    fn log_result(&self, result: CredentialCheck, status: Option<u16>) {
        let credential = self.credential.name();
        match result {
            CredentialCheck::Accepted => info!(
                credential,
                "the backend accepts the credential: its own policy refused the request"
            ),
            CredentialCheck::Refused => warn!(
                credential,
                status,
                "the backend refuses the credential: requests that it answers with 401 or 403 get 503 \
                 upstream_credential until the credential is replaced or accepted again"
            ),
            CredentialCheck::Unknown => warn!(
                credential,
                status,
                "the backend refused a request, and its answer at the upstream's `check` does not tell \
                 whether it accepts the credential: requests that it answers with 401 or 403 get 503 \
                 upstream_credential"
            ),
        }
    }

    fn set_usable(&self, usable: bool) {
        let in_doubt = &self.credential.acceptance.in_doubt;
        if in_doubt.swap(!usable, Ordering::Relaxed) && usable {
            info!(
                credential = self.credential.name(),
                "the backend accepts the credential again"
            );
        }
        self.credential.counts.usable(usable);
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

/// Asks on a connection of its own, which is closed without reading the body of the response.
async fn look_up(target: &CheckTarget, injection: &Injection) -> Result<StatusCode> {
    let (mut session, _) = target.connector.get_http_session(&*target.peer).await?;
    let mut request = RequestHeader::build("GET", target.path.as_bytes(), Some(4))?;
    request.insert_header(HOST, target.host.clone())?;
    let value = HeaderValue::clone(&injection.value);
    request.insert_header(injection.credential.header().clone(), value)?;
    session.write_request_header(Box::new(request)).await?;
    session.finish_request_body().await?;
    let mut status = None;
    for _ in 0..=MOST_INTERIM {
        session.read_response_header().await?;
        status = session.response_header().map(|response| response.status);
        if !status.is_some_and(|status| status.is_informational()) {
            break;
        }
    }
    if let HttpSession::H1(mut session) = session {
        session.shutdown().await;
    }
    Ok(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn injection() -> Injection {
        let credential = crate::config::Credential {
            name: "c".into(),
            header: http::header::AUTHORIZATION,
            value: Some(HeaderValue::from_static("secret")),
            prefix: String::new(),
            file: None,
            upstreams: Vec::new(),
        };
        let metrics = crate::metrics::Metrics::new("", "").unwrap();
        let credential = Arc::new(super::super::state::CredentialState::new(
            credential, &metrics,
        ));
        let value = credential.value.load_full().unwrap();
        Injection { credential, value }
    }

    fn begun(injection: &Injection) -> u64 {
        injection.credential.acceptance.begun.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn an_answer_counts_only_if_its_inquiry_began_after_the_refusal() {
        let injection = injection();
        let took = |status| async move |_: &Injection| Some(status);
        let first = begun(&injection);
        let result = injection.ask_or_share(first, took(StatusCode::OK)).await;
        assert_eq!(result, CredentialCheck::Accepted);
        // A refusal that came before that inquiry began shares its answer.
        let result = injection.ask_or_share(first, took(StatusCode::FORBIDDEN));
        assert_eq!(result.await, CredentialCheck::Accepted);
        // One that came after it, however soon, asks again.
        let second = begun(&injection);
        let result = injection.ask_or_share(second, took(StatusCode::FORBIDDEN));
        assert_eq!(result.await, CredentialCheck::Refused);
        assert_eq!(begun(&injection), 2);
    }

    #[tokio::test]
    async fn refusals_during_an_inquiry_share_the_next_one() {
        let injection = injection();
        let (release, held_back) = tokio::sync::oneshot::channel::<()>();
        let early = {
            let injection = injection.clone();
            let before = begun(&injection);
            tokio::spawn(async move {
                let answer = async |_: &Injection| {
                    let _ = held_back.await;
                    Some(StatusCode::OK)
                };
                injection.ask_or_share(before, answer).await
            })
        };
        while begun(&injection) == 0 {
            tokio::task::yield_now().await;
        }
        let late: Vec<_> = (0..10)
            .map(|_| {
                let (injection, before) = (injection.clone(), begun(&injection));
                tokio::spawn(async move {
                    let answer = async |_: &Injection| Some(StatusCode::FORBIDDEN);
                    injection.ask_or_share(before, answer).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        assert_eq!(early.await.unwrap(), CredentialCheck::Accepted);
        for one in late {
            assert_eq!(one.await.unwrap(), CredentialCheck::Refused);
        }
        assert_eq!(begun(&injection), 2);
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
