//! The database, and the connections to it.

use std::fmt;
use std::sync::Arc;

use super::pool::{ConnectionUser, Connections};
use super::session::{Purpose, Session};
use super::write_error::WriteError;
use crate::config::DatabaseConfig;
use crate::registry::ids::IdCase;

/// A registry in SQLite or PostgreSQL. Clones share the connections.
#[derive(Clone)]
pub struct Database(Arc<Connections>, ConnectionUser);

impl Database {
    /// A database that nobody has connected to yet.
    pub fn new(config: &DatabaseConfig) -> Database {
        Database(Arc::new(Connections::new(config)), ConnectionUser::Calls)
    }

    /// The same database over the connection that is reserved for the follower. Only one
    /// transaction at a time has it.
    pub(in crate::registry) fn for_follower(&self) -> Database {
        Database(Arc::clone(&self.0), ConnectionUser::Follower)
    }

    /// Its settings.
    pub fn config(&self) -> &DatabaseConfig {
        &self.0.config
    }

    /// Sets the rule for ids that are added from now on.
    pub fn set_case(&self, case: IdCase) {
        self.0.set_folds_case(case == IdCase::Folded);
    }

    pub(super) fn folds_case(&self) -> bool {
        self.0.folds_case()
    }

    /// Resolves after a change that was made through this value or a clone of it.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self, purpose: Purpose) -> Result<Session, WriteError> {
        let user = self.1;
        let permit = self.0.permit(user).await?;
        let Some(connection) = self.0.idle(user) else {
            let connection = self.0.open().await?;
            let mut session = Session::new(connection, Arc::clone(&self.0), user, permit);
            session.begin(purpose).await?;
            return Ok(session);
        };
        let mut session = Session::new(connection, Arc::clone(&self.0), user, permit);
        if session.begin(purpose).await.is_ok() {
            return Ok(session);
        }
        // The server may have been restarted since; nothing was done yet. The other idle
        // connections are as old.
        self.0.close_idle();
        let mut session = session.with(self.0.open().await?);
        session.begin(purpose).await?;
        Ok(session)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({})", self.0.config.address)
    }
}
