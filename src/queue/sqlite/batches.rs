//! The commands that change batches: cancel them, retry their failed jobs.
//!
//! Each command is one transaction, and it selects only the states that it may change, so a run beside
//! it never loses a response. Counts come from the counters of jobs, not from the jobs.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, SqliteConnection};

use crate::domain::job::JobState;
use crate::queue::read::doubts::IN_DOUBT;
use crate::queue::read::row_helpers::integer;
use crate::queue::sqlite::approved_jobs::uncover;
use crate::queue::sqlite::connection::json;
use crate::queue::sqlite::job_counters::{Counter, CounterDeltas, CounterKey};
use crate::queue::sqlite::{SqliteQueue, doubts};
use crate::queue::{BatchId, Cancelled, Context as _, QueueError, Retried};

impl SqliteQueue {
    pub(in crate::queue) async fn cancel_batch(
        &self,
        batch: BatchId,
        now_ms: i64,
    ) -> Result<Option<Cancelled>, QueueError> {
        let mut tx = self.write("cancel a batch").await?;
        let found =
            sqlx::query("UPDATE batches SET cancelled_ms = coalesce(cancelled_ms, ?) WHERE id = ? AND pruned_ms IS NULL")
                .bind(now_ms)
                .bind(batch)
                .execute(&mut *tx)
                .await
                .context("cancel a batch")?;
        if found.rows_affected() == 0 {
            tx.rollback().await.context("cancel a batch")?;
            return Ok(None);
        }
        let in_flight = sqlx::query(
            "SELECT coalesce(sum(in_flight), 0) AS jobs FROM job_counts WHERE batch_id = ?",
        )
        .bind(batch)
        .fetch_one(&mut *tx)
        .await
        .and_then(|row| integer(&row, "jobs"))
        .context("cancel a batch")?;
        doubts::note_withdrawn(&mut tx, OF_BATCH, batch).await?;
        let in_doubt = format!(
            "SELECT count(*) AS jobs FROM jobs WHERE {OF_BATCH} AND state = 'pending' AND {IN_DOUBT}"
        );
        let in_doubt = sqlx::query(AssertSqlSafe(in_doubt))
            .bind(batch)
            .fetch_one(&mut *tx)
            .await
            .and_then(|row| integer(&row, "jobs"))
            .context("cancel a batch")?;
        let keys = pending_by_key(&mut tx, batch).await?;
        let cancel = format!(
            "UPDATE jobs SET state = 'cancelled', reserved_by_run_id = NULL, not_before_ms = 0, finished_ms = ?2
             WHERE {OF_BATCH} AND state = 'pending'"
        );
        let done = sqlx::query(AssertSqlSafe(cancel))
            .bind(batch)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .context("cancel jobs")?;
        let request_cancel = format!(
            "UPDATE jobs SET cancel_requested = 1 WHERE {OF_BATCH} AND state = 'in_flight'"
        );
        sqlx::query(AssertSqlSafe(request_cancel))
            .bind(batch)
            .execute(&mut *tx)
            .await
            .context("cancel jobs")?;
        let mut deltas = CounterDeltas::default();
        for (key, jobs) in keys {
            deltas.move_jobs(key, JobState::Pending, JobState::Cancelled, jobs);
        }
        deltas.apply(&mut tx, now_ms).await?;
        tx.commit().await.context("cancel a batch")?;
        Ok(Some(Cancelled { pending: done.rows_affected(), in_doubt, in_flight }))
    }

