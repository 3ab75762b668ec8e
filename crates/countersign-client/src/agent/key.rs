//! The agent's signing key. It is read at the start and reloaded when its file changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info};

use crate::gateway_url::GatewayUrl;
use crate::settings::{AgentSettings, MachineCredentials};
use crate::signing::{Signer, identity, key_file};
use crate::watch::{Complaint, RETRY, Watch, watch};
use countersign_core::identity::PublicKey;

/// The last usable key.
pub(super) struct AgentKeys {
    credentials: MachineCredentials,
    current: ArcSwap<Signer>,
    complaint: Complaint,
}

impl AgentKeys {
    /// Reads the key and the gateway's URL.
    ///
    /// # Errors
    ///
    /// The file and the cause, without the file's content.
    pub(super) fn load(settings: &AgentSettings) -> Result<(AgentKeys, GatewayUrl), String> {
        let (signer, api_url) = read(&settings.credentials)?;
        let gateway = match (&settings.gateway, api_url) {
            (Some(gateway), _) => gateway.clone(),
            (None, Some(url)) => {
                GatewayUrl::parse(&url).map_err(|text| format!("apiUrl of the identity: {text}"))?
            }
            (None, None) => return Err("identity.json has no apiUrl; set the gateway".into()),
        };
        if let Some(text) = settings.plain_refusal(&gateway) {
            return Err(text);
        }
        let keys = AgentKeys {
            credentials: settings.credentials.clone(),
            current: ArcSwap::from_pointee(signer),
            complaint: Complaint::default(),
        };
        Ok((keys, gateway))
    }

    pub(super) fn current(&self) -> Arc<Signer> {
        self.current.load_full()
    }

    /// The file of the key.
    pub(super) fn key_file(&self) -> PathBuf {
        match &self.credentials {
            MachineCredentials::Key { file, .. } => file.clone(),
            MachineCredentials::Identity(folder) => folder.join("private.pem"),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        match &self.credentials {
            MachineCredentials::Key { file, .. } => vec![file.clone()],
            MachineCredentials::Identity(folder) => {
                vec![folder.join("identity.json"), folder.join("private.pem")]
            }
        }
    }

    /// Reloads the key. On an error the last key stays in use, so that a half-written file does not
    /// stop the machine. Returns when to retry.
    fn reload(&self) -> Option<Duration> {
        match read(&self.credentials) {
            Ok((signer, _)) => {
                self.complaint.is_over();
                let old = self.current();
                if (signer.id(), signer.public_key()) != (old.id(), old.public_key()) {
                    info!(key = fingerprint(&signer), "the key has changed");
                    self.current.store(Arc::new(signer));
                }
                None
            }
            Err(text) => {
                if self.complaint.is_new(&text) {
                    error!("the key is not read again, the last good one stays: {text}");
                }
                Some(RETRY)
            }
        }
    }
}

/// Reloads the key whenever its file changes, until the watch is dropped.
///
/// # Errors
///
/// If the watch cannot start.
pub(super) fn reload_on_change(keys: &Arc<AgentKeys>) -> std::io::Result<Watch> {
    let (files, reloaded) = (Arc::clone(keys), Arc::clone(keys));
    watch(move || files.files(), move || reloaded.reload())
}

fn read(credentials: &MachineCredentials) -> Result<(Signer, Option<String>), String> {
    let (file, id, api_url) = match credentials {
        MachineCredentials::Key { file, machine_id } => (file.clone(), machine_id.clone(), None),
        MachineCredentials::Identity(folder) => {
            let identity = identity::read(folder)?;
            (identity.key, identity.machine_id, identity.api_url)
        }
    };
    let key =
        key_file::read_private(&file).map_err(|fault| format!("{}: {fault}", file.display()))?;
    let signer = Signer::new(&id, key).map_err(|why| why.to_string())?;
    Ok((signer, api_url))
}

fn fingerprint(signer: &Signer) -> String {
    PublicKey::from_bytes(&signer.public_key())
        .map(|key| key.fingerprint().to_string())
        .unwrap_or_default()
}
