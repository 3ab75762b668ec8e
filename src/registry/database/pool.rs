//! The connections to one database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connection::DatabaseConnection;
use super::write_error::WriteError;
use crate::config::DatabaseConfig;

/// Most connections of one gateway: a server has a hundred by default, for all gateways. A call
/// that finds all in use waits for [`PATIENCE`].
const MOST: usize = 8;

/// Longest wait for a free connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The connections to a database, and what its users share.
pub(super) struct Connections {
    pub(super) config: DatabaseConfig,
    idle: Mutex<Vec<DatabaseConnection>>,
    free: Arc<Semaphore>,
    /// Whether ids that differ in case only are refused.
    folds_case: AtomicBool,
    /// A change was made here.
    pub(super) changed: Notify,
}

impl Connections {
    pub(super) fn new(config: &DatabaseConfig) -> Connections {
        Connections {
            config: config.clone(),
            idle: Mutex::default(),
            free: Arc::new(Semaphore::new(MOST)),
            folds_case: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    pub(super) fn set_folds_case(&self, folds: bool) {
        self.folds_case.store(folds, Ordering::SeqCst);
    }

    pub(super) fn folds_case(&self) -> bool {
        self.folds_case.load(Ordering::SeqCst)
    }

    /// Waits until fewer than [`MOST`] connections are in use.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, WriteError> {
        let permit = timeout(PATIENCE, Arc::clone(&self.free).acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(self.unavailable(&sqlx::Error::PoolTimedOut)),
        }
    }

    /// A new connection.
    pub(super) async fn open(&self) -> Result<DatabaseConnection, WriteError> {
        let opened = DatabaseConnection::open(&self.config).await;
        opened.map_err(|error| self.unavailable(&error))
    }

    /// A connection that nobody uses.
    pub(super) fn idle(&self) -> Option<DatabaseConnection> {
        self.idle_list().pop()
    }

    /// Closes the connections that nobody uses.
    pub(super) fn close_idle(&self) {
        self.idle_list().clear();
    }

    fn idle_list(&self) -> MutexGuard<'_, Vec<DatabaseConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a change.
    pub(super) fn tell(&self) {
        self.changed.notify_one();
    }

    pub(super) fn keep(&self, connection: DatabaseConnection) {
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
