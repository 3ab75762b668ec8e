//! A gateway follows its database: each change is put in force as a whole, or not at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::change::Change;
use super::database::{ChangePosition, ChangedRows, Database, LocalCopy, News};
use super::ids::IdCase;
use super::next::RegistryState;
use super::registry_build::{FollowError, RegistryBuild, digest, panicked};
use super::snapshot::Registry;
use super::store::{Losses, RegistryStore, is_mass_deletion};
use crate::config::DatabaseConfig;
use countersign_client::clock::Now;

/// Longest wait for the answer whether something has changed. A server that is silent for longer is
/// asked again over another connection.
const LOOK: Duration = Duration::from_millis(1500);

/// Longest wait for the changed rows. It begins at [`LOOK`] and doubles up to this while reading
/// them takes longer, so that many rows over a slow line come into force too.
const LONGEST_NEWS: Duration = Duration::from_secs(24);

/// How long a registry counts after it was last confirmed, where `max_stale` is 0: a gateway looks
/// each second, and a look may take [`LOOK`].
const SHORTEST: Duration = Duration::from_secs(3);

/// How far a local copy may be ahead of the clock, in seconds: the clock may have been set back a
/// little since.
const CLOCK_SLACK: u64 = 5;

/// Follows the database of a store.
pub struct Follower {
    store: Arc<RegistryStore>,
    database: Database,
    copy: Option<LocalCopy>,
    position: Option<ChangePosition>,
    state: Option<RegistryState>,
    knows_schema: bool,
    /// Longest wait for the next changed rows.
    news_limit: Duration,
}

/// The changes of one look at the database.
#[derive(Debug)]
pub struct FollowedChange {
    /// The machines that are different now.
    pub change: Change,
    /// The revision in force.
    pub revision: u64,
    /// The revision before, if the database went back or became another one: it was restored from
    /// a backup, or a replica that lagged took over. Removed machines may be there again.
    pub broke_from: Option<u64>,
}

