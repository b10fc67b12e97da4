//! Recovery: requeues what runs that died had in flight.
//!
//! The caller holds the run lock and no run has begun under it, so every request without a verdict belongs to a run that
//! died: it is orphaned, and its response will never arrive here.

use sqlx::{Row as _, SqliteConnection};

use crate::domain::job::JobState;
use crate::queue::lease::Recovery;
use crate::queue::sqlite::job_counters::{CounterDeltas, CounterKey};
use crate::queue::sqlite::run_lock::RunLock;
use crate::queue::sqlite::superseded_in_flight::drop_withdrawn;
use crate::queue::sqlite::{SqliteQueue, doubts};
use crate::queue::{Context as _, QueueError};

const CONTEXT: &str = "recover the jobs of runs that died";

impl SqliteQueue {
    /// Ends the runs that died, requeues their jobs, in doubt, and releases the jobs that they reserved.
    /// With a lock that has just been taken, it first checks whether the log of the last run was lost.
    pub(in crate::queue) async fn recover(
        &self,
        taken: Option<&RunLock>,
        now_ms: i64,
    ) -> Result<Recovery, QueueError> {
        let mut tx = self.write(CONTEXT).await?;
        let lost_log_of = match taken {
            Some(lock) if self.doubt_after_lost_log(&mut tx, lock, now_ms).await? => Some(lock),
            _ => None,
        };
        let (orphans, orphans_withdrawn) = requeue_orphans(&mut tx, now_ms).await?;
        let orphaned_requests = close_orphaned_requests(&mut tx, now_ms).await?;
        sqlx::query(
            "UPDATE jobs SET reserved_by_run_id = NULL, not_before_ms = 0
             WHERE reserved_by_run_id IS NOT NULL AND state = 'pending'",
        )
        .execute(&mut *tx)
        .await
        .context(CONTEXT)?;
        sqlx::query(
            "UPDATE runs SET finished_ms = max(?, started_ms), ending = 'died', wait_reason = NULL
             WHERE ending IS NULL",
        )
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .context(CONTEXT)?;
        // A request may wait for its claim after its slot, so the response time less the latency is the
        // time of sending. An orphaned request has only its scheduled time.
        let last_sent_ms: Option<i64> = sqlx::query_scalar(
            "SELECT max(scheduled_ms, coalesce(responded_ms - latency_ms, scheduled_ms)) FROM requests
             ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(&mut *tx)
        .await
        .context("find the last request")?;
        tx.commit().await.context(CONTEXT)?;
        if let Some(lock) = lost_log_of {
            self.accept_lost_log(lock).await?;
        }
        let last_sent_ms =
            if orphaned_requests > 0 { last_sent_ms.max(Some(now_ms)) } else { last_sent_ms };
        Ok(Recovery { orphans, orphans_withdrawn, orphaned_requests, last_sent_ms })
    }
}

/// Closes the requests without a verdict. Returns how many there were.
async fn close_orphaned_requests(
    connection: &mut SqliteConnection,
    now_ms: i64,
) -> Result<u64, QueueError> {
    sqlx::query(
        "UPDATE runs SET (orphaned, responses_lost) = (SELECT orphaned + count(*), responses_lost + count(*)
                                                       FROM requests WHERE verdict IS NULL AND run_id = runs.id)
         WHERE id IN (SELECT run_id FROM requests WHERE verdict IS NULL)",
    )
    .execute(&mut *connection)
    .await
    .context(CONTEXT)?;
    let closed = sqlx::query(
        "UPDATE requests SET verdict = 'orphaned', responded_ms = max(?, scheduled_ms), response_lost = 1
         WHERE verdict IS NULL",
    )
    .bind(now_ms)
    .execute(connection)
    .await
    .context(CONTEXT)?;
    Ok(closed.rows_affected())
}

/// `in_flight → pending`, in doubt, for the jobs that dead runs had in flight. Call it before the
/// requests of those runs are closed, since only open requests lead to these jobs. Returns how many
/// jobs there were, and how many of them were withdrawn.
async fn requeue_orphans(
    connection: &mut SqliteConnection,
    now_ms: i64,
) -> Result<(u64, u64), QueueError> {
    const CONTEXT: &str = "requeue orphaned jobs";
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
