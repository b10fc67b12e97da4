//! The status of the queue: jobs by state, counters of requests, the newest run.
//!
//! Only reads committed counters, which every change of jobs updates, and never counts jobs.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::domain::job::{App, JobState, Library};
use crate::queue::read::doubts;
use crate::queue::read::row_helpers::{flatten, from_row, integer, sdkappid};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqlite::wait_reason::read_wait;
use crate::queue::{ApprovalId, Context as _, QueueError, RunId, Wait};

/// Jobs by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QueueCounts {
    /// Jobs that wait to be sent.
    pub pending: u64,
    /// Jobs in a request without a recorded response.
    pub in_flight: u64,
    /// Jobs that the service applied.
    pub succeeded: u64,
    /// Jobs that the service rejected.
    pub failed: u64,
    /// Cancelled jobs, which are not sent again. An earlier request may have been applied.
    pub cancelled: u64,
    /// Jobs that a later import of their questions has replaced.
    pub superseded: u64,
}

from_row!(QueueCounts {
    pending = integer,
    in_flight = integer,
    succeeded = integer,
    failed = integer,
    cancelled = integer,
    superseded = integer,
});

impl QueueCounts {
    /// All jobs.
    pub fn total(&self) -> u64 {
        self.open() + self.done()
    }

    /// Pending jobs and jobs in flight.
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunSummary {
    /// The number of the run.
    pub id: RunId,
    /// The host name.
    pub host: String,
    /// The process id.
    pub pid: i64,
    /// The beginning, in UTC milliseconds.
    pub started_ms: i64,
    /// The end, in UTC milliseconds; null while the run is active, or if it died and no later run has
    /// closed it.
    pub finished_ms: Option<i64>,
    /// How it ended.
    pub ending: Option<String>,
    /// Its counters.
    #[serde(flatten)]
    pub totals: RunTotals,
    /// The SDKAppID of its app.
    pub sdkappid: u64,
    /// The library of its app.
    pub library: Library,
    /// The approval of its deletes, or of all jobs that it sends.
    #[serde(skip)]
    pub approval: Option<ApprovalId>,
    /// Why it sends nothing now; null while it sends.
    pub wait: Option<Wait>,
}

from_row!(RunSummary {
    id,
    host,
    pid,
    started_ms,
    finished_ms,
    ending,
    totals = flatten,
    sdkappid = integer,
    library,
    approval,
    wait = read_wait,
});

/// The counters of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunTotals {
    /// Its requests.
    pub requests: i64,
    /// Its throttled requests.
    pub throttled: i64,
    /// Its requests whose questions the service evaluated: applied or rejected.
    pub evaluated_requests: i64,
    /// Jobs that succeeded in it.
    pub succeeded: i64,
    /// Jobs that failed in it.
    pub failed: i64,
}

from_row!(RunTotals { requests, throttled, evaluated_requests, succeeded, failed });

impl RunSummary {
    /// The app whose jobs it sends.
    pub fn app(&self) -> App {
        App { sdkappid: self.sdkappid, library: self.library }
    }
}

/// The status of the whole queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// Jobs by state.
    pub counts: QueueCounts,
    /// The requests of all runs, including pruned ones.
    pub requests: u64,
    /// Throttled requests.
    pub throttled: u64,
    /// Requests whose run died before they were settled.
    pub orphaned: u64,
    /// Requests whose response was lost, for any reason: they may have been applied.
    pub responses_lost: u64,
    /// Jobs in doubt: a request may have changed their question, and no later response has settled that.
    pub in_doubt: u64,
    /// Deletes in doubt that the service reported as done when they were repeated.
    pub succeeded_in_doubt: u64,
    /// The newest run.
    pub last_run: Option<RunSummary>,
    /// The size of the queue file and its log, in bytes.
    pub file_bytes: u64,
    /// The time of the last prune, in UTC milliseconds, even if that prune deleted nothing.
    pub pruned_ms: Option<i64>,
}

impl SqliteQueue {
    pub(in crate::queue) async fn status(&self) -> Result<QueueStatus, QueueError> {
        let mut tx = self.readers.begin().await.context("read the status")?;
        let jobs = sqlx::query(SUMS_OF_ALL).fetch_one(&mut *tx).await.context(JOB_COUNTERS)?;
        let runs = sqlx::query(
            "SELECT CAST(coalesce(sum(requests), 0) AS BIGINT) AS requests,
                    CAST(coalesce(sum(throttled), 0) AS BIGINT) AS throttled,
                    CAST(coalesce(sum(orphaned), 0) AS BIGINT) AS orphaned,
                    CAST(coalesce(sum(responses_lost), 0) AS BIGINT) AS responses_lost
             FROM runs",
        )
        .fetch_one(&mut *tx)
        .await
        .context(RUN_COUNTERS)?;
        let last_run = sqlx::query_as(
            "SELECT runs.id, host, pid, started_ms, finished_ms, ending, requests, throttled, evaluated_requests, succeeded,
                    failed, sdkappid, library, approval_id AS approval, wait_reason, wait_since_ms, wait_until_ms
             FROM runs JOIN apps ON apps.id = app_id ORDER BY runs.id DESC LIMIT 1",
        )
        .fetch_optional(&mut *tx)
        .await
        .context("read the newest run")?;
        let pruned_ms = sqlx::query_scalar("SELECT pruned_ms FROM maintenance")
            .fetch_optional(&mut *tx)
            .await
            .context("read the time of the last prune")?;
        let of_runs = |column| integer(&runs, column).context(RUN_COUNTERS);
        let (file_bytes, log_bytes) = self.file_sizes();
        Ok(QueueStatus {
            counts: flatten(&jobs, "counts").context(JOB_COUNTERS)?,
            requests: of_runs("requests")?,
            throttled: of_runs("throttled")?,
            orphaned: of_runs("orphaned")?,
            responses_lost: of_runs("responses_lost")?,
            in_doubt: doubts::count(&mut tx, None, None).await?,
            succeeded_in_doubt: integer(&jobs, "succeeded_on_retry").context(JOB_COUNTERS)?,
            last_run,
            file_bytes: file_bytes.unwrap_or(0) + log_bytes,
            pruned_ms,
        })
    }

