//! Whether the backend still takes a credential: asked of the backend itself, seldom, when it
//! refuses a request that carried one. A client that hears 401 or 403 gives up for good, so it
//! must not hear the backend's refusal of the gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::HOST;
use http::{HeaderValue, StatusCode};
use pingora::Result;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::Injection;
use crate::clock::Clock;
use crate::metrics::Check;

/// How long an answer is believed, and so how often at most a credential is asked about.
const REMEMBERED: Duration = Duration::from_secs(3);

/// Longest wait for the answer, connecting included. A client is waiting.
const DEADLINE: Duration = Duration::from_secs(2);

/// What is known of one credential's standing with the backend.
#[derive(Default)]
pub(super) struct Standing {
    /// The last answer. Held while a question is under way: there is one at a time.
    last: Mutex<Option<Answer>>,
    /// The last answer was not that all is well.
    in_doubt: AtomicBool,
}

struct Answer {
    /// Which value was asked about: another one in the file is another credential.
    value: Arc<HeaderValue>,
    /// When, on the monotonic clock.
    at: Duration,
    came_to: Check,
}

/// Where to ask.
#[derive(Clone)]
pub(in crate::gateway) struct Place {
    pub(in crate::gateway) connector: Arc<Connector>,
    /// The server that refused the request.
    pub(in crate::gateway) peer: Arc<HttpPeer>,
    pub(in crate::gateway) host: HeaderValue,
    pub(in crate::gateway) path: String,
}

impl Injection {
    /// Whether the credential, and not the request, is what the backend refused. In doubt it is:
    /// the client then tries again, where a refusal that is not meant for it would end it.
    pub(in crate::gateway) async fn is_refused(&self, place: Place, clock: &Clock) -> bool {
        let (this, clock) = (self.clone(), clock.clone());
        // A task of its own: a client that goes away must not end the question for the others.
        let asked = tokio::spawn(async move { this.ask_or_remember(&place, &clock).await });
        !matches!(asked.await, Ok(Check::Accepted))
    }

    /// The backend has taken it.
    pub(in crate::gateway) async fn worked(&self) {
        let standing = &self.held.standing;
        if standing.in_doubt.load(Ordering::Relaxed) {
            let mut last = standing.last.lock().await;
            if last.take_if(|last| last.value == self.value).is_some() {
                self.settle(true);
            }
        }
    }

    async fn ask_or_remember(&self, place: &Place, clock: &Clock) -> Check {
        let mut last = self.held.standing.last.lock().await;
        let known = (last.as_ref()).filter(|last| last.value == self.value);
        if let Some(known) = known
            && clock.now().mono.saturating_sub(known.at) < REMEMBERED
        {
            return known.came_to;
        }
        let before = known.map(|known| known.came_to);
        let status = tokio::time::timeout(DEADLINE, look_up(place, self)).await;
        let came_to = match &status {
            Ok(Ok(status)) => judge(*status),
            Ok(Err(_)) | Err(_) => Check::Unknown,
        };
        *last = Some(Answer {
            value: Arc::clone(&self.value),
            at: clock.now().mono,
            came_to,
        });
        self.held.counts.checked(came_to);
        if before != Some(came_to) {
            let status = status.ok().and_then(Result::ok).map(|s| s.as_u16());
            self.tell(came_to, status);
            self.settle(came_to == Check::Accepted);
        }
        came_to
    }

    fn tell(&self, came_to: Check, status: Option<u16>) {
        let credential = self.held.name();
        match came_to {
            Check::Accepted => info!(
                credential,
                "the backend refused a request and takes the credential: it is the backend's policy"
            ),
            Check::Refused => warn!(
                credential,
                status,
                "the backend refuses the credential: requests that it refuses with it get 503 \
                 upstream_credential until there is another one or the backend takes it again"
            ),
            Check::Unknown => warn!(
                credential,
                status,
                "the backend refused a request, and its answer at the upstream's `check` does not tell \
                 whether it takes the credential: such requests get 503 upstream_credential"
            ),
        }
    }

    fn settle(&self, stands: bool) {
        let in_doubt = &self.held.standing.in_doubt;
        if in_doubt.swap(!stands, Ordering::Relaxed) && stands {
            info!(credential = self.held.name(), "the backend takes it again");
        }
        self.held.counts.usable(stands);
    }
}

/// What the answer to a look-up says. A redirect, a 404 or a fault says nothing.
fn judge(status: StatusCode) -> Check {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Check::Refused,
        status if status.is_success() => Check::Accepted,
        _ => Check::Unknown,
    }
}

/// Asks on a connection of its own, which is not kept: its answer's body is nobody's business.
async fn look_up(place: &Place, injection: &Injection) -> Result<StatusCode> {
    let (mut session, _) = place.connector.get_http_session(&*place.peer).await?;
    let mut request = RequestHeader::build("GET", place.path.as_bytes(), Some(4))?;
    request.insert_header(HOST, place.host.clone())?;
    let value = HeaderValue::clone(&injection.value);
    request.insert_header(injection.held.header().clone(), value)?;
    session.write_request_header(Box::new(request)).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let status = session.response_header().map(|response| response.status);
    if let HttpSession::H1(mut session) = session {
        session.shutdown().await;
    }
    Ok(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_vouches_and_only_401_and_403_refuse() {
        let judged = |status| judge(StatusCode::from_u16(status).unwrap_or_default());
        assert_eq!([200, 204].map(judged), [Check::Accepted; 2]);
        assert_eq!([401, 403].map(judged), [Check::Refused; 2]);
        let others = [302, 400, 404, 429, 500, 503].map(judged);
        assert_eq!(others, [Check::Unknown; 6]);
    }
}
