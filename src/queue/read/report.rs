//! The data of a report: jobs by target status, code and batch, and the runs that sent them.
//!
//! Only reads. The engine computes the sums, for a range of rows at a time: one `GROUP BY` over a large
//! queue would sort all its rows in memory. Lists are cut at a maximum length, and the rest is counted.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow as _, Row as _, SqlitePool};

use crate::domain::job::{App, JobState, TargetStatus};
use crate::queue::read::doubts;
use crate::queue::read::request_stats::{self, RequestTimeline, RunStats};
use crate::queue::read::row_helpers::{
    first_and_last_id, flatten, from_row, id_ranges, integer, skip,
};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{BatchId, Context as _, QueueCounts, QueueError};

/// The most batches and runs in a list, newest first.
const LISTED_MAX: usize = 100;

/// The most codes in a list.
const CODES_MAX: usize = 100;

/// The operation, for errors.
const CONTEXT: &str = "count the jobs";

/// A list that may be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncated<T> {
    /// Its first entries.
    pub rows: Vec<T>,
    /// The number of all entries.
    pub total: u64,
}

/// The jobs that ended with one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCodeStats {
    /// The code of the service; `None`: without a code, such as for an HTTP status.
    pub code: Option<i64>,
    /// Failed jobs by target status, in the order of [`TargetStatus::ALL`].
    pub failed: [u64; 3],
    /// Succeeded jobs: deletes in doubt that the service reported as done when they were repeated.
    pub succeeded: u64,
    /// The text of the service in one of these responses.
    pub info: Option<String>,
}

impl ErrorCodeStats {
    /// Failed jobs of all target statuses.
    pub fn failed_total(&self) -> u64 {
        self.failed.iter().sum()
    }
}

/// A batch, with the outcomes of its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStats {
    pub id: BatchId,
    pub app: App,
    pub name: String,
    /// The source of its manifest: a path or standard input.
    pub source: String,
    /// The time of the import, in UTC milliseconds.
    pub created_ms: i64,
    /// The rows of its manifest, including those without a job.
    pub rows: i64,
    /// Rows that repeat another row.
    pub duplicates: i64,
    /// Bad rows, which made no job.
    pub rejected: i64,
    /// The time of its cancellation, in UTC milliseconds, if it was cancelled.
    pub cancelled_ms: Option<i64>,
    /// Its jobs, by state.
    pub counts: QueueCounts,
}

from_row!(BatchStats {
    id,
    app = flatten,
    name,
    source,
    created_ms,
    rows,
    duplicates,
    rejected,
    cancelled_ms,
    counts = skip,
});

/// The data of a report, from one read transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueReport {
    /// Jobs by target status, in the order of [`TargetStatus::ALL`], and by state.
    pub by_target_status: [QueueCounts; 3],
    /// Jobs by code, the most frequent code first.
    pub codes: Truncated<ErrorCodeStats>,
    /// Jobs in doubt.
    pub in_doubt: u64,
    /// Deletes in doubt that the service reported as done when they were repeated.
    pub succeeded_in_doubt: u64,
    /// The numbers of succeeded and of failed jobs in the newest run, across all batches.
    pub newest_run: (u64, u64),
    /// The batches that were not pruned, newest first.
    pub batches: Truncated<BatchStats>,
    /// The runs, newest first.
    pub runs: Truncated<RunStats>,
    /// The requests over time.
    pub traffic: RequestTimeline,
}

impl QueueReport {
    /// Jobs of all target statuses by state.
    pub fn counts(&self) -> QueueCounts {
        let mut sum = QueueCounts::default();
        for counts in &self.by_target_status {
            for state in JobState::ALL {
                *sum.of(state) += *counts.clone().of(state);
            }
        }
        sum
    }
}

impl SqliteQueue {
    pub(in crate::queue) async fn overview(
        &self,
        batch: Option<BatchId>,
        wait_ms_min: i64,
    ) -> Result<QueueReport, QueueError> {
        overview(&self.readers, batch, wait_ms_min).await
    }
}

async fn overview(
    readers: &SqlitePool,
    batch: Option<BatchId>,
    wait_ms_min: i64,
) -> Result<QueueReport, QueueError> {
    // One read transaction, so that all counts are of the same state.
    let mut tx = readers.begin().await.context(CONTEXT)?;
    let sums = JobSums::read(&mut tx, batch).await?;
    let batches = batches(&mut tx, batch, &sums.batches).await?;
    let since = match batch {
        Some(_) => batches.rows.first().map(|batch| batch.created_ms),
        None => None,
    };
    let (runs, traffic) = request_stats::read(&mut tx, since, LISTED_MAX, wait_ms_min).await?;
    let total = sums.codes.len() as u64;
    let mut codes: Vec<ErrorCodeStats> = sums.codes.into_values().collect();
    codes.sort_by_key(|code| std::cmp::Reverse((code.failed_total(), code.succeeded)));
    codes.truncate(CODES_MAX);
    Ok(QueueReport {
        by_target_status: sums.by_target_status,
        codes: Truncated { rows: codes, total },
        in_doubt: doubts::count(&mut tx, None, batch).await?,
        succeeded_in_doubt: sums.succeeded_in_doubt,
        newest_run: newest_run(&mut tx).await?,
        batches,
        runs,
        traffic,
    })
}

