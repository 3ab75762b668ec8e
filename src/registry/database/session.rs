//! A connection in use: a transaction with limits in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::connection::{AnswerRow, Argument, DatabaseConnection, no_answer};
use super::pool::{ConnectionUser, Connections};
use super::write_error::WriteError;

/// Longest wait for one statement.
const STATEMENT: Duration = Duration::from_secs(10);

/// A transaction. Unless it is committed it never happened: a connection that is dropped in the
/// middle is closed, and the database rolls back.
pub(super) struct Session {
    connection: Option<DatabaseConnection>,
    home: Arc<Connections>,
    user: ConnectionUser,
    limit: Duration,
    _permit: OwnedSemaphorePermit,
}

/// The kind of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// All its reads see one state.
    Read,
    /// It takes the row of the revision, and so comes after every other one.
    Write,
}

impl Session {
    pub(super) fn new(
        connection: DatabaseConnection,
        home: Arc<Connections>,
        user: ConnectionUser,
        permit: OwnedSemaphorePermit,
    ) -> Session {
        Session {
            connection: Some(connection),
            home,
            user,
            limit: STATEMENT,
            _permit: permit,
        }
    }

    /// The same permit with another connection.
    pub(super) fn with(mut self, connection: DatabaseConnection) -> Session {
        self.connection = Some(connection);
        self
    }

    pub(super) fn is_postgres(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(DatabaseConnection::is_postgres)
    }

    /// Lets each statement from now on take longer, for an import.
    pub(super) async fn be_patient(&mut self, limit: Duration) -> Result<(), WriteError> {
        if self.is_postgres() {
            let millis = limit.as_millis();
            self.script(&format!("SET LOCAL statement_timeout = {millis}"))
                .await?;
        }
        self.limit = limit + Duration::from_secs(2);
        Ok(())
    }

    /// Begins the transaction.
    pub(super) async fn begin(&mut self, purpose: Purpose) -> Result<(), WriteError> {
        let sql = match (self.is_postgres(), purpose) {
            (true, Purpose::Read) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            (true, Purpose::Write) => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            (false, Purpose::Read) => "BEGIN DEFERRED",
            (false, Purpose::Write) => "BEGIN IMMEDIATE",
        };
        self.script(sql).await
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        arguments: &[Argument<'_>],
    ) -> Result<u64, WriteError> {
        let Some(connection) = &mut self.connection else {
            return Err(self.lost());
        };
        let done = timeout(self.limit, connection.execute(sql, arguments)).await;
        self.settle(done)
    }

    pub(super) async fn script(&mut self, sql: &str) -> Result<(), WriteError> {
        let Some(connection) = &mut self.connection else {
            return Err(self.lost());
        };
        let done = timeout(self.limit, connection.script(sql)).await;
        self.settle(done)
    }

    pub(super) async fn rows(
        &mut self,
        sql: &str,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<AnswerRow>, WriteError> {
        let Some(connection) = &mut self.connection else {
            return Err(self.lost());
        };
        let done = timeout(self.limit, connection.rows(sql, arguments)).await;
        self.settle(done)
    }

    /// The first row of an answer.
    pub(super) async fn row(
        &mut self,
        sql: &str,
        arguments: &[Argument<'_>],
    ) -> Result<Option<AnswerRow>, WriteError> {
        Ok(self.rows(sql, arguments).await?.into_iter().next())
    }

    /// A value of a row.
    pub(super) fn value<T>(&self, value: Result<T, sqlx::Error>) -> Result<T, WriteError> {
        value.map_err(|error| self.home.unavailable(&error))
    }

    /// Commits a change of the registry, and tells of it.
    pub(super) async fn commit_change(self) -> Result<(), WriteError> {
        let home = Arc::clone(&self.home);
        self.commit().await?;
        home.tell();
        Ok(())
    }

    /// Ends the transaction, and keeps the connection for the next one. If the answer to the commit
    /// is lost, nobody can tell whether it happened, and the error says so.
    pub(super) async fn commit(mut self) -> Result<(), WriteError> {
        self.script("COMMIT").await.map_err(|error| match error {
            WriteError::Unavailable(text) => WriteError::Unavailable(format!(
                "{text}. It is not known whether the change was made: look it up before you repeat it"
            )),
            other => other,
        })?;
        self.keep();
        Ok(())
    }

    /// Undoes the transaction.
    pub(super) async fn roll_back(mut self) {
        if self.script("ROLLBACK").await.is_ok() {
            self.keep();
        }
    }

    fn keep(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.home.keep(self.user, connection);
        }
    }

    /// After an error the connection is closed: nothing is known of its state.
    fn settle<T>(
        &mut self,
        done: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, WriteError> {
        let limit = self.limit;
        done.unwrap_or_else(|_| Err(no_answer(limit)))
            .map_err(|error| {
                self.connection = None;
                self.home.unavailable(&error)
            })
    }

    fn lost(&self) -> WriteError {
        self.home.unavailable(&sqlx::Error::PoolClosed)
    }
}
