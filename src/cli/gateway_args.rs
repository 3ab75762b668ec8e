//! The options that name a gateway and the operator who manages its registry.

use std::path::PathBuf;

use super::command_error::CommandError;
use super::management_client::ManagementClient;
use crate::config::GatewayUrl;
use countersign_client::agent::connect::Connector;
use countersign_client::signing::{Signer, key_file};

/// A gateway, and the operator whose key signs the calls to it.
#[derive(Debug, Default, clap::Args)]
pub(super) struct GatewayArgs {
    /// The gateway that manages the registry, in place of a file: https://host:port
    #[arg(
        long,
        value_name = "URL",
        global = true,
        value_parser = GatewayUrl::parse,
        requires_all = ["machine_id", "key"],
    )]
    pub(super) gateway: Option<GatewayUrl>,
    /// With --gateway: the id of the operator
    #[arg(long, value_name = "ID", global = true)]
    pub(super) machine_id: Option<String>,
    /// With --gateway: the operator's private key (PKCS#8 PEM, mode 0600 or stricter); - is
    /// standard input
    #[arg(long, value_name = "FILE", global = true, requires = "gateway")]
    pub(super) key: Option<PathBuf>,
    /// Certificate authorities to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE", global = true, requires = "gateway")]
    pub(super) cacert: Option<PathBuf>,
}

impl GatewayArgs {
    /// The client of the named gateway; `None` if none is named.
    ///
    /// # Errors
    ///
    /// The key or the authorities cannot be read, or the id is none.
    pub(super) fn client(&self) -> Result<Option<ManagementClient>, CommandError> {
        let (Some(gateway), Some(id), Some(file)) = (&self.gateway, &self.machine_id, &self.key)
        else {
            return Ok(None);
        };
        let (name, key) = match file.to_str() {
            Some("-") => (
                "--key -".into(),
                key_file::read_from(&mut std::io::stdin().lock()),
            ),
            _ => (file.display().to_string(), key_file::read_private(file)),
        };
        let key = key.map_err(|why| CommandError::Configuration(format!("{name}: {why}")))?;
        let signer = Signer::new(id, key)?;
        let connector = Connector::new(gateway.clone(), self.cacert.as_deref())
            .map_err(CommandError::Configuration)?;
        Ok(Some(ManagementClient::new(connector, signer)))
    }
}
