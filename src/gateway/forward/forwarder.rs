//! Forwarding: an authorized request goes to one server of its upstream, at most once, and the
//! client gets the server's response, or a refusal that tells why there is none.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
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
use crate::gateway::upstream::assertion::NoAssertion;
use crate::gateway::upstream::credentials::Carried;
use crate::gateway::upstream::credentials::injection::Injection;
use crate::gateway::upstream::login::token::MachineToken;
use crate::gateway::upstream::login::{BackendLogin, LoginMeans};
use crate::gateway::upstream::pool::connection::Connection;
use crate::gateway::upstream::pool::server::UpstreamServer;
use crate::registry::RegistryStore;
use countersign_client::clock::Clock;
use countersign_core::decision::Signed;
use countersign_core::refusal::Refusal;

/// Forwards requests.
pub(crate) struct Forwarder {
    /// Connects for the credential checks, which are requests of the gateway itself.
    lookups: Arc<Connector>,
    adapters: Adapters,
    registry: Arc<RegistryStore>,
    clock: Clock,
}

impl Forwarder {
    /// `budget` is that of bodies: the answers that an adapter reads count towards it. `registry`
    /// tells whether a machine was changed during its login.
    pub(crate) fn new(budget: BodyBudget, registry: Arc<RegistryStore>, clock: Clock) -> Forwarder {
        Forwarder {
            lookups: Arc::new(Connector::new(None)),
            adapters: Adapters::new(budget),
            registry,
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
        let (injection, end) = match self.injection_of(client, request).await {
            Ok(injection) => {
                let end = self.answer(client, request, injection.as_ref(), body).await;
                (injection, end)
            }
            Err(failure) => (None, ForwardEnd::of(Err(failure))),
        };
        let ForwardEnd {
            failure,
            refusal,
            backend_paths,
        } = end;
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
            injection,
            backend_paths,
        };
        (outcome, client.afterwards())
    }

    /// Answers the client: by forwarding the request, or by the reads of an adapter.
    async fn answer(
        &self,
        client: &mut Client,
        request: &AuthorizedRequest,
        injection: Option<&Injection>,
        body: Body,
    ) -> ForwardEnd {
        let Some(adapter) = &request.plan.route(request.route).adapter else {
            return ForwardEnd::of(self.try_servers(client, request, injection, body).await);
        };
        let adapted = AdaptedRequest {
            request,
            adapter,
            injection,
            lookups: &self.lookups,
            clock: &self.clock,
        };
        self.adapters.run(client, &adapted, &body).await
    }

    /// The secret that the request carries; a machine may have to log in for it. Only a signed
    /// request has one.
    async fn injection_of(
        &self,
        client: &mut Client,
        request: &AuthorizedRequest,
    ) -> Result<Option<Injection>, ForwardFailure> {
        let RecordedPass::Signed(signed) = &request.pass else {
            return Ok(None);
        };
        let login = match signed.carried() {
            None => return Ok(None),
            Some(Carried::Secret(injection)) => return Ok(Some(injection.clone())),
            Some(Carried::FromLogin(login)) => login,
        };
        let token = match login.known_token(signed.signed()).await {
            Some(token) => token,
            None => {
                let logging_in = self.log_in(request, signed.signed(), login);
                tokio::select! {
                    biased; // a client that has left needs no token
                    gone = client.gone() => return Err(ForwardFailure::unsent(gone)),
                    token = logging_in => token?,
                }
            }
        };
        Ok(Some(Injection::Token {
            login: Arc::clone(login),
            token,
        }))
    }

    async fn log_in(
        &self,
        request: &AuthorizedRequest,
        signed: &Signed,
        login: &Arc<BackendLogin>,
    ) -> Result<Arc<MachineToken>, ForwardFailure> {
        let plan = &request.plan;
        let no_token =
            || ForwardFailure::refused(Refusal::UpstreamCredential, "the machine has no token");
        let means = LoginMeans {
            pool: Arc::clone(request.pool()),
            assertions: plan.assertions().ok_or_else(no_token)?.clone(),
            registry: Arc::clone(&self.registry),
            clock: self.clock.clone(),
        };
        login.log_in(signed, means).await.map_err(|_| no_token())
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
        let assertion = self.assertion_of(request)?;
        let exchange = Exchange {
            request,
            injection,
            assertion,
            server,
            lookups: &self.lookups,
            clock: &self.clock,
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

    /// The gateway's assertion about the machine and its request, where the route sends one.
    fn assertion_of(
        &self,
        request: &AuthorizedRequest,
    ) -> Result<Option<HeaderValue>, ForwardFailure> {
        let plan = &request.plan;
        let RecordedPass::Signed(signed) = &request.pass else {
            return Ok(None);
        };
        if !plan.route(request.route).assertion {
            return Ok(None);
        }
        let audience = request.upstream().assertion_audience();
        let made = plan
            .assertions()
            .zip(audience)
            .map(|(assertions, audience)| {
                let now = self.clock.now().unix_seconds();
                assertions.for_request(signed.signed(), audience, now)
            });
        match made {
            Some(Ok(assertion)) => Ok(Some(assertion)),
            // The configuration is checked for both, and the system has random bytes.
            Some(Err(NoAssertion)) | None => Err(ForwardFailure::refused(
                Refusal::UpstreamCredential,
                "no assertion can be made",
            )),
        }
    }

    fn now(&self) -> Duration {
        self.clock.now().mono
    }
}
