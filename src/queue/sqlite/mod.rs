//! The SQLite engine: opening the file, its locks, and every statement that writes.
//!
//! Each module owns one duty, such as the claim, settling or pruning, with the statements for it. The
//! modules in `read` have the statements that only read.

pub(in crate::queue) mod app_lock;
pub(in crate::queue) mod approvals;
pub(in crate::queue) mod approved_jobs;
pub(in crate::queue) mod batches;
pub(in crate::queue) mod change_detector;
pub(in crate::queue) mod claim;
pub(in crate::queue) mod claim_scope;
pub(in crate::queue) mod closing;
pub(in crate::queue) mod conclude;
pub(in crate::queue) mod connection;
pub(in crate::queue) mod disk_full;
pub(in crate::queue) mod doubts;
pub(in crate::queue) mod endpoint;
pub(in crate::queue) mod file_kind;
pub(in crate::queue) mod hard_links;
pub(in crate::queue) mod import;
pub(in crate::queue) mod integrity;
pub(in crate::queue) mod job_counters;
pub(in crate::queue) mod learned_limits;
pub(in crate::queue) mod lock_file;
pub(in crate::queue) mod lost_log;
pub(in crate::queue) mod open;
pub(in crate::queue) mod prune;
#[cfg(test)]
mod query_plan_tests;
pub(in crate::queue) mod recovery;
pub(in crate::queue) mod run_lock;
pub(in crate::queue) mod runs;
pub(in crate::queue) mod schema;
pub(in crate::queue) mod settle;
pub(in crate::queue) mod superseded_in_flight;
pub(in crate::queue) mod transaction;
pub(in crate::queue) mod wait_reason;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::queue::{QueueError, RunId};

/// An open queue file. `crate::queue` documents its methods.
#[derive(Debug, Clone)]
pub struct SqliteQueue {
    path: PathBuf,
    /// The identity of the file at the time of opening; `None` for a queue in memory.
    file_id: run_lock::Identity,
    /// Whether the file had a non-empty write-ahead log before this process opened it.
    has_log: bool,
    sending: Arc<Mutex<Option<lost_log::Sending>>>,
    writer: connection::WriteConnection,
    pub(in crate::queue) readers: SqlitePool,
    /// The claim scope of the run that claims, read once.
    scope: Arc<Mutex<Option<(RunId, claim_scope::ClaimScope)>>>,
}

impl SqliteQueue {
    pub(in crate::queue) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a transaction that has the write lock from its first statement on.
    async fn write(&self, doing: &'static str) -> Result<Transaction<'static, Sqlite>, QueueError> {
        self.writer.begin(doing).await
    }

    /// The size of the file in bytes, `None` if it does not exist, and that of its log, 0 if there is none.
    pub(in crate::queue) fn file_sizes(&self) -> (Option<u64>, u64) {
        let bytes = |path: &Path| fs::metadata(path).ok().map(|file| file.len());
        let log = run_lock::beside(&self.path, "-wal");
        (bytes(&self.path), bytes(&log).unwrap_or(0))
    }

    pub(in crate::queue) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
