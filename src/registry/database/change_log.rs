//! The log of changes: one row a revision.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::connect::Database;
use super::connection::AnswerRow;
use super::connection::Argument::Int;
use super::session::{Purpose, Session};
use super::write_error::WriteError;
use countersign_core::identity::MachineId;

/// The number of the last change. A new database has revision 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The author of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The id of an operator or of a machine, or `token:ID`, `joiner:NAME`, `command line`.
    pub by: String,
    /// The id of the request that made the change.
    pub request_id: String,
    /// When, in Unix seconds.
    pub at: u64,
}

/// A change as the log has it. The ids of each list are sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedChange {
    /// Its number.
    pub revision: Revision,
    /// When, in Unix seconds.
    pub at: u64,
    /// [`Author::by`].
    pub by: String,
    /// [`Author::request_id`].
    pub request_id: String,
    /// Machines that were added.
    pub added: Vec<MachineId>,
    /// Machines that were removed.
    pub removed: Vec<MachineId>,
    /// Machines whose entry was changed.
    pub changed: Vec<MachineId>,
    /// Everything may have changed, by an import; the lists are then empty.
    pub is_replacement: bool,
}

/// A revision, and the random name of the change that made it. A database that was restored from a
/// backup, or a replica that lagged, may come to the same number by other changes; the name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::registry) struct ChangePosition {
    pub(in crate::registry) revision: u64,
    pub(in crate::registry) head: String,
}

/// How much a change touches, as the log stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::registry) enum ChangeScope {
    Machines = 0,
    Groups = 1,
    Everything = 2,
}

/// The ids that a change touches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::registry) struct TouchedIds {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::registry) added: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::registry) removed: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::registry) changed: Vec<String>,
}

/// Most ids of one row. A larger change is logged as one of everything: a gateway reads everything
/// again about as quickly.
pub(super) const MOST_LISTED: usize = 20_000;

impl TouchedIds {
    pub(in crate::registry) fn len(&self) -> usize {
        self.added.len() + self.removed.len() + self.changed.len()
    }
}

/// Most bytes of ids in a page of the log, about 50,000 ids; a first change may have more.
const PAGE_BYTES: u64 = 1 << 20;

/// A name for a change: 128 random bits.
pub(super) fn new_head() -> Result<String, WriteError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        WriteError::Unavailable(format!("the system has no random bytes: {error}"))
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The position of the database.
pub(super) async fn position(session: &mut Session) -> Result<ChangePosition, WriteError> {
    let sql = "SELECT revision, head FROM registry";
    let Some(row) = session.row(sql, &[]).await? else {
        return Err(WriteError::Unavailable(
            "the table `registry` of the database is empty".to_owned(),
        ));
    };
    Ok(ChangePosition {
        revision: session.value(row.int(0))?,
        head: session.value(row.text(1))?,
    })
}

/// A row of the log.
pub(super) struct LogRow {
    pub(super) position: ChangePosition,
    pub(super) scope: ChangeScope,
    pub(super) touched: TouchedIds,
    at: u64,
    by: String,
    request_id: String,
}

/// The rows after a revision, `limit` at most.
pub(super) async fn rows_after(
    session: &mut Session,
    after: u64,
    limit: u32,
) -> Result<Vec<LogRow>, WriteError> {
    let sql = "SELECT revision, head, at, author, request_id, scope, machines FROM change_log \
               WHERE revision > $1 ORDER BY revision LIMIT $2";
    let rows = session.rows(sql, &[Int(after), Int(limit.into())]).await?;
    rows.iter().map(|row| session.value(log_row(row))).collect()
}

/// How many rows after a revision fit in a page, without reading their ids.
async fn rows_of_page(session: &mut Session, after: u64, limit: u32) -> Result<u32, WriteError> {
    let sql = "SELECT CAST(LENGTH(machines) AS BIGINT) FROM change_log WHERE revision > $1 \
               ORDER BY revision LIMIT $2";
    let sizes = session.rows(sql, &[Int(after), Int(limit.into())]).await?;
    let (mut rows, mut bytes) = (0, 0_u64);
    for size in &sizes {
        bytes = bytes.saturating_add(session.value(size.int(0))?);
        if rows > 0 && bytes > PAGE_BYTES {
            break;
        }
        rows += 1;
    }
    Ok(rows)
}

fn log_row(row: &AnswerRow) -> Result<LogRow, sqlx::Error> {
    let touched = serde_json::from_str(&row.text(6)?);
    Ok(LogRow {
        position: ChangePosition {
            revision: row.int(0)?,
            head: row.text(1)?,
        },
        at: row.int(2)?,
        by: row.text(3)?,
        request_id: row.text(4)?,
        scope: match row.int(5)? {
            0 => ChangeScope::Machines,
            1 => ChangeScope::Groups,
            _ => ChangeScope::Everything,
        },
        touched: touched.map_err(|error| sqlx::Error::Decode(error.into()))?,
    })
}

impl Database {
    /// The changes after a revision, `limit` at most, and the revision in force. They end before
    /// their ids take more than 1 MiB, but are one at least.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn changes(
        &self,
        after: Revision,
        limit: u32,
    ) -> Result<(Vec<LoggedChange>, Revision), WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let now = position(&mut session).await?;
        let limit = rows_of_page(&mut session, after.0, limit).await?;
        let rows = rows_after(&mut session, after.0, limit).await?;
        session.roll_back().await;
        let ids = |ids: Vec<String>| ids.iter().filter_map(|id| MachineId::parse(id)).collect();
        let changes = rows.into_iter().map(|row| LoggedChange {
            revision: Revision(row.position.revision),
            at: row.at,
            by: row.by,
            request_id: row.request_id,
            added: ids(row.touched.added),
            removed: ids(row.touched.removed),
            changed: ids(row.touched.changed),
            is_replacement: row.scope == ChangeScope::Everything,
        });
        Ok((changes.collect(), Revision(now.revision)))
    }
}
