//! The counters of the queue for Prometheus, by app, from one read transaction.
//!
//! Jobs come from their counters and are never counted. For requests and failed jobs the statements
//! read indexes and no table. Request counters never decrease: a prune adds up the requests that it
//! deletes, in its own transaction (`sqlite/prune.rs`), and these sums are added to the existing
//! requests.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow as _, Row as _, Sqlite, Transaction};

use crate::domain::job::{App, JobState, TargetStatus};
use crate::queue::read::doubts;
use crate::queue::read::row_helpers::{from_row, integer};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{Context as _, QueueError};

/// Upper bounds of the latency buckets, in milliseconds. Pruned requests are stored under these bounds,
/// so a new bound between two of them would count only later requests.
pub const LATENCY_BOUNDS_MS: [i64; 10] =
    [25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];

/// The bucket of a latency: 0 if unknown, [`i64::MAX`] if it exceeds all bounds.
pub(in crate::queue) fn bound_of(latency_ms: Option<i64>) -> i64 {
    let Some(latency_ms) = latency_ms else { return 0 };
    LATENCY_BOUNDS_MS.into_iter().find(|bound| latency_ms <= *bound).unwrap_or(i64::MAX)
}

/// The requests with one verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerdictCounts {
    /// Their number.
    pub requests: u64,
    /// The number of their jobs.
    pub jobs: u64,
}

/// The latencies of requests: the times from sending to the response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatencyHistogram {
    /// The number of requests by upper bound in milliseconds; [`i64::MAX`] for those above all
    /// [`LATENCY_BOUNDS_MS`]. Not cumulative.
    pub by_bound: BTreeMap<i64, u64>,
    /// The sum of all latencies, in milliseconds.
    pub sum_ms: u64,
}

/// The newest run of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    /// The beginning, in UTC milliseconds.
    pub started_ms: i64,
    /// The end; `None` while the run continues, or if it died and no later run has closed it.
    pub finished_ms: Option<i64>,
    pub ending: Option<String>,
    /// When one of its requests was settled last, in UTC milliseconds.
    pub responded_ms: Option<i64>,
}

from_row!(LastRun { started_ms, finished_ms, ending, responded_ms });

/// The counters of one app.
#[derive(Debug, Clone, PartialEq)]
pub struct AppMetrics {
    pub app: App,
    /// Jobs by target status and job state, in the orders of [`TargetStatus::ALL`] and
    /// [`JobState::ALL`].
    pub jobs: [[u64; 6]; 3],
    /// Jobs in doubt.
    pub in_doubt: u64,
    /// Failed jobs by the code of the service; `None`: without a code.
    pub failed: BTreeMap<Option<i64>, u64>,
    /// Batches with an open job.
    pub unfinished_batches: u64,
    /// The import time of the oldest of these batches, in UTC milliseconds.
    pub oldest_open_ms: Option<i64>,
    /// All requests by verdict, including pruned ones.
    pub requests: BTreeMap<String, VerdictCounts>,
    /// Requests without a recorded response.
    pub in_flight: u64,
    /// The latencies of all requests, including pruned ones.
    pub latency: LatencyHistogram,
    /// The learned rate, in requests per second.
    pub learned_rate: Option<f64>,
    /// The newest run.
    pub last_run: Option<LastRun>,
}

/// The counters of the whole queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueMetrics {
    /// The apps, in the order of their first import.
    pub apps: Vec<AppMetrics>,
    /// The size of the queue file, in bytes; `None` if it does not exist.
    pub file_bytes: Option<u64>,
    /// The size of its write-ahead log, in bytes; 0 if it does not exist.
    pub log_bytes: u64,
}

type Apps = BTreeMap<i64, AppMetrics>;

/// The operation, for errors.
const CONTEXT: &str = "read the metrics";

impl SqliteQueue {
    pub(in crate::queue) async fn metrics(&self) -> Result<QueueMetrics, QueueError> {
        let mut tx = self.readers.begin().await.context(CONTEXT)?;
        let mut apps = read_apps(&mut tx).await?;
        read_job_counters(&mut tx, &mut apps).await?;
        for (id, metrics) in &mut apps {
            metrics.in_doubt = doubts::count(&mut tx, Some(*id), None).await?;
        }
        count_failed(&mut tx, &mut apps).await?;
        read_unfinished_batches(&mut tx, &mut apps).await?;
        count_requests(&mut tx, &mut apps).await?;
        read_last_runs(&mut tx, &mut apps).await?;
        tx.rollback().await.context(CONTEXT)?;
        let (file_bytes, log_bytes) = self.file_sizes();
        Ok(QueueMetrics { apps: apps.into_values().collect(), file_bytes, log_bytes })
    }
}

