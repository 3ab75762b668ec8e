//! Connections to the gateway that are open and idle, and the sending of one request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use super::connect::{Connector, NoConnection, Sender};
use crate::clock::Clock;

/// Most idle connections kept.
const MOST_IDLE: usize = 64;

/// How long one is kept: well below the 75 s after which a gateway closes it, so that the two seldom
/// meet.
const IDLE: Duration = Duration::from_secs(30);

/// The connections of one agent.
pub(super) struct AgentPool {
    connector: Connector,
    clock: Clock,
    idle: Arc<Mutex<Vec<IdleGatewayConnection>>>,
}

struct IdleGatewayConnection {
    sender: Sender,
    since: Duration,
}

/// A connection in use. Dropped, it is closed.
pub(super) struct Lease {
    sender: Sender,
    clock: Clock,
    idle: Arc<Mutex<Vec<IdleGatewayConnection>>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Not a byte of the request went out.
    Unsent(NoConnection),
    /// It went out, or may have, and the connection broke.
    BrokenOff(hyper::Error),
    /// It went out, and nothing came back in time.
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

    /// Sends a request once, and waits for the head of its answer.
    ///
    /// An idle connection may turn out to be closed; where hyper gives the request back, it never left
    /// it, and another connection is taken. Nothing else is sent a second time.
    ///
    /// # Errors
    ///
    /// See [`NoAnswer`]. In doubt the request counts as sent.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<(Response<Incoming>, Lease), NoAnswer> {
        // Each turn takes an idle connection away, and the last one is fresh: the loop ends.
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

    /// The idle connection that was used last, and throws away those that are old or closed.
    fn take(&self) -> Option<Sender> {
        let now = self.clock.now().mono;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|it| !it.sender.is_closed() && now.saturating_sub(it.since) < IDLE);
        let ready = idle.iter().rposition(|it| it.sender.is_ready())?;
        Some(idle.remove(ready).sender)
    }
}

impl Lease {
    /// Keeps the connection for the next request, its answer being complete.
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
