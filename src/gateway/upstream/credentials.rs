//! The credentials that requests carry to the backends: which is whose, and whether it can be sent.

mod look_up;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};

pub(crate) use self::look_up::Place;

use self::look_up::Standing;
use crate::auth::identity::Machine;
use crate::config::headers::is_same;
use crate::config::{Config, Credential};
use crate::file::Unusable;
use crate::metrics::{CredentialCounts, Metrics};

/// The credentials of one plan.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// Those that machines may name.
    named: HashMap<String, Arc<Held>>,
    /// The upstreams' own, by the index of the upstream.
    own: Vec<Option<Arc<Held>>>,
    /// The names of all their headers.
    headers: Vec<HeaderName>,
}

/// One credential as it is now.
pub(crate) struct Held {
    credential: Credential,
    /// `None` while its file is missing or bad.
    value: ArcSwapOption<HeaderValue>,
    standing: Standing,
    counts: CredentialCounts,
}

/// What a request carries: one credential, with the value it had when the request was judged.
#[derive(Clone, Debug)]
pub(crate) struct Injection {
    pub(crate) held: Arc<Held>,
    pub(crate) value: Arc<HeaderValue>,
}

/// What becomes of a request to one upstream.
#[derive(Debug)]
pub(crate) enum Choice {
    /// It carries no credential.
    Nothing,
    Carry(Injection),
    /// It should carry one that cannot be had, and so must not be forwarded: least of all with
    /// another one, which may be allowed more.
    Missing,
}

impl Credentials {
    pub(crate) fn new(config: &Config, metrics: &Metrics) -> Credentials {
        let hold = |credential: &Credential| Arc::new(Held::new(credential.clone(), metrics));
        let own = config.upstreams.iter();
        let own: Vec<_> = own.map(|up| up.credential.as_ref().map(hold)).collect();
        let named: HashMap<_, _> = (config.credentials.iter())
            .map(|credential| (credential.name.clone(), hold(credential)))
            .collect();
        let all = named.values().chain(own.iter().flatten());
        Credentials {
            headers: all.map(|held| held.credential.header.clone()).collect(),
            named,
            own,
        }
    }

    /// The credential for a request of a machine to an upstream: the machine's, where that is for
    /// this upstream, else the upstream's own.
    pub(crate) fn choose(&self, machine: &Machine, upstream: usize, name: &str) -> Choice {
        let held = match &machine.credential {
            None => self.own[upstream].as_ref(),
            Some(its) => match self.named.get(&**its) {
                None => return Choice::Missing,
                Some(held) if held.is_for(name) => Some(held),
                Some(_) => self.own[upstream].as_ref(),
            },
        };
        let Some(held) = held else {
            return Choice::Nothing;
        };
        match held.value.load_full() {
            None => Choice::Missing,
            Some(value) => Choice::Carry(Injection {
                held: Arc::clone(held),
                value,
            }),
        }
    }

    /// Whether a header of this name is one of the credentials', on whatever route.
    pub(crate) fn owns(&self, header: &HeaderName) -> bool {
        self.headers.iter().any(|own| is_same(own, header))
    }

    /// Whether a header of exactly this name is one of the credentials'.
    pub(crate) fn is_own(&self, header: &HeaderName) -> bool {
        self.headers.contains(header)
    }

    /// Whether a machine that names this credential finds one.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.named.values().chain(self.own.iter().flatten())
    }
}

impl Held {
    fn new(credential: Credential, metrics: &Metrics) -> Held {
        let counts = metrics.credential(&credential.name);
        counts.usable(credential.value.is_some());
        Held {
            value: ArcSwapOption::from_pointee(credential.value.clone()),
            standing: Standing::default(),
            counts,
            credential,
        }
    }

    /// What logs and metrics call it.
    pub(crate) fn name(&self) -> &str {
        &self.credential.name
    }

    /// The file it is read from, if it is.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.credential.file.as_deref()
    }

    /// Whether it can be sent.
    pub(crate) fn is_usable(&self) -> bool {
        self.value.load().is_some()
    }

    pub(crate) fn header(&self) -> &HeaderName {
        &self.credential.header
    }

    /// Reads the file again; whether the credential is another one now.
    ///
    /// # Errors
    ///
    /// What is wrong with the file; nothing of its content. A credential whose file is gone or bad is not sent any
    /// more: whoever takes a token away wants it used no longer, and a wrong one helps nobody. Where only reading
    /// failed (no descriptor left, a disk that does not answer) nothing is known against it, and it stays.
    pub(crate) fn read_again(&self) -> Result<bool, Unusable> {
        let read = self.credential.read_again();
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

    fn is_for(&self, upstream: &str) -> bool {
        let upstreams = &self.credential.upstreams;
        upstreams.is_empty() || upstreams.iter().any(|name| name == upstream)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.name())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests;
