//! The queue in figures. Only reads, and only committed figures, whatever a run is doing. Adds
//! up what the transitions keep, and never counts jobs.

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::domain::job::{App, JobState, Library};
use crate::queue::read::row_helpers::count;
use crate::queue::sqlite::doubts;
use crate::queue::sqlite::wait_reason::read_wait;
use crate::queue::{ApprovalId, Context as _, Queue, QueueError, RunId, Wait};

/// Jobs by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct QueueCounts {
    /// Wait to be sent.
    pub pending: u64,
    /// In a request without a recorded answer.
    pub in_flight: u64,
    /// Taken by the service.
    pub succeeded: u64,
    /// Refused by the service.
    pub failed: u64,
    /// Not to be sent any more, as asked. What was sent before may have been applied.
    pub cancelled: u64,
    /// Replaced by a later import of their questions.
    pub superseded: u64,
}

impl QueueCounts {
    /// All jobs.
    pub fn total(&self) -> u64 {
        self.open() + self.done()
    }

    /// Jobs that a run has still to do.
    pub fn open(&self) -> u64 {
        self.pending + self.in_flight
    }

    /// Jobs with a recorded outcome.
    pub fn done(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled + self.superseded
    }

    pub(in crate::queue) fn of(&mut self, state: JobState) -> &mut u64 {
        match state {
            JobState::Pending => &mut self.pending,
            JobState::InFlight => &mut self.in_flight,
            JobState::Succeeded => &mut self.succeeded,
            JobState::Failed => &mut self.failed,
            JobState::Cancelled => &mut self.cancelled,
            JobState::Superseded => &mut self.superseded,
        }
    }
}

/// A run, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RunSummary {
    /// Its number.
    pub id: RunId,
    /// The host it ran on.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// When it began, in UTC milliseconds.
    pub started_ms: i64,
    /// When it ended; `None` while it goes on, or if it died and nobody has noticed yet.
    pub finished_ms: Option<i64>,
    /// How it ended.
    pub ending: Option<String>,
    /// What it has sent and settled.
    #[serde(flatten)]
    pub totals: RunTotals,
    /// The number of the application whose jobs it sends.
    pub sdkappid: u64,
    /// The library of that application.
    pub library: Library,
    /// The approval of its deletes, or of all that it sends.
    #[serde(skip)]
    pub approval: Option<ApprovalId>,
    /// What it waits for, if it does.
    pub wait: Option<Wait>,
}

/// What a run has sent and settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct RunTotals {
    /// Requests that it made.
    pub requests: i64,
    /// Requests of it that were refused as too fast.
    pub throttled: i64,
    /// Requests of it whose questions the service looked at.
    pub reached: i64,
    /// Jobs that succeeded in it.
    pub succeeded: i64,
    /// Jobs that failed in it.
    pub failed: i64,
}

impl RunSummary {
    /// Whose jobs it sends.
    pub fn app(&self) -> App {
        App { sdkappid: self.sdkappid, library: self.library }
    }
}

/// The whole queue in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// Jobs by state.
    pub counts: QueueCounts,
    /// All requests ever made from this file.
    pub requests: u64,
    /// Those refused as too fast.
    pub throttled: u64,
    /// Those whose answer was lost with their run.
    pub orphaned: u64,
    /// Those whose response was lost, for whatever reason: they may have been applied.
    pub responses_lost: u64,
    /// Jobs in doubt: such a request may have changed their question, and nothing since says whether.
    pub in_doubt: u64,
    /// Deletes that were in doubt and found done when they were repeated.
    pub succeeded_in_doubt: u64,
    /// The newest run.
    pub last_run: Option<RunSummary>,
    /// How large the queue file and its log are.
    pub file_bytes: u64,
    /// When the queue was pruned last, in UTC milliseconds, whether or not anything was old
    /// enough.
    pub pruned_ms: Option<i64>,
}

impl Queue {
    /// The whole queue in figures, from one moment.
    ///
    /// # Errors
    /// When the queue file cannot be read or holds an impossible row.
    pub async fn status(&self) -> Result<QueueStatus, QueueError> {
        // One read transaction, so that the figures belong together.
        let mut tx = self.readers.begin().await.context("read its figures")?;
        let row = sqlx::query(SUMS_OF_ALL).fetch_one(&mut *tx).await.context("add up jobs")?;
        let counts = read_counts(&row).context("add up jobs")?;
        let succeeded_in_doubt = count(&row, 6).context("add up jobs")?;
        let row = sqlx::query(
            "SELECT coalesce(sum(requests), 0), coalesce(sum(throttled), 0), coalesce(sum(orphaned), 0),
                    coalesce(sum(responses_lost), 0)
             FROM runs",
        )
        .fetch_one(&mut *tx)
        .await
        .context("add up requests")?;
        let of_runs = |at| count(&row, at).context("add up requests");
        let run = sqlx::query(
            "SELECT runs.id, host, pid, started_ms, finished_ms, ending, requests, throttled, evaluated_requests, succeeded,
                    failed, sdkappid, library, approval_id, wait_reason, wait_since_ms, wait_until_ms
             FROM runs JOIN apps ON apps.id = app_id ORDER BY runs.id DESC LIMIT 1",
        )
        .fetch_optional(&mut *tx)
        .await
        .context("find the last run")?;
        let pruned_ms = sqlx::query_scalar("SELECT pruned_ms FROM maintenance")
            .fetch_optional(&mut *tx)
            .await
            .context("find the last prune")?;
        Ok(QueueStatus {
            counts,
            requests: of_runs(0)?,
            throttled: of_runs(1)?,
            orphaned: of_runs(2)?,
            responses_lost: of_runs(3)?,
            in_doubt: doubts::count(&mut tx, None, None).await?,
            succeeded_in_doubt,
            last_run: run.as_ref().map(read_run).transpose().context("find the last run")?,
            file_bytes: self.file_bytes(),
            pruned_ms,
        })
    }

