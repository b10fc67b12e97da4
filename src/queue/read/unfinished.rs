//! The progress of a batch: whether every question of its manifest has its target status.
//!
//! The latest job of each question decides, which may belong to a later import. Only reads, but reads
//! each job of the batch.

use sqlx::{Row as _, SqliteConnection};

use crate::queue::read::row_helpers::{from_row, integer};
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

from_row!(UnfinishedJobs {
    open = integer,
    failed = integer,
    cancelled = integer,
    superseded = integer,
    is_pruned,
});

impl UnfinishedJobs {
    /// Whether every question has its target status, as far as the queue knows.
    pub fn is_finished(&self) -> bool {
        *self == Self::default()
    }
}

const CONTEXT: &str = "read the progress of the batch";

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
        "SELECT coalesce(first_job, 0) AS first_job, coalesce(last_job, -1) AS last_job, pruned_ms IS NOT NULL AS is_pruned
         FROM batches WHERE id = $1",
    )
    .bind(batch)
    .fetch_one(&mut *connection)
    .await
    .context(CONTEXT)?;
    let (first, last): (i64, i64) =
        (row.try_get("first_job").context(CONTEXT)?, row.try_get("last_job").context(CONTEXT)?);
    if row.try_get("is_pruned").context(CONTEXT)? {
        return Ok(UnfinishedJobs { is_pruned: true, ..UnfinishedJobs::default() });
    }
    sqlx::query_as(
        "SELECT count(*) FILTER (WHERE latest_status = target_status AND state IN ('pending', 'in_flight')) AS open,
                count(*) FILTER (WHERE latest_status = target_status AND state = 'failed') AS failed,
                count(*) FILTER (WHERE latest_status = target_status AND state = 'cancelled') AS cancelled,
                count(*) FILTER (WHERE latest_status <> target_status) AS superseded,
                count(*) FILTER (WHERE latest_status IS NULL) > 0 AS is_pruned
         FROM (SELECT target_status, target_status AS latest_status, state FROM jobs
               WHERE id BETWEEN $1 AND $2 AND batch_id = $3 AND is_latest
               UNION ALL
               SELECT job.target_status, latest.target_status, latest.state FROM jobs AS job LEFT JOIN jobs AS latest
                 ON latest.question_id = job.question_id AND latest.app_id = job.app_id AND latest.is_latest
               WHERE job.id BETWEEN $1 AND $2 AND job.batch_id = $3 AND NOT job.is_latest) AS questions",
    )
    .bind(first)
    .bind(last)
    .bind(batch)
    .fetch_one(&mut *connection)
    .await
    .context(CONTEXT)
}
