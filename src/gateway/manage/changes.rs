//! A change of the registry: recorded first, then made.
//!
//! The record comes before the change, as the record of a request comes before it is forwarded. The
//! other order could make a change that no record tells of: a transaction that is committed cannot
//! be taken back. So a record may tell of a change that was not made. The response record of the
//! same request then has a status other than 200, and the log of changes in the database lacks it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::manager::{Manager, invalid};
use crate::audit::{CalledChange, Receipt, RegistryCallRecord};
use crate::gateway::record::authorized::AuthorizedCall;
use crate::gateway::record::recorder::Recorder;
use crate::registry::database::{Author, Database, WriteError};
use countersign_core::refusal::{Refusal, RegistryFault};

/// Longest wait for the database, for a read or a change. Clients wait some 15 s for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A call that changes the registry, with what it needs.
pub(super) struct ChangeContext<'a> {
    pub(super) manager: &'a Manager,
    pub(super) recorder: &'a Recorder,
    pub(super) authorized: &'a AuthorizedCall,
    pub(super) database: &'a Database,
}

/// The right to make the change that a record tells of. Only the record makes one.
pub(super) struct RecordedChange {
    _receipt: Receipt,
    permit: OwnedSemaphorePermit,
    author: Author,
}

impl Manager {
    /// Waits for a read, within the deadline.
    ///
    /// # Errors
    ///
    /// [`Refusal::RegistryUnavailable`].
    pub(super) async fn read<T>(
        &self,
        reading: impl Future<Output = Result<T, WriteError>>,
    ) -> Result<T, Refusal> {
        let away = Refusal::RegistryUnavailable(RegistryFault::Away);
        match tokio::time::timeout(DEADLINE, reading).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => {
                warn!(%error, "the registry's database could not be read");
                Err(away)
            }
            Err(_) => {
                warn!("the registry's database did not answer a read in {DEADLINE:?}");
                Err(away)
            }
        }
    }
}

impl ChangeContext<'_> {
    /// Writes the record of a change.
    ///
    /// # Errors
    ///
    /// [`Refusal::Overloaded`] if too many changes wait for the database, without a record;
    /// [`Refusal::AuditUnavailable`]. Then the change must not be made.
    pub(super) async fn record(&self, change: CalledChange<'_>) -> Result<RecordedChange, Refusal> {
        let changes = Arc::clone(&self.manager.changes);
        let permit = (changes.try_acquire_owned()).map_err(|_| Refusal::Overloaded)?;
        let now = self.manager.clock.now();
        let by = self.authorized.signed.signed().machine().id.as_str();
        let request_id = self.authorized.provenance.id;
        let record = RegistryCallRecord {
            wall_ms: now.wall_ms,
            request_id: request_id.as_str(),
            by,
            change,
        };
        let recording = self.recorder.registry_call(&record);
        let receipt = recording.await.map_err(|_| Refusal::AuditUnavailable)?;
        Ok(RecordedChange {
            _receipt: receipt,
            permit,
            author: Author {
                by: by.to_owned(),
                request_id: request_id.as_str().to_owned(),
                at: now.unix_seconds(),
            },
        })
    }

    /// Makes a recorded change. It goes on if the client leaves or the deadline passes: half a
    /// change would be worse than one without an answer.
    ///
    /// # Errors
    ///
    /// The objection of the database. [`RegistryFault::Unknown`] if it did not tell in time.
    pub(super) async fn make<T, F>(
        &self,
        recorded: RecordedChange,
        change: impl FnOnce(Database, Author) -> F,
    ) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, WriteError>> + Send + 'static,
    {
        let RecordedChange { permit, author, .. } = recorded;
        let making = change(self.database.clone(), author);
        let task = tokio::spawn(async move {
            let made = making.await;
            drop(permit);
            made
        });
        let request_id = self.authorized.provenance.id;
        let unknown = Err(Refusal::RegistryUnavailable(RegistryFault::Unknown));
        match tokio::time::timeout(DEADLINE, task).await {
            Ok(Ok(Ok(made))) => Ok(made),
            Ok(Ok(Err(error))) => match error {
                WriteError::Invalid(mistakes) => Err(invalid(mistakes)),
                WriteError::NoMachine => Err(Refusal::NoMachine),
                WriteError::Refused(refusal) => Err(refusal),
                WriteError::Exists(what) => Err(Refusal::Exists(what)),
                WriteError::Unavailable(why) => {
                    warn!(%request_id, why, "the registry's database did not confirm a change");
                    unknown
                }
            },
            Ok(Err(_)) => {
                warn!(%request_id, "a change of the registry ended in a bug");
                unknown
            }
            Err(_) => {
                warn!(%request_id, "the registry's database did not answer in {DEADLINE:?}");
                unknown
            }
        }
    }
}
