//! The connections to one database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connection::DatabaseConnection;
use super::write_error::WriteError;
use crate::config::DatabaseConfig;

/// Most connections of calls and enrolments. With the follower's own one, a gateway has eight: a
/// server has a hundred by default, for all gateways.
const MOST_OF_CALLS: usize = 7;

/// Longest wait for a free connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The user of a connection. The follower has one of its own, because calls may wait for a lock in the
/// database, and machines count for nobody where the follower waits as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionUser {
    Calls,
    Follower,
}

/// The connections of one kind of user.
struct ConnectionReserve {
    idle: Mutex<Vec<DatabaseConnection>>,
    free: Arc<Semaphore>,
    most: usize,
}

impl ConnectionReserve {
    fn new(most: usize) -> ConnectionReserve {
        ConnectionReserve {
            idle: Mutex::default(),
            free: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    fn idle_list(&self) -> MutexGuard<'_, Vec<DatabaseConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections to a database, and what its users share.
pub(super) struct Connections {
    pub(super) config: DatabaseConfig,
    calls: ConnectionReserve,
    follower: ConnectionReserve,
    /// Whether ids that differ in case only are refused.
    folds_case: AtomicBool,
    /// A change was made here.
    pub(super) changed: Notify,
}

impl Connections {
    pub(super) fn new(config: &DatabaseConfig) -> Connections {
        Connections {
            config: config.clone(),
            calls: ConnectionReserve::new(MOST_OF_CALLS),
            follower: ConnectionReserve::new(1),
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

    fn reserve(&self, user: ConnectionUser) -> &ConnectionReserve {
        match user {
            ConnectionUser::Calls => &self.calls,
            ConnectionUser::Follower => &self.follower,
        }
    }

    /// Waits until a connection of this user is free.
    pub(super) async fn permit(
        &self,
        user: ConnectionUser,
    ) -> Result<OwnedSemaphorePermit, WriteError> {
        let reserve = self.reserve(user);
        match timeout(PATIENCE, Arc::clone(&reserve.free).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(self.away(&format!("all {} connections are in use", reserve.most))),
        }
    }

    /// A new connection.
    pub(super) async fn open(&self) -> Result<DatabaseConnection, WriteError> {
        let opened = DatabaseConnection::open(&self.config).await;
        opened.map_err(|error| self.unavailable(&error))
    }

    /// A connection that nobody uses.
    pub(super) fn idle(&self, user: ConnectionUser) -> Option<DatabaseConnection> {
        self.reserve(user).idle_list().pop()
    }

    /// Closes the connections that nobody uses.
    pub(super) fn close_idle(&self) {
        self.calls.idle_list().clear();
        self.follower.idle_list().clear();
    }

    /// Tells of a change.
    pub(super) fn tell(&self) {
        self.changed.notify_one();
    }

    pub(super) fn keep(&self, user: ConnectionUser, connection: DatabaseConnection) {
        self.reserve(user).idle_list().push(connection);
    }

    /// An error of the database, with its address.
    pub(super) fn unavailable(&self, error: &sqlx::Error) -> WriteError {
        let cause = match error {
            sqlx::Error::Io(error) => error.to_string(),
            sqlx::Error::Database(error) => error.message().to_owned(),
            sqlx::Error::PoolClosed => "the connection was lost".to_owned(),
            other => other.to_string(),
        };
        self.away(&cause)
    }

    fn away(&self, cause: &str) -> WriteError {
        let address = &self.config.address;
        WriteError::Unavailable(format!("the database {address} is not available: {cause}"))
    }
}
