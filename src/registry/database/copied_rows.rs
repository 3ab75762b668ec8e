//! The rows of the local copy.

use super::change_log::ChangePosition;
use super::connect::Database;
use super::connection::Argument::{Int, Text};
use super::feed::ChangedRows;
use super::row_sum::RowSum;
use super::session::Session;
use super::transaction::placeholders;
use super::write_error::WriteError;
use crate::registry::rows::MachineRow;

/// The kinds of rows.
pub(super) const GROUP: u64 = 0;
pub(super) const MACHINE: u64 = 1;

/// Rows of a page and of a statement.
const PAGE: usize = 5000;

/// The content of a copy. It is worth nothing before [`CopiedRows::is_whole`].
pub(in crate::registry) struct CopiedRows {
    pub(super) session: Session,
    /// What the rows must come to.
    pub(super) total: RowSum,
    pub(in crate::registry) groups: Vec<String>,
    pub(super) after: Option<String>,
    pub(super) sum: RowSum,
}

/// Where an update failed.
pub(super) enum CopyFault {
    Copy(WriteError),
    Source(WriteError),
}

/// Writes the rows that changed.
pub(super) async fn change(
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
pub(super) async fn replace(
    copy: &mut Session,
    source: &Database,
) -> Result<(ChangePosition, RowSum), CopyFault> {
    (copy.execute("DELETE FROM copy_row", &[]).await).map_err(CopyFault::Copy)?;
    let mut all = source.all_rows().await.map_err(CopyFault::Source)?;
    let mut total = RowSum::default();
    let groups = put_groups(copy, &mut total, &all.groups).await;
    groups.map_err(CopyFault::Copy)?;
    while let Some(rows) = all.next().await.map_err(CopyFault::Source)? {
        (put(copy, &mut total, MACHINE, &rows).await).map_err(CopyFault::Copy)?;
    }
    let position = all.position.clone();
    all.end().await;
    Ok((position, total))
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
        self.after.is_none() && self.sum == self.total
    }
}
