//! A verified request goes to a server of its upstream, at most once, and the client gets the
//! server's answer or is told why there is none.

use std::sync::Arc;
use std::time::Duration;

use pingora::connectors::http::Connector;
use pingora::{Error, ErrorSource, ErrorType};
use tracing::warn;

use crate::auth::refusal::Refusal;
use crate::clock::Clock;
use crate::config::ConnectionReuse;
use crate::gateway::Gateway;
use crate::gateway::decide::open::OpenRecorded;
use crate::gateway::decide::plan::Plan;
use crate::gateway::decide::unsigned::UnsignedRecorded;
use crate::gateway::forward::client::{Afterwards, Client};
use crate::gateway::forward::exchange::Exchange;
use crate::gateway::forward::upstream_request::Provenance;
use crate::gateway::receive::body::Body;
use crate::gateway::record::authorized::Recorded;
use crate::gateway::record::decision_record::Ending;
use crate::gateway::upstream::pool::{self, Connection, Owner, Server, Walk};

/// A recorded request on its way to the backend. Only a [`Permit`] makes one, and nothing is
/// forwarded without one.
#[derive(Debug)]
pub(crate) struct Passage {
    /// What it was judged by, and is forwarded by.
    pub(crate) plan: Arc<Plan>,
    pub(crate) permit: Permit,
    pub(crate) provenance: Provenance,
    pub(crate) route: usize,
}

/// What lets a request pass.
#[derive(Debug)]
pub(crate) enum Permit {
    /// A machine's signature.
    Signed(Recorded),
    /// An open route.
    Open(OpenRecorded),
    /// A route that still lets requests pass that nobody signed.
    Unsigned(UnsignedRecorded),
}

impl Passage {
    /// Whose connections to the servers it may use, and leave behind; `None`: a new one, for itself
    /// alone, because nothing is known of the caller.
    fn connections_of(&self) -> Option<Owner> {
        if self.plan.upstream(self.route).reuse == ConnectionReuse::Shared {
            return Some(Owner::Everybody);
        }
        match &self.permit {
            Permit::Signed(recorded) => Some(Owner::Machine(*recorded.signed().key().as_bytes())),
            Permit::Open(_) => Some(Owner::Open),
            Permit::Unsigned(unsigned) => unsigned.token().map(Owner::Token),
        }
    }
}

/// What forwards.
pub(crate) struct Forward {
    gateway: Arc<Gateway>,
    /// For questions of the gateway's own.
    lookups: Arc<Connector>,
}

/// Why a request has no answer, or only part of one.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<Error>,
    /// Some of the request may have reached a server.
    sent: bool,
    /// Why the backend's answer was not passed on, where that was the gateway's decision.
    verdict: Option<Refusal>,
}

impl Forward {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Forward {
        Forward {
            gateway,
            lookups: Arc::new(Connector::new(None)),
        }
    }

    /// Forwards the request, answers the client, and writes down how it ended; what the client's
    /// connection is good for then.
    pub(crate) async fn forward(
        &self,
        client: &mut Client,
        passage: &Passage,
        body: Body,
    ) -> Afterwards {
        let started = self.now();
        let failure = self.walk(client, passage, body).await.err();
        let refusal = failure.as_ref().and_then(Failure::refusal);
        if let Some(refusal) = &refusal {
            client.refuse(refusal, passage.provenance.id).await;
        }
        let status = client.status();
        if let Some(Failure { error, .. }) = &failure {
            // `Error`'s own text may hold the peer's words; its kind and source suffice.
            warn!(
                request_id = %passage.provenance.id,
                error = error.etype().as_str(),
                source = error.esource().as_str(),
                status,
                "a forwarded request failed"
            );
        }
        self.gateway.forwarded(
            passage,
            Ending {
                status,
                bytes: client.bytes_sent(),
                upstream_took: self.now().saturating_sub(started),
                failed: failure.is_some(),
                refusal: refusal.as_ref(),
            },
        );
        client.afterwards()
    }

