//! The counters of the queue for Prometheus, by app, from one read transaction.
//!
//! Jobs come from their counters and are never counted. For requests and failed jobs the statements
//! read indexes and no table. Request counters never decrease: a prune adds up the requests that it
//! deletes, in its own transaction ([`count_pruned`]), and these sums are added to the existing
//! requests.

use std::collections::BTreeMap;
use std::fs;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, SqliteConnection, Transaction};

use crate::domain::job::{App, TargetStatus};
use crate::queue::read::row_helpers::{app, count};
use crate::queue::sqlite::doubts;
use crate::queue::{Context as _, Queue, QueueError};

/// Upper bounds of the latency buckets, in milliseconds. Pruned requests are stored under these bounds,
/// so a new bound between two of them would count only later requests.
pub const LATENCY_BOUNDS_MS: [i64; 10] =
    [25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];

/// The bucket of a latency: 0 if unknown, [`i64::MAX`] if it exceeds all bounds.
fn bound_of(latency_ms: Option<i64>) -> i64 {
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

/// The counters of one app.
#[derive(Debug, Clone, PartialEq)]
pub struct AppMetrics {
    pub app: App,
    /// Jobs by target status and job state, in the orders of [`TargetStatus::ALL`] and
    /// [`JobState::ALL`](crate::domain::job::JobState::ALL).
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

impl Queue {
    /// The counters of the whole queue, from one read transaction.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn metrics(&self) -> Result<QueueMetrics, QueueError> {
        let mut tx = self.readers.begin().await.context("read its figures")?;
        let mut apps = known_apps(&mut tx).await?;
        add_up_jobs(&mut tx, &mut apps).await?;
        for (id, figures) in &mut apps {
            figures.in_doubt = doubts::count(&mut tx, Some(*id), None).await?;
        }
        count_failed(&mut tx, &mut apps).await?;
        look_at_batches(&mut tx, &mut apps).await?;
        count_requests(&mut tx, &mut apps).await?;
        look_at_runs(&mut tx, &mut apps).await?;
        tx.rollback().await.context("read its figures")?;
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        Ok(QueueMetrics {
            apps: apps.into_values().collect(),
            file_bytes: fs::metadata(&self.path).ok().map(|file| file.len()),
            log_bytes: fs::metadata(log).map_or(0, |file| file.len()),
        })
    }
}

/// Every app with its learned rate; all its counters are still 0.
async fn known_apps(tx: &mut Transaction<'static, Sqlite>) -> Result<Apps, QueueError> {
    let doing = "read its apps";
    let rows = sqlx::query(
        "SELECT id, sdkappid, library, learned_rates.rate FROM apps LEFT JOIN learned_rates ON learned_rates.app_id = apps.id",
    )
    .fetch_all(&mut **tx)
    .await
    .context(doing)?;
    let mut apps = Apps::new();
    for row in &rows {
        let id: i64 = row.try_get(0).context(doing)?;
        apps.insert(
            id,
            AppMetrics {
                app: app(row, 1, "apps", id)?,
                jobs: [[0; 6]; 3],
                in_doubt: 0,
                failed: BTreeMap::new(),
                unfinished_batches: 0,
                oldest_open_ms: None,
                requests: BTreeMap::new(),
                in_flight: 0,
                latency: LatencyHistogram::default(),
                learned_rate: row.try_get(3).context(doing)?,
                last_run: None,
            },
        );
    }
    Ok(apps)
}

/// Adds jobs by target status and state, from their counters.
async fn add_up_jobs(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    let doing = "add up jobs";
    let rows = sqlx::query(
        "SELECT app_id, target_status, sum(pending), sum(in_flight), sum(succeeded), sum(failed), sum(cancelled),
                sum(superseded)
         FROM job_counts JOIN batches ON batches.id = batch_id GROUP BY app_id, target_status",
    )
    .fetch_all(&mut **tx)
    .await
    .context(doing)?;
    for row in &rows {
        let figures = of_app(apps, row, "job_counters")?;
        let status: i64 = row.try_get(1).context(doing)?;
        let at = TargetStatus::ALL.into_iter().position(|known| known.code() == status);
        let at = at.ok_or_else(|| QueueError::Impossible {
            table: "job_counters",
            row: 0,
            reason: format!("status {status}"),
        })?;
        for (state, jobs) in figures.jobs[at].iter_mut().enumerate() {
            *jobs = count(row, 2 + state).context(doing)?;
        }
    }
    Ok(())
}

/// Counts failed jobs by code.
async fn count_failed(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    let doing = "count failed jobs";
    let rows = sqlx::query(
        "SELECT app_id, error_code, count(*) FROM jobs WHERE state = 'failed' GROUP BY app_id, error_code",
    )
    .fetch_all(&mut **tx)
    .await
    .context(doing)?;
    for row in &rows {
        let code: Option<i64> = row.try_get(1).context(doing)?;
        of_app(apps, row, "jobs")?.failed.insert(code, count(row, 2).context(doing)?);
    }
    Ok(())
}

async fn look_at_batches(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    let doing = "look for unfinished batches";
    let rows = sqlx::query(
        "SELECT app_id, count(*), min(created_ms) FROM batches
         WHERE id IN (SELECT batch_id FROM job_counts WHERE pending + in_flight > 0) GROUP BY app_id",
    )
    .fetch_all(&mut **tx)
    .await
    .context(doing)?;
    for row in &rows {
        let figures = of_app(apps, row, "batches")?;
        figures.unfinished_batches = count(row, 1).context(doing)?;
        figures.oldest_open_ms = row.try_get(2).context(doing)?;
    }
    Ok(())
}

async fn count_requests(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    let doing = "count requests";
    // The order of the index, so that the engine does not sort.
    let groups = "SELECT (SELECT app_id FROM runs WHERE id = run_id), verdict, latency_ms, count(*), sum(job_count)
                  FROM requests INDEXED BY requests_by_run GROUP BY run_id, verdict, latency_ms";
    let mut rows = sqlx::query(groups).fetch(&mut **tx);
    while let Some(row) = rows.try_next().await.context(doing)? {
        let requests = count(&row, 3).context(doing)?;
        let latency_ms: Option<i64> = row.try_get(2).context(doing)?;
        let sum_ms = requests * u64::try_from(latency_ms.unwrap_or(0)).unwrap_or_default();
        add_requests(apps, &row, bound_of(latency_ms), sum_ms)?;
    }
    drop(rows);
    let pruned =
        "SELECT app_id, verdict, latency_le_ms, requests, jobs, latency_ms FROM pruned_requests";
    for row in sqlx::query(pruned).fetch_all(&mut **tx).await.context(doing)? {
        let (bound, sum_ms) = (row.try_get(2).context(doing)?, count(&row, 5).context(doing)?);
        add_requests(apps, &row, bound, sum_ms)?;
    }
    Ok(())
}

/// Adds requests of one app with one verdict; column 3 has their number, column 4 that of their jobs.
fn add_requests(
    apps: &mut Apps,
    row: &SqliteRow,
    bound: i64,
    sum_ms: u64,
) -> Result<(), QueueError> {
    let doing = "count requests";
    let figures = of_app(apps, row, "requests")?;
    let (requests, jobs) = (count(row, 3).context(doing)?, count(row, 4).context(doing)?);
    let verdict: Option<&str> = row.try_get(1).context(doing)?;
    let Some(verdict) = verdict else {
        figures.in_flight += requests;
        return Ok(());
    };
    if !figures.requests.contains_key(verdict) {
        figures.requests.insert(verdict.to_owned(), VerdictCounts::default());
    }
    if let Some(of_verdict) = figures.requests.get_mut(verdict) {
        of_verdict.requests += requests;
        of_verdict.jobs += jobs;
    }
    if bound > 0 {
        *figures.latency.by_bound.entry(bound).or_default() += requests;
        figures.latency.sum_ms += sum_ms;
    }
    Ok(())
}

async fn look_at_runs(
    tx: &mut Transaction<'static, Sqlite>,
    apps: &mut Apps,
) -> Result<(), QueueError> {
    let doing = "find the last runs";
    let rows = sqlx::query(
        "SELECT app_id, started_ms, finished_ms, ending,
                (SELECT max(responded_ms) FROM requests INDEXED BY requests_by_run WHERE run_id = runs.id)
         FROM runs WHERE id IN (SELECT max(id) FROM runs GROUP BY app_id)",
    )
    .fetch_all(&mut **tx)
    .await
    .context(doing)?;
    for row in &rows {
        of_app(apps, row, "runs")?.last_run = Some(LastRun {
            started_ms: row.try_get(1).context(doing)?,
            finished_ms: row.try_get(2).context(doing)?,
            ending: row.try_get(3).context(doing)?,
            responded_ms: row.try_get(4).context(doing)?,
        });
    }
    Ok(())
}

/// The counters of the app that a row of `table` begins with.
fn of_app<'a>(
    apps: &'a mut Apps,
    row: &SqliteRow,
    table: &'static str,
) -> Result<&'a mut AppMetrics, QueueError> {
    let id: Option<i64> = row.try_get(0).context("read its figures")?;
    let figures = id.and_then(|id| apps.get_mut(&id));
    let reason = || format!("its app {id:?} is not there");
    figures.ok_or_else(|| QueueError::Impossible { table, row: 0, reason: reason() })
}

