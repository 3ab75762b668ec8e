//! The registry of a start.

use std::sync::Arc;

use tracing::{error, warn};

use super::start_error::StartError;
use crate::config::{Config, DatabaseConfig, RegistrySource};
use crate::registry::database::Database;
use crate::registry::{Change, FollowError, Follower, IdCase, Losses, RegistryStore};
use countersign_client::clock::Clock;

/// A registry in force, and what keeps it up to date.
pub(super) struct OpenedRegistry {
    pub(super) store: Arc<RegistryStore>,
    /// From no machines at all.
    pub(super) first: Change,
    /// Where the machines stand in a database.
    pub(super) follower: Option<Follower>,
}

impl OpenedRegistry {
    /// Reads the machines for the first time. While PostgreSQL is away, a gateway starts from its
    /// local copy; without a good one it starts too, and refuses every signed request.
    ///
    /// # Errors
    ///
    /// A mistake in a file or in the database, or an SQLite file that cannot be used.
    pub(super) async fn open(config: &Config, clock: &Clock) -> Result<OpenedRegistry, StartError> {
        let case = IdCase::of(config);
        match &config.registry.source {
            RegistrySource::File(file) | RegistrySource::Directory(file) => {
                let (store, first) = RegistryStore::open(file, case)
                    .map_err(|mistakes| StartError::Configuration(mistakes.to_string()))?;
                Ok(OpenedRegistry {
                    store: Arc::new(store),
                    first,
                    follower: None,
                })
            }
            RegistrySource::Database(database) => from_database(database, case, clock).await,
        }
    }
}

async fn from_database(
    config: &DatabaseConfig,
    case: IdCase,
    clock: &Clock,
) -> Result<OpenedRegistry, StartError> {
    let database = Database::new(config);
    let store = Arc::new(RegistryStore::in_database(database, case));
    let Some(mut follower) = Follower::new(Arc::clone(&store)) else {
        return Err(StartError::System(
            "the registry has no database".to_owned(),
        ));
    };
    let looked = follower.look(clock.now(), Losses::Any, true).await;
    let followed = match looked {
        Ok(followed) => followed,
        Err(FollowError::Refused(mistakes)) => {
            let place = &config.address;
            let lines: Vec<String> = mistakes.iter().map(|it| format!("{place}: {it}")).collect();
            return Err(StartError::Configuration(lines.join("\n")));
        }
        Err(FollowError::Away(text)) if !config.is_remote() => {
            return Err(StartError::System(text));
        }
        Err(FollowError::Away(text)) => {
            warn!("{text}; looking for the local copy of the registry");
            match follower.start_from_copy(clock.now()).await {
                Ok(followed) => {
                    warn!(
                        revision = followed.revision,
                        machines = followed.change.machines,
                        "started from the local copy of the registry; it counts until \
                         registry.max_stale after it was written"
                    );
                    Some(followed)
                }
                Err(text) => {
                    error!(
                        "there is no local copy of the registry to start from: {text}. Signed \
                         requests get 503 registry_unavailable until the database answers"
                    );
                    None
                }
            }
        }
    };
    let first = followed.map(|followed| followed.change);
    Ok(OpenedRegistry {
        first: first.unwrap_or_else(|| Change::between(&store.current(), &store.current())),
        store,
        follower: Some(follower),
    })
}
