//! A change in the making: it holds the row of the revision until it is done.

use super::change_log::{
    Author, ChangePosition, ChangeScope, MOST_LISTED, Revision, TouchedIds, new_head, position,
};
use super::connect::Database;
use super::connection::AnswerRow;
use super::connection::Argument::{self, Int, Text};
use super::schema::VERSION;
use super::session::{Purpose, Session};
use super::write_error::WriteError;

/// The channel on which PostgreSQL tells the gateways of a change.
pub(super) const CHANNEL: &str = "countersign_registry";

/// Most rows of one statement: both databases take some ten thousand arguments.
pub(super) const BATCH: usize = 1000;

/// A change in the making.
pub(super) struct Transaction {
    pub(super) session: Session,
    before: ChangePosition,
}

impl Database {
    /// Begins a change. Changes wait for one another here, so that revisions have no gaps and each
    /// sees all before it.
    pub(super) async fn begin_change(&self) -> Result<Transaction, WriteError> {
        let mut session = self.begin(Purpose::Write).await?;
        let sql = match session.is_postgres() {
            true => "SELECT schema_version FROM registry FOR UPDATE",
            // BEGIN IMMEDIATE has locked the whole file.
            false => "SELECT schema_version FROM registry",
        };
        let version = match session.row(sql, &[]).await? {
            Some(row) => session.value(row.int(0))?,
            None => 0,
        };
        if version != VERSION {
            session.roll_back().await;
            return Err(WriteError::Unavailable(format!(
                "the registry in the database {} has schema version {version}, and this program \
                 needs {VERSION}",
                self.config().address
            )));
        }
        let before = position(&mut session).await?;
        Ok(Transaction { session, before })
    }
}

impl Transaction {
    /// The revision before the change.
    pub(super) fn revision_before(&self) -> Revision {
        Revision(self.before.revision)
    }

    /// Logs and commits the change.
    pub(super) async fn commit(
        mut self,
        mut touched: TouchedIds,
        mut scope: ChangeScope,
        author: &Author,
    ) -> Result<Revision, WriteError> {
        let revision = self.before.revision + 1;
        if scope == ChangeScope::Everything || touched.len() > MOST_LISTED {
            scope = ChangeScope::Everything;
            touched = TouchedIds::default();
        }
        for list in [
            &mut touched.added,
            &mut touched.removed,
            &mut touched.changed,
        ] {
            list.sort_unstable();
        }
        let head = new_head()?;
        let machines = serde_json::json!(touched).to_string();
        let sql = "INSERT INTO change_log \
                   (revision, head, at, author, request_id, scope, machines) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = [
            Int(revision),
            Text(&head),
            Int(author.at),
            Text(&author.by),
            Text(&author.request_id),
            Int(scope as u64),
            Text(&machines),
        ];
        self.session.execute(sql, &values).await?;
        let sql = "UPDATE registry SET revision = $1, head = $2";
        self.session
            .execute(sql, &[Int(revision), Text(&head)])
            .await?;
        if self.session.is_postgres() {
            self.session.script(&format!("NOTIFY {CHANNEL}")).await?;
        }
        self.session.commit_change().await?;
        Ok(Revision(revision))
    }

    /// Gives the change up.
    pub(super) async fn roll_back(self) {
        self.session.roll_back().await;
    }

    /// The rows that `sql` finds for any of the values; `{}` stands for their list.
    pub(super) async fn look_up(
        &mut self,
        sql: &str,
        values: &[Argument<'_>],
    ) -> Result<Vec<AnswerRow>, WriteError> {
        let mut found = Vec::new();
        for batch in values.chunks(BATCH) {
            let sql = sql.replace("{}", &placeholders(1, batch.len()));
            found.extend(self.session.rows(&sql, batch).await?);
        }
        Ok(found)
    }

    /// Runs `sql`, which ends in `VALUES `, for all rows of `width` values each.
    pub(super) async fn insert(
        &mut self,
        sql: &str,
        width: usize,
        values: &[Argument<'_>],
    ) -> Result<(), WriteError> {
        for batch in values.chunks(BATCH * width) {
            let rows: Vec<String> = (0..batch.len() / width)
                .map(|row| format!("({})", placeholders(row * width + 1, width)))
                .collect();
            let sql = format!("{sql} {}", rows.join(","));
            self.session.execute(&sql, batch).await?;
        }
        Ok(())
    }
}

/// `$1,$2,..`
pub(super) fn placeholders(first: usize, count: usize) -> String {
    let all: Vec<String> = (first..first + count).map(|n| format!("${n}")).collect();
    all.join(",")
}
