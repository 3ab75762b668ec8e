//! The agent: a proxy beside a machine that signs for clients that cannot.
//!
//! Unmodified clients speak plain HTTP/1.1 to the agent, over loopback or a Unix socket. The stages
//! of a request:
//!
//! 1. `listener` accepts the connection, within a limit.
//! 2. `guard` refuses requests of web pages.
//! 3. `exchange` checks method and target by the gateway's grammar ([`countersign_core`]), and
//!    refuses what the gateway would refuse.
//! 4. `body` reads the whole body, within a memory budget, so that it can be hashed.
//! 5. `outgoing` builds the request to the gateway: a short list of the client's headers, never its
//!    credential.
//! 6. Each attempt is signed anew ([`crate::signing`]) with a clock that `skew` corrects. `pool`
//!    and `connect` send it.
//! 7. `retry` decides between another attempt and a response. A request that may have reached the
//!    backend is never retried.
//! 8. `answer` streams the response back.
//!
//! Beside the requests, `renewal` gives the machine a new key before its end.
//!
//! Any process that can connect to the agent acts as the machine. The agent does not authenticate
//! clients; the guard keeps out web pages only.

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
mod renewal;
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
use renewal::AgentRenewal;
use retry::RetryPolicy;
use skew::Skew;

/// An agent that listens and does not serve yet.
pub struct Agent {
    listener: AgentListener,
    exchange: Arc<AgentExchange>,
    settings: AgentSettings,
    renewal: Option<AgentRenewal>,
    _watch: Option<crate::watch::Watch>,
}

/// Why the agent does not start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentStartError {
    /// Mistakes in the settings or in a file that they name, one per line.
    #[error("{0}")]
    Configuration(String),
    /// The system returned an error.
    #[error("{0}")]
    System(String),
}

impl Agent {
    /// Reads the key and the certificate authorities, and binds the address. The gateway need not
    /// run.
    ///
    /// # Errors
    ///
    /// The mistakes in the files, or why the address cannot be bound.
    pub async fn bind(settings: AgentSettings, clock: Clock) -> Result<Agent, AgentStartError> {
        let (keys, gateway) = AgentKeys::load(&settings).map_err(AgentStartError::Configuration)?;
        let skew = Skew::new(gateway.is_confidential());
        let connector = Connector::new(gateway, settings.ca.as_deref())
            .map_err(AgentStartError::Configuration)?;
        let listener = AgentListener::bind(&settings.listen)
            .await
            .map_err(AgentStartError::System)?;
        let keys = Arc::new(keys);
        let renewal = match settings.renew {
            false => None,
            true => {
                let gateway = connector.gateway.clone();
                let own = Connector::new(gateway, settings.ca.as_deref());
                let own = own.map_err(AgentStartError::Configuration)?;
                Some(AgentRenewal::new(Arc::clone(&keys), own, clock.clone()))
            }
        };
        // A replaced key must be readable even if clients use up the descriptors.
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
            forwarded: ForwardedHeaderNames::new(&settings.forward_headers),
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
            renewal,
            _watch: watch,
        })
    }

    /// The bound TCP address; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.address()
    }

    /// Serves until `stop` resolves. Then it accepts no connection, lets in-flight requests finish
    /// within the grace period, and returns.
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
            warn!(
                "{address} can be reached from other hosts, and any process that connects acts as the machine"
            );
        }
        if !gateway.is_confidential() {
            warn!("the gateway is spoken to in the clear: secrets can be read on the way");
        }
        // At the start, so that the log shows a fault before the first client does.
        let probing = Arc::clone(&self.exchange);
        let probe = tokio::spawn(async move { probing.probe().await });
        let renewal = self.renewal.map(|renewal| tokio::spawn(renewal.run()));
        let (connections, grace) = (self.settings.connections, self.settings.grace);
        self.listener
            .serve(self.exchange, connections, grace, stop)
            .await;
        probe.abort();
        if let Some(renewal) = renewal {
            renewal.abort();
        }
        info!("stopped");
    }
}