    /// Tries the servers of the upstream until one takes a connection. That one has the request,
    /// whatever becomes of it: a verified request goes out at most once.
    async fn walk(
        &self,
        client: &mut Client,
        passage: &Passage,
        body: Body,
    ) -> Result<(), Failure> {
        let pool = passage.plan.pool(passage.route);
        let mut walk = Walk::default();
        while let Some(server) = pool.step(&mut walk, self.now()) {
            let connecting = Connection::to(&server, passage.connections_of(), self.now());
            let connected = tokio::select! {
                biased; // nothing is sent for a client that has left
                gone = client.gone() => return Err(Failure::unsent(gone)),
                connected = connecting => connected,
            };
            match connected {
                Ok(connection) => {
                    return self
                        .exchange(client, passage, body, &server, connection)
                        .await;
                }
                Err(error) => {
                    let why = pool::reason(&error);
                    warn!(server = %server.address(), error = why, "cannot reach a server of the upstream");
                    server.refused_connection(self.now());
                    if !pool.has_more(&walk) {
                        return Err(Failure::unsent(error.into_up()));
                    }
                }
            }
        }
        Error::e_explain(ErrorType::ConnectError, "there is no server to try")
            .map_err(|error| Failure::unsent(error.into_up()))
    }

    /// Has the exchange with the server that took the connection.
    async fn exchange(
        &self,
        client: &mut Client,
        passage: &Passage,
        body: Body,
        server: &Arc<Server>,
        mut connection: Connection,
    ) -> Result<(), Failure> {
        let exchange = Exchange {
            forward: self,
            passage,
            server,
        };
        match exchange.run(&mut connection, client, body).await {
            Ok(exchanged) => {
                connection.put_away(server, &exchanged, self.now()).await;
                Ok(())
            }
            Err(failure) => {
                if failure.is_timeout_of_server() {
                    server.timed_out(self.now());
                }
                Err(failure)
            }
        }
    }

    fn now(&self) -> Duration {
        self.clock().now().mono
    }

    /// What questions of the gateway's own are asked with.
    pub(crate) fn lookups(&self) -> Arc<Connector> {
        Arc::clone(&self.lookups)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.gateway.clock
    }
}

impl Failure {
    /// Nothing of the request has left the gateway.
    pub(crate) fn unsent(error: Box<Error>) -> Failure {
        Failure {
            error,
            sent: false,
            verdict: None,
        }
    }

    pub(crate) fn sent(error: Box<Error>) -> Failure {
        Failure {
            error,
            sent: true,
            verdict: None,
        }
    }

    /// Nothing has moved for too long, while the request was being sent or after it.
    pub(crate) fn stalled(sending: bool) -> Failure {
        let (kind, what) = match sending {
            true => (
                ErrorType::WriteTimedout,
                "the server takes no more of the request",
            ),
            false => (ErrorType::ReadTimedout, "the server does not answer"),
        };
        Failure::sent(Error::explain(kind, what).into_up())
    }

    /// The backend has answered, and the client is told something else instead.
    pub(crate) fn verdict(refusal: Refusal, why: &'static str) -> Failure {
        Failure {
            error: Error::explain(ErrorType::InvalidHTTPHeader, why).into_up(),
            sent: true,
            verdict: Some(refusal),
        }
    }

    /// Whether the server, or the way there, is to blame.
    fn is_of_server(&self) -> bool {
        self.verdict.is_none() && *self.error.esource() == ErrorSource::Upstream
    }

    fn is_timeout_of_server(&self) -> bool {
        let kind = self.error.etype();
        self.is_of_server() && matches!(kind, ErrorType::ReadTimedout | ErrorType::WriteTimedout)
    }

    /// What the client is told; `None` where it is gone. Once something has been sent, no answer
    /// may say that nothing was.
    fn refusal(&self) -> Option<Refusal> {
        use ErrorType::{
            ConnectError, ConnectNoRoute, ConnectProxyFailure, ConnectRefused, ConnectTimedout,
            InvalidCert, ReadTimedout, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout,
            WriteTimedout,
        };
        if let Some(verdict) = &self.verdict {
            return Some(verdict.clone());
        }
        match (self.error.esource(), self.error.etype()) {
            (ErrorSource::Downstream, _) => None,
            (
                _,
                ConnectError | ConnectNoRoute | ConnectProxyFailure | ConnectRefused
                | ConnectTimedout | InvalidCert | TLSHandshakeFailure | TLSHandshakeTimedout
                | SocketError,
            ) if !self.sent => Some(Refusal::UpstreamUnreachable),
            (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => Some(Refusal::UpstreamTimeout),
            (ErrorSource::Upstream, _) => Some(Refusal::UpstreamError),
            _ if self.sent => Some(Refusal::UpstreamError),
            (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Refusal::Internal),
        }
    }
}
