//! The keys of a joiner's issuer as they are now: of a file, or read from an address.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::Request;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::config::{GatewayUrl, Joiner, KeySource};
use crate::jwt::{IssuerKeys, Jwt, JwtClaims, JwtFault, MAX_KEY_SET};
use countersign_client::agent::connect::Connector;
use countersign_client::clock::Clock;
use countersign_client::file::Unusable;
use countersign_client::http_client::{self, ExchangeLimits};

/// How often the keys of an address are read.
const PERIOD: Duration = Duration::from_secs(3600);

/// How soon they are read again after a failure.
const RETRY: Duration = Duration::from_secs(60);

/// Least time between two reads for an unknown key id. Anybody can send one, and the issuer must not
/// be asked each time.
const PAUSE: Duration = Duration::from_secs(10);

/// How long keys are believed that could not be read again: an issuer that withdraws a key expects
/// its verifiers to hear of it.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);

/// Bounds of one read. The one request that waits for it has no longer deadline.
const LIMITS: ExchangeLimits = ExchangeLimits {
    time: Duration::from_secs(5),
    answer: MAX_KEY_SET,
};

/// A joiner, with the keys of its issuer.
pub struct ActiveJoiner {
    /// Its settings.
    pub joiner: Joiner,
    current: ArcSwapOption<DatedKeys>,
    /// When a read for an unknown key id began, on the monotonic clock. Whoever holds the lock reads.
    reading: Mutex<Option<Duration>>,
    is_started: AtomicBool,
    clock: Clock,
}

struct DatedKeys {
    keys: IssuerKeys,
    /// When they were read, on the monotonic clock.
    read: Duration,
}

/// Why the signature of a token is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unverified {
    /// The token is at fault.
    Token(JwtFault),
    /// The keys of the issuer are not there, so nobody can tell.
    NoKeys,
}

/// The result of a read for an unknown key id.
enum Reading {
    Done,
    /// Another request is reading.
    Busy,
    /// The last read was too short a time ago.
    TooSoon,
    Failed,
}

impl ActiveJoiner {
    /// The joiner, with the keys of its file. The keys of an address come with
    /// [`ActiveJoiner::start`].
    pub fn new(joiner: Joiner, clock: Clock) -> ActiveJoiner {
        let this = ActiveJoiner {
            joiner,
            current: ArcSwapOption::empty(),
            reading: Mutex::new(None),
            is_started: AtomicBool::new(false),
            clock,
        };
        if let Err(why) = this.read_again() {
            warn!(
                joiner = this.joiner.name,
                "the keys of the issuer cannot be read: {why}"
            );
        }
        this
    }

    /// The file of the keys, if they are in one.
    pub fn file(&self) -> Option<&Path> {
        match &self.joiner.keys {
            KeySource::File(path) => Some(path),
            KeySource::Url { .. } => None,
        }
    }

    /// Reads the file of the keys again. Returns whether they have changed. After a mistake the keys
    /// in force stay.
    ///
    /// # Errors
    ///
    /// The mistake in the file.
    pub fn read_again(&self) -> Result<bool, Unusable> {
        let Some(path) = self.file() else {
            return Ok(false);
        };
        let keys = KeySource::read_file(path)?;
        let current = self.current.load();
        let has_changed = current.as_ref().is_none_or(|current| current.keys != keys);
        if has_changed {
            self.store(keys);
        }
        Ok(has_changed)
    }

    /// Reads the keys of an address now and every hour, until the joiner is dropped. A second call
    /// does nothing.
    pub fn start(self: &Arc<ActiveJoiner>, runtime: &Handle) {
        let KeySource::Url { .. } = &self.joiner.keys else {
            return;
        };
        if self.is_started.swap(true, Ordering::Relaxed) {
            return;
        }
        let weak = Arc::downgrade(self);
        runtime.spawn(async move {
            while let Some(this) = weak.upgrade() {
                let pause = match this.fetch().await {
                    true => PERIOD,
                    false => RETRY,
                };
                drop(this);
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Checks the signature of a token. A key id that is not known makes this one call read the keys
    /// again, and wait for them 5 s at most; calls meanwhile do not wait. It fails closed.
    pub(super) async fn verify(&self, jwt: &Jwt<'_>) -> Result<JwtClaims, Unverified> {
        match self.verify_now(jwt) {
            Err(Unverified::NoKeys | Unverified::Token(JwtFault::UnknownKey)) => {}
            decided => return decided,
        }
        match self.read_for_unknown_key().await {
            Reading::Done | Reading::TooSoon => self.verify_now(jwt),
            Reading::Busy | Reading::Failed => Err(Unverified::NoKeys),
        }
    }

    fn verify_now(&self, jwt: &Jwt<'_>) -> Result<JwtClaims, Unverified> {
        let current = self.current.load();
        let keys = current.as_ref().filter(|keys| self.is_believed(keys));
        let keys = keys.ok_or(Unverified::NoKeys)?;
        jwt.verify(&keys.keys).map_err(Unverified::Token)
    }

    /// Whether keys of this age count. Those of a file have no age: the file is watched.
    fn is_believed(&self, keys: &DatedKeys) -> bool {
        self.file().is_some() || self.clock.now().mono.saturating_sub(keys.read) <= BELIEVED
    }

    async fn read_for_unknown_key(&self) -> Reading {
        if self.file().is_some() {
            return Reading::TooSoon;
        }
        let Ok(mut last) = self.reading.try_lock() else {
            return Reading::Busy;
        };
        let now = self.clock.now().mono;
        if last.is_some_and(|last| now.saturating_sub(last) < PAUSE) {
            return Reading::TooSoon;
        }
        *last = Some(now);
        match self.fetch().await {
            true => Reading::Done,
            false => Reading::Failed,
        }
    }

    /// Reads the keys of the address. Whether they could be read.
    async fn fetch(&self) -> bool {
        let KeySource::Url { url, ca } = &self.joiner.keys else {
            return false;
        };
        match fetch(url, ca.as_deref()).await {
            Ok(keys) => {
                info!(
                    joiner = self.joiner.name,
                    keys = keys.len(),
                    "the keys of the issuer were read"
                );
                self.store(keys);
                true
            }
            Err(why) => {
                warn!(
                    joiner = self.joiner.name,
                    "cannot read the keys of the issuer at {url}: {why}; the keys read before count \
                     for a day"
                );
                false
            }
        }
    }

    fn store(&self, keys: IssuerKeys) {
        let read = self.clock.now().mono;
        self.current.store(Some(Arc::new(DatedKeys { keys, read })));
    }
}

async fn fetch(url: &GatewayUrl, ca: Option<&Path>) -> Result<IssuerKeys, String> {
    let (address, ca) = (url.clone(), ca.map(Path::to_owned));
    // It reads the file of the authorities.
    let connector = tokio::task::spawn_blocking(move || Connector::new(address, ca.as_deref()))
        .await
        .map_err(|_| "a bug".to_owned())??;
    let path = match url.prefix.as_str() {
        "" => "/",
        path => path,
    };
    let request = Request::get(path).body(Bytes::new());
    let request = request.map_err(|_| "its path is none".to_owned())?;
    let answer = http_client::exchange(&connector, request, LIMITS).await;
    let answer = answer.map_err(|error| error.cause())?;
    match answer.status().as_u16() {
        200 => IssuerKeys::parse(answer.body()).map_err(|why| format!("the answer {why}")),
        status => Err(format!("the answer has the status {status}")),
    }
}

impl std::fmt::Debug for ActiveJoiner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ActiveJoiner({})", self.joiner.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
