//! The credentials of the backends: which one a request carries, and whether it can be sent.

pub(crate) mod check;
pub(crate) mod injection;
pub(crate) mod state;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;

use self::injection::Injection;
use self::state::CredentialState;
use super::login::BackendLogin;
use crate::config::headers::is_same_header;
use crate::config::{Config, Credential, Upstream};
use crate::metrics::Metrics;
use countersign_core::identity::Machine;

/// The credentials of one plan.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The credentials that machines may name.
    named: HashMap<String, Arc<CredentialState>>,
    /// The upstreams' own secrets, by the index of the upstream.
    own: Vec<OwnSecret>,
    /// The names of all their headers.
    headers: Vec<HeaderName>,
}

/// The secret that requests to an upstream carry, unless their machine has a credential of its own.
#[derive(Debug)]
enum OwnSecret {
    Nothing,
    Credential(Arc<CredentialState>),
    Login(Arc<BackendLogin>),
}

/// The credential for a request to one upstream.
#[derive(Debug)]
pub(crate) enum Choice {
    /// It carries no credential.
    Nothing,
    Carry(Injection),
    /// It carries the token that its machine gets by a login here.
    LogIn(Arc<BackendLogin>),
    /// The request should carry this credential, which has no value. It must not be forwarded,
    /// least of all with another credential, which may have more rights.
    NoValue(Arc<CredentialState>),
    /// The machine names a credential that is not configured. As with [`Choice::NoValue`], no other
    /// may take its place.
    NotConfigured,
}

impl Credentials {
    /// The credentials of a configuration. Logins of `before` go on, with their tokens, where nothing
    /// about them has changed.
    pub(crate) fn new(
        config: &Config,
        metrics: &Metrics,
        before: Option<&Credentials>,
    ) -> Credentials {
        let state =
            |configured: &Credential| Arc::new(CredentialState::new(configured.clone(), metrics));
        let before = before.into_iter().flat_map(Credentials::logins);
        let before: Vec<_> = before.map(|(_, login)| login).collect();
        let issuer = config
            .assertion
            .as_ref()
            .map(|assertion| &*assertion.issuer);
        let own = |upstream: &Upstream| match &upstream.credential {
            Some(credential) => OwnSecret::Credential(state(credential)),
            None => issuer
                .and_then(|issuer| BackendLogin::of(upstream, issuer, metrics, &before))
                .map_or(OwnSecret::Nothing, OwnSecret::Login),
        };
        let own: Vec<_> = config.upstreams.iter().map(own).collect();
        let named: HashMap<_, _> = (config.credentials.iter())
            .map(|credential| (credential.name.clone(), state(credential)))
            .collect();
        let mut credentials = Credentials {
            headers: Vec::new(),
            named,
            own,
        };
        let of_logins = (credentials.logins()).map(|(_, login)| login.header().clone());
        credentials.headers = (credentials.iter())
            .map(|credential| credential.header().clone())
            .chain(of_logins)
            .collect();
        credentials
    }

    /// Chooses the credential for a request of a machine to an upstream: the machine's, if it is
    /// for this upstream, else the upstream's own.
    pub(crate) fn choose(&self, machine: &Machine, upstream: usize, name: &str) -> Choice {
        if let Some(its) = &machine.credential {
            match self.named.get(&**its) {
                None => return Choice::NotConfigured,
                Some(credential) if credential.is_for(name) => return Choice::carry(credential),
                Some(_) => {}
            }
        }
        match &self.own[upstream] {
            OwnSecret::Nothing => Choice::Nothing,
            OwnSecret::Credential(credential) => Choice::carry(credential),
            OwnSecret::Login(login) => Choice::LogIn(Arc::clone(login)),
        }
    }

    /// Whether requests to an upstream may carry a secret: its own, or that of their machine.
    pub(crate) fn may_carry(&self, upstream: usize) -> bool {
        !self.named.is_empty() || !matches!(self.own[upstream], OwnSecret::Nothing)
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
        let own = self.own.iter().filter_map(|own| match own {
            OwnSecret::Credential(credential) => Some(credential),
            OwnSecret::Nothing | OwnSecret::Login(_) => None,
        });
        self.named.values().chain(own)
    }

    /// The logins, with the index of their upstream.
    pub(crate) fn logins(&self) -> impl Iterator<Item = (usize, &Arc<BackendLogin>)> {
        (0..)
            .zip(&self.own)
            .filter_map(|(upstream, own)| match own {
                OwnSecret::Login(login) => Some((upstream, login)),
                OwnSecret::Nothing | OwnSecret::Credential(_) => None,
            })
    }
}

/// The secret that a permitted request will carry.
#[derive(Debug)]
pub(crate) enum Carried {
    /// It is known.
    Secret(Injection),
    /// It is the token of the machine, which may have to log in first.
    FromLogin(Arc<BackendLogin>),
}

impl Choice {
    fn carry(credential: &Arc<CredentialState>) -> Choice {
        match credential.value.load_full() {
            None => Choice::NoValue(Arc::clone(credential)),
            Some(value) => Choice::Carry(Injection::Credential {
                credential: Arc::clone(credential),
                value,
            }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests;
