//! The local copy: what a gateway starts from while PostgreSQL is away.
//!
//! It is an SQLite file in the state directory. Each change writes only its own rows. A checksum
//! covers all rows, the revision, and the time until which they are known to have been in force. A
//! copy that fails it is not used, and made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::change_log::ChangePosition;
use super::connect::Database;
use super::connection::Argument::{Bytes, Int, Text};
use super::copied_rows::{CopiedRows, CopyFault, GROUP, change, replace};
use super::feed::News;
use super::row_sum::RowSum;
use super::session::{Purpose, Session};
use super::write_error::WriteError;
use crate::config::{DatabaseAddress, DatabaseConfig, DatabaseTls};

/// The file in the state directory.
const FILE: &str = "registry-copy.db";

/// The layout of the tables; a copy of another one is made anew.
const LAYOUT: u64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS copy_state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    layout INTEGER NOT NULL,
    source TEXT NOT NULL,
    revision INTEGER NOT NULL,
    head TEXT NOT NULL,
    confirmed INTEGER NOT NULL,
    total BLOB NOT NULL,
    checksum BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS copy_row (
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    entry TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
";

/// The local copy of a database.
pub(in crate::registry) struct LocalCopy {
    path: PathBuf,
    source: String,
    file: Database,
}

/// The first row of a copy.
#[derive(Clone, Debug)]
struct CopyState {
    position: ChangePosition,
    /// When its content was last known to be in force, in Unix seconds.
    confirmed: u64,
    total: RowSum,
}

impl LocalCopy {
    /// The copy of `source` in a directory.
    pub(in crate::registry) fn new(directory: &Path, source: &Database) -> LocalCopy {
        let path = directory.join(FILE);
        LocalCopy {
            file: Database::new(&DatabaseConfig {
                address: DatabaseAddress::Sqlite(path.clone()),
                password: None,
                tls: DatabaseTls::Off,
                max_stale: Duration::ZERO,
                state_dir: None,
            }),
            path,
            source: source.config().address.to_string(),
        }
    }

    /// The file.
    pub(in crate::registry) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the copy for reading. It returns the position, and when it was last known to be in
    /// force, in Unix seconds.
    ///
    /// # Errors
    ///
    /// A text that says why the copy cannot be used.
    pub(in crate::registry) async fn open(
        &self,
    ) -> Result<(ChangePosition, u64, CopiedRows), String> {
        if !self.path.exists() {
            return Err("there is none".to_owned());
        }
        let text = |error: WriteError| error.to_string();
        let mut session = self.file.begin(Purpose::Read).await.map_err(text)?;
        let state = self.state(&mut session).await.map_err(text)?;
        let Some(state) = state else {
            return Err("its checksum is wrong, or it is the copy of another database".to_owned());
        };
        let mut sum = RowSum::default();
        let sql = "SELECT id, entry FROM copy_row WHERE kind = $1 ORDER BY id";
        let mut groups = Vec::new();
        for row in session.rows(sql, &[Int(GROUP)]).await.map_err(text)? {
            let id = session.value(row.text(0)).map_err(text)?;
            let entry = session.value(row.text(1)).map_err(text)?;
            sum.add(GROUP, &id, &entry);
            groups.push(entry);
        }
        let rows = CopiedRows {
            session,
            total: state.total,
            groups,
            after: Some(String::new()),
            sum,
        };
        Ok((state.position, state.confirmed, rows))
    }

    /// Brings the copy up to date with its source. `now` is the time before the call, in Unix
    /// seconds.
    ///
    /// # Errors
    ///
    /// Either database is not available. A copy that cannot be written is removed, and made anew
    /// by the next call.
    pub(in crate::registry) async fn update(
        &self,
        source: &Database,
        now: u64,
    ) -> Result<(), WriteError> {
        let written = self.write(source, now).await;
        if let Err(CopyFault::Copy(_)) = &written {
            self.remove();
        }
        written.map_err(|fault| match fault {
            CopyFault::Copy(error) | CopyFault::Source(error) => error,
        })
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm"] {
            let mut path = self.path.clone().into_os_string();
            path.push(end);
            // It may not be there; a file that stays fails its checksum or the next write.
            let _ = fs::remove_file(path);
        }
    }

    async fn write(&self, source: &Database, now: u64) -> Result<(), CopyFault> {
        let mut copy = (self.file.begin(Purpose::Write).await).map_err(CopyFault::Copy)?;
        copy.script(TABLES).await.map_err(CopyFault::Copy)?;
        let state = self.state(&mut copy).await.map_err(CopyFault::Copy)?;
        let news = match &state {
            Some(state) => source
                .news(&state.position)
                .await
                .map_err(CopyFault::Source)?,
            None => News::Much,
        };
        let state = match (state, news) {
            (Some(state), News::None) => CopyState {
                confirmed: now,
                ..state
            },
            (Some(state), News::Changes(changes)) => {
                let total =
                    (change(&mut copy, state.total, &changes).await).map_err(CopyFault::Copy)?;
                CopyState {
                    position: changes.position,
                    confirmed: now,
                    total,
                }
            }
            (_, _) => {
                let (position, total) = replace(&mut copy, source).await?;
                CopyState {
                    position,
                    confirmed: now,
                    total,
                }
            }
        };
        self.put_state(&mut copy, &state)
            .await
            .map_err(CopyFault::Copy)?;
        copy.commit().await.map_err(CopyFault::Copy)
    }

    /// The state, if its checksum is right and it is that of this source.
    async fn state(&self, session: &mut Session) -> Result<Option<CopyState>, WriteError> {
        let sql = "SELECT layout, source, revision, head, confirmed, total, checksum \
                   FROM copy_state";
        let Some(row) = session.row(sql, &[]).await? else {
            return Ok(None);
        };
        let total = session.value(row.bytes(5))?;
        let state = CopyState {
            position: ChangePosition {
                revision: session.value(row.int(2))?,
                head: session.value(row.text(3))?,
            },
            confirmed: session.value(row.int(4))?,
            total: RowSum::parse(&total).unwrap_or_default(),
        };
        let is_ours = session.value(row.int(0))? == LAYOUT
            && session.value(row.text(1))? == self.source
            && session.value(row.bytes(6))? == self.checksum(&state);
        Ok(is_ours.then_some(state))
    }

    async fn put_state(&self, session: &mut Session, state: &CopyState) -> Result<(), WriteError> {
        session.execute("DELETE FROM copy_state", &[]).await?;
        let sql = "INSERT INTO copy_state \
                   (one, layout, source, revision, head, confirmed, total, checksum) \
                   VALUES (1, $1, $2, $3, $4, $5, $6, $7)";
        let (total, checksum) = (state.total.bytes(), self.checksum(state));
        let values = [
            Int(LAYOUT),
            Text(&self.source),
            Int(state.position.revision),
            Text(&state.position.head),
            Int(state.confirmed),
            Bytes(&total),
            Bytes(&checksum),
        ];
        session.execute(sql, &values).await?;
        Ok(())
    }

    fn checksum(&self, state: &CopyState) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [&*self.source, &state.position.head] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(state.position.revision.to_be_bytes());
        hash.update(state.confirmed.to_be_bytes());
        hash.update(state.total.bytes());
        hash.finalize().into()
    }
}
