//! The way to a server: the servers of an upstream are tried until one accepts a connection.

use std::sync::Arc;

use pingora::{Error, ErrorType};
use tracing::warn;

use super::failure::ForwardFailure;
use crate::config::ConnectionReuse;
use crate::gateway::record::authorized::{AuthorizedRequest, RecordedPass};
use crate::gateway::upstream::pool::Attempts;
use crate::gateway::upstream::pool::connect_error;
use crate::gateway::upstream::pool::connection::Connection;
use crate::gateway::upstream::pool::idle::ConnectionOwner;
use crate::gateway::upstream::pool::server::UpstreamServer;
use countersign_client::clock::Clock;

/// Tries the servers of the request's upstream until one accepts a connection. Nothing is sent.
///
/// # Errors
///
/// The failure of the last server. Nothing has been sent then.
pub(super) async fn connect(
    request: &AuthorizedRequest,
    clock: &Clock,
) -> Result<(Arc<UpstreamServer>, Connection), ForwardFailure> {
    let pool = request.pool();
    let now = || clock.now().mono;
    let mut attempts = Attempts::default();
    while let Some(server) = pool.next_server(&mut attempts, now()) {
        match Connection::to(&server, owner_of(request), now()).await {
            Ok(connection) => return Ok((server, connection)),
            Err(error) => {
                let why = connect_error::describe(&error);
                warn!(server = %server.address(), error = why, "cannot reach a server of the upstream");
                server.refused_connection(now());
                if !pool.has_more(&attempts) {
                    return Err(ForwardFailure::unsent(error.into_up()));
                }
            }
        }
    }
    Error::e_explain(ErrorType::ConnectError, "there is no server to try")
        .map_err(|error| ForwardFailure::unsent(error.into_up()))
}

/// The owner of the idle connections that the request may use, and of the one that it leaves.
/// `None`: it gets a new connection for itself alone, because its sender is unknown.
fn owner_of(request: &AuthorizedRequest) -> Option<ConnectionOwner> {
    if request.upstream().reuse == ConnectionReuse::Shared {
        return Some(ConnectionOwner::Everybody);
    }
    match &request.pass {
        RecordedPass::Signed(signed) => {
            Some(ConnectionOwner::Machine(*signed.signed().key().as_bytes()))
        }
        RecordedPass::Open(_) => Some(ConnectionOwner::Open),
        RecordedPass::Unsigned(unsigned, _) => unsigned.token().map(ConnectionOwner::Token),
    }
}
