//! The login request.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::answer::{self, Grant};
use super::backend_call::{BackendCall, ServersInTurn};
use super::failure::LoginFailure;
use crate::config::Login;
use crate::gateway::upstream::pool::Pool;
use crate::gateway::upstream::pool::server::UpstreamServer;
use countersign_client::clock::Clock;

#[derive(Serialize)]
struct LoginRequest<'a> {
    role: &'a str,
    jwt: &'a str,
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
    let path = login.path();
    let mut servers = ServersInTurn::new(pool, clock, until);
    loop {
        let turn = servers.next()?;
        let jwt = &assertion()?;
        let body = serde_json::to_vec(&LoginRequest { role, jwt });
        let call = BackendCall {
            login,
            path: &path,
            token: None,
            body: Bytes::from(body.map_err(|_| LoginFailure::NoAssertion)?),
        };
        let asked = tokio::time::timeout(turn.wait, ask(call, &turn.server, clock)).await;
        if let Some(end) = servers.decided(&turn, asked) {
            return end;
        }
    }
}

async fn ask(
    call: BackendCall<'_>,
    server: &UpstreamServer,
    clock: &Clock,
) -> Result<Grant, LoginFailure> {
    let answer = call.send(server, clock).await?;
    match answer.status.is_success() {
        true => answer::read(&answer.body?).map_err(|_| LoginFailure::NoToken),
        false => Err(answer.failure()),
    }
}
