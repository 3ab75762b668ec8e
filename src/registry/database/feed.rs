//! What a gateway reads to follow the database: the rows that changed, or all of them.

use std::collections::BTreeSet;

use super::change_log::{ChangePosition, ChangeScope, position, rows_after};
use super::connect::Database;
use super::connection::Argument::{self, Int, Text};
use super::read::group_texts;
use super::session::{Purpose, Session};
use super::transaction::{BATCH, placeholders};
use super::write_error::WriteError;
use crate::registry::rows::MachineRow;
use countersign_core::identity::MachineId;

/// Most revisions, and most machines, that are followed one by one. Beyond them a gateway reads
/// everything again.
const MOST_REVISIONS: u32 = 1000;
const MOST_MACHINES: usize = 50_000;

/// Rows of a page of all machines.
const PAGE: u64 = 10_000;

/// The news of the database.
pub(in crate::registry) enum News {
    /// Nothing.
    None,
    /// These rows.
    Changes(ChangedRows),
    /// Too much to tell one by one, or everything, by an import.
    Much,
    /// The position known here is none that the database has had: it was restored from a backup, or
    /// a replica that lagged took over.
    Another,
}

/// The rows that changed since a position.
pub(in crate::registry) struct ChangedRows {
    /// The position that they lead to.
    pub(in crate::registry) position: ChangePosition,
    /// All groups, if one is new.
    pub(in crate::registry) groups: Option<Vec<String>>,
    /// The machines as they are now.
    pub(in crate::registry) rows: Vec<MachineRow>,
    /// The machines that are no more.
    pub(in crate::registry) gone: Vec<MachineId>,
}

/// All rows at one position, page by page.
pub(in crate::registry) struct AllRows {
    session: Session,
    /// The position.
    pub(in crate::registry) position: ChangePosition,
    /// All groups.
    pub(in crate::registry) groups: Vec<String>,
    after: Option<String>,
}

impl Database {
    /// The position.
    pub(in crate::registry) async fn position(&self) -> Result<ChangePosition, WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let position = position(&mut session).await?;
        session.roll_back().await;
        Ok(position)
    }

    /// The changes since a position.
    pub(in crate::registry) async fn news(
        &self,
        known: &ChangePosition,
    ) -> Result<News, WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let news = news(&mut session, known).await?;
        session.roll_back().await;
        Ok(news)
    }

    /// Begins to read everything.
    pub(in crate::registry) async fn all_rows(&self) -> Result<AllRows, WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        let position = position(&mut session).await?;
        let groups = group_texts(&mut session).await?;
        Ok(AllRows {
            session,
            position,
            groups,
            after: Some(String::new()),
        })
    }
}

async fn news(session: &mut Session, known: &ChangePosition) -> Result<News, WriteError> {
    let now = position(session).await?;
    if now == *known {
        return Ok(News::None);
    }
    // The row of the known revision shows whether the two histories are one.
    let sql = "SELECT head FROM change_log WHERE revision = $1";
    let same = match session.row(sql, &[Int(known.revision)]).await? {
        Some(row) => session.value(row.text(0))? == known.head,
        None => false,
    };
    if !same || now.revision <= known.revision {
        return Ok(News::Another);
    }
    let log = rows_after(session, known.revision, MOST_REVISIONS + 1).await?;
    let touched: usize = log.iter().map(|row| row.touched.len()).sum();
    let scope = log.iter().map(|row| row.scope).max();
    if log.len() > MOST_REVISIONS as usize
        || touched > MOST_MACHINES
        || scope == Some(ChangeScope::Everything)
    {
        return Ok(News::Much);
    }
    let groups = match scope {
        Some(ChangeScope::Groups) => Some(group_texts(session).await?),
        _ => None,
    };
    let mut ids = BTreeSet::new();
    for row in log {
        let touched = row.touched;
        ids.extend(touched.added);
        ids.extend(touched.removed);
        ids.extend(touched.changed);
    }
    let all: Vec<Argument<'_>> = ids.iter().map(|id| Text(id)).collect();
    let mut rows = Vec::with_capacity(ids.len());
    for batch in all.chunks(BATCH) {
        let list = placeholders(1, batch.len());
        let sql =
            format!("SELECT id, entry FROM machine WHERE entry IS NOT NULL AND id IN ({list})");
        for row in session.rows(&sql, batch).await? {
            rows.push(MachineRow {
                id: session.value(row.text(0))?,
                entry: session.value(row.text(1))?,
            });
        }
    }
    for row in &rows {
        ids.remove(&row.id);
    }
    Ok(News::Changes(ChangedRows {
        position: now,
        groups,
        rows,
        gone: ids.iter().filter_map(|id| MachineId::parse(id)).collect(),
    }))
}

impl AllRows {
    /// The next page; `None` after the last.
    pub(in crate::registry) async fn next(
        &mut self,
    ) -> Result<Option<Vec<MachineRow>>, WriteError> {
        let Some(after) = &self.after else {
            return Ok(None);
        };
        let sql = "SELECT id, entry FROM machine WHERE entry IS NOT NULL AND id > $1 \
                   ORDER BY id LIMIT $2";
        let found = self.session.rows(sql, &[Text(after), Int(PAGE)]).await?;
        let mut rows = Vec::with_capacity(found.len());
        for row in &found {
            rows.push(MachineRow {
                id: self.session.value(row.text(0))?,
                entry: self.session.value(row.text(1))?,
            });
        }
        let is_last = (rows.len() as u64) < PAGE;
        self.after = match is_last {
            true => None,
            false => rows.last().map(|row| row.id.clone()),
        };
        Ok(Some(rows))
    }

    /// Ends the reading.
    pub(in crate::registry) async fn end(self) {
        self.session.roll_back().await;
    }
}
