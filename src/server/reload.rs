//! What is read or opened again while the gateway runs: the registry, when its file changes and on
//! SIGHUP; the files of the audit log, on SIGUSR1.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::audit::{AuditLog, RegistryLoaded};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::registry::{Change, RegistryStore, Watch, watch};

/// Why the registry is loaded once more behind the first load.
const CATCHING_UP: &str = "the file changed during the start";

/// What a reload touches.
#[derive(Clone)]
pub(super) struct Reloading {
    pub(super) registry: Arc<RegistryStore>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) clock: Clock,
}

/// Reloading goes on for as long as this lives.
pub(super) struct Watching {
    _file: Option<Watch>,
    _signals: Vec<AbortOnDropHandle<()>>,
}

impl Reloading {
    /// Starts to watch the file and to listen for SIGHUP. Where one of the two cannot be had, the
    /// other still works, and the log says so.
    pub(super) fn start(&self) -> Watching {
        let this = self.clone();
        let file = watch(self.registry.file(), move || {
            this.reload("the file changed")
        })
        .inspect_err(|error| error!(%error, "cannot watch the registry; use SIGHUP"))
        .ok();
        let this = self.clone();
        // What was written between the first load and the start of the watch.
        tokio::task::spawn_blocking(move || this.reload(CATCHING_UP));
        let signals = [self.on_hangup(), self.on_user_signal()];
        let heard = |task: io::Result<_>| {
            task.inspect_err(|error| error!(%error, "cannot listen for a signal"))
                .ok()
        };
        Watching {
            _file: file,
            _signals: signals.into_iter().filter_map(heard).collect(),
        }
    }

    fn on_hangup(&self) -> io::Result<AbortOnDropHandle<()>> {
        let mut hangup = signal(SignalKind::hangup())?;
        let this = self.clone();
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let this = this.clone();
                // Key checks take a while, and must not hold up requests.
                let _ = tokio::task::spawn_blocking(move || this.reload("SIGHUP")).await;
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

    fn reload(&self, why: &str) {
        let known = self.registry.current().digest();
        match self.registry.reload() {
            Ok(change) if change.digest == known => {
                // An attempt that was made counts; a record of it would say that something changed.
                if why != CATCHING_UP {
                    info!(why, "the registry is as it was");
                    let now = self.clock.now().unix_seconds();
                    self.metrics.registry_loaded(change.machines, now);
                }
            }
            Ok(change) => {
                info!(
                    why,
                    machines = change.machines,
                    added = change.added.len(),
                    removed = change.removed.len(),
                    keys_changed = change.keys_changed.len(),
                    otherwise_changed = change.otherwise_changed.len(),
                    "the registry was loaded"
                );
                self.report(&change);
            }
            Err(mistakes) => {
                self.metrics.registry_rejected();
                warn!(
                    why,
                    "the registry was not loaded; the last good one stays in force"
                );
                for line in mistakes.to_string().lines() {
                    warn!("{line}");
                }
            }
        }
    }

    /// Puts a registry that has come into force on record.
    pub(super) fn report(&self, change: &Change) {
        let now = self.clock.now();
        self.metrics
            .registry_loaded(change.machines, now.unix_seconds());
        for machine in &change.removed {
            self.metrics.machine_removed(machine);
        }
        let registry = self.registry.current();
        let with_keys = change.added.iter().chain(&change.keys_changed);
        let keys: Vec<_> = with_keys
            .filter_map(|id| registry.find(id.as_str()).cloned())
            .collect();
        self.audit.registry_loaded(&RegistryLoaded {
            wall_ms: now.wall_ms,
            digest: &change.digest,
            machines: change.machines,
            added: &change.added,
            removed: &change.removed,
            keys_changed: &change.keys_changed,
            changed: &change.otherwise_changed,
            keys: &keys,
        });
    }
}
