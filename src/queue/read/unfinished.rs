//! The progress of a batch: whether every question of its manifest has its target status.
//!
//! The latest job of each question decides, which may belong to a later import. Only reads, but reads
//! each job of the batch.

use sqlx::{Row as _, SqliteConnection};

use crate::queue::read::row_helpers::count;
use crate::queue::{BatchId, Context as _, Import, Queue, QueueError};

/// Questions of a batch without their target status, by reason. If a later import has the same target
/// status for a question, the job of that import decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnfinishedJobs {
    /// The job is pending or in flight.
    pub open: u64,
    /// The job failed.
    pub failed: u64,
    /// The job was cancelled.
    pub cancelled: u64,
    /// A later import has another target status.
    pub superseded: u64,
    /// Jobs of the batch, or later jobs of its questions, were pruned: their outcomes are unknown.
    pub is_pruned: bool,
}

impl UnfinishedJobs {
    /// Whether every question has its target status, as far as the queue knows.
    pub fn is_finished(&self) -> bool {
        *self == Self::default()
    }
}

const CONTEXT: &str = "look how a batch stands";

impl Queue {
    /// The progress of a batch. Reads each of its jobs.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn unfinished_jobs(&self, batch: BatchId) -> Result<UnfinishedJobs, QueueError> {
        let mut reader = self.readers.acquire().await.context(CONTEXT)?;
        unfinished_jobs(&mut reader, batch).await
    }
}

impl Import {
    /// The progress of the earlier batch of the same manifest.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn unfinished_of_known(&mut self) -> Result<UnfinishedJobs, QueueError> {
        match self.effect.known {
            Some(batch) => unfinished_jobs(&mut self.connection, batch).await,
            None => Ok(UnfinishedJobs::default()),
        }
    }
}

async fn unfinished_jobs(
    connection: &mut SqliteConnection,
    batch: BatchId,
) -> Result<UnfinishedJobs, QueueError> {
    let row = sqlx::query(
            "SELECT coalesce(first_job, 0), coalesce(last_job, -1), pruned_ms IS NOT NULL FROM batches WHERE id = ?",
        )
        .bind(batch)
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
    let (first, last): (i64, i64) =
        (row.try_get(0).context(CONTEXT)?, row.try_get(1).context(CONTEXT)?);
    if row.try_get(2).context(CONTEXT)? {
        return Ok(UnfinishedJobs { is_pruned: true, ..UnfinishedJobs::default() });
    }
    let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE target_status = asked AND state IN ('pending', 'in_flight')),
                    count(*) FILTER (WHERE target_status = asked AND state = 'failed'),
                    count(*) FILTER (WHERE target_status = asked AND state = 'cancelled'),
                    count(*) FILTER (WHERE target_status <> asked),
                    count(*) FILTER (WHERE target_status IS NULL) > 0
             FROM (SELECT target_status AS asked, target_status, state FROM jobs
                   WHERE id BETWEEN ?1 AND ?2 AND batch_id = ?3 AND is_latest
                   UNION ALL
                   SELECT job.target_status, latest.target_status, latest.state FROM jobs AS job LEFT JOIN jobs AS latest
                     ON latest.question_id = job.question_id AND latest.app_id = job.app_id AND latest.is_latest
                   WHERE job.id BETWEEN ?1 AND ?2 AND job.batch_id = ?3 AND NOT job.is_latest)",
        )
        .bind(first)
        .bind(last)
        .bind(batch)
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
    let jobs = |at| count(&row, at).context(CONTEXT);
    Ok(UnfinishedJobs {
        open: jobs(0)?,
        failed: jobs(1)?,
        cancelled: jobs(2)?,
        superseded: jobs(3)?,
        is_pruned: row.try_get(4).context(CONTEXT)?,
    })
}
