//! One credential: its value as its file has it now, and whether the backend accepts it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};

use crate::config::Credential;
use crate::gateway::upstream::acceptance::Acceptance;
use crate::gateway::upstream::report::{SecretKind, SecretReport};
use crate::metrics::{CredentialCounts, Metrics};
use countersign_client::file::Unusable;

/// One credential as it is now.
pub(crate) struct CredentialState {
    configured: Credential,
    /// `None` while its file is missing or bad.
    pub(super) value: ArcSwapOption<HeaderValue>,
    pub(super) acceptance: Acceptance,
    pub(super) counts: CredentialCounts,
}

impl CredentialState {
    pub(super) fn new(credential: Credential, metrics: &Metrics) -> CredentialState {
        let counts = metrics.credential(&credential.name);
        counts.usable(credential.value.is_some());
        CredentialState {
            value: ArcSwapOption::from_pointee(credential.value.clone()),
            acceptance: Acceptance::default(),
            counts,
            configured: credential,
        }
    }

    /// Its name in logs and metrics.
    pub(crate) fn name(&self) -> &str {
        &self.configured.name
    }

    /// The file that the value is read from; `None` for an environment variable.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.configured.file.as_deref()
    }

    /// Whether the credential has a value to send.
    pub(crate) fn is_usable(&self) -> bool {
        self.value.load().is_some()
    }

    /// Its state, for the status page.
    pub(crate) fn report(&self) -> SecretReport {
        let trouble = match (self.is_usable(), self.counts.is_usable()) {
            (false, _) => Some("there is no secret in its source".to_owned()),
            (true, false) => Some("the backend refuses it".to_owned()),
            (true, true) => None,
        };
        SecretReport {
            name: self.name().to_owned(),
            kind: SecretKind::Credential,
            source: match self.file() {
                Some(file) => file.display().to_string(),
                None => "the environment".to_owned(),
            },
            trouble,
            is_unusable: !self.is_usable() || !self.counts.is_usable(),
        }
    }

    pub(crate) fn header(&self) -> &HeaderName {
        &self.configured.header
    }

    /// The text before the secret in the value; often empty.
    pub(crate) fn prefix(&self) -> &str {
        &self.configured.prefix
    }

    /// Reads the file again. Returns whether the value has changed.
    ///
    /// # Errors
    ///
    /// The mistake in the file, without its content. A credential whose file is gone or bad is no
    /// longer sent: an operator who removes a token wants it out of use. If only reading failed (no
    /// descriptor left, a disk that does not answer), the credential stays.
    pub(crate) fn read_again(&self) -> Result<bool, Unusable> {
        let read = self.configured.read_again();
        if let Err(why) = &read
            && why.may_pass
            && !why.is_gone
        {
            return Err(why.clone());
        }
        let value = read.as_ref().ok().cloned().map(Arc::new);
        let known = self.value.load_full();
        let changed = known != value;
        if changed {
            self.counts.usable(value.is_some());
            self.value.store(value);
        }
        read.map(|_| changed)
    }

    pub(super) fn is_for(&self, upstream: &str) -> bool {
        let upstreams = &self.configured.upstreams;
        upstreams.is_empty() || upstreams.iter().any(|name| name == upstream)
    }
}

impl fmt::Debug for CredentialState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialState({})", self.name())
    }
}
