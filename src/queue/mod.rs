//! The durable queue: all SQL, and nothing but SQL.
//!
//! One SQLite file, one writing connection, several reading ones. Every write is one
//! short transaction that begins immediate, so it waits for its turn instead of failing
//! half-way; none is ever open while the network is waited for. Every transition of a job
//! is one named statement guarded by the state that it leaves. Time is an argument.
//! No type of the database engine leaves this folder: another engine is another room here.

mod error;
mod read;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sqlx::{Sqlite, SqlitePool, Transaction};

pub use crate::domain::conclusions::{Concluded, Conclusion, Conclusions};
use error::Context;
pub use error::QueueError;
pub use read::metrics::{
    AppFigures, Figures, LATENCY_BOUNDS_MS, LastRun, LatencyFigures, VerdictFigures,
};
pub use read::records::{Record, RecordFilter};
pub use read::report::{BatchStats, ErrorCodeStats, Listed, QueueReport};
pub use read::request_stats::{RequestCounts, RequestTimeline, RunStats};
pub use read::sessions::{Bucket, Cause, Waits};
pub use read::status::{QueueCounts, QueueStatus, RunSummary, RunTotals};
pub use read::unfinished::UnfinishedJobs;
pub use sqlite::app_lock::AppLock;
pub use sqlite::approvals::{Approval, ApprovalId, Covers, OpenJobs, Survey};
pub use sqlite::batches::{BatchSummary, Cancelled, Retried};
pub use sqlite::change_detector::Changes;
pub use sqlite::claim::{Claimed, ClaimedRequest};
pub use sqlite::closing::closing;
pub use sqlite::import::staging::{CancellationToken, RowBatch};
pub use sqlite::import::{Import, ImportTotals, Imported, Preview, SameManifest};
pub use sqlite::learned_limits::{KeptPace, KeptSize};
pub use sqlite::prune::Pruned;
pub use sqlite::run_lock::{Holder, RunLock};
pub use sqlite::runs::{DUE_WITHIN, RunEnding, Taken};
pub use sqlite::settle::{Done, RequestResult, Return};
pub use sqlite::transaction::WriteTransaction;
pub use sqlite::wait_reason::{Wait, WaitsFor};

/// The number of a batch in its queue file.
pub type BatchId = i64;
/// The number of a run in its queue file.
pub type RunId = i64;
/// The number of a request in its queue file.
pub type RequestId = i64;

/// An open queue file.
#[derive(Debug, Clone)]
pub struct Queue {
    path: PathBuf,
    /// Which file that was; `None`: it is in memory.
    found: sqlite::run_lock::Identity,
    /// Whether it had a log with something in it before this process opened it.
    has_log: bool,
    sending: Arc<Mutex<Option<sqlite::lost_log::Sending>>>,
    writer: sqlite::connection::WriteConnection,
    readers: SqlitePool,
    /// Which jobs the run that claims may claim.
    scope: Arc<Mutex<Option<(RunId, sqlite::claim_scope::ClaimScope)>>>,
}

impl Queue {
    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A write transaction that has its lock from the first statement on.
    async fn write(&self, doing: &'static str) -> Result<Transaction<'static, Sqlite>, QueueError> {
        self.writer.begin(doing).await
    }

    /// Closes every connection; the last one folds the write-ahead log into the file. Waits for
    /// those that are in use, which each is for the length of one call and no longer.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
