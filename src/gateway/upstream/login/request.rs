//! The login request: one try at each server of the upstream, until one decides.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderValue, StatusCode};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::{ErrorSource, ErrorType};
use serde::{Deserialize, Serialize};
use tracing::warn;
use zeroize::Zeroizing;

use super::answer::{self, Grant, NoGrant};
use super::failure::LoginFailure;
use crate::config::Login;
use crate::gateway::upstream::own_request;
use crate::gateway::upstream::pool::server::UpstreamServer;
use crate::gateway::upstream::pool::{Attempts, Pool, connect_error};
use countersign_client::clock::Clock;
use countersign_client::quoted::quoted;

/// Largest answer that is read, in bytes. One with a hundred policies has some ten thousand.
const MAX_ANSWER: usize = 64 * 1024;

/// Longest reason of the backend in the log, in bytes.
const MAX_REASON: usize = 200;

/// Longest wait for one server where there are others.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server that had less time than this is not to blame for its silence.
const FAIR: Duration = Duration::from_secs(1);

static CONNECTOR: LazyLock<Connector> = LazyLock::new(|| Connector::new(None));

#[derive(Serialize)]
struct LoginRequest<'a> {
    role: &'a str,
    jwt: &'a str,
}

/// The reasons of a refusal.
#[derive(Deserialize)]
struct BackendErrors<'a> {
    #[serde(borrow)]
    errors: Vec<std::borrow::Cow<'a, str>>,
}

/// Logs in at the servers of the upstream, one after another, until one grants a token or refuses,
/// or it is `until` on the monotonic clock. Each gets an assertion of its own, because a backend may
/// take each once.
///
/// # Errors
///
/// [`LoginFailure`].
pub(super) async fn log_in(
    login: &Login,
    role: &str,
    assertion: impl Fn() -> Result<String, LoginFailure>,
    pool: &Pool,
    clock: &Clock,
    until: Duration,
) -> Result<Grant, LoginFailure> {
    let mut attempts = Attempts::default();
    let mut failure = LoginFailure::Unreachable;
    loop {
        let now = clock.now().mono;
        let left = until.saturating_sub(now);
        if left.is_zero() {
            return Err(LoginFailure::TimedOut);
        }
        let Some(server) = pool.next_server(&mut attempts, now) else {
            return Err(failure);
        };
        let wait = match pool.has_more(&attempts) {
            true => left.min(PATIENCE),
            false => left,
        };
        let jwt = &assertion()?;
        let body = serde_json::to_vec(&LoginRequest { role, jwt });
        let body = Bytes::from(body.map_err(|_| LoginFailure::NoAssertion)?);
        match tokio::time::timeout(wait, ask(login, &server, body, clock)).await {
            // It has granted no token that could be used, and another server may.
            Ok(Err(why @ LoginFailure::Unavailable(_))) => failure = why,
            Ok(Err(LoginFailure::Unreachable)) => {}
            Err(_) => {
                failure = LoginFailure::TimedOut;
                if wait >= FAIR {
                    server.timed_out(clock.now().mono);
                }
            }
            Ok(end) => {
                server.answered();
                return end;
            }
        }
    }
}

/// Asks one server.
async fn ask(
    login: &Login,
    server: &Arc<UpstreamServer>,
    body: Bytes,
    clock: &Clock,
) -> Result<Grant, LoginFailure> {
    let head = head(login, server, body.len()).map_err(|_| LoginFailure::NoAssertion)?;
    match own_request::send(&CONNECTOR, &server.peer(), head, body).await {
        Ok(session) => read(session).await,
        Err(error) => {
            if could_not_connect(&error) {
                let why = connect_error::describe(&error);
                warn!(server = %server.address(), error = why, "cannot reach a server of the upstream");
                server.refused_connection(clock.now().mono);
            }
            Err(LoginFailure::Unreachable)
        }
    }
}

