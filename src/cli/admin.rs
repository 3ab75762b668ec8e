//! The admin listener of a running gateway, which `health` and `reload` ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, request};

use super::admin_tls;
use super::command_error::CommandError;
use super::configuration::ConfigArgs;
use crate::config::{self, AdminAccess, Environment, GatewayUrl};
use countersign_client::agent::connect::Connector;
use countersign_client::http_client::{self, ExchangeLimits};

/// Largest answer, in bytes: a line for each mistake of a large registry has room in it.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Where a command finds the running gateway.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// The admin listener's address, without TLS; default: admin of the configuration
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl AdminArgs {
    /// Sends a request to the admin listener; the status and the text of the answer.
    ///
    /// # Errors
    ///
    /// [`CommandError::Operation`]: there is no answer. [`CommandError::Configuration`]: the
    /// address cannot be read from the configuration.
    pub(super) fn ask(
        &self,
        environment: &Environment,
        request: request::Builder,
        time: Duration,
    ) -> Result<(http::StatusCode, String), CommandError> {
        let access = self.access(environment)?;
        let address = access.address;
        let limits = ExchangeLimits {
            time,
            answer: MAX_ANSWER,
        };
        let answer = exchange(&access, request, limits).map_err(|cause| {
            CommandError::Operation(format!(
                "cannot reach the admin listener at {address}: {cause}. Is the gateway running? Is \
                 this its admin.address (--admin, --config)?"
            ))
        })?;
        let text = String::from_utf8_lossy(answer.body()).trim().to_owned();
        Ok((answer.status(), text))
    }

    /// The listener to connect to. Other mistakes of a configuration do not matter here: the gateway
    /// runs with an earlier one.
    fn access(&self, environment: &Environment) -> Result<AdminAccess, CommandError> {
        if let Some(address) = self.admin {
            return Ok(AdminAccess {
                address,
                ..AdminAccess::default()
            });
        }
        let Some(file) = self.config.look_up(environment) else {
            return Ok(AdminAccess::default());
        };
        let access = config::admin_access(&file)
            .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?;
        Ok(AdminAccess {
            address: from_here(access.address),
            ..access
        })
    }
}

fn exchange(
    access: &AdminAccess,
    request: request::Builder,
    limits: ExchangeLimits,
) -> Result<Response<Bytes>, String> {
    let scheme = if access.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let gateway = GatewayUrl::parse(&format!("{scheme}://{}", access.address))?;
    let connector = match &access.tls {
        None => Connector::new(gateway, None)?,
        Some(tls) => Connector::with_tls(gateway, admin_tls::client_config(access, tls)?)?,
    };
    let request = request.body(Bytes::new()).map_err(|e| e.to_string())?;
    http_client::send(&connector, request, limits).map_err(|e| e.cause())
}

/// An address that takes connections from everywhere is reached on the loopback interface.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_the_loopback_interface() {
        for (configured, reached) in [
            ("0.0.0.0:9790", "127.0.0.1:9790"),
            ("[::]:9790", "[::1]:9790"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:9790", "10.0.0.7:9790"),
        ] {
            let configured = configured.parse().unwrap();
            assert_eq!(from_here(configured).to_string(), reached);
        }
    }
}
