//! The durable queue: the only place that holds SQL.
//!
//! On SQLite a queue is one file with one write connection and several read connections. Every write is
//! one short `BEGIN IMMEDIATE` transaction: it waits for the write lock at its start, so it cannot fail
//! halfway, and it is never open during a request. Every change of a job's state is one statement that
//! names the state it changes. Times are arguments. No type of sqlx leaves this folder, so that another
//! engine can be added beside `sqlite`.

mod error;
mod import;
mod lease;
mod read;
mod reads;
mod runs;
mod sqlite;
mod transaction;
mod types;
mod writes;

use std::path::Path;

pub use crate::domain::conclusions::{Concluded, Conclusion, Conclusions};
use error::Context;
pub use error::QueueError;
pub use import::Import;
pub use lease::{Lease, Recovery};
pub use read::metrics::{
    AppMetrics, LATENCY_BOUNDS_MS, LastRun, LatencyHistogram, QueueMetrics, VerdictCounts,
};
pub use read::records::{Record, RecordFilter};
pub use read::report::{BatchStats, ErrorCodeStats, QueueReport, Truncated};
pub use read::request_stats::{RequestCounts, RequestTimeline, RunStats};
pub use read::sessions::{Bucket, PauseReason, PauseStats};
pub use read::status::{QueueCounts, QueueStatus, RunSummary, RunTotals};
pub use read::unfinished::UnfinishedJobs;
pub use reads::ChangeDetector;
use sqlite::SqliteQueue;
pub use sqlite::app_lock::AppLock;
pub use sqlite::closing::closing;
pub use sqlite::import::staging::{CancellationToken, RowBatch};
pub use sqlite::run_lock::Holder;
pub use transaction::WriteTransaction;
pub use types::{
    AppChunkSize, AppRate, Approval, ApprovalId, BatchSummary, Cancelled, Claimed, ClaimedRequest,
    Covers, DUE_WITHIN, ImportTotals, Imported, OpenJobs, Preview, Pruned, RequestResult,
    RequeueOptions, Retried, RunEnding, SameManifest, SettleCounts, Survey, Wait, WaitReason,
};

/// Identifies a batch within its queue.
pub type BatchId = i64;
/// Identifies a run within its queue.
pub type RunId = i64;
/// Identifies a request within its queue.
pub type RequestId = i64;

/// An open queue: the durable store of batches, jobs, requests and runs, in the engine that holds it.
#[derive(Debug, Clone)]
pub enum Queue {
    /// A queue file.
    Sqlite(SqliteQueue),
}

impl Queue {
    /// Opens the queue file at `path`. Creates it if needed, readable by its owner alone, and brings
    /// its schema up to date.
    ///
    /// # Errors
    /// When the file or its folder cannot be used, is no queue file, or has a newer schema version;
    /// nothing is changed in any of these cases.
    pub async fn open(path: &Path) -> Result<Self, QueueError> {
        SqliteQueue::open(path).await.map(Self::Sqlite)
    }

    /// Opens an existing queue file.
    ///
    /// # Errors
    /// [`QueueError::Missing`] if it does not exist, and all errors of [`Queue::open`].
    pub async fn open_existing(path: &Path) -> Result<Self, QueueError> {
        SqliteQueue::open_existing(path).await.map(Self::Sqlite)
    }

    /// Opens the queue file at `path`, or an empty queue in memory if there is no file, so that a
    /// command that only reads creates none.
    ///
    /// # Errors
    /// All errors of [`Queue::open`].
    pub async fn open_or_in_memory(path: &Path) -> Result<Self, QueueError> {
        SqliteQueue::open_or_in_memory(path).await.map(Self::Sqlite)
    }

    /// The same queue through separate connections, opened when first needed. They neither wait for
    /// the connections of `self` nor keep these from closing.
    #[must_use]
    pub fn separate_connections(&self) -> Self {
        match self {
            Self::Sqlite(queue) => Self::Sqlite(queue.separate_connections()),
        }
    }

    /// The schema version of the queue files that this program writes.
    pub fn schema_version() -> i64 {
        SqliteQueue::schema_version()
    }

    /// The path of the queue file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Sqlite(queue) => queue.path(),
        }
    }

    /// Closes every connection; the last one copies the write-ahead log into the file. Waits for
    /// connections in use, each of which is in use for one call at most.
    pub async fn close(self) {
        match self {
            Self::Sqlite(queue) => queue.close().await,
        }
    }
}
