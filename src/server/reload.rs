//! What is read again while the gateway runs: configuration, credentials, registry and TLS files,
//! when a file changes, on SIGHUP, and when the admin listener is told to; and the files of the
//! audit log, on SIGUSR1.
//!
//! Each is read and checked whole before it is put in force; what is not good leaves the last good
//! one as it is, and the others go on.

mod configuration;
mod machines;
pub(crate) mod order;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::tls::Tls;
use crate::audit::AuditLog;
use crate::clock::Clock;
use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::registry::{Losses, RegistryStore};
use crate::watch::{Watch, watch};

/// What a reload touches.
pub(super) struct Reloading {
    pub(super) gateway: Arc<Gateway>,
    pub(super) registry: Arc<RegistryStore>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) clock: Clock,
    pub(super) tls: Vec<Arc<Tls>>,
    /// Two at once could leave the older of two files in force.
    pub(super) one_at_a_time: Mutex<()>,
}

/// Reloading goes on for as long as this lives.
pub(super) struct Watching {
    _files: Vec<Watch>,
    _signals: Vec<AbortOnDropHandle<()>>,
}

/// Why something is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It may have been written between the first load and the start of the watches.
    Start,
    /// A file changed.
    Change,
    /// SIGHUP.
    Hangup,
    /// The admin listener was told to.
    Order,
}

/// What came of reading everything again: a line or more for each part, and whether all of it is
/// in force.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) lines: Vec<String>,
    pub(super) is_good: bool,
}

/// What came of one part: in words, `Ok(None)` where there is nothing to say.
type Told = Result<Option<String>, String>;

impl Why {
    /// Whether somebody asked, and so should hear of it also where nothing changed.
    fn is_asked(self) -> bool {
        matches!(self, Why::Hangup | Why::Order)
    }

    fn as_str(self) -> &'static str {
        match self {
            Why::Start => "the file changed during the start",
            Why::Change => "the file changed",
            Why::Hangup => "SIGHUP",
            Why::Order => "reload",
        }
    }
}

impl Reloading {
    /// Starts to watch the files and to listen for signals. Where something cannot be had, the
    /// rest still works, and the log says so.
    pub(super) fn start(self: &Arc<Self>) -> Watching {
        let registry = self.registry.file().to_owned();
        let tls = self.tls.iter().flat_map(|tls| tls.files());
        let tls: Vec<PathBuf> = tls.map(Path::to_owned).collect();
        let this = Arc::clone(self);
        let files = [
            self.watched(
                move || vec![registry.clone()],
                |this| this.registry(Why::Change, Losses::Few),
            ),
            (!tls.is_empty())
                .then(|| self.watched(move || tls.clone(), |this| this.tls(Why::Change)))
                .flatten(),
            self.watched(
                move || this.configuration_files(),
                |this| {
                    this.configuration(Why::Change)
                        .and(this.credentials(Why::Change))
                },
            ),
        ];
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || this.everything(Why::Start, Losses::Few));
        let heard = |task: io::Result<_>| {
            task.inspect_err(|error| error!(%error, "cannot listen for a signal"))
                .ok()
        };
        Watching {
            _files: files.into_iter().flatten().collect(),
            _signals: [self.on_hangup(), self.on_user_signal()]
                .into_iter()
                .filter_map(heard)
                .collect(),
        }
    }

    /// Reads everything again because the admin listener was told to. It blocks, for seconds with
    /// a hundred thousand new keys.
    pub(super) fn on_order(&self, losses: Losses) -> Outcome {
        self.everything(Why::Order, losses)
    }

    fn everything(&self, why: Why, losses: Losses) -> Outcome {
        let told = [
            self.configuration(why),
            self.credentials(why),
            self.registry(why, losses),
            self.tls(why),
        ];
        Outcome {
            is_good: told.iter().all(Result::is_ok),
            lines: (told.into_iter())
                .filter_map(|told| told.unwrap_or_else(Some))
                .collect(),
        }
    }

    fn watched(
        self: &Arc<Self>,
        files: impl Fn() -> Vec<PathBuf> + Send + 'static,
        read: impl Fn(&Reloading) -> Told + Send + 'static,
    ) -> Option<Watch> {
        let this = Arc::clone(self);
        watch(files, move || drop(read(&this)))
            .inspect_err(|error| error!(%error, "cannot watch files; use SIGHUP"))
            .ok()
    }

    fn on_hangup(self: &Arc<Self>) -> io::Result<AbortOnDropHandle<()>> {
        let mut hangup = signal(SignalKind::hangup())?;
        let this = Arc::clone(self);
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let this = Arc::clone(&this);
                // Key checks take a while, and must not hold up requests.
                let reload = move || this.everything(Why::Hangup, Losses::Few);
                let _ = tokio::task::spawn_blocking(reload).await;
            }
        })))
    }

    fn on_user_signal(&self) -> io::Result<AbortOnDropHandle<()>> {
        let mut rotated = signal(SignalKind::user_defined1())?;
        let audit = Arc::clone(&self.audit);
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            while rotated.recv().await.is_some() {
                info!("SIGUSR1: opening the audit files again");
                audit.reopen();
            }
        })))
    }

    /// Reads the TLS files of the listeners again.
    fn tls(&self, why: Why) -> Told {
        let _one_at_a_time = self.lock();
        let (mut loaded, mut wrong) = (0, Vec::new());
        for tls in &self.tls {
            match tls.reload() {
                Ok(false) => {}
                Ok(true) => {
                    self.metrics.tls_reload(true);
                    loaded += 1;
                }
                Err(error) => {
                    self.metrics.tls_reload(false);
                    wrong.push(format!(
                        "a listener keeps its last good certificate: {error}"
                    ));
                }
            }
        }
        if !wrong.is_empty() {
            return Err(bad(why, wrong.join("\n")));
        }
        let text = match loaded {
            0 if self.tls.is_empty() || !why.is_asked() => return Ok(None),
            0 => "the certificates are as they were".to_owned(),
            _ => {
                format!("certificates of {loaded} listeners were loaded; new connections get them")
            }
        };
        Ok(Some(good(why, text)))
    }

    fn lock(&self) -> impl Drop + '_ {
        // It orders reloads; there is no state that a panic could have left half done.
        self.one_at_a_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs what came into force.
fn good(why: Why, text: String) -> String {
    info!(why = why.as_str(), "{text}");
    text
}

/// Logs what did not, line by line.
fn bad(why: Why, text: String) -> String {
    for line in text.lines() {
        warn!(why = why.as_str(), "{line}");
    }
    text
}
