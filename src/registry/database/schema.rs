//! The tables, and their migrations.

use super::connect::Database;
use super::connection::Argument::{Int, Text};
use super::session::{Purpose, Session};
use super::write_error::WriteError;
use crate::config::{DatabaseAddress, DatabaseConfig};

/// The migrations, the first one to version 1. `BYTES` and `ID` are types of either database. A
/// migration that was released never changes.
const MIGRATIONS: [&str; 1] = ["
CREATE TABLE registry (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    schema_version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    head TEXT NOT NULL
);
-- A machine has an entry; a tombstone has the time of its removal.
CREATE TABLE machine (
    id ID PRIMARY KEY,
    folded ID NOT NULL,
    search TEXT NOT NULL,
    entry TEXT,
    removed BIGINT,
    CHECK ((entry IS NULL) <> (removed IS NULL))
);
CREATE INDEX machine_folded ON machine (folded);
CREATE TABLE machine_key (
    public_key BYTES PRIMARY KEY,
    id ID NOT NULL
);
CREATE TABLE machine_group (
    name ID PRIMARY KEY,
    entry TEXT NOT NULL
);
-- The scope tells how much a gateway has to read again: 0 the machines of the lists, 1 the groups
-- too, 2 everything.
CREATE TABLE change_log (
    revision BIGINT PRIMARY KEY,
    head TEXT NOT NULL,
    at BIGINT NOT NULL,
    author TEXT NOT NULL,
    request_id TEXT NOT NULL,
    scope BIGINT NOT NULL,
    machines TEXT NOT NULL
);
CREATE TABLE enrolment_token (
    id ID PRIMARY KEY,
    sha256 BYTES NOT NULL UNIQUE,
    max_uses BIGINT NOT NULL,
    uses BIGINT NOT NULL CHECK (uses <= max_uses),
    expires BIGINT NOT NULL,
    terms TEXT NOT NULL,
    author TEXT NOT NULL,
    created BIGINT NOT NULL,
    revoked BIGINT
);
CREATE TABLE used_jwt (
    digest BYTES PRIMARY KEY,
    expires BIGINT NOT NULL
);
CREATE INDEX used_jwt_expires ON used_jwt (expires);
"];

/// The version of the schema that this program reads and writes.
pub(super) const VERSION: u64 = MIGRATIONS.len() as u64;

/// Keeps two migrations from running at once; any number does that nobody else uses.
const MIGRATION_LOCK: u64 = 0x636f_756e_7465;

impl Database {
    /// Opens the database, and makes sure of its schema. An SQLite file is made and migrated where
    /// that is needed.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`] if it cannot be reached. [`WriteError::Invalid`] if its schema is
    /// missing, older or newer than this program's.
    pub async fn open(config: &DatabaseConfig) -> Result<Database, WriteError> {
        let database = Database::new(config);
        database.check_schema().await?;
        Ok(database)
    }

    /// Makes sure of the schema, as [`Database::open`].
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub(in crate::registry) async fn check_schema(&self) -> Result<(), WriteError> {
        if matches!(self.config().address, DatabaseAddress::Sqlite(_)) {
            self.bring_up_to_date().await?;
            return Ok(());
        }
        let mut session = self.begin(Purpose::Read).await?;
        let version = version(&mut session).await;
        session.roll_back().await;
        let (version, address) = (version?, &self.config().address);
        match version {
            VERSION => Ok(()),
            newer if newer > VERSION => Err(self.newer(newer)),
            0 => Err(invalid(format!(
                "the database {address} has no registry; make one with `countersign registry \
                 migrate`, as a role that may create tables"
            ))),
            older => Err(invalid(format!(
                "the registry in the database {address} has schema version {older}, and this \
                 program needs {VERSION}; run `countersign registry migrate`"
            ))),
        }
    }

    /// Brings the schema up to date. Returns the schema's version before and after.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`] if it cannot be reached, or the role may not create tables.
    /// [`WriteError::Invalid`] if it has a newer schema than this program knows.
    pub async fn migrate(config: &DatabaseConfig) -> Result<(u64, u64), WriteError> {
        Database::new(config).bring_up_to_date().await
    }

    async fn bring_up_to_date(&self) -> Result<(u64, u64), WriteError> {
        let mut session = self.begin(Purpose::Write).await?;
        if session.is_postgres() {
            let lock = format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
            session.script(&lock).await?;
        }
        let before = version(&mut session).await?;
        if before >= VERSION {
            session.roll_back().await;
            return match before {
                VERSION => Ok((VERSION, VERSION)),
                newer => Err(self.newer(newer)),
            };
        }
        for migration in MIGRATIONS.iter().skip(usize::try_from(before).unwrap_or(0)) {
            let sql = in_dialect(migration, session.is_postgres());
            session.script(&sql).await?;
        }
        if before == 0 {
            let head = super::change_log::new_head()?;
            let sql = "INSERT INTO registry (one, schema_version, revision, head) \
                       VALUES (1, $1, 0, $2)";
            session.execute(sql, &[Int(VERSION), Text(&head)]).await?;
            let sql = "INSERT INTO change_log \
                       (revision, head, at, author, request_id, scope, machines) \
                       VALUES (0, $1, 0, 'migration', '', 2, '{}')";
            session.execute(sql, &[Text(&head)]).await?;
        } else {
            let sql = "UPDATE registry SET schema_version = $1";
            session.execute(sql, &[Int(VERSION)]).await?;
        }
        session.commit().await?;
        Ok((before, VERSION))
    }

    fn newer(&self, version: u64) -> WriteError {
        invalid(format!(
            "the registry in the database {} has schema version {version}, and this program knows \
             versions up to {VERSION}; use the program that made it, or a newer one",
            self.config().address
        ))
    }
}

/// The version of the schema; 0 where there is none.
async fn version(session: &mut Session) -> Result<u64, WriteError> {
    let sql = match session.is_postgres() {
        true => {
            "SELECT tablename::text FROM pg_catalog.pg_tables \
             WHERE schemaname = current_schema() AND tablename = 'registry'"
        }
        false => "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'registry'",
    };
    if session.row(sql, &[]).await?.is_none() {
        return Ok(0);
    }
    match session
        .row("SELECT schema_version FROM registry", &[])
        .await?
    {
        Some(row) => session.value(row.int(0)),
        None => Ok(0),
    }
}

fn in_dialect(sql: &str, is_postgres: bool) -> String {
    match is_postgres {
        // The order of ids is that of their bytes, here and in SQLite.
        true => (sql.replace(" BYTES ", " BYTEA ")).replace(" ID ", " TEXT COLLATE \"C\" "),
        false => sql.replace(" BYTES ", " BLOB ").replace(" ID ", " TEXT "),
    }
}

fn invalid(text: String) -> WriteError {
    WriteError::Invalid(vec![text])
}
