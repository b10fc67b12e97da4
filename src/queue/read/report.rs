//! The queue as a report sees it: what was asked and what became of it, by status, code and
//! batch, and the runs that did it.
//!
//! Only reads. Sums are made by the engine, a stretch of rows at a time: one `GROUP BY` over
//! everything would sort every row of a large queue in memory. What could grow without end
//! is cut to a list's length, and the rest counted.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row as _, SqlitePool};

use crate::domain::job::{App, JobState, Status};
use crate::queue::read::request_stats::{self, RequestTimeline, RunStats};
use crate::queue::read::row_helpers::{app, count, ends, stretches};
use crate::queue::sqlite::doubts;
use crate::queue::{BatchId, Context as _, Queue, QueueCounts, QueueError};

/// The most batches and runs that are listed, newest first.
const LISTED_MAX: usize = 100;

/// The most codes that are told apart.
const CODES_MAX: usize = 100;

/// What is being done, for errors.
const CONTEXT: &str = "sum up its jobs";

/// A list that may have been cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The first of it.
    pub rows: Vec<T>,
    /// How many there are in all.
    pub total: u64,
}

/// Jobs that ended with one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCodeStats {
    /// The service's code; `None`: there was none, such as for an HTTP status.
    pub code: Option<i64>,
    /// Jobs that failed with it, by status in the order of [`Status::ALL`].
    pub failed: [u64; 3],
    /// Jobs that succeeded all the same: deletes found done when they were repeated.
    pub succeeded: u64,
    /// The service's text beside it, of one of them.
    pub info: Option<String>,
}

impl ErrorCodeStats {
    /// Jobs that failed with it, whatever their status.
    pub fn failed_total(&self) -> u64 {
        self.failed.iter().sum()
    }
}

/// A batch, and what became of its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStats {
    /// Its number.
    pub id: BatchId,
    /// The app and library that it is for.
    pub app: App,
    /// Its name.
    pub name: String,
    /// Where its manifest came from.
    pub source: String,
    /// When it was imported, in UTC milliseconds.
    pub created_ms: i64,
    /// Rows of its manifest, of which some made no job.
    pub rows: i64,
    /// Rows that said again what another row had said.
    pub duplicates: i64,
    /// Rows that could not be read.
    pub rejected: i64,
    /// When it was cancelled, if it was.
    pub cancelled_ms: Option<i64>,
    /// Its jobs, by state.
    pub counts: QueueCounts,
}

/// See the head of this file. All figures are of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueReport {
    /// Jobs by status, in the order of [`Status::ALL`], and state.
    pub asked: [QueueCounts; 3],
    /// By code, the most frequent first.
    pub codes: Listed<ErrorCodeStats>,
    /// Jobs in doubt.
    pub in_doubt: u64,
    /// Deletes that were in doubt and found done when they were repeated.
    pub succeeded_in_doubt: u64,
    /// Jobs that succeeded, and that failed, in the newest run, of whatever batch.
    pub newest_run: (u64, u64),
    /// The batches that were not pruned, newest first.
    pub batches: Listed<BatchStats>,
    /// The runs, newest first.
    pub runs: Listed<RunStats>,
    /// What was sent, and when.
    pub traffic: RequestTimeline,
}

impl QueueReport {
    /// Jobs by state, whatever their status.
    pub fn counts(&self) -> QueueCounts {
        let mut sum = QueueCounts::default();
        for counts in &self.asked {
            for state in JobState::ALL {
                *sum.of(state) += *counts.clone().of(state);
            }
        }
        sum
    }
}

impl Queue {
    /// The queue, or one batch of it and the runs since its import. A pause between two
    /// requests counts as a wait from `wait_ms_min` on.
    ///
    /// # Errors
    /// When the queue file cannot be read or holds an impossible row.
    pub async fn overview(
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
    // One read transaction, so that the figures belong together.
    let mut tx = readers.begin().await.context(CONTEXT)?;
    let tally = Tally::read(&mut tx, batch).await?;
    let batches = batches(&mut tx, batch, &tally.batches).await?;
    let since = match batch {
        Some(_) => batches.rows.first().map(|batch| batch.created_ms),
        None => None,
    };
    let (runs, traffic) = request_stats::read(&mut tx, since, LISTED_MAX, wait_ms_min).await?;
    let total = tally.codes.len() as u64;
    let mut codes: Vec<ErrorCodeStats> = tally.codes.into_values().collect();
    codes.sort_by_key(|code| std::cmp::Reverse((code.failed_total(), code.succeeded)));
    codes.truncate(CODES_MAX);
    Ok(QueueReport {
        asked: tally.asked,
        codes: Listed { rows: codes, total },
        in_doubt: doubts::count(&mut tx, None, batch).await?,
        succeeded_in_doubt: tally.succeeded_in_doubt,
        newest_run: newest_run(&mut tx).await?,
        batches,
        runs,
        traffic,
    })
}

/// Sums over jobs, while they are made.
#[derive(Debug, Default)]
struct Tally {
    asked: [QueueCounts; 3],
    succeeded_in_doubt: u64,
    batches: BTreeMap<BatchId, QueueCounts>,
    codes: BTreeMap<Option<i64>, ErrorCodeStats>,
}

impl Tally {
    async fn read(
        connection: &mut SqliteConnection,
        batch: Option<BatchId>,
    ) -> Result<Self, QueueError> {
        let mut tally = Self::default();
        tally.add_up_states(connection, batch).await?;
        let row = sqlx::query(
            "SELECT min(id), max(id) FROM jobs WHERE state = 'failed' OR error_code IS NOT NULL",
        )
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
        for (first, last) in stretches(ends(&row).context(CONTEXT)?) {
            let rows = sqlx::query(
                "SELECT target_status, state, error_code, count(*), max(error_info)
                 FROM jobs WHERE id BETWEEN ?1 AND ?2 AND (?3 IS NULL OR batch_id = ?3)
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
                tally.add_code(row)?;
            }
        }
        Ok(tally)
    }

