//! The queue in figures for machines: by app, from one moment, counters that only go up.
//!
//! Jobs are told by their tallies and never counted; where requests and failed jobs are, the
//! statements read indexes and no table. What a prune drops of the requests is added up in the transaction that drops it
//! ([`count_pruned`]), and told together with what is there.

use std::collections::BTreeMap;
use std::fs;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, SqliteConnection, Transaction};

use crate::domain::job::{App, Status};
use crate::queue::read::row_helpers::{app, count};
use crate::queue::sqlite::doubts;
use crate::queue::{Context as _, Queue, QueueError};

/// Upper bounds of the times to an answer that are counted apart, in milliseconds. They are
/// kept with what was pruned: a new one between two of them would count from then on only.
pub const LATENCY_BOUNDS_MS: [i64; 10] =
    [25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];

/// The bound that a time counts under: 0 where it is not known, the engine's largest number
/// where it is longer than all of them.
fn bound_of(latency_ms: Option<i64>) -> i64 {
    let Some(latency_ms) = latency_ms else { return 0 };
    LATENCY_BOUNDS_MS.into_iter().find(|bound| latency_ms <= *bound).unwrap_or(i64::MAX)
}

/// Requests with one verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerdictFigures {
    /// How many there were.
    pub requests: u64,
    /// How many jobs they carried together.
    pub jobs: u64,
}

/// Times from a request's leaving to its answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatencyFigures {
    /// How many requests, by upper bound in milliseconds; [`i64::MAX`] for longer than all
    /// of [`LATENCY_BOUNDS_MS`]. Not cumulative.
    pub by_bound: BTreeMap<i64, u64>,
    /// All times together, in milliseconds.
    pub sum_ms: u64,
}

/// The newest run of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    /// When it began, in UTC milliseconds.
    pub started_ms: i64,
    /// When it ended; `None` while it goes on, or if it died and nobody has noticed yet.
    pub finished_ms: Option<i64>,
    /// How it ended.
    pub ending: Option<String>,
    /// When a request of it was settled last, in UTC milliseconds.
    pub answered_ms: Option<i64>,
}

/// What is known of one app and library.
#[derive(Debug, Clone, PartialEq)]
pub struct AppFigures {
    /// Which.
    pub app: App,
    /// Jobs by status and state, in the orders of [`Status::ALL`] and [`JobState::ALL`](crate::domain::job::JobState::ALL).
    pub jobs: [[u64; 6]; 3],
    /// Jobs in doubt.
    pub in_doubt: u64,
    /// Failed jobs by the service's code; `None`: it gave none.
    pub failed: BTreeMap<Option<i64>, u64>,
    /// Batches with an open job.
    pub unfinished_batches: u64,
    /// When the oldest of these was imported, in UTC milliseconds.
    pub oldest_open_ms: Option<i64>,
    /// Requests ever made, by the verdict on their answer; those that were pruned too.
    pub requests: BTreeMap<String, VerdictFigures>,
    /// Requests without a recorded answer.
    pub in_flight: u64,
    /// How long answers took, ever.
    pub latency: LatencyFigures,
    /// Requests a second that runs have learned to be borne.
    pub learned_rate: Option<f64>,
    /// The newest run.
    pub last_run: Option<LastRun>,
}

/// The whole queue in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// By app, in the order in which they came to the queue.
    pub apps: Vec<AppFigures>,
    /// The size of the queue file, in bytes; `None` if it is not there.
    pub file_bytes: Option<u64>,
    /// The size of its write-ahead log, in bytes; 0 if there is none.
    pub log_bytes: u64,
}

type Apps = BTreeMap<i64, AppFigures>;

impl Queue {
    /// The whole queue in figures, from one moment.
    ///
    /// # Errors
    /// When the queue file cannot be read or holds an impossible row.
    pub async fn figures(&self) -> Result<Figures, QueueError> {
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
        Ok(Figures {
            apps: apps.into_values().collect(),
            file_bytes: fs::metadata(&self.path).ok().map(|file| file.len()),
            log_bytes: fs::metadata(log).map_or(0, |file| file.len()),
        })
    }
}

/// Every app, with the pace that was learned for it and nothing else yet.
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
            AppFigures {
                app: app(row, 1, "apps", id)?,
                jobs: [[0; 6]; 3],
                in_doubt: 0,
                failed: BTreeMap::new(),
                unfinished_batches: 0,
                oldest_open_ms: None,
                requests: BTreeMap::new(),
                in_flight: 0,
                latency: LatencyFigures::default(),
                learned_rate: row.try_get(3).context(doing)?,
                last_run: None,
            },
        );
    }
    Ok(apps)
}

/// Jobs by status and state, as the tallies have them.
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
        let at = Status::ALL.into_iter().position(|known| known.code() == status);
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

/// The codes of jobs that failed.
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
    // In the order of the index, so that nothing is sorted.
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

/// Adds requests of an app with a verdict; their number is in column 3, that of their jobs in 4.
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
        figures.requests.insert(verdict.to_owned(), VerdictFigures::default());
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
            answered_ms: row.try_get(4).context(doing)?,
        });
    }
    Ok(())
}

/// The figures of the app that a row of `table` begins with.
fn of_app<'a>(
    apps: &'a mut Apps,
    row: &SqliteRow,
    table: &'static str,
) -> Result<&'a mut AppFigures, QueueError> {
    let id: Option<i64> = row.try_get(0).context("read its figures")?;
    let figures = id.and_then(|id| apps.get_mut(&id));
    let reason = || format!("its app {id:?} is not there");
    figures.ok_or_else(|| QueueError::Impossible { table, row: 0, reason: reason() })
}

/// Adds up what [`figures`](Queue::figures) tells of the requests in `temp.unused`, which are
/// about to be dropped in the same transaction.
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
