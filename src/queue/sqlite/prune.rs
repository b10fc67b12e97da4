//! Pruning: deletes the jobs of old finished batches, with the requests and runs that no job refers to.
//!
//! Pruning deletes whole batches only: those without an open job whose last outcome is old enough. The
//! transaction that checks all jobs of a batch marks it. From then on `retry` leaves its jobs alone,
//! and they are deleted in slices, so that a run beside it never waits long. The next prune continues
//! an interrupted one.

use sqlx::sqlite::SqliteQueryResult;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use crate::domain::job::JobState;
use crate::queue::read::metrics::bound_of;
use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqlite::connection::{begin_immediate, json, truncate_wal};
use crate::queue::sqlite::job_counters::{Counter, CounterDeltas, CounterKey};
use crate::queue::sqlite::open::is_busy;
use crate::queue::sqlite::run_lock::RunLock;
use crate::queue::{BatchId, Context as _, Pruned, QueueError};

/// Jobs deleted by one transaction.
const SLICE_JOBS: i64 = 20_000;

/// The part of the pages that may stay free is one in this number; the next import reuses them.
const KEPT_FREE: i64 = 10;

/// Pages returned to the disk by one transaction.
const SLICE_PAGES: u32 = 2_000;

/// The value of `PRAGMA auto_vacuum` for a file that can return pages one by one.
const AUTO_VACUUM_INCREMENTAL: i64 = 2;

/// A batch to be deleted: its id, and the first and the last of its jobs, if it has any.
struct Old {
    batch: BatchId,
    jobs: i64,
    span: Option<(i64, i64)>,
}

impl SqliteQueue {
    pub(in crate::queue) async fn prunable(&self, before_ms: i64) -> Result<Pruned, QueueError> {
        let mut reader = self.readers.acquire().await.context("find the batches to prune")?;
        let old = old_batches(&mut reader, before_ms).await?;
        Ok(sum(&old))
    }

    pub(in crate::queue) async fn prune(
        &self,
        before_ms: i64,
        now_ms: i64,
    ) -> Result<Pruned, QueueError> {
        // Rows that refer to deleted rows are deleted too. To check that, the engine would read all jobs
        // for every request.
        let options = self.writer.options().foreign_keys(false);
        let mut connection =
            SqliteConnection::connect_with(&options).await.context("open the queue file")?;
        begin(&mut connection).await?;
        let old = old_batches(&mut connection, before_ms).await?;
        mark(&mut connection, &old, now_ms).await?;
        commit(&mut connection).await?;
        for old in &old {
            drop_jobs(&mut connection, old).await?;
        }
        let requests = drop_unused(&mut connection, before_ms).await?;
        let room_kept = !self.give_back(&mut connection, now_ms).await?;
        connection.close().await.context("close the queue file")?;
        Ok(Pruned { requests, room_kept, ..sum(&old) })
    }

    /// Returns free pages to the disk in slices. A file without incremental vacuum has to be rewritten
    /// once, which needs the run lock and no other writer: `false` if another process has either.
    async fn give_back(
        &self,
        connection: &mut SqliteConnection,
        now_ms: i64,
    ) -> Result<bool, QueueError> {
        const CONTEXT: &str = "shrink the queue file after pruning";
        let free = figure(connection, "PRAGMA freelist_count").await?;
        let pages = figure(connection, "PRAGMA page_count").await?;
        if free <= pages / KEPT_FREE {
            return Ok(true);
        }
        if figure(connection, "PRAGMA auto_vacuum").await? == AUTO_VACUUM_INCREMENTAL {
            while figure(connection, "PRAGMA freelist_count").await? > pages / KEPT_FREE {
                begin(connection).await?;
                let slice = format!("PRAGMA incremental_vacuum({SLICE_PAGES})");
                sqlx::raw_sql(AssertSqlSafe(slice))
                    .execute(&mut *connection)
                    .await
                    .context(CONTEXT)?;
                commit(connection).await?;
            }
        } else {
            let Ok(_lock) = RunLock::take(self.path(), now_ms) else { return Ok(false) };
            let rebuild = "PRAGMA auto_vacuum = incremental; VACUUM";
            match sqlx::raw_sql(rebuild).execute(&mut *connection).await {
                Err(e) if is_busy(&e) => return Ok(false),
                written => written.map(drop).context(CONTEXT)?,
            }
        }
        truncate_wal(connection).await;
        Ok(true)
    }
}

async fn figure(
    connection: &mut SqliteConnection,
    pragma: &'static str,
) -> Result<i64, QueueError> {
    sqlx::query_scalar(pragma)
        .fetch_one(connection)
        .await
        .context("read the size of the queue file")
}