/// Every app with its learned rate; all its counters are still 0.
async fn read_apps(tx: &mut Transaction<'static, Sqlite>) -> Result<Apps, QueueError> {
    const CONTEXT: &str = "read the apps";
    let rows = sqlx::query(
        "SELECT apps.id, sdkappid, library, learned_rates.rate AS learned_rate
         FROM apps LEFT JOIN learned_rates ON learned_rates.app_id = apps.id",
    )
    .fetch_all(&mut **tx)
    .await
    .context(CONTEXT)?;
    let mut apps = Apps::new();
    for row in &rows {
        let metrics = AppMetrics {
            app: App::from_row(row).context(CONTEXT)?,
            jobs: [[0; 6]; 3],
            in_doubt: 0,
            failed: BTreeMap::new(),
            unfinished_batches: 0,
            oldest_open_ms: None,
            requests: BTreeMap::new(),
            in_flight: 0,
            latency: LatencyHistogram::default(),
            learned_rate: row.try_get("learned_rate").context(CONTEXT)?,
            last_run: None,
        };
        apps.insert(row.try_get("id").context(CONTEXT)?, metrics);
    }
    Ok(apps)
}

/// Reads jobs by target status and state, from their counters.
async fn read_job_counters(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    const CONTEXT: &str = "read the job counters";
    let rows = sqlx::query(
        "SELECT app_id, target_status, CAST(sum(pending) AS BIGINT) AS pending,
                CAST(sum(in_flight) AS BIGINT) AS in_flight, CAST(sum(succeeded) AS BIGINT) AS succeeded,
                CAST(sum(failed) AS BIGINT) AS failed, CAST(sum(cancelled) AS BIGINT) AS cancelled,
                CAST(sum(superseded) AS BIGINT) AS superseded
         FROM job_counts JOIN batches ON batches.id = batch_id GROUP BY app_id, target_status",
    )
    .fetch_all(&mut **tx)
    .await
    .context(CONTEXT)?;
    for row in &rows {
        let status: TargetStatus = row.try_get("target_status").context(CONTEXT)?;
        let of_status = &mut of_app(apps, row, "job_counters")?.jobs[status as usize];
        for (jobs, state) in of_status.iter_mut().zip(JobState::ALL) {
            *jobs = integer(row, state.name()).context(CONTEXT)?;
        }
    }
    Ok(())
}

/// Counts failed jobs by code.
async fn count_failed(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    const CONTEXT: &str = "count the failed jobs";
    let rows = sqlx::query(
        "SELECT app_id, error_code, count(*) AS jobs FROM jobs WHERE state = 'failed' GROUP BY app_id, error_code",
    )
    .fetch_all(&mut **tx)
    .await
    .context(CONTEXT)?;
    for row in &rows {
        let code: Option<i64> = row.try_get("error_code").context(CONTEXT)?;
        let jobs = integer(row, "jobs").context(CONTEXT)?;
        of_app(apps, row, "jobs")?.failed.insert(code, jobs);
    }
    Ok(())
}

async fn read_unfinished_batches(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    const CONTEXT: &str = "read the unfinished batches";
    let rows = sqlx::query(
        "SELECT app_id, count(*) AS unfinished_batches, min(created_ms) AS oldest_open_ms FROM batches
         WHERE id IN (SELECT batch_id FROM job_counts WHERE pending + in_flight > 0) GROUP BY app_id",
    )
    .fetch_all(&mut **tx)
    .await
    .context(CONTEXT)?;
    for row in &rows {
        let metrics = of_app(apps, row, "batches")?;
        metrics.unfinished_batches = integer(row, "unfinished_batches").context(CONTEXT)?;
        metrics.oldest_open_ms = row.try_get("oldest_open_ms").context(CONTEXT)?;
    }
    Ok(())
}

