//! The connections to the database.

use crate::config::DatabaseConfig;

use super::write_error::WriteError;

/// A registry in SQLite or PostgreSQL. Clones share the connections.
#[derive(Clone)]
pub struct Database {}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database(..)")
    }
}

pub(super) fn not_yet<T>() -> Result<T, WriteError> {
    Err(WriteError::Unavailable("declared only".to_owned()))
}

impl Database {
    /// Opens the database. An SQLite file is made and migrated where that is needed; with PostgreSQL
    /// the schema must be there (`countersign registry migrate`).
    ///
    /// # Errors
    ///
    /// It cannot be reached, or its schema is another one than this program's.
    pub async fn open(_config: &DatabaseConfig) -> Result<Database, WriteError> {
        not_yet()
    }

    /// Brings the schema up to date. Returns the schema's version before and after.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or has a newer schema than this program knows.
    pub async fn migrate(_config: &DatabaseConfig) -> Result<(u32, u32), WriteError> {
        not_yet()
    }
}
