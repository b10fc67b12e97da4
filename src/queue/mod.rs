//! The durable queue: all SQL, and nothing but SQL.
//!
//! A queue is one SQLite file with one write connection and several read connections. Every write is
//! one short `BEGIN IMMEDIATE` transaction: it waits for the write lock at its start, so it cannot fail
//! halfway, and it is never open during a request. Every change of a job's state is one statement that
//! names the state it changes. Times are arguments. No type of the engine leaves this folder, so that
//! another engine can be added beside `sqlite`.

mod error;
mod lease;
mod read;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sqlx::{Sqlite, SqlitePool, Transaction};

pub use crate::domain::conclusions::{Concluded, Conclusion, Conclusions};
use error::Context;
pub use error::QueueError;
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
pub use sqlite::app_lock::AppLock;
pub use sqlite::approvals::{Approval, ApprovalId, Covers, OpenJobs, Survey};
pub use sqlite::batches::{BatchSummary, Cancelled, Retried};
pub use sqlite::change_detector::ChangeDetector;
pub use sqlite::claim::{Claimed, ClaimedRequest};
pub use sqlite::closing::closing;
pub use sqlite::import::staging::{CancellationToken, RowBatch};
pub use sqlite::import::{Import, ImportTotals, Imported, Preview, SameManifest};
pub use sqlite::learned_limits::{AppChunkSize, AppRate};
pub use sqlite::prune::Pruned;
pub use sqlite::run_lock::Holder;
pub use sqlite::runs::{DUE_WITHIN, RunEnding};
pub use sqlite::settle::{RequestResult, RequeueOptions, SettleCounts};
pub use sqlite::transaction::WriteTransaction;
pub use sqlite::wait_reason::{Wait, WaitReason};

/// Identifies a batch within its queue file.
pub type BatchId = i64;
/// Identifies a run within its queue file.
pub type RunId = i64;
/// Identifies a request within its queue file.
pub type RequestId = i64;

/// An open queue: the store of batches, jobs, requests and runs.
#[derive(Debug, Clone)]
pub struct Queue {
    path: PathBuf,
    /// The identity of the file at the time of opening; `None` for a queue in memory.
    found: sqlite::run_lock::Identity,
    /// Whether the file had a non-empty write-ahead log before this process opened it.
    has_log: bool,
    sending: Arc<Mutex<Option<sqlite::lost_log::Sending>>>,
    writer: sqlite::connection::WriteConnection,
    readers: SqlitePool,
    /// The claim scope of the run that claims, read once.
    scope: Arc<Mutex<Option<(RunId, sqlite::claim_scope::ClaimScope)>>>,
}

impl Queue {
    /// The path of the queue file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a transaction that has the write lock from its first statement on.
    async fn write(&self, doing: &'static str) -> Result<Transaction<'static, Sqlite>, QueueError> {
        self.writer.begin(doing).await
    }

    /// Closes every connection; the last one copies the write-ahead log into the file. Waits for
    /// connections in use, each of which is in use for one call at most.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
