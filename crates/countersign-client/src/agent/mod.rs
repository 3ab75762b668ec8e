//! The agent: a proxy beside a machine that signs for clients that cannot.
//!
//! Unmodified clients speak plain HTTP/1.1 to it, over loopback or a Unix socket. A request's way:
//!
//! 1. `listener` accepts the connection, within a limit.
//! 2. `guard` refuses what a web page could have sent.
//! 3. `exchange` judges method and target by the gateway's own grammar ([`countersign_core`]), and says
//!    here what the gateway would refuse.
//! 4. `body` reads the body whole, within a budget, so that it can be hashed.
//! 5. `outgoing` makes the request for the gateway anew: a short list of the client's headers, never
//!    its credential.
//! 6. For each try it is signed afresh ([`crate::signing`]) by a clock that `skew` corrects, and sent
//!    by `pool` and `connect`.
//! 7. `retry` says what becomes of the outcome: another try, or an answer. What may have reached the
//!    backend is never sent again.
//! 8. The answer streams back (`answer`).
//!
//! Whoever can reach the agent is the machine: the guard keeps web pages out, and nobody else.

mod answer;
mod answer_first;
mod body;
pub mod connect;
mod exchange;
mod gateway_answer;
mod guard;
mod key;
mod listener;
mod notice;
mod outgoing;
mod pool;
pub mod refused;
mod retry;
pub mod skew;
mod stall;
pub mod tls_fault;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::file;
use crate::settings::{AgentSettings, Listen};
use connect::Connector;
use exchange::AgentExchange;
use guard::Guard;
use key::AgentKeys;
use listener::AgentListener;
use notice::{GatewayReachability, Notices};
use outgoing::ForwardedHeaderNames;
use pool::AgentPool;
use retry::RetryPolicy;
use skew::Skew;

/// A proxy that listens and does not serve yet.
pub struct Agent {
    listener: AgentListener,
    exchange: Arc<AgentExchange>,
    settings: AgentSettings,
    _watch: Option<crate::watch::Watch>,
}

/// Why the agent does not start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentStartError {
    /// The settings, or a file that they name, are wrong; one line for each mistake.
    #[error("{0}")]
    Configuration(String),
    /// The system refused something.
    #[error("{0}")]
    System(String),
}

impl Agent {
    /// Reads the key and the authorities, and takes the address. The gateway need not be there.
    ///
    /// # Errors
    ///
    /// What is wrong with the files, or why the address cannot be had.
    pub async fn bind(settings: AgentSettings, clock: Clock) -> Result<Agent, AgentStartError> {
        let (keys, gateway) = AgentKeys::load(&settings).map_err(AgentStartError::Configuration)?;
        let skew = Skew::new(gateway.is_confidential());
        let connector = Connector::new(gateway, settings.ca.as_deref())
            .map_err(AgentStartError::Configuration)?;
        let listener = AgentListener::bind(&settings.listen)
            .await
            .map_err(AgentStartError::System)?;
        let keys = Arc::new(keys);
        // A key that was replaced is read also while clients have every other descriptor.
        file::keep_in_reserve();
        let watch = key::reload_on_change(&keys)
            .inspect_err(|error| warn!("the key is not read again when it changes: {error}"))
            .ok();
        let guard = Guard::new(listener.port(), &settings.listen, &settings.hosts);
        let exchange = AgentExchange {
            guard,
            keys,
            skew,
            pool: AgentPool::new(connector, clock.clone()),
            clock,
            crossing: ForwardedHeaderNames::new(&settings.forward_headers),
            query: settings.query,
            budget: Arc::new(Semaphore::new(
                usize::try_from(settings.body_budget).unwrap_or(usize::MAX >> 3),
            )),
            max_body: settings.max_body,
            answer_timeout: settings.answer_timeout,
            patience: RetryPolicy::new(settings.retry_for),
            reach: GatewayReachability::default(),
            notices: Notices::default(),
        };
        Ok(Agent {
            listener,
            exchange: Arc::new(exchange),
            settings,
            _watch: watch,
        })
    }

    /// The TCP address it has, where it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.address()
    }

    /// Serves until `stop` resolves; then takes no further connection, lets requests in flight
    /// finish within the grace, and returns.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let keys = &self.exchange.keys;
        let gateway = &self.exchange.pool.connector().gateway;
        info!(
            listen = %self.listener,
            %gateway,
            machine = keys.current().id().as_str(),
            "signing"
        );
        if let Listen::Tcp(address) = &self.settings.listen
            && !address.ip().is_loopback()
        {
            warn!("{address} can be reached from other hosts: whoever reaches it is the machine");
        }
        if !gateway.is_confidential() {
            warn!("the gateway is spoken to in the clear: secrets can be read on the way");
        }
        // Said at the start, and not only when the first client waits for it.
        let probing = Arc::clone(&self.exchange);
        let probe = tokio::spawn(async move { probing.probe().await });
        let (connections, grace) = (self.settings.connections, self.settings.grace);
        self.listener
            .serve(self.exchange, connections, grace, stop)
            .await;
        probe.abort();
        info!("stopped");
    }
}