    /// What the tallies have.
    async fn add_up_states(
        &mut self,
        connection: &mut SqliteConnection,
        batch: Option<BatchId>,
    ) -> Result<(), QueueError> {
        let rows = sqlx::query(
            "SELECT target_status, sum(pending), sum(in_flight), sum(succeeded), sum(failed), sum(cancelled),
                    sum(superseded), batch_id
             FROM job_counts WHERE ?1 IS NULL OR batch_id = ?1 GROUP BY batch_id, target_status",
        )
        .bind(batch)
        .fetch_all(connection)
        .await
        .context(CONTEXT)?;
        for row in &rows {
            let at = status_at(row, "job_counters")?;
            let of_batch = self.batches.entry(row.try_get(7).context(CONTEXT)?).or_default();
            for (column, state) in (1..).zip(JobState::ALL) {
                let jobs = count(row, column).context(CONTEXT)?;
                *self.asked[at].of(state) += jobs;
                *of_batch.of(state) += jobs;
            }
        }
        Ok(())
    }

    fn add_code(&mut self, row: &SqliteRow) -> Result<(), QueueError> {
        let at = status_at(row, "jobs")?;
        let refused = row.try_get::<&str, _>(1).context(CONTEXT)? == JobState::Failed.name();
        let code: Option<i64> = row.try_get(2).context(CONTEXT)?;
        let jobs = count(row, 3).context(CONTEXT)?;
        let tally = self.codes.entry(code).or_insert_with(|| ErrorCodeStats {
            code,
            failed: [0; 3],
            succeeded: 0,
            info: None,
        });
        if refused {
            tally.failed[at] += jobs;
        } else {
            tally.succeeded += jobs;
            self.succeeded_in_doubt += jobs;
        }
        let info: Option<String> = row.try_get(4).context(CONTEXT)?;
        tally.info = info.or(tally.info.take());
        Ok(())
    }
}

/// Jobs that succeeded and that failed in the newest run.
async fn newest_run(connection: &mut SqliteConnection) -> Result<(u64, u64), QueueError> {
    let row = sqlx::query("SELECT succeeded, failed FROM runs ORDER BY id DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .context(CONTEXT)?;
    let Some(row) = row else { return Ok((0, 0)) };
    Ok((count(&row, 0).context(CONTEXT)?, count(&row, 1).context(CONTEXT)?))
}

/// Where the status that a row of `table` begins with stands in [`Status::ALL`].
fn status_at(row: &SqliteRow, table: &'static str) -> Result<usize, QueueError> {
    let status: i64 = row.try_get(0).context(CONTEXT)?;
    let at = Status::ALL.iter().position(|known| known.code() == status);
    let reason = || format!("status {status}");
    at.ok_or_else(|| QueueError::Impossible { table, row: 0, reason: reason() })
}

async fn batches(
    connection: &mut SqliteConnection,
    batch: Option<BatchId>,
    counts: &BTreeMap<BatchId, QueueCounts>,
) -> Result<Listed<BatchStats>, QueueError> {
    let doing = "list batches";
    let rows = sqlx::query(
        "SELECT batches.id, sdkappid, library, name, source, created_ms, rows, duplicates, rejected, cancelled_ms
         FROM batches JOIN apps ON apps.id = batches.app_id
         WHERE pruned_ms IS NULL AND (?1 IS NULL OR batches.id = ?1) ORDER BY batches.id DESC LIMIT ?2",
    )
    .bind(batch)
    .bind(i64::try_from(LISTED_MAX).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await
    .context(doing)?;
    let all = sqlx::query(
        "SELECT count(*) FROM batches WHERE pruned_ms IS NULL AND (?1 IS NULL OR id = ?1)",
    )
    .bind(batch)
    .fetch_one(connection)
    .await
    .context(doing)?;
    let listed = rows.iter().map(|row| read_batch(row, counts)).collect::<Result<_, _>>()?;
    Ok(Listed { rows: listed, total: count(&all, 0).context(doing)? })
}

fn read_batch(
    row: &SqliteRow,
    counts: &BTreeMap<BatchId, QueueCounts>,
) -> Result<BatchStats, QueueError> {
    let doing = "list batches";
    let id: BatchId = row.try_get(0).context(doing)?;
    Ok(BatchStats {
        id,
        app: app(row, 1, "batches", id)?,
        name: row.try_get(3).context(doing)?,
        source: row.try_get(4).context(doing)?,
        created_ms: row.try_get(5).context(doing)?,
        rows: row.try_get(6).context(doing)?,
        duplicates: row.try_get(7).context(doing)?,
        rejected: row.try_get(8).context(doing)?,
        cancelled_ms: row.try_get(9).context(doing)?,
        counts: counts.get(&id).copied().unwrap_or_default(),
    })
}