    pub(in crate::queue) async fn retry_failed(
        &self,
        codes: &[i64],
        batch: Option<BatchId>,
    ) -> Result<Retried, QueueError> {
        let mut tx = self.write("retry failed jobs").await?;
        let mut sql = QueryBuilder::new("SELECT count(*) FROM jobs WHERE NOT is_latest");
        failed_with(&mut sql, codes, batch);
        let superseded: i64 =
            sql.build_query_scalar().fetch_one(&mut *tx).await.context("count superseded jobs")?;
        let mut sql = QueryBuilder::new(
            "SELECT batch_id, target_status, coalesce(approval_id, 0), count(*) FROM jobs WHERE is_latest",
        );
        failed_with(&mut sql, codes, batch);
        let rows = sql.push(" GROUP BY 1, 2, 3").build().fetch_all(&mut *tx).await;
        let keys = read_keys(&rows.context("count failed jobs")?).context("count failed jobs")?;
        let mut sql = QueryBuilder::new(
            "UPDATE jobs SET state = 'pending', finished_ms = NULL, error_code = NULL, error_info = NULL,
                    not_before_ms = 0, approval_id = NULL, rejected_in_chunk = 0
             WHERE is_latest",
        );
        failed_with(&mut sql, codes, batch);
        let done = sql.build().execute(&mut *tx).await.context("retry failed jobs")?;
        let mut deltas = CounterDeltas::default();
        for (from, jobs) in keys {
            deltas.add(from, Counter::State(JobState::Failed), -jobs);
            let to = CounterKey { approval: 0, ..from };
            deltas.add(to, Counter::State(JobState::Pending), jobs);
            uncover(&mut tx, from.approval, jobs).await?;
        }
        deltas.apply(&mut tx, 0).await?;
        let cancelled = sqlx::query(
            "SELECT coalesce(sum(cancelled), 0) AS jobs FROM job_counts WHERE (?1 IS NULL OR batch_id = ?1)
               AND batch_id NOT IN (SELECT id FROM batches WHERE pruned_ms IS NOT NULL)",
        )
        .bind(batch)
        .fetch_one(&mut *tx)
        .await
        .and_then(|row| integer(&row, "jobs"))
        .context("count cancelled jobs")?;
        tx.commit().await.context("retry failed jobs")?;
        Ok(Retried {
            pending: done.rows_affected(),
            superseded: u64::try_from(superseded).unwrap_or_default(),
            cancelled,
        })
    }
}

/// The condition for the jobs of batch ?1. The ids of its jobs are consecutive, so the engine
/// reads no other rows.
const OF_BATCH: &str = "id BETWEEN (SELECT first_job FROM batches WHERE id = ?1)
    AND (SELECT last_job FROM batches WHERE id = ?1) AND batch_id = ?1";

/// The pending jobs of a batch by counter key.
async fn pending_by_key(
    connection: &mut SqliteConnection,
    batch: BatchId,
) -> Result<Vec<(CounterKey, i64)>, QueueError> {
    let rows = sqlx::query(
        "SELECT batch_id, target_status, approval_id, jobs FROM job_counters
         WHERE batch_id = ? AND job_state = 'pending' AND jobs > 0",
    )
    .bind(batch)
    .fetch_all(connection)
    .await
    .context("count the jobs")?;
    read_keys(&rows).context("count the jobs")
}

/// Reads rows of a counter key and a number of jobs.
fn read_keys(rows: &[SqliteRow]) -> Result<Vec<(CounterKey, i64)>, sqlx::Error> {
    rows.iter().map(|row| Ok((CounterKey::read(row, 0)?, row.try_get(3)?))).collect()
}

fn failed_with(sql: &mut QueryBuilder<Sqlite>, codes: &[i64], batch: Option<BatchId>) {
    // A batch that a prune has marked will be deleted as a whole, so its jobs stay as they are.
    sql.push(
        " AND state = 'failed' AND batch_id NOT IN (SELECT id FROM batches WHERE pruned_ms IS NOT NULL)",
    );
    if !codes.is_empty() {
        sql.push(" AND error_code IN (SELECT value FROM json_each(")
            .push_bind(json(codes))
            .push("))");
    }
    if let Some(batch) = batch {
        sql.push(" AND batch_id = ").push_bind(batch);
    }
}