/// Sums over jobs, while they are computed.
#[derive(Debug, Default)]
struct JobSums {
    by_target_status: [QueueCounts; 3],
    succeeded_in_doubt: u64,
    batches: BTreeMap<BatchId, QueueCounts>,
    codes: BTreeMap<Option<i64>, ErrorCodeStats>,
}

impl JobSums {
    async fn read(
        connection: &mut SqliteConnection,
        batch: Option<BatchId>,
    ) -> Result<Self, QueueError> {
        let mut sums = Self::default();
        sums.add_counters(connection, batch).await?;
        let ends = sqlx::query(
            "SELECT min(id) AS first_id, max(id) AS last_id FROM jobs WHERE state = 'failed' OR error_code IS NOT NULL",
        )
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| first_and_last_id(&row))
        .context(CONTEXT)?;
        for (first, last) in id_ranges(ends) {
            let rows = sqlx::query(
                "SELECT target_status, state, error_code, count(*) AS jobs, max(error_info) AS error_info
                 FROM jobs WHERE id BETWEEN $1 AND $2 AND ($3 IS NULL OR batch_id = $3)
                   AND (state = 'failed' OR error_code IS NOT NULL)
                 GROUP BY target_status, state, error_code",
            )
            .bind(first)
            .bind(last)
            .bind(batch)
            .fetch_all(&mut *connection)
            .await
            .context(CONTEXT)?;
            for row in &rows {
                sums.add_code(row).context(CONTEXT)?;
            }
        }
        Ok(sums)
    }

    /// Adds the counters of jobs.
    async fn add_counters(
        &mut self,
        connection: &mut SqliteConnection,
        batch: Option<BatchId>,
    ) -> Result<(), QueueError> {
        let rows = sqlx::query(
            "SELECT batch_id, target_status, CAST(sum(pending) AS BIGINT) AS pending,
                    CAST(sum(in_flight) AS BIGINT) AS in_flight, CAST(sum(succeeded) AS BIGINT) AS succeeded,
                    CAST(sum(failed) AS BIGINT) AS failed, CAST(sum(cancelled) AS BIGINT) AS cancelled,
                    CAST(sum(superseded) AS BIGINT) AS superseded
             FROM job_counts WHERE $1 IS NULL OR batch_id = $1 GROUP BY batch_id, target_status",
        )
        .bind(batch)
        .fetch_all(connection)
        .await
        .context(CONTEXT)?;
        for row in &rows {
            let status: TargetStatus = row.try_get("target_status").context(CONTEXT)?;
            let of_status = &mut self.by_target_status[status as usize];
            let of_batch = self.batches.entry(row.try_get("batch_id").context(CONTEXT)?);
            let of_batch = of_batch.or_default();
            let mut counts = QueueCounts::from_row(row).context(CONTEXT)?;
            for state in JobState::ALL {
                *of_status.of(state) += *counts.of(state);
                *of_batch.of(state) += *counts.of(state);
            }
        }
        Ok(())
    }

    fn add_code(&mut self, row: &SqliteRow) -> Result<(), sqlx::Error> {
        let status: TargetStatus = row.try_get("target_status")?;
        let state: JobState = row.try_get("state")?;
        let code: Option<i64> = row.try_get("error_code")?;
        let info: Option<String> = row.try_get("error_info")?;
        let jobs: u64 = integer(row, "jobs")?;
        let of_code = self.codes.entry(code).or_insert_with(|| ErrorCodeStats {
            code,
            failed: [0; 3],
            succeeded: 0,
            info: None,
        });
        if state == JobState::Failed {
            of_code.failed[status as usize] += jobs;
        } else {
            of_code.succeeded += jobs;
            self.succeeded_in_doubt += jobs;
        }
        of_code.info = info.or(of_code.info.take());
        Ok(())
    }
}

/// The numbers of succeeded and of failed jobs in the newest run.
async fn newest_run(connection: &mut SqliteConnection) -> Result<(u64, u64), QueueError> {
    const CONTEXT: &str = "read the newest run";
    let row = sqlx::query("SELECT succeeded, failed FROM runs ORDER BY id DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .context(CONTEXT)?;
    let Some(row) = row else { return Ok((0, 0)) };
    let jobs = |column| integer(&row, column).context(CONTEXT);
    Ok((jobs("succeeded")?, jobs("failed")?))
}

async fn batches(
    connection: &mut SqliteConnection,
    batch: Option<BatchId>,
    counts: &BTreeMap<BatchId, QueueCounts>,
) -> Result<Truncated<BatchStats>, QueueError> {
    const CONTEXT: &str = "list the batches";
    let mut rows: Vec<BatchStats> = sqlx::query_as(
        "SELECT batches.id, sdkappid, library, name, source, created_ms, rows, duplicates, rejected, cancelled_ms
         FROM batches JOIN apps ON apps.id = batches.app_id
         WHERE pruned_ms IS NULL AND ($1 IS NULL OR batches.id = $1) ORDER BY batches.id DESC LIMIT $2",
    )
    .bind(batch)
    .bind(i64::try_from(LISTED_MAX).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await
    .context(CONTEXT)?;
    let total = sqlx::query(
        "SELECT count(*) AS batches FROM batches WHERE pruned_ms IS NULL AND ($1 IS NULL OR id = $1)",
    )
    .bind(batch)
    .fetch_one(connection)
    .await
    .and_then(|row| integer(&row, "batches"))
    .context(CONTEXT)?;
    for batch in &mut rows {
        batch.counts = counts.get(&batch.id).copied().unwrap_or_default();
    }
    Ok(Truncated { rows, total })
}
