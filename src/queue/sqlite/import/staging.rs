//! Staging: the rows of a manifest in a temporary table, before the import decides anything.
//!
//! SQLite keeps the table in an unlinked file that no other process can read, and the queue stays
//! unlocked while it fills. Relies on the reader of the manifest to add each question once; a later row
//! for it is a replacement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments as _, AssertSqlSafe};

use crate::domain::job::{NewJob, QuestionId, TargetStatus};
use crate::queue::{Context as _, QueueError};

/// Rows written by one statement.
const GROUP_ROWS: usize = 1_000;

/// The operation, for errors.
const CONTEXT: &str = "stage the rows of a manifest";

/// The engine checks for a cancellation after this number of steps, which takes some milliseconds.
const STEPS: i32 = 100_000;

/// Cancels an import. Clones cancel the same import.
#[derive(Debug, Clone, Default)]
pub struct CancellationToken(Arc<AtomicBool>);

impl CancellationToken {
    /// Cancels the import at the engine's next check, also within a statement.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether cancellation was requested.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Lets this token interrupt the statements that run on `connection`.
    pub(in crate::queue) async fn cancel_on(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<(), QueueError> {
        let asked = self.clone();
        let mut handle = connection.lock_handle().await.context(CONTEXT)?;
        handle.set_progress_handler(STEPS, move || !asked.is_asked());
        Ok(())
    }
}

/// Some rows of a manifest, bound for the engine; can be filled on any thread.
#[derive(Debug, Default)]
pub struct RowBatch {
    values: SqliteArguments,
    rows: usize,
    by_status: [u64; 3],
}

impl RowBatch {
    /// Adds one row. Each question may be added once per manifest.
    pub fn push(&mut self, job: NewJob) {
        if self.rows == 0 {
            self.values.reserve(3 * GROUP_ROWS, 0);
        }
        let line = i64::try_from(job.line).unwrap_or(i64::MAX);
        // Binding numbers and text cannot fail.
        let _ = self.values.add(line);
        let _ = self.values.add(job.question_id.into_text());
        let _ = self.values.add(job.status.code());
        self.rows += 1;
        self.by_status[job.status as usize] += 1;
    }

    /// Whether the batch should be written before more rows are added.
    pub fn is_full(&self) -> bool {
        self.rows >= GROUP_ROWS
    }

    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// The temporary table, and the state of filling it.
#[derive(Debug)]
pub(in crate::queue) struct Staging {
    /// The statement for a full batch of rows; always the same text, so that it is prepared once.
    full: Arc<str>,
    replaced: bool,
    pub(in crate::queue) rows: u64,
    /// The rows by status, in the order of [`TargetStatus::ALL`], once all are staged.
    pub(in crate::queue) by_status: [u64; 3],
}

fn insert(rows: usize) -> String {
    let mut sql =
        "INSERT INTO temp.staged (line, question_id, target_status) VALUES (?,?,?)".to_owned();
    sql.reserve(8 * rows);
    for _ in 1..rows {
        sql.push_str(",(?,?,?)");
    }
    sql
}

impl Staging {
    /// Creates the tables.
    pub(in crate::queue) async fn begin(
        connection: &mut SqliteConnection,
    ) -> Result<Self, QueueError> {
        let tables = "CREATE TEMP TABLE staged (line INTEGER, question_id TEXT, target_status INTEGER);
                      CREATE TEMP TABLE replaced (line INTEGER, question_id TEXT, target_status INTEGER)";
        sqlx::raw_sql(tables).execute(connection).await.context(CONTEXT)?;
        Ok(Self { full: insert(GROUP_ROWS).into(), replaced: false, rows: 0, by_status: [0; 3] })
    }

    pub(in crate::queue) async fn add(
        &mut self,
        connection: &mut SqliteConnection,
        group: RowBatch,
    ) -> Result<(), QueueError> {
        let RowBatch { values, rows, by_status } = group;
        if rows == 0 {
            return Ok(());
        }
        let done = if rows == GROUP_ROWS {
            let full = AssertSqlSafe(Arc::clone(&self.full));
            sqlx::query_with(full, values).execute(connection).await
        } else {
            let some = AssertSqlSafe(insert(rows));
            sqlx::query_with(some, values).persistent(false).execute(connection).await
        };
        self.rows += done.context(CONTEXT)?.rows_affected();
        for (sum, more) in self.by_status.iter_mut().zip(by_status) {
            *sum += more;
        }
        Ok(())
    }

    /// Stages a row that replaces an earlier one.
    pub(in crate::queue) async fn replace(
        &mut self,
        connection: &mut SqliteConnection,
        job: &NewJob,
    ) -> Result<(), QueueError> {
        self.replaced = true;
        sqlx::query("INSERT INTO temp.replaced (line, question_id, target_status) VALUES (?, ?, ?)")
            .bind(i64::try_from(job.line).unwrap_or(i64::MAX))
            .bind(job.question_id.as_str().to_owned())
            .bind(job.status.code())
            .execute(connection)
            .await
            .map(drop)
            .context(CONTEXT)
    }

    /// Stages the removal of the row of this question.
    pub(in crate::queue) async fn remove_row(
        &mut self,
        connection: &mut SqliteConnection,
        question: &QuestionId,
    ) -> Result<(), QueueError> {
        self.replaced = true;
        sqlx::query("INSERT INTO temp.replaced (question_id) VALUES (?)")
            .bind(question.as_str().to_owned())
            .execute(connection)
            .await
            .map(drop)
            .context(CONTEXT)
    }

    /// Applies the last replacement of each question, or its removal, once all rows are staged.
    pub(in crate::queue) async fn finish(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<(), QueueError> {
        if !std::mem::take(&mut self.replaced) {
            return Ok(());
        }
        let apply = "CREATE INDEX temp.replaced_question ON replaced (question_id);
             UPDATE temp.staged SET (line, target_status) = (SELECT line, target_status FROM temp.replaced
                 WHERE replaced.question_id = staged.question_id ORDER BY replaced.rowid DESC LIMIT 1)
             WHERE question_id IN (SELECT question_id FROM temp.replaced);
             DELETE FROM temp.staged WHERE target_status IS NULL;
             DROP TABLE temp.replaced;
             CREATE TEMP TABLE replaced (line INTEGER, question_id TEXT, target_status INTEGER)";
        sqlx::raw_sql(apply).execute(&mut *connection).await.context(CONTEXT)?;
        for (status, rows) in TargetStatus::ALL.into_iter().zip(&mut self.by_status) {
            let now: i64 =
                sqlx::query_scalar("SELECT count(*) FROM temp.staged WHERE target_status = ?")
                    .bind(status.code())
                    .fetch_one(&mut *connection)
                    .await
                    .context(CONTEXT)?;
            *rows = u64::try_from(now).unwrap_or_default();
        }
        self.rows = self.by_status.iter().sum();
        Ok(())
    }
}
