//! Forwarding: an authorized request goes to one server of its upstream, at most once, and the
//! client gets the server's response, or a refusal that tells why there is none.

use std::sync::Arc;
use std::time::Duration;

use pingora::connectors::http::Connector;
use tracing::warn;

use super::adapters::{AdaptedRequest, Adapters, ForwardEnd};
use super::client::{Afterwards, Client};
use super::connect::connect;
use super::exchange::Exchange;
use super::failure::ForwardFailure;
use crate::gateway::receive::body::{Body, BodyBudget};
use crate::gateway::record::authorized::{AuthorizedRequest, RecordedPass};
use crate::gateway::record::outcome::RequestOutcome;
use crate::gateway::upstream::credentials::state::Injection;
use crate::gateway::upstream::pool::connection::Connection;
use crate::gateway::upstream::pool::server::UpstreamServer;
use countersign_client::clock::Clock;

/// Forwards requests.
pub(crate) struct Forwarder {
    /// Connects for the credential checks, which are requests of the gateway itself.
    lookups: Arc<Connector>,
    adapters: Adapters,
    clock: Clock,
}

impl Forwarder {
    /// `budget` is that of bodies: the answers that an adapter reads count towards it.
    pub(crate) fn new(budget: BodyBudget, clock: Clock) -> Forwarder {
        Forwarder {
            lookups: Arc::new(Connector::new(None)),
            adapters: Adapters::new(budget),
            clock,
        }
    }

    /// Forwards the request, and answers the client. Returns how the request ended, and what the
    /// client's connection is good for then.
    pub(crate) async fn forward(
        &self,
        client: &mut Client,
        request: &AuthorizedRequest,
        body: Body,
    ) -> (RequestOutcome, Afterwards) {
        let started = self.now();
        let injection = injection_of(request);
        let ForwardEnd {
            failure,
            refusal,
            backend_paths,
        } = match &request.plan.route(request.route).adapter {
            None => ForwardEnd::of(self.try_servers(client, request, injection, body).await),
            Some(adapter) => {
                let adapted = AdaptedRequest {
                    request,
                    adapter,
                    injection,
                    lookups: &self.lookups,
                    clock: &self.clock,
                };
                self.adapters.run(client, &adapted, &body).await
            }
        };
        let refusal = refusal.or_else(|| failure.as_ref().and_then(ForwardFailure::refusal));
        if let Some(refusal) = &refusal {
            client.refuse(refusal, request.provenance.id).await;
        }
        let status = client.status();
        if let Some(ForwardFailure { error, .. }) = &failure {
            // The text of the error may hold the peer's words; its kind and source suffice.
            warn!(
                request_id = %request.provenance.id,
                error = error.etype().as_str(),
                source = error.esource().as_str(),
                status,
                "a forwarded request failed"
            );
        }
        let outcome = RequestOutcome {
            status,
            bytes: client.bytes_sent(),
            forwarding_took: self.now().saturating_sub(started),
            failed: failure.is_some(),
            refusal: refusal.map(|refusal| refusal.code()),
            backend_paths,
        };
        (outcome, client.afterwards())
    }

    /// Sends the request to the first server of the upstream that accepts a connection. No other
    /// server gets it: a request is sent at most once.
    async fn try_servers(
        &self,
        client: &mut Client,
        request: &AuthorizedRequest,
        injection: Option<&Injection>,
        body: Body,
    ) -> Result<(), ForwardFailure> {
        let connected = tokio::select! {
            biased; // nothing is sent for a client that has left
            gone = client.gone() => Err(ForwardFailure::unsent(gone)),
            connected = connect(request, &self.clock) => connected,
        };
        let (server, connection) = connected?;
        self.exchange(client, request, injection, body, &server, connection)
            .await
    }

    /// Runs the exchange with the server that accepted the connection.
    async fn exchange(
        &self,
        client: &mut Client,
        request: &AuthorizedRequest,
        injection: Option<&Injection>,
        body: Body,
        server: &Arc<UpstreamServer>,
        mut connection: Connection,
    ) -> Result<(), ForwardFailure> {
        let exchange = Exchange {
            request,
            injection,
            server,
            lookups: &self.lookups,
        };
        match exchange.run(&mut connection, client, body).await {
            Ok(finished) => {
                connection.put_away(server, &finished, self.now()).await;
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
        self.clock.now().mono
    }
}

/// The credential that the request carries. Only a signed request has one.
fn injection_of(request: &AuthorizedRequest) -> Option<&Injection> {
    match &request.pass {
        RecordedPass::Signed(signed) => signed.injection(),
        RecordedPass::Open(_) | RecordedPass::Unsigned(..) => None,
    }
}
