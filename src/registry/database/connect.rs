//! The database, and the connections to it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::connection::Connection;
use super::session::{Purpose, Session};
use super::write_error::WriteError;
use crate::config::DatabaseConfig;
use crate::registry::ids::IdCase;

/// Most connections of one gateway: a server has a hundred by default, for all gateways. A call
/// that finds all in use waits for [`PATIENCE`].
const MOST: usize = 8;

/// Longest wait for a free connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// A registry in SQLite or PostgreSQL. Clones share the connections.
#[derive(Clone)]
pub struct Database(Arc<Connections>);

/// The connections to a database.
pub(super) struct Connections {
    config: DatabaseConfig,
    idle: Mutex<Vec<Connection>>,
    free: Arc<Semaphore>,
    /// Whether [`IdCase::Folded`] holds.
    folds_case: AtomicBool,
    /// A change was made here.
    changed: Notify,
}

impl Database {
    /// A database that nobody has connected to yet.
    pub fn new(config: &DatabaseConfig) -> Database {
        Database(Arc::new(Connections {
            config: config.clone(),
            idle: Mutex::default(),
            free: Arc::new(Semaphore::new(MOST)),
            folds_case: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    /// Its settings.
    pub fn config(&self) -> &DatabaseConfig {
        &self.0.config
    }

    /// Sets the rule for ids that are added from now on.
    pub fn set_case(&self, case: IdCase) {
        let folds = case == IdCase::Folded;
        self.0.folds_case.store(folds, Ordering::SeqCst);
    }

    pub(super) fn folds_case(&self) -> bool {
        self.0.folds_case.load(Ordering::SeqCst)
    }

    /// Resolves after a change that was made through this value or a clone of it.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self, purpose: Purpose) -> Result<Session, WriteError> {
        let permit = timeout(PATIENCE, Arc::clone(&self.0.free).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(self.0.unavailable(&sqlx::Error::PoolTimedOut));
        };
        if let Some(connection) = self.0.idle() {
            let mut session = Session::new(connection, Arc::clone(&self.0), permit);
            if session.begin(purpose).await.is_ok() {
                return Ok(session);
            }
            // The server may have been restarted since; nothing was done yet. The other idle
            // connections are as old.
            self.0.idle_list().clear();
            return self.begin_anew(purpose, session).await;
        }
        let connection = self.open_connection().await?;
        let mut session = Session::new(connection, Arc::clone(&self.0), permit);
        session.begin(purpose).await?;
        Ok(session)
    }

    async fn begin_anew(&self, purpose: Purpose, broken: Session) -> Result<Session, WriteError> {
        let connection = self.open_connection().await?;
        let mut session = broken.with(connection);
        session.begin(purpose).await?;
        Ok(session)
    }

    async fn open_connection(&self) -> Result<Connection, WriteError> {
        let opened = Connection::open(&self.0.config).await;
        opened.map_err(|error| self.0.unavailable(&error))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({})", self.0.config.address)
    }
}

impl Connections {
    fn idle_list(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> Option<Connection> {
        self.idle_list().pop()
    }

    /// Tells of a change.
    pub(super) fn tell(&self) {
        self.changed.notify_one();
    }

    pub(super) fn keep(&self, connection: Connection) {
        self.idle_list().push(connection);
    }

    /// An error of the database, with its address.
    pub(super) fn unavailable(&self, error: &sqlx::Error) -> WriteError {
        let address = &self.config.address;
        let cause = match error {
            sqlx::Error::Io(error) => error.to_string(),
            sqlx::Error::Database(error) => error.message().to_owned(),
            sqlx::Error::PoolTimedOut => format!("all {MOST} connections are in use"),
            sqlx::Error::PoolClosed => "the connection was lost".to_owned(),
            other => other.to_string(),
        };
        WriteError::Unavailable(format!("the database {address} is not available: {cause}"))
    }
}