    pub(in crate::queue) async fn counts_of_app(
        &self,
        app: App,
    ) -> Result<QueueCounts, QueueError> {
        sqlx::query_as(
            "SELECT CAST(coalesce(sum(pending), 0) AS BIGINT) AS pending,
                    CAST(coalesce(sum(in_flight), 0) AS BIGINT) AS in_flight,
                    CAST(coalesce(sum(succeeded), 0) AS BIGINT) AS succeeded,
                    CAST(coalesce(sum(failed), 0) AS BIGINT) AS failed,
                    CAST(coalesce(sum(cancelled), 0) AS BIGINT) AS cancelled,
                    CAST(coalesce(sum(superseded), 0) AS BIGINT) AS superseded
             FROM job_counts WHERE batch_id IN (SELECT id FROM batches WHERE app_id =
                 (SELECT id FROM apps WHERE sdkappid = $1 AND library = $2))",
        )
        .bind(sdkappid(app))
        .bind(app.library.name())
        .fetch_one(&self.readers)
        .await
        .context(JOB_COUNTERS)
    }

    pub(in crate::queue) async fn count_in_doubt(&self, app: App) -> Result<u64, QueueError> {
        let mut reader = self.readers.acquire().await.context("count the jobs in doubt")?;
        match find_app(&mut reader, app).await? {
            Some(app_id) => doubts::count(&mut reader, Some(app_id), None).await,
            None => Ok(0),
        }
    }

    pub(in crate::queue) async fn open_by_status(&self, app: App) -> Result<[u64; 3], QueueError> {
        let mut reader = self.readers.acquire().await.context(JOB_COUNTERS)?;
        match find_app(&mut reader, app).await? {
            Some(app_id) => open_by_status(&mut reader, app_id).await,
            None => Ok([0; 3]),
        }
    }
}

/// The id of the row of `app`; `None` if the queue has no job of it.
async fn find_app(connection: &mut SqliteConnection, app: App) -> Result<Option<i64>, QueueError> {
    sqlx::query_scalar("SELECT id FROM apps WHERE sdkappid = $1 AND library = $2")
        .bind(sdkappid(app))
        .bind(app.library.name())
        .fetch_optional(connection)
        .await
        .context("find the app")
}

pub(in crate::queue) async fn open_by_status(
    connection: &mut SqliteConnection,
    app_id: i64,
) -> Result<[u64; 3], QueueError> {
    let read = |row: &SqliteRow| -> Result<[u64; 3], sqlx::Error> {
        Ok([integer(row, "enables")?, integer(row, "disables")?, integer(row, "deletes")?])
    };
    sqlx::query(
        "SELECT CAST(coalesce(sum(pending + in_flight) FILTER (WHERE target_status = 4), 0) AS BIGINT) AS enables,
                CAST(coalesce(sum(pending + in_flight) FILTER (WHERE target_status = 5), 0) AS BIGINT) AS disables,
                CAST(coalesce(sum(pending + in_flight) FILTER (WHERE target_status = 6), 0) AS BIGINT) AS deletes
         FROM job_counts WHERE batch_id IN (SELECT id FROM batches WHERE app_id = $1)",
    )
    .bind(app_id)
    .fetch_one(connection)
    .await
    .and_then(|row| read(&row))
    .context(JOB_COUNTERS)
}

const JOB_COUNTERS: &str = "read the job counters";
const RUN_COUNTERS: &str = "read the run counters";

const SUMS_OF_ALL: &str = "
    SELECT CAST(coalesce(sum(pending), 0) AS BIGINT) AS pending,
           CAST(coalesce(sum(in_flight), 0) AS BIGINT) AS in_flight,
           CAST(coalesce(sum(succeeded), 0) AS BIGINT) AS succeeded,
           CAST(coalesce(sum(failed), 0) AS BIGINT) AS failed,
           CAST(coalesce(sum(cancelled), 0) AS BIGINT) AS cancelled,
           CAST(coalesce(sum(superseded), 0) AS BIGINT) AS superseded,
           CAST(coalesce(sum(succeeded_on_retry), 0) AS BIGINT) AS succeeded_on_retry
    FROM job_counts";