fn head(
    login: &Login,
    server: &Arc<UpstreamServer>,
    length: usize,
) -> pingora::Result<RequestHeader> {
    let mut head = RequestHeader::build("POST", login.path().as_bytes(), Some(4))?;
    head.insert_header(HOST, server.host.clone())?;
    head.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    head.insert_header(CONTENT_LENGTH, length)?;
    if let Some((name, value)) = login.namespace_header() {
        head.insert_header(name, value)?;
    }
    Ok(head)
}

fn could_not_connect(error: &pingora::Error) -> bool {
    use ErrorType::{
        ConnectError, ConnectNoRoute, ConnectProxyFailure, ConnectRefused, ConnectTimedout,
        InvalidCert, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout,
    };
    matches!(
        error.etype(),
        ConnectError
            | ConnectNoRoute
            | ConnectProxyFailure
            | ConnectRefused
            | ConnectTimedout
            | InvalidCert
            | SocketError
            | TLSHandshakeFailure
            | TLSHandshakeTimedout
    ) && *error.esource() != ErrorSource::Downstream
}

/// Reads the answer, and closes the connection.
async fn read(mut session: HttpSession) -> Result<Grant, LoginFailure> {
    let status = session.response_header().map(|head| head.status);
    let status = status.ok_or(LoginFailure::Unreachable)?;
    let body = read_body(&mut session).await;
    own_request::close(session).await;
    if status.is_success() {
        return answer::read(&body?).map_err(|why| match why {
            NoGrant::NoToken => LoginFailure::NoToken,
            NoGrant::LimitedUses => LoginFailure::LimitedUses,
        });
    }
    // A backend that is sealed (503), in standby (429, 472, 473) or overloaded refuses nobody.
    let is_refusal = status.is_client_error()
        && !matches!(status.as_u16(), 429 | 472 | 473)
        && status != StatusCode::REQUEST_TIMEOUT;
    Err(match is_refusal {
        true => LoginFailure::Refused(status, body.ok().and_then(|body| reason(&body))),
        false => LoginFailure::Unavailable(status),
    })
}

/// The first reason in the answer to a refused login. It is quoted, without controls, and cut; one
/// that repeats an assertion is not told.
fn reason(body: &[u8]) -> Option<String> {
    let answer: BackendErrors<'_> = serde_json::from_slice(body).ok()?;
    let reason = answer.errors.first()?;
    // Every assertion begins so: it is the encoding of `{"`.
    if reason.contains("eyJ") {
        return None;
    }
    let end = (0..=MAX_REASON.min(reason.len())).rev();
    let end = end.into_iter().find(|end| reason.is_char_boundary(*end))?;
    Some(quoted(&reason[..end]))
}

async fn read_body(session: &mut HttpSession) -> Result<Zeroizing<Vec<u8>>, LoginFailure> {
    // Allocated in full: growing would leave copies that are not wiped.
    let mut body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
    loop {
        match session.read_response_body().await {
            Ok(None) => return Ok(body),
            Ok(Some(piece)) if body.len() + piece.len() <= MAX_ANSWER => {
                body.extend_from_slice(&piece);
            }
            Ok(Some(_)) => return Err(LoginFailure::NoToken),
            Err(_) => return Err(LoginFailure::Unreachable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_refusal_is_quoted_and_cut_and_repeats_no_assertion() {
        let of = |text: &str| reason(format!(r#"{{"errors":["{text}"]}}"#).as_bytes());
        assert_eq!(of("role not found"), Some("\"role not found\"".into()));
        assert_eq!(of("bad token eyJhbGciOiJFZERTQSJ9.e30.x"), None);
        let long = of(&"é".repeat(500));
        assert!(long.is_some_and(|text| text.len() <= MAX_REASON + 16));
        let line = of(r"one\ntwo");
        assert!(line.is_some_and(|text| !text.contains('\n')));
        for none in ["", "{}", r#"{"errors":[]}"#, r#"{"errors":[1]}"#, "<html>"] {
            assert_eq!(reason(none.as_bytes()), None, "{none}");
        }
    }
}