async fn count_requests(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    const CONTEXT: &str = "count the requests";
    // The columns of an index in its order, so that the engine reads only that index and does not sort.
    let groups =
        "SELECT (SELECT app_id FROM runs WHERE runs.id = run_id) AS app_id, verdict, latency_ms,
                         count(*) AS requests, CAST(sum(job_count) AS BIGINT) AS jobs
                  FROM requests GROUP BY run_id, verdict, latency_ms";
    let mut rows = sqlx::query(groups).fetch(&mut **tx);
    while let Some(row) = rows.try_next().await.context(CONTEXT)? {
        let requests: u64 = integer(&row, "requests").context(CONTEXT)?;
        let latency_ms: Option<i64> = row.try_get("latency_ms").context(CONTEXT)?;
        let sum_ms = requests * u64::try_from(latency_ms.unwrap_or(0)).unwrap_or_default();
        add_requests(apps, &row, bound_of(latency_ms), sum_ms)?;
    }
    drop(rows);
    let pruned =
        "SELECT app_id, verdict, latency_le_ms, requests, jobs, latency_ms FROM pruned_requests";
    for row in sqlx::query(pruned).fetch_all(&mut **tx).await.context(CONTEXT)? {
        let bound = row.try_get("latency_le_ms").context(CONTEXT)?;
        let sum_ms = integer(&row, "latency_ms").context(CONTEXT)?;
        add_requests(apps, &row, bound, sum_ms)?;
    }
    Ok(())
}

/// Adds the requests of one row, which are of one app and have one verdict.
fn add_requests(
    apps: &mut Apps,
    row: &SqliteRow,
    bound: i64,
    sum_ms: u64,
) -> Result<(), QueueError> {
    const CONTEXT: &str = "count the requests";
    let metrics = of_app(apps, row, "requests")?;
    let requests: u64 = integer(row, "requests").context(CONTEXT)?;
    let jobs: u64 = integer(row, "jobs").context(CONTEXT)?;
    let verdict: Option<&str> = row.try_get("verdict").context(CONTEXT)?;
    let Some(verdict) = verdict else {
        metrics.in_flight += requests;
        return Ok(());
    };
    if !metrics.requests.contains_key(verdict) {
        metrics.requests.insert(verdict.to_owned(), VerdictCounts::default());
    }
    if let Some(of_verdict) = metrics.requests.get_mut(verdict) {
        of_verdict.requests += requests;
        of_verdict.jobs += jobs;
    }
    if bound > 0 {
        *metrics.latency.by_bound.entry(bound).or_default() += requests;
        metrics.latency.sum_ms += sum_ms;
    }
    Ok(())
}

async fn read_last_runs(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    const CONTEXT: &str = "read the newest runs";
    let rows = sqlx::query(
        "SELECT app_id, started_ms, finished_ms, ending,
                (SELECT max(responded_ms) FROM requests WHERE run_id = runs.id) AS responded_ms
         FROM runs WHERE id IN (SELECT max(id) FROM runs GROUP BY app_id)",
    )
    .fetch_all(&mut **tx)
    .await
    .context(CONTEXT)?;
    for row in &rows {
        let run = LastRun::from_row(row).context(CONTEXT)?;
        of_app(apps, row, "runs")?.last_run = Some(run);
    }
    Ok(())
}

/// The counters of the app of a row of `table`.
fn of_app<'a>(
    apps: &'a mut Apps,
    row: &SqliteRow,
    table: &'static str,
) -> Result<&'a mut AppMetrics, QueueError> {
    let id: Option<i64> = row.try_get("app_id").context(CONTEXT)?;
    let metrics = id.and_then(|id| apps.get_mut(&id));
    let reason = || format!("its app {id:?} does not exist");
    metrics.ok_or_else(|| QueueError::Impossible { table, row: 0, reason: reason() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_under_the_first_bound_not_exceeded() {
        for (latency_ms, bound) in [
            (None, 0),
            (Some(0), 25),
            (Some(25), 25),
            (Some(26), 50),
            (Some(30_000), 30_000),
            (Some(30_001), i64::MAX),
        ] {
            assert_eq!(bound_of(latency_ms), bound, "{latency_ms:?}");
        }
        assert!(LATENCY_BOUNDS_MS.is_sorted());
    }
}
