//! The registry in a database: changes come by themselves.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tracing::{error, info, warn};

use super::machines::counts;
use super::parts::ReloadedParts;
use super::result::{ReloadFailure, ReloadResult, Trigger};
use crate::metrics::Reload;
use crate::registry::database::Database;
use crate::registry::{Copier, FollowError, FollowedChange, Follower, Losses};
use countersign_client::clock::Clock;
use countersign_client::watch::Complaint;

/// Longest time between two looks. A notification of PostgreSQL comes before, if its connection
/// stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause after a look that failed: the next one has waited for an answer already.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest age of the time in the local copy, beyond which the start from it would count as staler
/// than it is.
const COPY_EVERY: Duration = Duration::from_secs(10);

/// Follows the database.
pub(super) struct RegistryFeed {
    follower: Arc<Mutex<Follower>>,
    database: Database,
    copier: Option<Arc<Copier>>,
    news: Arc<Notify>,
    changed: Arc<Notify>,
    runtime: Handle,
}

impl RegistryFeed {
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub(super) fn new(follower: Follower) -> RegistryFeed {
        RegistryFeed {
            database: follower.database().clone(),
            copier: follower.copier().map(Arc::new),
            follower: Arc::new(Mutex::new(follower)),
            news: Arc::default(),
            changed: Arc::default(),
            runtime: Handle::current(),
        }
    }

    /// Looks for changes for ever.
    pub(super) async fn follow(&self, parts: &ReloadedParts, complaint: &Complaint) {
        let mut pause = Duration::ZERO;
        let mut validity = ToldValidity::of(parts);
        loop {
            let _ = tokio::time::timeout(pause, self.news.notified()).await;
            let mut look = pin!(self.look(parts, Losses::Few, false));
            let looked = loop {
                // A look may take longer than the registry counts.
                let looked = tokio::time::timeout(PAUSE, look.as_mut()).await;
                validity.tell(parts, &self.database);
                if let Ok(looked) = looked {
                    break looked;
                }
            };
            pause = match looked {
                Ok(followed) => {
                    if complaint.is_over() {
                        info!("the database of the registry answers again");
                    }
                    if let Some(text) = followed {
                        info!("{text}");
                    }
                    LOOK_EVERY
                }
                Err(failure) => {
                    if complaint.is_new(&failure.text) {
                        for line in failure.text.lines() {
                            error!("{line}");
                        }
                    }
                    PAUSE
                }
            };
        }
    }

    /// Waits for notifications for ever.
    pub(super) fn listening(&self) -> impl Future<Output = ()> + Send + 'static {
        let (database, news) = (self.database.clone(), Arc::clone(&self.news));
        async move { database.listen(|| news.notify_one()).await }
    }

    /// Writes the local copy for ever, if there is one.
    pub(super) fn copying(
        &self,
        clock: Clock,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let copier = Arc::clone(self.copier.as_ref()?);
        let changed = Arc::clone(&self.changed);
        Some(async move {
            let complaint = Complaint::default();
            loop {
                match copier.write(clock.now()).await {
                    Ok(()) => {
                        if complaint.is_over() {
                            info!("the local copy of the registry is written again");
                        }
                    }
                    Err(text) => {
                        if complaint.is_new(&text) {
                            warn!("the local copy of the registry is not written: {text}");
                        }
                    }
                }
                let _ = tokio::time::timeout(COPY_EVERY, changed.notified()).await;
            }
        })
    }

    /// Reads everything again on an operator's order. It blocks, and must not be called on a thread
    /// of the runtime.
    pub(super) fn reload(
        &self,
        parts: &ReloadedParts,
        trigger: Trigger,
        losses: Losses,
    ) -> ReloadResult {
        if !trigger.is_asked() {
            return Ok(None);
        }
        let looked = self.runtime.block_on(self.look(parts, losses, true))?;
        Ok(looked.or_else(|| Some("the registry has not changed".to_owned())))
    }

    async fn look(&self, parts: &ReloadedParts, losses: Losses, everything: bool) -> ReloadResult {
        let mut follower = self.follower.lock().await;
        let looked = follower.look(parts.clock.now(), losses, everything).await;
        match looked {
            Ok(None) => Ok(None),
            Ok(Some(followed)) => {
                parts.metrics.registry_revision(followed.revision);
                self.changed.notify_one();
                Ok(Some(report(parts, &followed)))
            }
            Err(error) => {
                let may_pass = matches!(error, FollowError::Away(_));
                parts.metrics.registry_not_loaded(Reload::failed(may_pass));
                let kept =
                    "the registry in force stays, until it is staler than registry.max_stale";
                Err(ReloadFailure {
                    text: format!("{error}\n{kept}"),
                    may_pass,
                })
            }
        }
    }
}

/// Whether the registry counted when the log told of it last.
struct ToldValidity(bool);

impl ToldValidity {
    fn of(parts: &ReloadedParts) -> ToldValidity {
        ToldValidity(parts.registry.counts_at(parts.clock.now().mono))
    }

    /// Tells that the registry counts no more, or again.
    fn tell(&mut self, parts: &ReloadedParts, database: &Database) {
        let before = self.0;
        *self = ToldValidity::of(parts);
        match (before, self.0) {
            (true, false) => warn!(
                "the registry counts for nobody: the database has not confirmed it within \
                 registry.max_stale, {} s. Signed requests get 503 registry_unavailable until a \
                 look at the database succeeds",
                database.config().max_stale.as_secs()
            ),
            (false, true) => info!("the registry counts again"),
            _ => {}
        }
    }
}

/// Reports a registry that has come into force.
fn report(parts: &ReloadedParts, followed: &FollowedChange) -> String {
    let FollowedChange {
        change,
        revision,
        broke_from,
    } = followed;
    if let Some(before) = broke_from {
        error!(
            before,
            revision,
            added = change.added.len(),
            keys_changed = change.keys_changed.len(),
            "THE DATABASE OF THE REGISTRY LOST CHANGES: it was restored from a backup, or a replica \
             that lagged took over. All machines were read again. Machines that were removed or \
             disabled since may be there again: compare the audit log, and remove them"
        );
    }
    parts.put_into_effect(change);
    format!("the registry is at revision {revision}: {}", counts(change))
}
