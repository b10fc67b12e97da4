//! Outcomes that do not come from the job's own response. A job that was rejected alone waits until the
//! app is known to work; a job that was rejected in a chunk is concluded once the other jobs have
//! passed.
//!
//! Every change applies to a pending job that the run has reserved, so a job that was cancelled or
//! superseded meanwhile keeps that state.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use crate::domain::conclusions::{Concluded, Conclusion, Conclusions};
use crate::domain::job::JobState;
use crate::queue::sqlite::doubts;
use crate::queue::sqlite::job_counters::{Counter, CounterDeltas, CounterKey};
use crate::queue::sqlite::transaction::WriteTransaction;
use crate::queue::{Context as _, QueueError, RunId};

impl WriteTransaction {
    /// `pending → failed | succeeded` for jobs that `run` has reserved.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn conclude(
        &mut self,
        run: RunId,
        conclusions: &Conclusions,
        now_ms: i64,
    ) -> Result<Concluded, QueueError> {
        self.release(run, &conclusions.released).await?;
        let mut concluded = Concluded::default();
        for conclusion in &conclusions.jobs {
            if self.conclude_one(run, *conclusion, now_ms).await? {
                concluded.succeeded += u64::from(conclusion.is_done);
                concluded.failed += u64::from(!conclusion.is_done);
            } else {
                self.release(run, &[conclusion.job]).await?;
            }
        }
        Ok(concluded)
    }

    async fn conclude_one(
        &mut self,
        run: RunId,
        conclusion: Conclusion,
        now_ms: i64,
    ) -> Result<bool, QueueError> {
        let done = write(self.connection().await?, run, conclusion, now_ms).await;
        self.rollback_on_error(done)
    }
}

async fn write(
    connection: &mut SqliteConnection,
    run: RunId,
    conclusion: Conclusion,
    now_ms: i64,
) -> Result<bool, QueueError> {
    const CONTEXT: &str = "record a concluded job";
    let state = if conclusion.is_done { JobState::Succeeded } else { JobState::Failed };
    let row = sqlx::query(
        "UPDATE jobs SET state = ?1, reserved_by_run_id = NULL, not_before_ms = 0, finished_ms = ?2, request_id = ?3,
                error_code = (SELECT code FROM requests WHERE id = ?3),
                error_info = (SELECT info FROM requests WHERE id = ?3)
         WHERE id = ?5 AND state = 'pending' AND reserved_by_run_id = ?6
           AND (?7 OR NOT EXISTS (SELECT 1 FROM doubts WHERE doubts.question_id = jobs.question_id
                                    AND doubts.app_id = jobs.app_id AND doubts.open = 1))
         RETURNING batch_id, target_status, coalesce(approval_id, 0), NOT is_latest,
                   max(?4, ?1 = 'failed' AND target_status = 6 AND attempts > ?8)",
    )
    .bind(state.name())
    .bind(now_ms)
    .bind(conclusion.request)
    .bind(conclusion.in_doubt)
    .bind(conclusion.job)
    .bind(run)
    .bind(conclusion.was_alone)
    .bind(conclusion.rejections)
    .fetch_optional(&mut *connection)
    .await
    .context(CONTEXT)?;
    let Some(row) = row else { return Ok(false) };
    if conclusion.is_done {
        doubts::settle(connection, &[conclusion.job], now_ms).await?;
    } else if row.try_get(4).context(CONTEXT)? {
        doubts::note_job(connection, conclusion.job).await?;
    }
    sqlx::query("UPDATE runs SET succeeded = succeeded + ?, failed = failed + ? WHERE id = ?")
        .bind(conclusion.is_done)
        .bind(!conclusion.is_done)
        .bind(run)
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
    let superseded: bool = row.try_get(3).context(CONTEXT)?;
    let key = CounterKey::read(&row, 0).context(CONTEXT)?;
    let mut deltas = CounterDeltas::default();
    deltas.move_jobs(key, JobState::Pending, state, 1);
    if conclusion.is_done {
        deltas.add(key, Counter::SucceededOnRetry, 1);
    } else if superseded {
        deltas.add(key, Counter::FailedSuperseded, 1);
    }
    deltas.apply(connection, now_ms).await?;
    Ok(true)
}
