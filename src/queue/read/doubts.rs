//! How many jobs are in doubt.

use sqlx::sqlite::SqliteConnection;

use crate::queue::read::row_helpers::integer;
use crate::queue::{BatchId, Context as _, QueueError};

/// The condition that a row of `jobs` is in doubt.
pub(in crate::queue) const IN_DOUBT: &str = "(is_latest AND EXISTS (SELECT 1 FROM doubts
    WHERE doubts.question_id = jobs.question_id AND doubts.app_id = jobs.app_id AND doubts.open))";

/// How many jobs are in doubt: all, those of an app, or those of a batch.
pub(in crate::queue) async fn count(
    connection: &mut SqliteConnection,
    app_id: Option<i64>,
    batch: Option<BatchId>,
) -> Result<u64, QueueError> {
    // In SQLite, CROSS JOIN says that the few doubts come first, and then their jobs by `jobs_latest`.
    sqlx::query(
        "SELECT count(*) AS jobs FROM (SELECT DISTINCT question_id, app_id FROM doubts WHERE open) AS doubt
         CROSS JOIN jobs
         WHERE jobs.question_id = doubt.question_id AND jobs.app_id = doubt.app_id AND jobs.is_latest
           AND ($1 IS NULL OR jobs.app_id = $1) AND ($2 IS NULL OR batch_id = $2)",
    )
    .bind(app_id)
    .bind(batch)
    .fetch_one(connection)
    .await
    .and_then(|row| integer(&row, "jobs"))
    .context("count the jobs in doubt")
}
