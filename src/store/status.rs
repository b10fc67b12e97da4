//! The queue in figures. Only reads, and only committed figures, whatever a run is doing.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::waits::read_wait;
use super::{ApprovalId, Doing as _, RunId, Store, StoreError, Wait};
use crate::job::{App, JobState, Library, Status};

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
    /// Cancelled before they were sent.
    pub cancelled: u64,
    /// Overtaken by a newer import.
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

    pub(super) fn of(&mut self, state: JobState) -> &mut u64 {
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
    /// The number of the application whose jobs it sends.
    pub sdkappid: u64,
    /// The library of that application.
    pub library: Library,
    /// The approval whose jobs alone it sends.
    #[serde(skip)]
    pub approval: Option<ApprovalId>,
    /// What it waits for, if it does.
    pub wait: Option<Wait>,
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
    /// Jobs that succeeded although the answer to a request was never seen.
    pub succeeded_in_doubt: u64,
    /// The newest run.
    pub last_run: Option<RunSummary>,
}

impl Store {
    /// The whole queue in figures, from one moment.
    ///
    /// # Errors
    /// When the queue file cannot be read or holds an impossible row.
    pub async fn status(&self) -> Result<QueueStatus, StoreError> {
        // One read transaction, so that the figures belong together.
        let mut tx = self.readers.begin().await.doing("read its figures")?;
        // One look at the jobs for both: all of them, and those of the newest run.
        let rows = sqlx::query(
            "SELECT state, count(*),
                    count(*) FILTER (WHERE finished_ms >= (SELECT started_ms FROM runs ORDER BY id DESC LIMIT 1))
             FROM jobs GROUP BY state",
        )
        .fetch_all(&mut *tx)
        .await
        .doing("count jobs")?;
        let counts = read_counts(&rows)?;
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM requests),
                    (SELECT count(*) FROM requests WHERE verdict = 'throttled'),
                    (SELECT count(*) FROM requests WHERE verdict = 'orphaned'),
                    (SELECT count(*) FROM jobs WHERE state = 'succeeded' AND error_code IS NOT NULL)",
        )
        .fetch_one(&mut *tx)
        .await
        .doing("count requests")?;
        let figure = |at: usize| -> Result<u64, StoreError> {
            let n: i64 = row.try_get(at).doing("count requests")?;
            Ok(u64::try_from(n).unwrap_or_default())
        };
        let run = sqlx::query(
            "SELECT id, host, pid, started_ms, finished_ms, ending,
                    (SELECT count(*) FROM requests WHERE run_id = runs.id),
                    (SELECT count(*) FROM requests WHERE run_id = runs.id AND verdict = 'throttled'),
                    (SELECT count(*) FROM requests WHERE run_id = runs.id AND verdict IN ('applied', 'rejected')),
                    (SELECT sdkappid FROM apps WHERE id = app_id), (SELECT library FROM apps WHERE id = app_id),
                    approval_id, waits_for, waits_since_ms, waits_until_ms
             FROM runs ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("find the last run")?;
        let of_run = |state| of_newest_run(&rows, state).doing("count jobs");
        let (succeeded, failed) = (of_run(JobState::Succeeded)?, of_run(JobState::Failed)?);
        let last_run = run.as_ref().map(|row| read_run(row, succeeded, failed)).transpose();
        let last_run = last_run.doing("find the last run")?;
        Ok(QueueStatus {
            counts,
            requests: figure(0)?,
            throttled: figure(1)?,
            orphaned: figure(2)?,
            succeeded_in_doubt: figure(3)?,
            last_run,
        })
    }

    /// Jobs of one app by state.
    ///
    /// # Errors
    /// When the queue file cannot be read or holds an impossible row.
    pub async fn counts_of(&self, app: App) -> Result<QueueCounts, StoreError> {
        let rows = sqlx::query(
            "SELECT state, count(*) FROM jobs
             WHERE app_id = (SELECT id FROM apps WHERE sdkappid = ? AND library = ?) GROUP BY state",
        )
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .fetch_all(&self.readers)
        .await
        .doing("count jobs")?;
        read_counts(&rows)
    }

    /// Open jobs of one app by status, in the order of [`Status::ALL`].
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_by_status(&self, app: App) -> Result<[u64; 3], StoreError> {
        let mut reader = self.readers.acquire().await.doing("count jobs")?;
        let id: Option<i64> =
            sqlx::query_scalar("SELECT id FROM apps WHERE sdkappid = ? AND library = ?")
                .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
                .bind(app.library.name())
                .fetch_optional(&mut *reader)
                .await
                .doing("count jobs")?;
        match id {
            Some(app_id) => open_by_status(&mut reader, app_id).await,
            None => Ok([0; 3]),
        }
    }
}

pub(super) async fn open_by_status(
    connection: &mut SqliteConnection,
    app_id: i64,
) -> Result<[u64; 3], StoreError> {
    let mut open = [0; 3];
    for (count, status) in open.iter_mut().zip(Status::ALL) {
        let n: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM jobs WHERE state IN ('pending', 'in_flight') AND status = ? AND app_id = ?",
        )
        .bind(status.code())
        .bind(app_id)
        .fetch_one(&mut *connection)
        .await
        .doing("count jobs")?;
        *count = u64::try_from(n).unwrap_or_default();
    }
    Ok(open)
}

fn read_counts(rows: &[SqliteRow]) -> Result<QueueCounts, StoreError> {
    let mut counts = QueueCounts::default();
    for row in rows {
        let state: &str = row.try_get(0).doing("count jobs")?;
        let n: i64 = row.try_get(1).doing("count jobs")?;
        let state: JobState = state.parse().map_err(|reason| StoreError::Impossible {
            table: "jobs",
            row: 0,
            reason,
        })?;
        *counts.of(state) = u64::try_from(n).unwrap_or_default();
    }
    Ok(counts)
}

/// Jobs in `state` that got there since the newest run began.
fn of_newest_run(rows: &[SqliteRow], state: JobState) -> Result<i64, sqlx::Error> {
    for row in rows {
        if row.try_get::<&str, _>(0)? == state.name() {
            return row.try_get(2);
        }
    }
    Ok(0)
}

fn read_run(row: &SqliteRow, succeeded: i64, failed: i64) -> Result<RunSummary, sqlx::Error> {
    Ok(RunSummary {
        id: row.try_get(0)?,
        host: row.try_get(1)?,
        pid: row.try_get(2)?,
        started_ms: row.try_get(3)?,
        finished_ms: row.try_get(4)?,
        ending: row.try_get(5)?,
        requests: row.try_get(6)?,
        throttled: row.try_get(7)?,
        reached: row.try_get(8)?,
        succeeded,
        failed,
        sdkappid: u64::try_from(row.try_get::<i64, _>(9)?).unwrap_or_default(),
        library: row
            .try_get::<&str, _>(10)?
            .parse()
            .map_err(|reason: String| sqlx::Error::Decode(reason.into()))?,
        approval: row.try_get(11)?,
        wait: read_wait(row, 12)?,
    })
}
