//! What is read or opened again while the gateway runs: the registry, when its file changes and on
//! SIGHUP, and so the TLS files; the files of the audit log, on SIGUSR1.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::tls::Tls;
use crate::audit::{AuditLog, RegistryLoaded};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::registry::{Change, RegistryStore};
use crate::watch::{Watch, watch};

/// Why the registry is loaded once more behind the first load.
const CATCHING_UP: &str = "the file changed during the start";

/// What a reload touches.
#[derive(Clone)]
pub(super) struct Reloading {
    pub(super) registry: Arc<RegistryStore>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) clock: Clock,
    pub(super) tls: Vec<Arc<Tls>>,
}

/// Reloading goes on for as long as this lives.
pub(super) struct Watching {
    _files: Vec<Watch>,
    _signals: Vec<AbortOnDropHandle<()>>,
}

impl Reloading {
    /// Starts to watch the file and to listen for SIGHUP. Where one of the two cannot be had, the
    /// other still works, and the log says so.
    pub(super) fn start(&self) -> Watching {
        let watched = |file: &Path, reload: fn(&Reloading, &str)| {
            let this = self.clone();
            watch(file, move || reload(&this, "the file changed"))
                .inspect_err(|error| error!(%error, file = %file.display(), "cannot watch the file; use SIGHUP"))
                .ok()
        };
        let mut files = vec![watched(self.registry.file(), Reloading::reload)];
        for file in self.tls.iter().flat_map(|tls| tls.files()) {
            files.push(watched(file, Reloading::reload_tls));
        }
        let this = self.clone();
        // What was written between the first load and the start of the watches.
        tokio::task::spawn_blocking(move || {
            this.reload(CATCHING_UP);
            this.reload_tls(CATCHING_UP);
        });
        let signals = [self.on_hangup(), self.on_user_signal()];
        let heard = |task: io::Result<_>| {
            task.inspect_err(|error| error!(%error, "cannot listen for a signal"))
                .ok()
        };
        Watching {
            _files: files.into_iter().flatten().collect(),
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
                let reload = move || {
                    this.reload("SIGHUP");
                    this.reload_tls("SIGHUP");
                };
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

    fn reload_tls(&self, why: &str) {
        for tls in &self.tls {
            match tls.reload() {
                Ok(false) => {}
                Ok(true) => {
                    self.metrics.tls_reload(true);
                    info!(
                        why,
                        "a listener's certificate was loaded; new connections get it"
                    );
                }
                Err(error) => {
                    self.metrics.tls_reload(false);
                    warn!(why, "a listener keeps its last good certificate: {error}");
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