/// Adds up the requests in `temp.unused` for [`figures`](Queue::figures), before the same transaction
/// deletes them.
pub(in crate::queue) async fn count_pruned(
    connection: &mut SqliteConnection,
) -> Result<(), QueueError> {
    let doing = "count old requests";
    let rows = sqlx::query(
        "SELECT (SELECT app_id FROM runs WHERE id = run_id), verdict, latency_ms, count(*), sum(job_count)
         FROM temp.unused CROSS JOIN requests USING (id) GROUP BY 1, 2, 3",
    )
    .fetch_all(&mut *connection)
    .await
    .context(doing)?;
    for row in &rows {
        let latency_ms: Option<i64> = row.try_get(2).context(doing)?;
        let requests: i64 = row.try_get(3).context(doing)?;
        sqlx::query(
            "INSERT INTO pruned_requests (app_id, verdict, latency_le_ms, requests, jobs, latency_ms)
             VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, jobs = jobs + excluded.jobs,
               latency_ms = latency_ms + excluded.latency_ms",
        )
        .bind(row.try_get::<i64, _>(0).context(doing)?)
        .bind(row.try_get::<&str, _>(1).context(doing)?)
        .bind(bound_of(latency_ms))
        .bind(requests)
        .bind(row.try_get::<i64, _>(4).context(doing)?)
        .bind(requests.saturating_mul(latency_ms.unwrap_or(0)))
        .execute(&mut *connection)
        .await
        .context(doing)?;
    }
    Ok(())
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