    /// Of the file and its log, as far as they can be seen.
    fn file_bytes(&self) -> u64 {
        let log = {
            let mut name = self.path.as_os_str().to_owned();
            name.push("-wal");
            PathBuf::from(name)
        };
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        bytes(&self.path) + bytes(&log)
    }

    /// Jobs of one app by state.
    ///
    /// # Errors
    /// When the queue file cannot be read or holds an impossible row.
    pub async fn counts_of(&self, app: App) -> Result<QueueCounts, QueueError> {
        let row = sqlx::query(
            "SELECT coalesce(sum(pending), 0), coalesce(sum(in_flight), 0), coalesce(sum(succeeded), 0),
                    coalesce(sum(failed), 0), coalesce(sum(cancelled), 0), coalesce(sum(superseded), 0)
             FROM job_counts WHERE batch_id IN (SELECT id FROM batches WHERE app_id =
                 (SELECT id FROM apps WHERE sdkappid = ? AND library = ?))",
        )
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .fetch_one(&self.readers)
        .await
        .context("add up jobs")?;
        read_counts(&row).context("add up jobs")
    }

    /// Jobs of one app that are in doubt.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn in_doubt_of(&self, app: App) -> Result<u64, QueueError> {
        let mut reader = self.readers.acquire().await.context("count jobs")?;
        match find_app(&mut reader, app).await? {
            Some(app_id) => doubts::count(&mut reader, Some(app_id), None).await,
            None => Ok(0),
        }
    }

    /// Open jobs of one app by status, in the order of [`TargetStatus::ALL`](crate::domain::job::TargetStatus::ALL).
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_by_status(&self, app: App) -> Result<[u64; 3], QueueError> {
        let mut reader = self.readers.acquire().await.context("count jobs")?;
        match find_app(&mut reader, app).await? {
            Some(app_id) => open_by_status(&mut reader, app_id).await,
            None => Ok([0; 3]),
        }
    }
}

/// The number of `app` in this file, if it has one.
async fn find_app(connection: &mut SqliteConnection, app: App) -> Result<Option<i64>, QueueError> {
    sqlx::query_scalar("SELECT id FROM apps WHERE sdkappid = ? AND library = ?")
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .fetch_optional(connection)
        .await
        .context("find the app")
}

pub(in crate::queue) async fn open_by_status(
    connection: &mut SqliteConnection,
    app_id: i64,
) -> Result<[u64; 3], QueueError> {
    let row = sqlx::query(
        "SELECT coalesce(sum(pending + in_flight) FILTER (WHERE target_status = 4), 0),
                coalesce(sum(pending + in_flight) FILTER (WHERE target_status = 5), 0),
                coalesce(sum(pending + in_flight) FILTER (WHERE target_status = 6), 0)
         FROM job_counts WHERE batch_id IN (SELECT id FROM batches WHERE app_id = ?)",
    )
    .bind(app_id)
    .fetch_one(connection)
    .await
    .context("add up jobs")?;
    let open = |at| count(&row, at).context("add up jobs");
    Ok([open(0)?, open(1)?, open(2)?])
}

const SUMS_OF_ALL: &str = "
    SELECT coalesce(sum(pending), 0), coalesce(sum(in_flight), 0), coalesce(sum(succeeded), 0),
           coalesce(sum(failed), 0), coalesce(sum(cancelled), 0), coalesce(sum(superseded), 0),
           coalesce(sum(succeeded_on_retry), 0)
    FROM job_counts";

/// In the order of [`JobState::ALL`].
fn read_counts(row: &SqliteRow) -> Result<QueueCounts, sqlx::Error> {
    Ok(QueueCounts {
        pending: count(row, 0)?,
        in_flight: count(row, 1)?,
        succeeded: count(row, 2)?,
        failed: count(row, 3)?,
        cancelled: count(row, 4)?,
        superseded: count(row, 5)?,
    })
}

fn read_run(row: &SqliteRow) -> Result<RunSummary, sqlx::Error> {
    Ok(RunSummary {
        id: row.try_get(0)?,
        host: row.try_get(1)?,
        pid: row.try_get(2)?,
        started_ms: row.try_get(3)?,
        finished_ms: row.try_get(4)?,
        ending: row.try_get(5)?,
        totals: RunTotals {
            requests: row.try_get(6)?,
            throttled: row.try_get(7)?,
            reached: row.try_get(8)?,
            succeeded: row.try_get(9)?,
            failed: row.try_get(10)?,
        },
        sdkappid: u64::try_from(row.try_get::<i64, _>(11)?).unwrap_or_default(),
        library: row
            .try_get::<&str, _>(12)?
            .parse()
            .map_err(|reason: String| sqlx::Error::Decode(reason.into()))?,
        approval: row.try_get(13)?,
        wait: read_wait(row, 14)?,
    })
}
