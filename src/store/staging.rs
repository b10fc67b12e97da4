//! Staging: a manifest's rows in a table of the import's own, before anything is decided.
//!
//! The table is a temporary one: SQLite keeps it in a file that has no name any more and that
//! nobody else may read, and no lock is held on the queue while it fills. Relies on the
//! manifest's reader to name each question once; a later row for it is a replacement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments as _, AssertSqlSafe};

use super::{Doing as _, StoreError};
use crate::domain::job::{NewJob, QuestionId, Status};

/// Rows written by one statement.
const GROUP_ROWS: usize = 1_000;

/// What is being done, for errors.
const DOING: &str = "take in the rows of a manifest";

/// So many steps of the engine pass between two looks whether to stop: some milliseconds.
const STEPS: i32 = 100_000;

/// Asks an import to end. Clones ask the same one.
#[derive(Debug, Clone, Default)]
pub struct StopImport(Arc<AtomicBool>);

impl StopImport {
    /// Ends it as soon as the engine looks, whatever it is in the middle of.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it shall end.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Lets what runs on `connection` end when it is asked for.
    pub(super) async fn heed_on(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<(), StoreError> {
        let asked = self.clone();
        let mut handle = connection.lock_handle().await.doing(DOING)?;
        handle.set_progress_handler(STEPS, move || !asked.is_asked());
        Ok(())
    }
}

/// Some rows of a manifest, made ready for the engine wherever that costs least.
#[derive(Debug, Default)]
pub struct RowGroup {
    values: SqliteArguments,
    rows: usize,
    by_status: [u64; 3],
}

impl RowGroup {
    /// Takes one row. An id may come once in a manifest.
    pub fn push(&mut self, job: NewJob) {
        if self.rows == 0 {
            self.values.reserve(3 * GROUP_ROWS, 0);
        }
        let line = i64::try_from(job.line).unwrap_or(i64::MAX);
        // Numbers and text can always be bound.
        let _ = self.values.add(line);
        let _ = self.values.add(job.question_id.into_text());
        let _ = self.values.add(job.status.code());
        self.rows += 1;
        self.by_status[job.status as usize] += 1;
    }

    /// Whether it should be written before it takes more.
    pub fn is_full(&self) -> bool {
        self.rows >= GROUP_ROWS
    }

    /// How many rows are in it.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// The table, and what still has to get there.
#[derive(Debug)]
pub(super) struct Staging {
    /// The statement for a full group, the same text each time, so that it is made once.
    full: Arc<str>,
    replaced: bool,
    pub(super) rows: u64,
    /// The rows by status, in the order of [`Status::ALL`], once all are there.
    pub(super) by_status: [u64; 3],
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
    /// Makes the table.
    pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let tables = "CREATE TEMP TABLE staged (line INTEGER, question_id TEXT, target_status INTEGER);
                      CREATE TEMP TABLE replaced (line INTEGER, question_id TEXT, target_status INTEGER)";
        sqlx::raw_sql(tables).execute(connection).await.doing(DOING)?;
        Ok(Self { full: insert(GROUP_ROWS).into(), replaced: false, rows: 0, by_status: [0; 3] })
    }

    pub(super) async fn add(
        &mut self,
        connection: &mut SqliteConnection,
        group: RowGroup,
    ) -> Result<(), StoreError> {
        let RowGroup { values, rows, by_status } = group;
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
        self.rows += done.doing(DOING)?.rows_affected();
        for (sum, more) in self.by_status.iter_mut().zip(by_status) {
            *sum += more;
        }
        Ok(())
    }

    /// Takes a row that speaks instead of one taken before.
    pub(super) async fn replace(
        &mut self,
        connection: &mut SqliteConnection,
        job: &NewJob,
    ) -> Result<(), StoreError> {
        self.replaced = true;
        sqlx::query("INSERT INTO temp.replaced (line, question_id, target_status) VALUES (?, ?, ?)")
            .bind(i64::try_from(job.line).unwrap_or(i64::MAX))
            .bind(job.question_id.as_str().to_owned())
            .bind(job.status.code())
            .execute(connection)
            .await
            .map(drop)
            .doing(DOING)
    }

    /// Takes back the row of this question, which was taken before.
    pub(super) async fn take_out(
        &mut self,
        connection: &mut SqliteConnection,
        question: &QuestionId,
    ) -> Result<(), StoreError> {
        self.replaced = true;
        sqlx::query("INSERT INTO temp.replaced (question_id) VALUES (?)")
            .bind(question.as_str().to_owned())
            .execute(connection)
            .await
            .map(drop)
            .doing(DOING)
    }

    /// Puts the last of the replacements in, and takes out what has none, once all rows are there.
    pub(super) async fn finish(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<(), StoreError> {
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
        sqlx::raw_sql(apply).execute(&mut *connection).await.doing(DOING)?;
        for (status, rows) in Status::ALL.into_iter().zip(&mut self.by_status) {
            let now: i64 =
                sqlx::query_scalar("SELECT count(*) FROM temp.staged WHERE target_status = ?")
                    .bind(status.code())
                    .fetch_one(&mut *connection)
                    .await
                    .doing(DOING)?;
            *rows = u64::try_from(now).unwrap_or_default();
        }
        self.rows = self.by_status.iter().sum();
        Ok(())
    }
}
