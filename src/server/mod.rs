//! The running gateway: everything is made and bound here, and nothing serves before all of it
//! stands.
//!
//! Layers: `listen` <- `reload` <- `status` <- `admin`
//!
//! `listen` binds the listeners, accepts connections and decrypts them; `reload` reads files again
//! while the gateway runs; `status` tells how the gateway is; `admin` answers browsers, probes, scrapes
//! and the order to reload.
//! `gateway_server` wires them.

mod admin;
mod audit_log;
mod clock_watch;
mod examine;
mod gateway_server;
mod listen;
mod migration_routes;
mod opened_registry;
mod reload;
mod replay_cache;
mod shutdown;
mod start_error;
mod status;

pub(crate) use self::admin::order;
pub use self::examine::{Findings, examine};
pub use self::gateway_server::GatewayServer;
pub use self::shutdown::signals;
pub use self::start_error::StartError;
