//! The beginning and the end of a run.
//!
//! The caller of [`Queue::begin_run`] holds the run lock, so every request without a verdict belongs to
//! a run that died: it is orphaned, and its response will never arrive here.

use std::time::Duration;

use sqlx::{Row as _, SqliteConnection};

use crate::domain::job::{App, JobState};
use crate::queue::sqlite::doubts;
use crate::queue::sqlite::import::app_id;
use crate::queue::sqlite::job_counters::{CounterDeltas, CounterKey};
use crate::queue::sqlite::superseded_in_flight::drop_withdrawn;
use crate::queue::{BatchId, Context as _, Queue, QueueError, RunId, RunLock};

/// The longest wait that a run sets for a job: its longest back-off with full jitter. A due time is a
/// wall-clock time, so a clock that was set back could prolong a wait; no wait exceeds this limit.
pub const DUE_WITHIN: Duration = Duration::from_millis(37_500);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnding {
    /// No job remained to send.
    Drained,
    /// A signal requested a shutdown.
    Signal,
    /// The time limit of the run expired.
    TimeOver,
    /// No request got through for too long.
    Outage,
    /// The service rejects this app or account.
    Refused,
    /// The service repeated the same unknown rejection too often.
    Suspicious,
    /// More jobs failed than the run allows.
    TooManyFailures,
    /// The queue or the program failed.
    Broken,
}

impl RunEnding {
    /// The word in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Signal => "signal",
            Self::TimeOver => "time",
            Self::Outage => "outage",
            Self::Refused => "refused",
            Self::Suspicious => "suspicious",
            Self::TooManyFailures => "failures",
            Self::Broken => "broken",
        }
    }
}

/// A run that has begun, and what it found in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStart {
    pub run: RunId,
    /// Jobs that a dead run had in flight; their questions are in doubt.
    pub orphans: u64,
    /// Of these, the jobs that were cancelled or superseded meanwhile; the others are pending.
    pub orphans_withdrawn: u64,
    /// The orphaned requests of dead runs.
    pub orphaned_requests: u64,
    /// The latest time at which any run sent its last request, in UTC milliseconds.
    pub last_left_ms: Option<i64>,
}

