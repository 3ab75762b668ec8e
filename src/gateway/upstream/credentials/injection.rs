//! The secret that a request carries to the backend: a credential of the configuration, or the token
//! of its machine.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::state::CredentialState;
use crate::gateway::upstream::acceptance::Acceptance;
use crate::gateway::upstream::login::BackendLogin;
use crate::gateway::upstream::login::token::MachineToken;
use crate::metrics::CheckCounts;

/// The secret that a request carries.
#[derive(Clone, Debug)]
pub(crate) enum Injection {
    /// A credential, with the value it had when the request was judged.
    Credential {
        credential: Arc<CredentialState>,
        value: Arc<HeaderValue>,
    },
    /// The token that the machine has from its login.
    Token {
        login: Arc<BackendLogin>,
        token: Arc<MachineToken>,
    },
}

impl Injection {
    /// Its name in logs and metrics.
    pub(crate) fn name(&self) -> &str {
        match self {
            Injection::Credential { credential, .. } => credential.name(),
            Injection::Token { login, .. } => login.name(),
        }
    }

    /// The header that carries it.
    pub(crate) fn header(&self) -> &HeaderName {
        match self {
            Injection::Credential { credential, .. } => credential.header(),
            Injection::Token { login, .. } => login.header(),
        }
    }

    /// The value of the header: the prefix and the secret.
    pub(crate) fn value(&self) -> &HeaderValue {
        self.shared_value()
    }

    /// The text before the secret in the value, such as `Bearer `; often empty.
    pub(crate) fn prefix(&self) -> &[u8] {
        match self {
            Injection::Credential { credential, .. } => credential.prefix().as_bytes(),
            Injection::Token { .. } => b"",
        }
    }

    /// The secret alone, which no answer may contain.
    pub(crate) fn secret(&self) -> &[u8] {
        let value = self.value().as_bytes();
        value.strip_prefix(self.prefix()).unwrap_or(value)
    }

    /// The login that it is from, and its token.
    pub(crate) fn login(&self) -> Option<(&Arc<BackendLogin>, &Arc<MachineToken>)> {
        match self {
            Injection::Credential { .. } => None,
            Injection::Token { login, token, .. } => Some((login, token)),
        }
    }

    /// The id of the machine whose token it is.
    pub(super) fn machine(&self) -> Option<&str> {
        match self {
            Injection::Credential { .. } => None,
            Injection::Token { token, .. } => Some(token.machine().id.as_str()),
        }
    }

    pub(super) fn shared_value(&self) -> &Arc<HeaderValue> {
        match self {
            Injection::Credential { value, .. } => value,
            Injection::Token { token, .. } => &token.value,
        }
    }

    pub(super) fn acceptance(&self) -> &Acceptance {
        match self {
            Injection::Credential { credential, .. } => &credential.acceptance,
            Injection::Token { token, .. } => &token.acceptance,
        }
    }

    pub(super) fn check_counts(&self) -> &CheckCounts {
        match self {
            Injection::Credential { credential, .. } => credential.counts.checks(),
            Injection::Token { login, .. } => login.check_counts(),
        }
    }

    /// Shows in the metrics whether a credential can be sent. A token has no series of its own.
    pub(super) fn show_usable(&self, is_usable: bool) {
        if let Injection::Credential { credential, .. } = self {
            credential.counts.usable(is_usable);
        }
    }
}
