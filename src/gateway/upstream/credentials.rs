//! The credentials of the backends: which one a request carries, and whether it can be sent.

pub(crate) mod check;
pub(crate) mod state;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;

use self::state::{CredentialState, Injection};
use crate::config::headers::is_same_header;
use crate::config::{Config, Credential};
use crate::metrics::Metrics;
use countersign_core::identity::Machine;

/// The credentials of one plan.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The credentials that machines may name.
    named: HashMap<String, Arc<CredentialState>>,
    /// The upstreams' own credentials, by the index of the upstream.
    own: Vec<Option<Arc<CredentialState>>>,
    /// The names of all their headers.
    headers: Vec<HeaderName>,
}

/// The credential for a request to one upstream.
#[derive(Debug)]
pub(crate) enum Choice {
    /// It carries no credential.
    Nothing,
    Carry(Injection),
    /// The request should carry this credential, which has no value. It must not be forwarded,
    /// least of all with another credential, which may have more rights.
    NoValue(Arc<CredentialState>),
    /// The machine names a credential that is not configured. As with [`Choice::NoValue`], no other
    /// may take its place.
    NotConfigured,
}

impl Credentials {
    pub(crate) fn new(config: &Config, metrics: &Metrics) -> Credentials {
        let state =
            |configured: &Credential| Arc::new(CredentialState::new(configured.clone(), metrics));
        let own = config.upstreams.iter();
        let own: Vec<_> = own.map(|up| up.credential.as_ref().map(state)).collect();
        let named: HashMap<_, _> = (config.credentials.iter())
            .map(|credential| (credential.name.clone(), state(credential)))
            .collect();
        let all = named.values().chain(own.iter().flatten());
        Credentials {
            headers: all.map(|credential| credential.header().clone()).collect(),
            named,
            own,
        }
    }

    /// Chooses the credential for a request of a machine to an upstream: the machine's, if it is
    /// for this upstream, else the upstream's own.
    pub(crate) fn choose(&self, machine: &Machine, upstream: usize, name: &str) -> Choice {
        let credential = match &machine.credential {
            None => self.own[upstream].as_ref(),
            Some(its) => match self.named.get(&**its) {
                None => return Choice::NotConfigured,
                Some(credential) if credential.is_for(name) => Some(credential),
                Some(_) => self.own[upstream].as_ref(),
            },
        };
        let Some(credential) = credential else {
            return Choice::Nothing;
        };
        match credential.value.load_full() {
            None => Choice::NoValue(Arc::clone(credential)),
            Some(value) => Choice::Carry(Injection {
                credential: Arc::clone(credential),
                value,
            }),
        }
    }

    /// Whether a credential is sent under this name, in any spelling and on any route.
    pub(crate) fn resembles_header(&self, header: &HeaderName) -> bool {
        self.headers.iter().any(|own| is_same_header(own, header))
    }

    /// Whether a credential is sent under exactly this name.
    pub(crate) fn is_header(&self, header: &HeaderName) -> bool {
        self.headers.contains(header)
    }

    /// Whether a credential of this name is configured for machines.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<CredentialState>> {
        self.named.values().chain(self.own.iter().flatten())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests;
