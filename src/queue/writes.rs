//! Writes of commands: imports, approvals, cancel, retry, prune.

use crate::domain::job::App;
use crate::queue::{BatchId, Cancelled, Import, Pruned, Queue, QueueError, Retried};

impl Queue {
    /// Begins an import for `app`. Other writers wait for it only once it has all its rows.
    ///
    /// # Errors
    /// When the queue file cannot be opened once more.
    pub async fn begin_import(&self, app: App, now_ms: i64) -> Result<Import, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.begin_import(app, now_ms).await.map(Import::Sqlite),
        }
    }

    /// Begins a survey of the queue, in one transaction with the decision about it.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn begin_review(&self, app: App, now_ms: i64) -> Result<Import, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.begin_review(app, now_ms).await.map(Import::Sqlite),
        }
    }

    /// `failed → pending` for the jobs of `batch` (`None`: of any batch) that failed with one of
    /// `codes` (empty: with any code), unless a later import covers their question.
    ///
    /// No approval covers these jobs any more, since an approval of a delete does not cover its retry.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn retry_failed(
        &self,
        codes: &[i64],
        batch: Option<BatchId>,
    ) -> Result<Retried, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.retry_failed(codes, batch).await,
        }
    }

    /// `pending → cancelled` for a batch. A job in flight is cancelled if its request comes back
    /// without an outcome. A job in doubt stays in doubt. `None` if there is no such batch.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn cancel_batch(
        &self,
        batch: BatchId,
        now_ms: i64,
    ) -> Result<Option<Cancelled>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.cancel_batch(batch, now_ms).await,
        }
    }

    /// Deletes the jobs of every batch that was imported and completely finished before `before_ms`;
    /// its manifest stays known. Deleted jobs no longer appear in reports.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn prune(&self, before_ms: i64, now_ms: i64) -> Result<Pruned, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.prune(before_ms, now_ms).await,
        }
    }

    /// Counts all jobs and requests and corrects their counters, in one transaction. Returns the
    /// counters that were wrong. Jobs and requests stay unchanged.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn recount(&self) -> Result<Vec<String>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.recount().await,
        }
    }
}
