//! The credential check: when the backend refuses a request that carried a credential or a token,
//! the gateway asks the backend whether it still accepts that secret. A client that gets 401 or 403
//! gives up for good, so it must not get the backend's refusal of the gateway.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::Result;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use tracing::{debug, info, warn};

use super::injection::Injection;
use crate::gateway::upstream::acceptance::Checked;
use crate::gateway::upstream::login::BackendLogin;
use crate::gateway::upstream::login::backend_errors::is_unknown_token;
use crate::gateway::upstream::login::doubt::{CANNOT_TELL, RefusedToken};
use crate::gateway::upstream::own_request;
use crate::metrics::CredentialCheck;

/// Longest wait for the answer, connecting included. A client is waiting.
const DEADLINE: Duration = Duration::from_secs(2);

/// Longest refusal that is read, in bytes.
const MAX_REFUSAL: usize = 4 * 1024;

/// The server that the gateway asks, and what it asks for.
#[derive(Clone)]
pub(crate) struct CheckTarget {
    pub(crate) connector: Arc<Connector>,
    /// The server that refused the request.
    pub(crate) peer: Arc<HttpPeer>,
    pub(crate) host: HeaderValue,
    pub(crate) path: String,
    /// The header that names the namespace, if there is one.
    pub(crate) namespace: Option<(HeaderName, HeaderValue)>,
}

impl Injection {
    /// Whether the backend refused the credential, and not the request. In doubt it refused the
    /// credential: the client then tries again, where a refusal of the request would make it give
    /// up. A token that the backend refuses is dropped, so that the next try logs in anew; one that
    /// it has just granted is not. `now` is monotonic.
    pub(crate) async fn is_refused(&self, target: CheckTarget, now: Duration) -> bool {
        let before = self.acceptance().begun();
        let this = self.clone();
        // A task of its own: a client that goes away must not end the question for the others.
        let asked = tokio::spawn(async move {
            let ask = async || {
                let asked = tokio::time::timeout(DEADLINE, look_up(&target, &this)).await;
                asked.ok().and_then(Result::ok)
            };
            let note = |checked| this.note(checked, now);
            let asking = (this.acceptance()).ask_or_share(this.shared_value(), before, ask, note);
            let result = asking.await;
            if let Injection::Token { login, token } = &this {
                match result {
                    CredentialCheck::Accepted => login.accepted(token).await,
                    CredentialCheck::Refused => {
                        let consequence = login.refused(token, now).await;
                        this.log_of_refused_token(login, consequence, now);
                    }
                    CredentialCheck::Unknown => {}
                }
            }
            result
        });
        !matches!(asked.await, Ok(CredentialCheck::Accepted))
    }

    /// Notes that the backend accepted a request with the credential.
    pub(crate) fn worked(&self) {
        if self.acceptance().worked(self.shared_value()) {
            self.accepted_again();
        }
    }

    fn note(&self, checked: Checked, now: Duration) {
        self.check_counts().checked(checked.result);
        match self {
            Injection::Credential { .. } if checked.is_new => self.log_of_credential(checked),
            Injection::Token { login, .. } => self.log_of_token(login, checked, now),
            Injection::Credential { .. } => {}
        }
        let is_accepted = checked.result == CredentialCheck::Accepted;
        let was_in_doubt = self.acceptance().set_doubt(!is_accepted);
        if checked.is_new {
            match is_accepted {
                true if was_in_doubt => self.accepted_again(),
                _ => self.show_usable(is_accepted),
            }
        }
    }

    fn accepted_again(&self) {
        info!(
            credential = self.name(),
            "the backend accepts the credential again"
        );
        self.show_usable(true);
    }

    fn log_of_credential(&self, checked: Checked) {
        let credential = self.name();
        let status = checked.status.map(|status| status.as_u16());
        match checked.result {
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

    fn log_of_token(&self, login: &BackendLogin, checked: Checked, now: Duration) {
        let credential = self.name();
        let machine = self.machine();
        let status = checked.status.map(|status| status.as_u16());
        match checked.result {
            CredentialCheck::Accepted => debug!(
                credential,
                machine,
                "the backend accepts the machine's token: its own policy refused the request"
            ),
            // Logged with its consequence for the token.
            CredentialCheck::Refused => {}
            CredentialCheck::Unknown => {
                if let Some(unlogged) = login.check_lines().unknown.turn(now) {
                    warn!(
                        credential,
                        machine,
                        status,
                        unlogged,
                        "the backend refused a request, and its answer at the upstream's `check` does \
                         not tell whether it accepts the machine's token: the request gets 503 \
                         upstream_credential"
                    );
                }
            }
        }
    }

    fn log_of_refused_token(&self, login: &BackendLogin, consequence: RefusedToken, now: Duration) {
        let credential = self.name();
        let machine = self.machine();
        let lines = login.check_lines();
        match consequence {
            RefusedToken::Dropped => {
                if let Some(unlogged) = lines.dropped.turn(now) {
                    warn!(
                        credential,
                        machine,
                        unlogged,
                        "the backend refuses the machine's token: the token is dropped, the request \
                         gets 503 upstream_credential, and the next one logs in anew"
                    );
                }
            }
            RefusedToken::Held(hold) => {
                if let Some(unlogged) = lines.held.turn(now) {
                    warn!(
                        credential,
                        machine,
                        unlogged,
                        hold_s = hold.as_secs(),
                        "a request gets 503 upstream_credential, and the machine's token stays in \
                         use: {CANNOT_TELL}"
                    );
                }
            }
            RefusedToken::StillHeld => {}
        }
    }
}

/// Asks on a connection of its own, which is closed afterwards. The body is read only where it may tell
/// that the backend does not know a token.
async fn look_up(target: &CheckTarget, injection: &Injection) -> Result<StatusCode> {
    let mut request = RequestHeader::build("GET", target.path.as_bytes(), Some(4))?;
    request.insert_header(HOST, target.host.clone())?;
    request.insert_header(injection.header().clone(), injection.value().clone())?;
    if let Some((name, value)) = &target.namespace {
        request.insert_header(name.clone(), value.clone())?;
    }
    let mut session =
        own_request::send(&target.connector, &target.peer, request, Bytes::new()).await?;
    let status = session.response_header().map(|response| response.status);
    if let (Injection::Token { token, .. }, Some(StatusCode::FORBIDDEN)) = (injection, status) {
        let body = own_request::read_body(&mut session, MAX_REFUSAL).await;
        let is_unknown = body.is_some_and(|body| is_unknown_token(&body));
        token.is_unknown.store(is_unknown, Ordering::Relaxed);
    }
    own_request::close(session).await;
    Ok(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}
