//! One connection to SQLite or PostgreSQL, and the values that go over it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ColumnIndex, ConnectOptions, Decode, Executor, Postgres, Row, Sqlite, Type};
use tokio::time::timeout;

use crate::config::{DatabaseAddress, DatabaseConfig, DatabaseTls};
use countersign_client::file;

/// Longest wait for a new connection, with TLS and the login. A gateway that lost its database
/// tries again at once, and must hear of a change within two seconds of its return.
const CONNECT: Duration = Duration::from_millis(1500);

/// Longest wait of SQLite for another writer.
const BUSY: Duration = Duration::from_secs(5);

/// Largest file of a password, in bytes.
const MAX_PASSWORD: usize = 4096;

/// The limits of a session at the server: it ends what a client that is gone left behind. They are
/// below [`Limit`](super::session::Limit) of the client, which so gets the server's error.
const LIMITS: &str = "SET statement_timeout = '8s'; SET lock_timeout = '5s'; \
                      SET idle_in_transaction_session_timeout = '20s'";

/// A connection.
pub(super) enum DatabaseConnection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// A value in a statement.
#[derive(Clone, Copy)]
pub(super) enum Argument<'a> {
    Int(u64),
    Text(&'a str),
    MaybeText(Option<&'a str>),
    Bytes(&'a [u8]),
}

/// A row of an answer.
pub(super) enum AnswerRow {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl DatabaseConnection {
    /// Connects. The password is read from its file each time.
    pub(super) async fn open(config: &DatabaseConfig) -> Result<DatabaseConnection, sqlx::Error> {
        match &config.address {
            DatabaseAddress::Sqlite(file) => sqlite(file).await.map(DatabaseConnection::Sqlite),
            DatabaseAddress::Postgres { .. } => {
                let options = postgres_options(config)?;
                let connect = async {
                    let mut connection = options.connect().await?;
                    connection.execute(sqlx::raw_sql(LIMITS)).await?;
                    Ok(connection)
                };
                (timeout(CONNECT, connect).await)
                    .unwrap_or_else(|_| Err(no_answer(CONNECT)))
                    .map(DatabaseConnection::Postgres)
            }
        }
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(self, DatabaseConnection::Postgres(_))
    }

    /// Runs a statement. Returns how many rows it touched.
    pub(super) async fn execute(
        &mut self,
        sql: &str,
        arguments: &[Argument<'_>],
    ) -> Result<u64, sqlx::Error> {
        Ok(match self {
            DatabaseConnection::Sqlite(connection) => {
                let done = to_sqlite(sql, arguments).execute(connection).await?;
                done.rows_affected()
            }
            DatabaseConnection::Postgres(connection) => {
                let done = to_postgres(sql, arguments).execute(connection).await?;
                done.rows_affected()
            }
        })
    }

    /// Runs several statements without arguments.
    pub(super) async fn script(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        match self {
            DatabaseConnection::Sqlite(connection) => {
                connection.execute(sqlx::raw_sql(sql)).await?;
            }
            DatabaseConnection::Postgres(connection) => {
                connection.execute(sqlx::raw_sql(sql)).await?;
            }
        }
        Ok(())
    }

    /// The rows of a query.
    pub(super) async fn rows(
        &mut self,
        sql: &str,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<AnswerRow>, sqlx::Error> {
        Ok(match self {
            DatabaseConnection::Sqlite(connection) => {
                let rows = to_sqlite(sql, arguments).fetch_all(connection).await?;
                rows.into_iter().map(AnswerRow::Sqlite).collect()
            }
            DatabaseConnection::Postgres(connection) => {
                let rows = to_postgres(sql, arguments).fetch_all(connection).await?;
                rows.into_iter().map(AnswerRow::Postgres).collect()
            }
        })
    }
}

/// The error of a server that is silent.
pub(super) fn no_answer(limit: Duration) -> sqlx::Error {
    let text = format!("no answer within {limit:?}");
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// Opens a file, and makes it, for its owner alone, where it is missing.
async fn sqlite(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let mut new = OpenOptions::new();
    match new.write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(sqlx::Error::Io(error)),
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .journal_mode(SqliteJournalMode::Wal)
        // A change that was answered survives a loss of power.
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    options.connect().await
}

/// The options of a connection to PostgreSQL. sqlx keeps a copy of the password until the
/// connection stands, and does not wipe it.
pub(super) fn postgres_options(config: &DatabaseConfig) -> Result<PgConnectOptions, sqlx::Error> {
    let DatabaseAddress::Postgres {
        host,
        port,
        user,
        database,
    } = &config.address
    else {
        return Err(sqlx::Error::Configuration("is no PostgreSQL".into()));
    };
    let options = PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(*port)
        .username(user)
        .database(database)
        .application_name("countersign")
        .disable_statement_logging();
    let options = match &config.tls {
        DatabaseTls::Off => options.ssl_mode(PgSslMode::Disable),
        DatabaseTls::Verified(None) => options.ssl_mode(PgSslMode::VerifyFull),
        DatabaseTls::Verified(Some(ca)) => {
            options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(ca)
        }
    };
    let Some(path) = &config.password else {
        return Ok(options.password(""));
    };
    let unusable =
        |text: String| sqlx::Error::Configuration(format!("{}: {text}", path.display()).into());
    let secret =
        file::read_secret(path, MAX_PASSWORD).map_err(|fault| unusable(fault.to_string()))?;
    let text = std::str::from_utf8(&secret).map_err(|_| unusable("is not UTF-8 text".into()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(unusable("is empty; write the password into it".into())),
        password => Ok(options.password(password)),
    }
}

/// A number as both databases store it. Ours are counts and dates.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_sqlite<'q>(
    sql: &'q str,
    arguments: &'q [Argument<'q>],
) -> Query<'q, Sqlite, SqliteArguments<'q>> {
    let mut query = sqlx::query::<Sqlite>(sql);
    for argument in arguments {
        query = match argument {
            Argument::Int(number) => query.bind(stored(*number)),
            Argument::Text(text) => query.bind(*text),
            Argument::MaybeText(text) => query.bind(*text),
            Argument::Bytes(bytes) => query.bind(*bytes),
        };
    }
    query
}

fn to_postgres<'q>(
    sql: &'q str,
    arguments: &'q [Argument<'q>],
) -> Query<'q, Postgres, PgArguments> {
    let mut query = sqlx::query::<Postgres>(sql);
    for argument in arguments {
        query = match argument {
            Argument::Int(number) => query.bind(stored(*number)),
            Argument::Text(text) => query.bind(*text),
            Argument::MaybeText(text) => query.bind(*text),
            Argument::Bytes(bytes) => query.bind(*bytes),
        };
    }
    query
}

impl AnswerRow {
    /// A count or a date.
    pub(super) fn int(&self, column: usize) -> Result<u64, sqlx::Error> {
        let number: i64 = self.get(column)?;
        u64::try_from(number).map_err(|error| sqlx::Error::Decode(error.into()))
    }

    pub(super) fn maybe_int(&self, column: usize) -> Result<Option<u64>, sqlx::Error> {
        let number: Option<i64> = self.get(column)?;
        let number = number.map(u64::try_from).transpose();
        number.map_err(|error| sqlx::Error::Decode(error.into()))
    }

    pub(super) fn text(&self, column: usize) -> Result<String, sqlx::Error> {
        self.get(column)
    }

    pub(super) fn maybe_text(&self, column: usize) -> Result<Option<String>, sqlx::Error> {
        self.get(column)
    }

    pub(super) fn bytes(&self, column: usize) -> Result<Vec<u8>, sqlx::Error> {
        self.get(column)
    }

    fn get<T>(&self, column: usize) -> Result<T, sqlx::Error>
    where
        for<'r> T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
        usize: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        match self {
            AnswerRow::Sqlite(row) => row.try_get(column),
            AnswerRow::Postgres(row) => row.try_get(column),
        }
    }
}
