//! A request of a login to the backend: one try at each server of the upstream, until one decides.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::{ErrorSource, ErrorType};
use tokio::time::error::Elapsed;
use tracing::warn;
use zeroize::Zeroizing;

use super::backend_errors;
use super::failure::LoginFailure;
use crate::config::Login;
use crate::gateway::upstream::own_request;
use crate::gateway::upstream::pool::server::UpstreamServer;
use crate::gateway::upstream::pool::{Attempts, Pool, connect_error};
use countersign_client::clock::Clock;

/// Largest answer that is read, in bytes. One with a hundred policies has some ten thousand.
const MAX_ANSWER: usize = 64 * 1024;

/// Longest wait for one server where there are others.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server that had less time than this is not to blame for its silence.
const FAIR: Duration = Duration::from_secs(1);

static CONNECTOR: LazyLock<Connector> = LazyLock::new(|| Connector::new(None));

/// The servers of the upstream, to be asked one after another until one grants or refuses.
pub(super) struct ServersInTurn<'a> {
    pool: &'a Pool,
    clock: &'a Clock,
    /// The end of all tries, on the monotonic clock.
    until: Duration,
    attempts: Attempts,
    failure: LoginFailure,
}

/// One server's turn.
pub(super) struct ServerTurn {
    pub(super) server: Arc<UpstreamServer>,
    /// Longest wait for it.
    pub(super) wait: Duration,
}

impl ServersInTurn<'_> {
    pub(super) fn new<'a>(pool: &'a Pool, clock: &'a Clock, until: Duration) -> ServersInTurn<'a> {
        ServersInTurn {
            pool,
            clock,
            until,
            attempts: Attempts::default(),
            failure: LoginFailure::Unreachable,
        }
    }

    /// The next server.
    ///
    /// # Errors
    ///
    /// The failure of the last one, when all were asked or the time is over.
    pub(super) fn next(&mut self) -> Result<ServerTurn, LoginFailure> {
        let now = self.clock.now().mono;
        let left = self.until.saturating_sub(now);
        if left.is_zero() {
            return Err(LoginFailure::TimedOut);
        }
        let Some(server) = self.pool.next_server(&mut self.attempts, now) else {
            return Err(self.failure.clone());
        };
        let wait = match self.pool.has_more(&self.attempts) {
            true => left.min(PATIENCE),
            false => left,
        };
        Ok(ServerTurn { server, wait })
    }

    /// Judges the answer in a turn; `None`: another server may decide.
    pub(super) fn decided<T>(
        &mut self,
        turn: &ServerTurn,
        asked: Result<Result<T, LoginFailure>, Elapsed>,
    ) -> Option<Result<T, LoginFailure>> {
        match asked {
            Ok(Err(why @ LoginFailure::Unavailable(_))) => self.failure = why,
            Ok(Err(LoginFailure::Unreachable)) => {}
            Err(_) => {
                self.failure = LoginFailure::TimedOut;
                if turn.wait >= FAIR {
                    turn.server.timed_out(self.clock.now().mono);
                }
            }
            Ok(end) => {
                turn.server.answered();
                return Some(end);
            }
        }
        None
    }
}

/// A request to one server, by `POST`.
pub(super) struct BackendCall<'a> {
    pub(super) login: &'a Login,
    pub(super) path: &'a str,
    /// The header that carries the token, where there is one.
    pub(super) token: Option<(HeaderName, HeaderValue)>,
    /// JSON, or nothing.
    pub(super) body: Bytes,
}

/// The answer of a server.
pub(super) struct BackendAnswer {
    pub(super) status: StatusCode,
    /// It may hold a token.
    pub(super) body: Result<Zeroizing<Vec<u8>>, LoginFailure>,
}

impl BackendCall<'_> {
    /// Sends the request, and reads the answer.
    ///
    /// # Errors
    ///
    /// [`LoginFailure::Unreachable`], and [`LoginFailure::NoAssertion`] for a head that cannot be
    /// built.
    pub(super) async fn send(
        self,
        server: &UpstreamServer,
        clock: &Clock,
    ) -> Result<BackendAnswer, LoginFailure> {
        let head = self.head(server).map_err(|_| LoginFailure::NoAssertion)?;
        match own_request::send(&CONNECTOR, &server.peer(), head, self.body).await {
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

    fn head(&self, server: &UpstreamServer) -> pingora::Result<RequestHeader> {
        let mut head = RequestHeader::build("POST", self.path.as_bytes(), Some(5))?;
        head.insert_header(HOST, server.host.clone())?;
        if !self.body.is_empty() {
            head.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
        }
        head.insert_header(CONTENT_LENGTH, self.body.len())?;
        if let Some((name, value)) = self.login.namespace_header() {
            head.insert_header(name, value)?;
        }
        if let Some((name, value)) = self.token.clone() {
            head.insert_header(name, value)?;
        }
        Ok(head)
    }
}

impl BackendAnswer {
    /// The failure that an answer means which is no success.
    pub(super) fn failure(self) -> LoginFailure {
        let status = self.status;
        // A backend that is sealed (503), in standby (429, 472, 473) or overloaded refuses nobody.
        let is_refusal = status.is_client_error()
            && !matches!(status.as_u16(), 429 | 472 | 473)
            && status != StatusCode::REQUEST_TIMEOUT;
        match is_refusal {
            true => {
                let reason = self.body.ok();
                let reason = reason.and_then(|body| backend_errors::reason(&body));
                LoginFailure::Refused(status, reason)
            }
            false => LoginFailure::Unavailable(status),
        }
    }
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
async fn read(mut session: HttpSession) -> Result<BackendAnswer, LoginFailure> {
    let status = session.response_header().map(|head| head.status);
    let status = status.ok_or(LoginFailure::Unreachable)?;
    let body = own_request::read_body(&mut session, MAX_ANSWER).await;
    own_request::close(session).await;
    Ok(BackendAnswer {
        status,
        body: body.ok_or(LoginFailure::NoToken),
    })
}
