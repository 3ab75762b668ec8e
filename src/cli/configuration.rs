//! The configuration that a command reads where none is named, and the admin listener that it names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::config::{self, Environment};

/// Names the configuration in place of `--config`.
const VARIABLE: &str = "COUNTERSIGN_CONFIG";

/// Where a configuration is looked for, in this order.
const PLACES: [&str; 2] = ["countersign.yaml", "/etc/countersign/countersign.yaml"];

/// The configuration file: the one that is named, else the first that is there.
///
/// # Errors
///
/// [`Failure::Usage`]: none is named, and none is there.
pub(super) fn find(named: Option<&Path>, environment: &Environment) -> Result<PathBuf, Failure> {
    search(named, environment, &PLACES).ok_or_else(|| {
        Failure::Usage(format!(
            "there is no configuration file: name it with --config FILE or ${VARIABLE}; neither \
             ./{} nor {} exists",
            PLACES[0], PLACES[1]
        ))
    })
}

/// A file that is named need not exist: that it cannot be read is said of it.
fn search(named: Option<&Path>, environment: &Environment, places: &[&str]) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    if let Ok(named) = (environment.variable)(VARIABLE) {
        return Some(named.into());
    }
    // What cannot be looked at may be there: reading it says why not.
    let is_there = |place: &&&str| Path::new(place).try_exists().unwrap_or(true);
    places.iter().find(is_there).map(PathBuf::from)
}

/// Where a command finds the running gateway.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// The admin listener's address; default: admin.address of the configuration
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    admin: Option<SocketAddr>,
    /// The gateway's configuration; default: $COUNTERSIGN_CONFIG, ./countersign.yaml,
    /// /etc/countersign/countersign.yaml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl AdminArgs {
    /// The address to connect to. Other mistakes of a configuration do not matter here: the gateway
    /// runs with an earlier one.
    ///
    /// # Errors
    ///
    /// [`Failure::Configuration`]: the configuration cannot be read, or its admin address is none.
    pub(super) fn address(&self, environment: &Environment) -> Result<SocketAddr, Failure> {
        if let Some(address) = self.admin {
            return Ok(address);
        }
        let Some(file) = search(self.config.as_deref(), environment, &PLACES) else {
            return Ok(config::DEFAULT_ADMIN);
        };
        let address = config::admin_address(&file)
            .map_err(|mistakes| Failure::Configuration(mistakes.to_string()))?;
        Ok(from_here(address))
    }
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

/// That the admin listener did not answer.
pub(super) fn unreachable(address: SocketAddr, error: &ureq::Error) -> Failure {
    let cause = match error {
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    Failure::Operation(format!(
        "cannot reach the admin listener at {address}: {cause}. Is the gateway running? Is this its \
         admin.address (--admin, --config)?"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::env::VarError;

    use super::*;

    fn environment(variable: fn(&str) -> Result<String, VarError>) -> Environment {
        Environment {
            variable,
            ..Environment::of_process(1_800_000_000)
        }
    }

    #[test]
    fn a_configuration_is_the_named_one_then_the_variables_then_the_first_that_is_there() {
        let none = environment(|_| Err(VarError::NotPresent));
        let variable = environment(|name| {
            assert_eq!(name, "COUNTERSIGN_CONFIG");
            Ok("of/variable.yaml".into())
        });
        let named = Some(Path::new("named.yaml"));
        let places = ["no/such/file.yaml", "Cargo.toml", "README.md"];
        assert_eq!(search(named, &variable, &places), named.map(Path::to_owned));
        let found = |environment| search(None, environment, &places);
        assert_eq!(found(&variable), Some("of/variable.yaml".into()));
        assert_eq!(found(&none), Some("Cargo.toml".into()));
        assert_eq!(search(None, &none, &places[..1]), None);
    }

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
