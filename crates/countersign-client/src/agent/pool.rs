//! The connection pool to the gateway, and the sending of one request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use super::connect::{Connector, NoConnection, Sender};
use crate::clock::Clock;

/// Most idle connections; further ones are closed.
const MOST_IDLE: usize = 64;

/// Longest idle time of a connection: well below the gateway's 75 s, so that a request seldom meets
/// a connection that the gateway is closing.
const IDLE: Duration = Duration::from_secs(30);

/// The connection pool of one agent.
pub(super) struct AgentPool {
    connector: Connector,
    clock: Clock,
    idle: Arc<Mutex<Vec<IdleGatewayConnection>>>,
}

struct IdleGatewayConnection {
    sender: Sender,
    since: Duration,
}

/// A connection in use. Dropping it closes the connection.
pub(super) struct Lease {
    sender: Sender,
    clock: Clock,
    idle: Arc<Mutex<Vec<IdleGatewayConnection>>>,
}

/// Why a request has no response.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// No byte of the request was sent.
    Unsent(NoConnection),
    /// The connection broke, and the request may have been sent.
    BrokenOff(hyper::Error),
    /// The request was sent, and the deadline passed without a response.
    Late,
}

impl AgentPool {
    pub(super) fn new(connector: Connector, clock: Clock) -> AgentPool {
        AgentPool {
            connector,
            clock,
            idle: Arc::default(),
        }
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Sends a request once, and waits for the head of the response.
    ///
    /// An idle connection may already be closed. If hyper returns the request, no byte was sent,
    /// and another connection is used. No other request is sent twice.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`]. If in doubt, the request counts as sent.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<(Response<Incoming>, Lease), NoAnswer> {
        // Each iteration removes an idle connection, so the loop ends with a new one.
        loop {
            let (mut sender, fresh) = match self.take() {
                Some(sender) => (sender, false),
                None => {
                    let opened = self.connector.open().await;
                    (opened.map_err(NoAnswer::Unsent)?, true)
                }
            };
            let sent = tokio::time::timeout(limit, sender.try_send_request(request)).await;
            match sent {
                Ok(Ok(answer)) => {
                    let lease = Lease {
                        sender,
                        clock: self.clock.clone(),
                        idle: Arc::clone(&self.idle),
                    };
                    return Ok((answer, lease));
                }
                Ok(Err(mut failed)) => match failed.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(NoAnswer::BrokenOff(failed.into_error())),
                },
                Err(_) => return Err(NoAnswer::Late),
            }
        }
    }

    /// The idle connection that was used last. Old and closed connections are dropped.
    fn take(&self) -> Option<Sender> {
        let now = self.clock.now().mono;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|it| !it.sender.is_closed() && now.saturating_sub(it.since) < IDLE);
        let ready = idle.iter().rposition(|it| it.sender.is_ready())?;
        Some(idle.remove(ready).sender)
    }
}

impl Lease {
    /// Returns the connection to the pool after a complete response.
    pub(super) fn give_back(self) {
        let since = self.clock.now().mono;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE && !self.sender.is_closed() {
            idle.push(IdleGatewayConnection {
                sender: self.sender,
                since,
            });
        }
    }
}
