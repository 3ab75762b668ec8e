//! The key that the agent signs with: read at the start, and again when its file changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info};

use crate::gateway_url::GatewayUrl;
use crate::settings::{AgentSettings, Who};
use crate::signing::{Signer, identity, key_file};
use crate::watch::{Complaint, RETRY, Watch, watch};
use countersign_core::identity::PublicKey;

/// The last key that was good.
pub(super) struct AgentKeys {
    who: Who,
    current: ArcSwap<Signer>,
    complaint: Complaint,
}

impl AgentKeys {
    /// Reads the key, and the identity where there is one; with the gateway that is meant.
    ///
    /// # Errors
    ///
    /// What is wrong, with the file; nothing of its content.
    pub(super) fn load(settings: &AgentSettings) -> Result<(AgentKeys, GatewayUrl), String> {
        let (signer, api_url) = read(&settings.who)?;
        let gateway = match (&settings.gateway, api_url) {
            (Some(gateway), _) => gateway.clone(),
            (None, Some(url)) => {
                GatewayUrl::parse(&url).map_err(|text| format!("apiUrl of the identity: {text}"))?
            }
            (None, None) => return Err("the identity names no apiUrl; name the gateway".into()),
        };
        if let Some(text) = settings.plain_refusal(&gateway) {
            return Err(text);
        }
        let keys = AgentKeys {
            who: settings.who.clone(),
            current: ArcSwap::from_pointee(signer),
            complaint: Complaint::default(),
        };
        Ok((keys, gateway))
    }

    pub(super) fn current(&self) -> Arc<Signer> {
        self.current.load_full()
    }

    fn files(&self) -> Vec<PathBuf> {
        match &self.who {
            Who::Key { file, .. } => vec![file.clone()],
            Who::Identity(folder) => vec![folder.join("identity.json"), folder.join("private.pem")],
        }
    }

    /// A file that went bad changes nothing: a half-written key must not stop a machine. It is tried again until it
    /// is good; when, is returned.
    fn reload(&self) -> Option<Duration> {
        match read(&self.who) {
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

/// Reads the key again whenever its file changes, until the watch is dropped.
///
/// # Errors
///
/// That the watch cannot be started.
pub(super) fn reload_on_change(keys: &Arc<AgentKeys>) -> std::io::Result<Watch> {
    let (files, reloaded) = (Arc::clone(keys), Arc::clone(keys));
    watch(move || files.files(), move || reloaded.reload())
}

fn read(who: &Who) -> Result<(Signer, Option<String>), String> {
    let (file, id, api_url) = match who {
        Who::Key { file, machine_id } => (file.clone(), machine_id.clone(), None),
        Who::Identity(folder) => {
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
