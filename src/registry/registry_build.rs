//! A registry read from a database, off the threads that serve requests.

use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::change::Change;
use super::database::{ChangePosition, WriteError};
use super::next::{RegistryBuilder, RegistryState};
use super::rows::MachineRow;
use super::store::RegistryStore;

/// Why the database could not be followed. The registry in force stays, and grows stale.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// It is not available.
    #[error("{0}")]
    Away(String),
    /// Its content is refused.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
}

impl From<WriteError> for FollowError {
    fn from(error: WriteError) -> FollowError {
        match error {
            WriteError::Invalid(mistakes) => FollowError::Refused(mistakes),
            other => FollowError::Away(other.to_string()),
        }
    }
}

/// A registry in the making, off the threads that serve requests.
pub(super) struct RegistryBuild {
    builder: Option<RegistryBuilder>,
}

impl RegistryBuild {
    pub(super) fn new(groups: Vec<String>, store: &RegistryStore) -> RegistryBuild {
        RegistryBuild {
            builder: Some(RegistryBuilder::new(groups, store.current())),
        }
    }

    pub(super) async fn add(&mut self, rows: Vec<MachineRow>) -> Result<(), FollowError> {
        let Some(mut builder) = self.builder.take() else {
            return Err(panicked());
        };
        let work = move || {
            let added = builder.add(&rows);
            (builder, added)
        };
        let (builder, added) = spawn_blocking(work).await.map_err(|_| panicked())?;
        self.builder = Some(builder);
        added.map_err(FollowError::Refused)
    }

    pub(super) async fn finish(
        self,
        position: &ChangePosition,
        store: &RegistryStore,
    ) -> Result<(RegistryState, Change), FollowError> {
        let Some(builder) = self.builder else {
            return Err(panicked());
        };
        let (digest, case, old) = (digest(position), store.case(), store.current());
        let work = move || {
            let state = builder.finish(digest, case)?;
            let change = Change::between(&old, &state.registry);
            Ok((state, change))
        };
        let built = spawn_blocking(work).await.map_err(|_| panicked())?;
        built.map_err(FollowError::Refused)
    }
}

/// The digest of a registry in a database: it names the change that led to it.
pub(super) fn digest(position: &ChangePosition) -> [u8; 32] {
    Sha256::digest(format!("{}:{}", position.revision, position.head)).into()
}

/// The error of a thread that ended by a bug.
pub(super) fn panicked() -> FollowError {
    FollowError::Away("a bug ended the reading of the registry; report it with the log".to_owned())
}
