//! One credential: its value as its file has it now, and whether the backend accepts it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use tokio::sync::Mutex;

use crate::config::Credential;
use crate::metrics::{CredentialCheck, CredentialCounts, Metrics};
use countersign_client::file::Unusable;

/// One credential as it is now.
pub(crate) struct CredentialState {
    configured: Credential,
    /// `None` while its file is missing or bad.
    pub(super) value: ArcSwapOption<HeaderValue>,
    pub(super) acceptance: Acceptance,
    pub(super) counts: CredentialCounts,
}

/// The credential that a request carries, with the value it had when the request was judged.
#[derive(Clone, Debug)]
pub(crate) struct Injection {
    pub(super) credential: Arc<CredentialState>,
    pub(super) value: Arc<HeaderValue>,
}

/// Whether the backend accepts a credential, as far as is known.
#[derive(Default)]
pub(super) struct Acceptance {
    /// Number of inquiries that have begun.
    pub(super) begun: AtomicU64,
    /// The result of the last inquiry. The lock is held during an inquiry, so that there is one at
    /// a time.
    pub(super) last: Mutex<Option<LastCheck>>,
    /// Whether the last inquiry ended without an acceptance.
    pub(super) in_doubt: AtomicBool,
}

pub(super) struct LastCheck {
    /// The value that was asked about. Another value in the file is another credential.
    pub(super) value: Arc<HeaderValue>,
    /// The number of the inquiry.
    pub(super) inquiry: u64,
    pub(super) result: CredentialCheck,
}

impl Injection {
    /// Its name in logs and metrics.
    pub(crate) fn name(&self) -> &str {
        self.credential.name()
    }

    /// The header that carries it.
    pub(crate) fn header(&self) -> &HeaderName {
        self.credential.header()
    }

    /// The value of the header: the prefix and the secret.
    pub(crate) fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The text before the secret in the value, such as `Bearer `; often empty.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.credential.configured.prefix.as_bytes()
    }

    /// The secret alone, which no answer may contain.
    pub(crate) fn secret(&self) -> &[u8] {
        let value = self.value.as_bytes();
        value.strip_prefix(self.prefix()).unwrap_or(value)
    }
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

    pub(crate) fn header(&self) -> &HeaderName {
        &self.configured.header
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