impl Follower {
    /// A follower of the store's database; `None` if its machines stand in files.
    pub fn new(store: Arc<RegistryStore>) -> Option<Follower> {
        let database = store.database()?.for_follower();
        let config = database.config();
        let directory = config.state_dir.as_deref();
        let directory = directory.filter(|_| !config.max_stale.is_zero() && config.is_remote());
        Some(Follower {
            copy: directory.map(|directory| LocalCopy::new(directory, &database)),
            database,
            store,
            position: None,
            state: None,
            knows_schema: false,
            news_limit: LOOK,
        })
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The revision in force.
    pub fn revision(&self) -> Option<u64> {
        self.position.as_ref().map(|position| position.revision)
    }

    /// Looks whether something has changed, and puts it in force. `now` is the time before the
    /// call: what the database tells was in force then. With `everything` all rows are read.
    ///
    /// # Errors
    ///
    /// [`FollowError`]; the registry in force stays.
    pub async fn look(
        &mut self,
        now: Now,
        losses: Losses,
        everything: bool,
    ) -> Result<Option<FollowedChange>, FollowError> {
        let followed = self.follow(losses, everything).await;
        let max_stale = self.database.config().max_stale;
        match &followed {
            Ok(_) => {
                self.store
                    .confirm(now.mono, Duration::ZERO, max_stale.max(SHORTEST));
            }
            Err(_) if max_stale.is_zero() => self.store.expire(),
            Err(_) => {}
        }
        followed
    }

    async fn follow(
        &mut self,
        losses: Losses,
        everything: bool,
    ) -> Result<Option<FollowedChange>, FollowError> {
        if !self.knows_schema {
            self.database.check_schema().await?;
            self.knows_schema = true;
        }
        let Some(known) = self.position.clone().filter(|_| !everything) else {
            return self.read_all(losses, None).await.map(Some);
        };
        let now = timeout(LOOK, self.database.position()).await;
        let now = now.map_err(|_| FollowError::Away(self.silent(LOOK)))??;
        if now == known {
            return Ok(None);
        }
        let limit = self.news_limit;
        let Ok(news) = timeout(limit, self.database.news(&known)).await else {
            self.news_limit = (limit * 2).min(LONGEST_NEWS);
            return Err(FollowError::Away(self.silent(limit)));
        };
        let news = news?;
        self.news_limit = LOOK;
        match news {
            News::None => Ok(None),
            News::Changes(changes) => match self.state.take() {
                Some(state) => self.apply(state, changes).await.map(Some),
                // An error has used the state up.
                None => self.read_all(Losses::Any, None).await.map(Some),
            },
            News::Much => self.read_all(Losses::Any, None).await.map(Some),
            News::Another => self.read_all(losses, Some(known)).await.map(Some),
        }
    }

    async fn apply(
        &mut self,
        mut state: RegistryState,
        changes: ChangedRows,
    ) -> Result<FollowedChange, FollowError> {
        let case = self.store.case();
        let digest = digest(&changes.position);
        let ChangedRows {
            position,
            groups,
            rows,
            gone,
        } = changes;
        let work = move || {
            let change = state.changed(groups.as_deref(), &rows, &gone, digest, case);
            (state, change)
        };
        let (state, change) = spawn_blocking(work).await.map_err(|_| panicked())?;
        let next = Arc::clone(&state.registry);
        self.state = Some(state);
        let change = change.map_err(FollowError::Refused)?;
        self.store.put_in_force(next);
        let revision = position.revision;
        self.position = Some(position);
        Ok(FollowedChange {
            change,
            revision,
            broke_from: None,
        })
    }

    /// Reads all rows. `broken` is the position that the database has lost.
    async fn read_all(
        &mut self,
        losses: Losses,
        broken: Option<ChangePosition>,
    ) -> Result<FollowedChange, FollowError> {
        let mut all = self.database.all_rows().await?;
        let mut build = RegistryBuild::new(all.groups.clone(), &self.store);
        while let Some(rows) = all.next().await? {
            build.add(rows).await?;
        }
        let position = all.position.clone();
        all.end().await;
        let (state, change) = build.finish(&position, &self.store).await?;
        let before = self.store.current().len();
        let is_doubtful = self.position.is_none() || broken.is_some();
        if is_doubtful && losses == Losses::Few && is_mass_deletion(before, change.removed.len()) {
            return Err(FollowError::Refused(vec![format!(
                "{}: {} of {before} machines are gone, more than half, and the database is not the \
                 one that was followed, so it is taken for a mistake; to put it in force all the \
                 same, run countersign reload --force, or restart",
                self.database.config().address,
                change.removed.len(),
            )]));
        }
        self.store.put_in_force(Arc::clone(&state.registry));
        let revision = position.revision;
        (self.state, self.position) = (Some(state), Some(position));
        Ok(FollowedChange {
            change,
            revision,
            broke_from: broken.map(|position| position.revision),
        })
    }

    /// Puts the local copy in force, at the start. It counts until `max_stale` after it was last
    /// confirmed, and no copy of the future counts.
    ///
    /// # Errors
    ///
    /// Why there is no copy that can be used.
    pub async fn start_from_copy(&mut self, now: Now) -> Result<FollowedChange, String> {
        let Some(copy) = &self.copy else {
            return Err("no local copy is kept".to_owned());
        };
        let (position, confirmed, mut rows) =
            (copy.open().await).map_err(|text| format!("{}: {text}", copy.path().display()))?;
        let unusable = |text: String| format!("{}: {text}", copy.path().display());
        let max_stale = self.database.config().max_stale;
        if confirmed > now.unix_seconds().saturating_add(CLOCK_SLACK) {
            return Err(unusable("it is from the future".to_owned()));
        }
        let age = Duration::from_secs(now.unix_seconds().saturating_sub(confirmed));
        if age >= max_stale {
            return Err(unusable(format!(
                "it is {} s old, and registry.max_stale is {} s",
                age.as_secs(),
                max_stale.as_secs()
            )));
        }
        let mut build = RegistryBuild::new(rows.groups.clone(), &self.store);
        while let Some(page) = rows.next().await.map_err(|error| error.to_string())? {
            (build.add(page).await).map_err(|error| unusable(error.to_string()))?;
        }
        if !rows.is_whole() {
            return Err(unusable("its checksum is wrong".to_owned()));
        }
        drop(rows);
        let built = build.finish(&position, &self.store).await;
        let (state, change) = built.map_err(|error| unusable(error.to_string()))?;
        self.store.put_in_force(Arc::clone(&state.registry));
        self.store.confirm(now.mono, age, max_stale);
        let revision = position.revision;
        (self.state, self.position) = (Some(state), Some(position));
        Ok(FollowedChange {
            change,
            revision,
            broke_from: None,
        })
    }

    /// The task that keeps the local copy, if one is kept.
    pub fn copier(&self) -> Option<Copier> {
        let directory = self.copy.as_ref()?.path().parent()?.to_owned();
        let database = self.store.database()?.clone();
        Some(Copier {
            copy: LocalCopy::new(&directory, &database),
            database,
        })
    }

    fn silent(&self, limit: Duration) -> String {
        let address = &self.database.config().address;
        format!("the database {address} is not available: no answer within {limit:?}")
    }
}

/// Reads the machines of a database once, for a command.
///
/// # Errors
///
/// As [`Follower::look`].
pub async fn read_database(
    config: &DatabaseConfig,
    case: IdCase,
) -> Result<Arc<Registry>, FollowError> {
    let store = Arc::new(RegistryStore::in_database(Database::new(config), case));
    if let Some(mut follower) = Follower::new(Arc::clone(&store)) {
        follower.follow(Losses::Any, true).await?;
    }
    Ok(store.current())
}

/// Keeps the local copy up to date.
pub struct Copier {
    copy: LocalCopy,
    database: Database,
}

impl Copier {
    /// Writes what has changed, and the time.
    ///
    /// # Errors
    ///
    /// A text that says why it could not.
    pub async fn write(&self, now: Now) -> Result<(), String> {
        let written = self.copy.update(&self.database, now.unix_seconds()).await;
        written.map_err(|error| format!("{}: {error}", self.copy.path().display()))
    }
}