fn sum(old: &[Old]) -> Pruned {
    let jobs: i64 = old.iter().map(|old| old.jobs).sum();
    let jobs = u64::try_from(jobs).unwrap_or_default();
    Pruned { batches: old.len() as u64, jobs, ..Pruned::default() }
}

async fn old_batches(
    connection: &mut SqliteConnection,
    before_ms: i64,
) -> Result<Vec<Old>, QueueError> {
    let doing = "find the batches to prune";
    // The counters of a batch are deleted with its last job, so this finds an interrupted prune again.
    let rows = sqlx::query(
        "SELECT batches.id, coalesce(jobs_left, 0), first_job, last_job FROM batches
         LEFT JOIN (SELECT batch_id, sum(pending + in_flight) AS open,
                           sum(pending + in_flight + succeeded + failed + cancelled + superseded) AS jobs_left
                    FROM job_counts GROUP BY batch_id) ON batch_id = batches.id
         WHERE (pruned_ms IS NULL AND created_ms < ?1 AND coalesce(open = 0, 1) AND finished_ms < ?1)
            OR (pruned_ms IS NOT NULL AND jobs_left > 0)
         ORDER BY batches.id",
    )
    .bind(before_ms)
    .fetch_all(connection)
    .await
    .context(doing)?;
    rows.iter()
        .map(|row| {
            let (first, last): (Option<i64>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
            Ok(Old { batch: row.try_get(0)?, jobs: row.try_get(1)?, span: first.zip(last) })
        })
        .collect::<Result<_, sqlx::Error>>()
        .context(doing)
}

async fn begin(connection: &mut SqliteConnection) -> Result<(), QueueError> {
    begin_immediate(connection, "delete old batches").await
}

async fn commit(connection: &mut SqliteConnection) -> Result<(), QueueError> {
    sqlx::query("COMMIT").execute(connection).await.map(drop).context("delete old batches")
}

async fn mark(
    connection: &mut SqliteConnection,
    old: &[Old],
    now_ms: i64,
) -> Result<(), QueueError> {
    let batches: Vec<BatchId> = old.iter().map(|old| old.batch).collect();
    sqlx::query(
        "UPDATE batches SET pruned_ms = ? WHERE pruned_ms IS NULL AND id IN (SELECT value FROM json_each(?))",
    )
    .bind(now_ms.max(0))
    .bind(json(&batches))
    .execute(&mut *connection)
    .await
    .context("mark the pruned batches")?;
    sqlx::query(
        "INSERT INTO maintenance (id, pruned_ms) VALUES (1, ?1) ON CONFLICT DO UPDATE SET pruned_ms = excluded.pruned_ms",
    )
    .bind(now_ms.max(0))
    .execute(connection)
    .await
    .map(drop)
    .context("mark the pruned batches")
}

/// Deletes the jobs of a batch in slices. Their ids are close together, since an import is one
/// transaction.
async fn drop_jobs(connection: &mut SqliteConnection, old: &Old) -> Result<(), QueueError> {
    let Some((first, last)) = old.span else { return Ok(()) };
    let mut from = first;
    while from <= last {
        let to = last.min(from.saturating_add(SLICE_JOBS - 1));
        begin(connection).await?;
        uncount(connection, old.batch, from, to).await?;
        sqlx::query("DELETE FROM jobs WHERE id BETWEEN ?1 AND ?2 AND batch_id = ?3")
            .bind(from)
            .bind(to)
            .bind(old.batch)
            .execute(&mut *connection)
            .await
            .context("delete old jobs")?;
        if to == last {
            sqlx::query("DELETE FROM job_counters WHERE batch_id = ?")
                .bind(old.batch)
                .execute(&mut *connection)
                .await
                .context("delete old jobs")?;
        }
        commit(connection).await?;
        from = to + 1;
    }
    Ok(())
}

/// Subtracts jobs that are about to be deleted from the counters. All of them are finished.
async fn uncount(
    connection: &mut SqliteConnection,
    batch: BatchId,
    from: i64,
    to: i64,
) -> Result<(), QueueError> {
    const CONTEXT: &str = "delete old jobs";
    let rows = sqlx::query(
        "SELECT batch_id, target_status, coalesce(approval_id, 0), state, count(*),
                count(*) FILTER (WHERE state = 'failed' AND NOT is_latest),
                count(*) FILTER (WHERE state = 'succeeded' AND error_code IS NOT NULL)
         FROM jobs WHERE id BETWEEN ? AND ? AND batch_id = ? GROUP BY 1, 2, 3, 4",
    )
    .bind(from)
    .bind(to)
    .bind(batch)
    .fetch_all(&mut *connection)
    .await
    .context(CONTEXT)?;
    let mut deltas = CounterDeltas::default();
    for row in &rows {
        let key = CounterKey::read(row, 0).context(CONTEXT)?;
        let state: JobState =
            row.try_get::<&str, _>(3).context(CONTEXT)?.parse().map_err(|reason| {
                QueueError::Impossible { table: "batches", row: batch, reason }
            })?;
        deltas.add(key, Counter::State(state), -row.try_get::<i64, _>(4).context(CONTEXT)?);
        deltas.add(key, Counter::FailedSuperseded, -row.try_get::<i64, _>(5).context(CONTEXT)?);
        deltas.add(key, Counter::SucceededOnRetry, -row.try_get::<i64, _>(6).context(CONTEXT)?);
    }
    deltas.apply(connection, 0).await
}

/// Deletes requests and runs that no job needs.
///
/// The newest run stays with all its requests, since status shows its counters and its isolation may
/// refer to them. The newest request stays, since the next run computes its first slot from it. Finding
/// the unused requests reads all jobs, so it runs before the write lock is taken: a job never begins to
/// refer to an old request.
async fn drop_unused(connection: &mut SqliteConnection, before_ms: i64) -> Result<u64, QueueError> {
    execute(connection, before_ms, "CREATE TEMP TABLE unused (id INTEGER PRIMARY KEY)").await?;
    let found = execute(
        connection,
        before_ms,
        "INSERT INTO temp.unused SELECT id FROM requests
         WHERE responded_ms < ?1 AND id < (SELECT max(id) FROM requests) AND run_id < (SELECT max(id) FROM runs)
           AND id NOT IN (SELECT request_id FROM jobs WHERE request_id IS NOT NULL)",
    )
    .await?;
    begin(connection).await?;
    if found.rows_affected() > 0 {
        // Pruning keeps counters monotonic.
        count_pruned(connection).await?;
        execute(
            connection,
            before_ms,
            "UPDATE runs SET requests = requests - sent, throttled = throttled - slow, evaluated_requests = evaluated_requests - read,
                    orphaned = orphaned - died, responses_lost = responses_lost - lost
             FROM (SELECT run_id, count(*) AS sent, count(*) FILTER (WHERE verdict = 'throttled') AS slow,
                          count(*) FILTER (WHERE verdict IN ('applied', 'rejected')) AS read,
                          count(*) FILTER (WHERE verdict = 'orphaned') AS died, sum(response_lost) AS lost
                   FROM temp.unused JOIN requests USING (id) GROUP BY run_id)
             WHERE run_id = runs.id",
        )
        .await?;
        execute(
            connection,
            before_ms,
            "DELETE FROM requests WHERE id IN (SELECT id FROM temp.unused)",
        )
        .await?;
    }
    execute(
        connection,
        before_ms,
        "DELETE FROM runs WHERE finished_ms < ?1 AND id < (SELECT max(id) FROM runs)
           AND id NOT IN (SELECT run_id FROM requests)
           AND id NOT IN (SELECT reserved_by_run_id FROM jobs WHERE reserved_by_run_id IS NOT NULL)",
    )
    .await?;
    commit(connection).await?;
    Ok(found.rows_affected())
}

async fn execute(
    connection: &mut SqliteConnection,
    before_ms: i64,
    sql: &'static str,
) -> Result<SqliteQueryResult, QueueError> {
    sqlx::query(sql).bind(before_ms).execute(connection).await.context("delete old requests")
}

/// Adds up the requests in `temp.unused` for the metrics, before the same transaction
/// deletes them.
async fn count_pruned(connection: &mut SqliteConnection) -> Result<(), QueueError> {
    const CONTEXT: &str = "count the pruned requests";
    let rows = sqlx::query(
        "SELECT (SELECT app_id FROM runs WHERE runs.id = run_id) AS app_id, verdict, latency_ms,
                count(*) AS requests, sum(job_count) AS jobs
         FROM temp.unused CROSS JOIN requests USING (id) GROUP BY 1, 2, 3",
    )
    .fetch_all(&mut *connection)
    .await
    .context(CONTEXT)?;
    for row in &rows {
        let latency_ms: Option<i64> = row.try_get("latency_ms").context(CONTEXT)?;
        let requests: i64 = row.try_get("requests").context(CONTEXT)?;
        sqlx::query(
            "INSERT INTO pruned_requests (app_id, verdict, latency_le_ms, requests, jobs, latency_ms)
             VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, jobs = jobs + excluded.jobs,
               latency_ms = latency_ms + excluded.latency_ms",
        )
        .bind(row.try_get::<i64, _>("app_id").context(CONTEXT)?)
        .bind(row.try_get::<&str, _>("verdict").context(CONTEXT)?)
        .bind(bound_of(latency_ms))
        .bind(requests)
        .bind(row.try_get::<i64, _>("jobs").context(CONTEXT)?)
        .bind(requests.saturating_mul(latency_ms.unwrap_or(0)))
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
    }
    Ok(())
}