impl Queue {
    /// Begins a run: requeues orphaned jobs, releases the jobs that dead runs reserved, and records the
    /// run.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn begin_run(
        &self,
        lock: &RunLock,
        app: App,
        now_ms: i64,
    ) -> Result<RunStart, QueueError> {
        const CONTEXT: &str = "begin a run";
        let mut tx = self.write(CONTEXT).await?;
        self.doubt_after_lost_log(&mut tx, lock, now_ms).await?;
        let (orphans, orphans_withdrawn) = return_orphans(&mut tx, now_ms).await?;
        sqlx::query(
            "UPDATE runs SET (orphaned, responses_lost) = (SELECT orphaned + count(*), responses_lost + count(*)
                                                           FROM requests WHERE verdict IS NULL AND run_id = runs.id)
             WHERE id IN (SELECT run_id FROM requests WHERE verdict IS NULL)",
        )
        .execute(&mut *tx)
        .await
        .context("note orphaned requests")?;
        let requests = sqlx::query(
            "UPDATE requests SET verdict = 'orphaned', responded_ms = max(?, scheduled_ms), response_lost = 1
             WHERE verdict IS NULL",
        )
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .context("note orphaned requests")?;
        sqlx::query("UPDATE jobs SET reserved_by_run_id = NULL, not_before_ms = 0 WHERE reserved_by_run_id IS NOT NULL AND state = 'pending'")
            .execute(&mut *tx)
            .await
            .context("free held jobs")?;
        sqlx::query("UPDATE runs SET finished_ms = max(?, started_ms), ending = 'died', wait_reason = NULL WHERE ending IS NULL")
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .context("note dead runs")?;
        let app_id = app_id(&mut tx, app).await?;
        forget_waits(&mut tx, app_id, now_ms.saturating_add(millis(DUE_WITHIN))).await?;
        doubts::tidy(&mut tx, now_ms).await?;
        doubts::hold_back(&mut tx, now_ms).await?;
        let noted =
            sqlx::query("INSERT INTO runs (app_id, host, pid, started_ms) VALUES (?, ?, ?, ?)")
                .bind(app_id)
                .bind(&lock.holder().host)
                .bind(i64::from(lock.holder().pid))
                .bind(now_ms)
                .execute(&mut *tx)
                .await
                .context("begin a run")?;
        // A request may wait for its claim after its slot, so the response time less the latency is the
        // time of sending. An orphaned request has only its scheduled time.
        let last_left_ms: Option<i64> = sqlx::query_scalar(
            "SELECT max(scheduled_ms, coalesce(responded_ms - latency_ms, scheduled_ms)) FROM requests ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(&mut *tx)
        .await
        .context("find the last request")?;
        let orphaned = requests.rows_affected() > 0;
        let last_left_ms = if orphaned { last_left_ms.max(Some(now_ms)) } else { last_left_ms };
        tx.commit().await.context(CONTEXT)?;
        // From here on, a copy of the file alone has every job, and shows that a run has begun.
        self.writer.checkpoint_wal(CONTEXT).await?;
        self.begin_sending(lock, noted.last_insert_rowid(), now_ms);
        Ok(RunStart {
            run: noted.last_insert_rowid(),
            orphans,
            orphans_withdrawn,
            orphaned_requests: requests.rows_affected(),
            last_left_ms,
        })
    }

    /// Makes free jobs of `app` that are due after `now_ms` due at once. The caller has measured that
    /// their waits are over, whatever the wall clock says.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn end_waits(&self, app: App, now_ms: i64) -> Result<(), QueueError> {
        const CONTEXT: &str = "end waits";
        let mut tx = self.write(CONTEXT).await?;
        let app_id = app_id(&mut tx, app).await?;
        forget_waits(&mut tx, app_id, now_ms).await?;
        tx.commit().await.context(CONTEXT)
    }

    /// Ends a run and releases the jobs it reserved; their due times stay.
    ///
    /// # Errors
    /// [`QueueError::TakenOver`] when the run has already ended, or when the queue file cannot be
    /// written.
    pub async fn end_run(
        &self,
        run: RunId,
        ending: RunEnding,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        let mut tx = self.write("end a run").await?;
        sqlx::query("UPDATE jobs SET reserved_by_run_id = NULL WHERE reserved_by_run_id = ? AND state = 'pending'")
            .bind(run)
            .execute(&mut *tx)
            .await
            .context("free held jobs")?;
        let done = sqlx::query(
            "UPDATE runs SET finished_ms = max(?, started_ms), ending = ?, wait_reason = NULL WHERE id = ? AND ending IS NULL",
        )
        .bind(now_ms)
        .bind(ending.name())
        .bind(run)
        .execute(&mut *tx)
        .await
        .context("end a run")?;
        tx.commit().await.context("end a run")?;
        if done.rows_affected() == 0 { Err(QueueError::TakenOver { run }) } else { Ok(()) }
    }

    /// The batches of `app` that have an open job.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn unfinished_batches(&self, app: App) -> Result<Vec<BatchId>, QueueError> {
        sqlx::query_scalar(
            "SELECT batches.id FROM batches JOIN apps ON apps.id = batches.app_id
             WHERE apps.sdkappid = $1 AND apps.library = $2 AND EXISTS (
                 SELECT 1 FROM job_counters AS open
                 WHERE open.batch_id = batches.id AND open.job_state IN ('pending', 'in_flight') AND open.jobs > 0)",
        )
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .fetch_all(&self.readers)
        .await
        .context("read the unfinished batches")
    }
}

/// Makes free jobs that are due after `latest_ms` due at once.
async fn forget_waits(
    connection: &mut SqliteConnection,
    app_id: i64,
    latest_ms: i64,
) -> Result<(), QueueError> {
    sqlx::query(
        "UPDATE jobs SET not_before_ms = 0 WHERE app_id = ? AND target_status IN (4, 5, 6) AND state = 'pending'
           AND reserved_by_run_id IS NULL AND not_before_ms > ?",
    )
    .bind(app_id)
    .bind(latest_ms)
    .execute(connection)
    .await
    .map(drop)
    .context("forget waits of another clock")
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// `in_flight → pending`, in doubt, for the jobs that dead runs had in flight. Call it before the
/// requests of those runs are closed, since only open requests lead to these jobs. Returns how many
/// jobs there were, and how many of them were withdrawn.
async fn return_orphans(
    connection: &mut SqliteConnection,
    now_ms: i64,
) -> Result<(u64, u64), QueueError> {
    const CONTEXT: &str = "return orphaned jobs";
    doubts::note_orphans(connection, now_ms).await?;
    let rows = sqlx::query(
        "UPDATE jobs SET state = 'pending', response_lost = 1, attempts = attempts + 1, not_before_ms = 0
         WHERE state = 'in_flight' AND request_id IN (SELECT id FROM requests WHERE verdict IS NULL)
         RETURNING id, batch_id, target_status, coalesce(approval_id, 0)",
    )
    .fetch_all(&mut *connection)
    .await
    .context(CONTEXT)?;
    let mut ids = Vec::with_capacity(rows.len());
    let mut deltas = CounterDeltas::default();
    for row in &rows {
        ids.push(row.try_get(0).context(CONTEXT)?);
        let key = CounterKey::read(row, 1).context(CONTEXT)?;
        deltas.move_jobs(key, JobState::InFlight, JobState::Pending, 1);
    }
    deltas.apply(connection, now_ms).await?;
    let withdrawn = drop_withdrawn(connection, &ids, now_ms).await?;
    Ok((rows.len() as u64, withdrawn))
}
