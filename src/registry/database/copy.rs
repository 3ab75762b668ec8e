//! The local copy: what a gateway starts from while PostgreSQL is away.
//!
//! It is an SQLite file in the state directory. Each change writes only its own rows. A checksum
//! covers all rows, the revision, and the time until which they are known to have been in force. A
//! copy that fails it is not used, and made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::change_log::Position;
use super::connect::Database;
use super::connection::Argument::{Bytes, Int, Text};
use super::feed::{ChangedRows, News};
use super::session::{Purpose, Session};
use super::transaction::placeholders;
use super::write_error::WriteError;
use crate::config::{DatabaseAddress, DatabaseConfig, DatabaseTls};
use crate::registry::rows::MachineRow;

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

const GROUP: u64 = 0;
const MACHINE: u64 = 1;

/// Rows of a page and of a statement.
const PAGE: usize = 5000;

/// The local copy of a database.
pub(in crate::registry) struct LocalCopy {
    path: PathBuf,
    source: String,
    file: Database,
}

/// The first row of a copy.
#[derive(Clone, Debug)]
struct CopyState {
    position: Position,
    /// When its content was last known to be in force, in Unix seconds.
    confirmed: u64,
    total: RowSum,
}

/// What a copy holds. It is worth nothing before [`CopiedRows::is_whole`].
pub(in crate::registry) struct CopiedRows {
    session: Session,
    state: CopyState,
    pub(in crate::registry) groups: Vec<String>,
    after: Option<String>,
    sum: RowSum,
}

