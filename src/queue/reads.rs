//! Reads of the queue: what status, reports and metrics show, and what a run decides by.
//!
//! A read sees one committed state. It neither waits for a run nor makes a run wait.

use futures_util::Stream;

use crate::domain::job::App;
use crate::queue::sqlite::change_detector::SqliteChangeDetector;
use crate::queue::{
    AppChunkSize, AppRate, Approval, ApprovalId, BatchId, BatchSummary, OpenJobs, Pruned, Queue,
    QueueCounts, QueueError, QueueMetrics, QueueReport, QueueStatus, Record, RecordFilter,
    UnfinishedJobs,
};

impl Queue {
    /// The status of the whole queue, from one read transaction.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn status(&self) -> Result<QueueStatus, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.status().await,
        }
    }

    /// Jobs of one app by state.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn counts_of_app(&self, app: App) -> Result<QueueCounts, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.counts_of_app(app).await,
        }
    }

    /// Open jobs of one app by target status, in the order of
    /// [`TargetStatus::ALL`](crate::domain::job::TargetStatus::ALL).
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_by_status(&self, app: App) -> Result<[u64; 3], QueueError> {
        match self {
            Self::Sqlite(queue) => queue.open_by_status(app).await,
        }
    }

    /// The number of jobs of one app that are in doubt.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn count_in_doubt(&self, app: App) -> Result<u64, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.count_in_doubt(app).await,
        }
    }

    /// The open jobs of `app`, for a run with `approval`. A run without an approval sends no deletes.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_jobs(
        &self,
        app: App,
        approval: Option<ApprovalId>,
    ) -> Result<OpenJobs, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.open_jobs(app, approval).await,
        }
    }

    /// Every batch that was not pruned, newest last.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn batches(&self) -> Result<Vec<BatchSummary>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.batches().await,
        }
    }

    /// One batch; `None` if it does not exist or was pruned.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn batch(&self, id: BatchId) -> Result<Option<BatchSummary>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.batch(id).await,
        }
    }

    /// The id of the newest batch; 0 without batches.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn last_batch(&self) -> Result<BatchId, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.last_batch().await,
        }
    }

    /// The batches of `app` that have an open job.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn unfinished_batches(&self, app: App) -> Result<Vec<BatchId>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.unfinished_batches(app).await,
        }
    }

    /// The progress of a batch. Reads each of its jobs.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn unfinished_jobs(&self, batch: BatchId) -> Result<UnfinishedJobs, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.unfinished_jobs(batch).await,
        }
    }

    /// The number of failed jobs that no later import has replaced, in `batches` and in every batch
    /// imported after `last`.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn count_failed(
        &self,
        batches: &[BatchId],
        last: BatchId,
    ) -> Result<u64, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.count_failed(batches, last).await,
        }
    }

    /// Failed jobs whose question a later import covers, in `batch` or in all batches.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn failed_superseded(&self, batch: Option<BatchId>) -> Result<u64, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.failed_superseded(batch).await,
        }
    }

    /// The newest approval of the plan with this digest. Read it before an import, which may supersede
    /// its jobs.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn find_approval(
        &self,
        app: App,
        digest: &str,
    ) -> Result<Option<Approval>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.find_approval(app, digest).await,
        }
    }

    /// The failed jobs of an approval whose question no later import covers.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn failed_of_approval(&self, approval: ApprovalId) -> Result<u64, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.failed_of_approval(approval).await,
        }
    }

    /// How many jobs of an approval are cancelled, and how many superseded.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn withdrawn_of_approval(
        &self,
        approval: ApprovalId,
    ) -> Result<[u64; 2], QueueError> {
        match self {
            Self::Sqlite(queue) => queue.withdrawn_of_approval(approval).await,
        }
    }

    /// How many jobs the approval no longer covers, since they were retried or approved again.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn uncovered_by_approval(&self, approval: ApprovalId) -> Result<u64, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.uncovered_by_approval(approval).await,
        }
    }

    /// The records that match `filter`, in the order of the imports, then of the rows.
    pub fn records(
        &self,
        filter: RecordFilter,
    ) -> impl Stream<Item = Result<Record, QueueError>> + Send + use<> {
        match self {
            Self::Sqlite(queue) => queue.records(filter),
        }
    }

    /// The report of the queue, or of one batch and the runs since its import. A pause between two
    /// requests counts as a wait from `wait_ms_min` on.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn overview(
        &self,
        batch: Option<BatchId>,
        wait_ms_min: i64,
    ) -> Result<QueueReport, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.overview(batch, wait_ms_min).await,
        }
    }

    /// The counters of the whole queue, from one read transaction.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn metrics(&self) -> Result<QueueMetrics, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.metrics().await,
        }
    }

    /// The learned rate of every app that has one.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn learned_rates(&self) -> Result<Vec<AppRate>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.learned_rates().await,
        }
    }

    /// The learned rate of `app`, if there is one.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn learned_rate(&self, app: App) -> Result<Option<AppRate>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.learned_rate(app).await,
        }
    }

    /// The learned chunk size of every app, where it was measured in the month before `now_ms`.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn learned_chunk_sizes(&self, now_ms: i64) -> Result<Vec<AppChunkSize>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.learned_chunk_sizes(now_ms).await,
        }
    }

    /// The valid learned chunk size of `app`, if there is one.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn learned_chunk_size(
        &self,
        app: App,
        now_ms: i64,
    ) -> Result<Option<AppChunkSize>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.learned_chunk_size(app, now_ms).await,
        }
    }

    /// The endpoint that the jobs of `app` were sent to; `None` if none was sent yet.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn endpoint(&self, app: App) -> Result<Option<String>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.endpoint(app).await,
        }
    }

    /// What [`Queue::prune`] would delete.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn prunable(&self, before_ms: i64) -> Result<Pruned, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.prunable(before_ms).await,
        }
    }
}

impl Queue {
    /// Begins to detect changes.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn changes(&self) -> Result<ChangeDetector, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.changes().await.map(ChangeDetector::Sqlite),
        }
    }

    /// Checks that the queue file is the one that was opened, and that it can be read. Uses a new
    /// connection, since others have cached pages that the disk may have lost.
    ///
    /// # Errors
    /// [`QueueError::Missing`] when the file does not exist, [`QueueError::FileReplaced`] when it was replaced,
    /// or the error of the engine.
    pub async fn probe(&self) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(queue) => queue.probe().await,
        }
    }

    /// Whether the log of an earlier run is lost, with what that run recorded. During a run the result
    /// is `false`.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn has_lost_log(&self) -> Result<bool, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.has_lost_log().await,
        }
    }

    /// The problems of the file, one per line; empty for a sound file.
    ///
    /// The engine checks every page. Then the rows are checked: references to missing rows, questions
    /// with two latest jobs, and jobs in flight without an open request. Last, jobs and requests are
    /// counted and compared with their counters.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn check(&self) -> Result<Vec<String>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.check().await,
        }
    }
}

/// Detects commits to the queue, by this process or another.
#[derive(Debug)]
pub enum ChangeDetector {
    /// A queue file.
    Sqlite(SqliteChangeDetector),
}

impl ChangeDetector {
    /// Whether anything was committed since the last call; `true` on the first call.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn any(&mut self) -> Result<bool, QueueError> {
        match self {
            Self::Sqlite(detector) => detector.any().await,
        }
    }

    /// Closes the connection. Dropping this loses nothing, but the connection then closes at some later
    /// time.
    pub async fn close(self) {
        match self {
            Self::Sqlite(detector) => detector.close().await,
        }
    }
}