/// A sum, modulo 2^256, of the hashes of rows: rows come and go in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RowSum([u64; 4]);

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
    pub(in crate::registry) async fn open(&self) -> Result<(Position, u64, CopiedRows), String> {
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
            state: state.clone(),
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
        if let Err(Fault::Copy(_)) = &written {
            self.remove();
        }
        written.map_err(|fault| match fault {
            Fault::Copy(error) | Fault::Source(error) => error,
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

    async fn write(&self, source: &Database, now: u64) -> Result<(), Fault> {
        let mut copy = (self.file.begin(Purpose::Write).await).map_err(Fault::Copy)?;
        copy.script(TABLES).await.map_err(Fault::Copy)?;
        let state = self.state(&mut copy).await.map_err(Fault::Copy)?;
        let news = match &state {
            Some(state) => source.news(&state.position).await.map_err(Fault::Source)?,
            None => News::Much,
        };
        let state = match (state, news) {
            (Some(state), News::None) => CopyState {
                confirmed: now,
                ..state
            },
            (Some(state), News::Changes(changes)) => {
                let total =
                    (change(&mut copy, state.total, &changes).await).map_err(Fault::Copy)?;
                CopyState {
                    position: changes.position,
                    confirmed: now,
                    total,
                }
            }
            (_, _) => replace(&mut copy, source, now).await?,
        };
        self.put_state(&mut copy, &state)
            .await
            .map_err(Fault::Copy)?;
        copy.commit().await.map_err(Fault::Copy)
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
            position: Position {
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

/// Where an update failed.
enum Fault {
    Copy(WriteError),
    Source(WriteError),
}

/// Writes the rows that changed.
async fn change(
    copy: &mut Session,
    mut total: RowSum,
    changes: &ChangedRows,
) -> Result<RowSum, WriteError> {
    if let Some(groups) = &changes.groups {
        let sql = "SELECT id, entry FROM copy_row WHERE kind = $1";
        for row in copy.rows(sql, &[Int(GROUP)]).await? {
            let (id, entry) = (copy.value(row.text(0))?, copy.value(row.text(1))?);
            total.subtract(GROUP, &id, &entry);
        }
        let sql = "DELETE FROM copy_row WHERE kind = $1";
        copy.execute(sql, &[Int(GROUP)]).await?;
        put_groups(copy, &mut total, groups).await?;
    }
    let changed = changes.rows.iter().map(|row| &*row.id);
    let ids: Vec<&str> = changed
        .chain(changes.gone.iter().map(|id| id.as_str()))
        .collect();
    for ids in ids.chunks(PAGE) {
        let values: Vec<_> = ids.iter().map(|id| Text(id)).collect();
        let list = placeholders(1, ids.len());
        let sql =
            format!("SELECT id, entry FROM copy_row WHERE kind = {MACHINE} AND id IN ({list})");
        for row in copy.rows(&sql, &values).await? {
            let (id, entry) = (copy.value(row.text(0))?, copy.value(row.text(1))?);
            total.subtract(MACHINE, &id, &entry);
        }
        let sql = format!("DELETE FROM copy_row WHERE kind = {MACHINE} AND id IN ({list})");
        copy.execute(&sql, &values).await?;
    }
    put(copy, &mut total, MACHINE, &changes.rows).await?;
    Ok(total)
}

/// Writes everything.
async fn replace(copy: &mut Session, source: &Database, now: u64) -> Result<CopyState, Fault> {
    (copy.execute("DELETE FROM copy_row", &[]).await).map_err(Fault::Copy)?;
    let mut all = source.all_rows().await.map_err(Fault::Source)?;
    let mut total = RowSum::default();
    let groups = put_groups(copy, &mut total, &all.groups).await;
    groups.map_err(Fault::Copy)?;
    while let Some(rows) = all.next().await.map_err(Fault::Source)? {
        (put(copy, &mut total, MACHINE, &rows).await).map_err(Fault::Copy)?;
    }
    let position = all.position.clone();
    all.end().await;
    Ok(CopyState {
        position,
        confirmed: now,
        total,
    })
}

async fn put_groups(
    copy: &mut Session,
    total: &mut RowSum,
    groups: &[String],
) -> Result<(), WriteError> {
    let row = |(number, entry): (usize, &String)| MachineRow {
        // The order of the groups is all that their ids tell.
        id: format!("{number:08}"),
        entry: entry.clone(),
    };
    let rows: Vec<MachineRow> = groups.iter().enumerate().map(row).collect();
    put(copy, total, GROUP, &rows).await
}

async fn put(
    copy: &mut Session,
    total: &mut RowSum,
    kind: u64,
    rows: &[MachineRow],
) -> Result<(), WriteError> {
    for rows in rows.chunks(PAGE) {
        let mut values = Vec::with_capacity(3 * rows.len());
        for row in rows {
            total.add(kind, &row.id, &row.entry);
            values.extend([Int(kind), Text(&row.id), Text(&row.entry)]);
        }
        let list: Vec<String> = (0..rows.len())
            .map(|row| format!("({})", placeholders(3 * row + 1, 3)))
            .collect();
        let sql = format!(
            "INSERT INTO copy_row (kind, id, entry) VALUES {}",
            list.join(",")
        );
        copy.execute(&sql, &values).await?;
    }
    Ok(())
}

impl CopiedRows {
    /// The next page; `None` after the last.
    pub(in crate::registry) async fn next(
        &mut self,
    ) -> Result<Option<Vec<MachineRow>>, WriteError> {
        let Some(after) = &self.after else {
            return Ok(None);
        };
        let sql = "SELECT id, entry FROM copy_row WHERE kind = $1 AND id > $2 \
                   ORDER BY id LIMIT $3";
        let values = [Int(MACHINE), Text(after), Int(PAGE as u64)];
        let found = self.session.rows(sql, &values).await?;
        let mut rows = Vec::with_capacity(found.len());
        for row in &found {
            let id = self.session.value(row.text(0))?;
            let entry = self.session.value(row.text(1))?;
            self.sum.add(MACHINE, &id, &entry);
            rows.push(MachineRow { id, entry });
        }
        self.after = match rows.len() < PAGE {
            true => None,
            false => rows.last().map(|row| row.id.clone()),
        };
        Ok(Some(rows))
    }

    /// Whether all rows have been read, and are those that were written.
    pub(in crate::registry) fn is_whole(&self) -> bool {
        self.after.is_none() && self.sum == self.state.total
    }
}

impl RowSum {
    fn parse(bytes: &[u8]) -> Option<RowSum> {
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        let mut words = [0; 4];
        for (word, part) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(part.try_into().ok()?);
        }
        Some(RowSum(words))
    }

    fn bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn of_row(kind: u64, id: &str, entry: &str) -> RowSum {
        let mut hash = Sha256::new();
        hash.update(kind.to_be_bytes());
        hash.update((id.len() as u64).to_be_bytes());
        hash.update(id);
        hash.update(entry);
        RowSum::parse(&hash.finalize()).unwrap_or_default()
    }

    fn add(&mut self, kind: u64, id: &str, entry: &str) {
        let mut carry = false;
        let other = RowSum::of_row(kind, id, entry);
        for (word, more) in self.0.iter_mut().zip(other.0) {
            let (sum, one) = word.overflowing_add(more);
            let (sum, two) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, one || two);
        }
    }

    fn subtract(&mut self, kind: u64, id: &str, entry: &str) {
        let mut borrow = false;
        let other = RowSum::of_row(kind, id, entry);
        for (word, less) in self.0.iter_mut().zip(other.0) {
            let (rest, one) = word.overflowing_sub(less);
            let (rest, two) = rest.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (rest, one || two);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_and_go_in_any_order() {
        let rows = [(MACHINE, "a", "1"), (MACHINE, "b", "2"), (GROUP, "a", "1")];
        let (mut one, mut other) = (RowSum::default(), RowSum::default());
        for (kind, id, entry) in rows {
            one.add(kind, id, entry);
        }
        for (kind, id, entry) in rows.into_iter().rev() {
            other.add(kind, id, entry);
        }
        assert_eq!(one, other);
        assert_eq!(RowSum::parse(&one.bytes()), Some(one));
        for (kind, id, entry) in rows {
            other.subtract(kind, id, entry);
        }
        assert_eq!(other, RowSum::default());
    }

    #[test]
    fn every_part_of_a_row_counts() {
        let sum = |kind, id: &str, entry: &str| RowSum::of_row(kind, id, entry);
        let row = sum(MACHINE, "ab", "c");
        for other in [
            sum(GROUP, "ab", "c"),
            sum(MACHINE, "a", "bc"),
            sum(MACHINE, "ab", "d"),
        ] {
            assert_ne!(row, other);
        }
    }
}
