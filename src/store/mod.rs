//! The durable queue: all SQL, and nothing but SQL.
//!
//! One SQLite file, one writing connection, several reading ones. Every write is one
//! short transaction that begins immediate, so it waits for its turn instead of failing
//! half-way; none is ever open while the network is waited for. Every transition of a job
//! is one named statement guarded by the state that it leaves. Time is an argument.
//! No type of the database engine leaves this folder: another engine is another room here.

mod app_lock;
mod approvals;
mod batches;
mod bulk;
mod check;
mod claim;
mod claim_scope;
mod closing;
mod conclude;
mod connection;
mod covered;
mod doubts;
mod full;
mod import;
mod job_counters;
mod learned;
mod lock;
mod lock_file;
mod look;
mod lost_log;
mod metrics;
mod migrate;
mod one_name;
mod open;
mod overview;
#[cfg(test)]
mod plans;
mod prune;
mod recognise;
mod records;
mod rows;
mod runs;
mod service;
mod settle;
mod sittings;
mod staging;
mod standing;
mod status;
mod superseded_in_flight;
mod traffic;
mod transaction;
mod waits;

use crate::util::escape::path_text;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sqlx::{Sqlite, SqlitePool, Transaction};

pub use crate::domain::conclusions::{Concluded, Conclusion, Conclusions};
pub use app_lock::AppLock;
pub use approvals::{Approval, ApprovalId, Covers, OpenJobs, Survey};
pub use batches::{BatchSummary, Cancelled, Retried};
pub use claim::{Claimed, ClaimedRequest};
pub use closing::closing;
pub use import::{Import, ImportTotals, Imported, Preview, SameManifest};
pub use learned::{KeptPace, KeptSize};
pub use lock::{Holder, RunLock};
pub use look::Changes;
pub use metrics::{
    AppFigures, Figures, LATENCY_BOUNDS_MS, LastRun, LatencyFigures, VerdictFigures,
};
pub use overview::{BatchTally, CodeTally, Listed, Overview};
pub use prune::Pruned;
pub use records::{Record, RecordFilter};
pub use runs::{DUE_WITHIN, RunEnding, Taken};
pub use settle::{Done, Return, Settlement};
pub use sittings::{Bucket, Cause, Waits};
pub use staging::{RowGroup, StopImport};
pub use standing::Standing;
pub use status::{QueueCounts, QueueStatus, RunSummary};
pub use traffic::{RequestCounts, RunTally, Traffic};
pub use transaction::Turn;
pub use waits::{Wait, WaitsFor};

/// The number of a batch in its queue file.
pub type BatchId = i64;
/// The number of a run in its queue file.
pub type RunId = i64;
/// The number of a request in its queue file.
pub type RequestId = i64;

/// What can go wrong with the queue file. Each variant is something else to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no queue file, and the command would not make one.
    #[error("no queue file at {}: import a manifest first, or name the right file with --database", path_text(.0))]
    Missing(PathBuf),
    /// The file is not a queue of deskbatch.
    #[error(
        "{} is not a queue file of deskbatch ({reason}): nothing was changed; name another file with --database",
        path_text(path)
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that was seen.
        reason: String,
    },
    /// A newer deskbatch has changed the layout of the file.
    #[error("{} was written by a newer deskbatch: nothing was changed; use that version", path_text(.0))]
    Newer(PathBuf),
    /// The file or its folder cannot be used.
    #[error(
        "the queue file {} cannot be opened: {source}: it and its folder have to be there and writable by this \
             user, or name another file with --database",
        path_text(path)
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The engine finds that the file is not as it left it.
    #[error(
        "the queue file {} is damaged: {source}: keep a copy of it, let deskbatch doctor look at it, and put back \
             your last good copy, or name another file with --database",
        path_text(path)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        source: sqlx::Error,
    },
    /// The file can be reached by another name, and would have another lock by that.
    #[error(
        "the queue file {} {reason}: by each name it would have a lock and a log of its own, and jobs could be \
             sent twice; nothing was changed",
        path_text(path)
    )]
    SecondName {
        /// The file.
        path: PathBuf,
        /// How, and what to do.
        reason: String,
    },
    /// What lies in the place of a lock cannot be used as one.
    #[error("the lock {} cannot be used: {reason}", path_text(path))]
    LockFile {
        /// The lock.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The disk has no room.
    #[error(
        "the queue{} could not {doing}: the disk is full: free some space and run again; nothing recorded was \
             lost",
        named(path)
    )]
    Full {
        /// The queue file; empty where it is not known.
        path: PathBuf,
        /// Which operation.
        doing: &'static str,
    },
    /// Another run has the queue.
    #[error(
        "another run has this queue: {0}: let it come to its end; deskbatch status shows how far it is"
    )]
    Held(Holder),
    /// A run on another queue sends for the same app.
    #[error(
        "another run sends for this application, from the queue {queue} ({holder}), and both have one limit: let \
             it come to its end, or wait for it with --wait"
    )]
    AppHeld {
        /// The other queue.
        queue: String,
        /// Its run.
        holder: Holder,
    },
    /// A request was settled by somebody else: this process lost the queue.
    #[error(
        "request {request} is no longer open: another process has taken over this queue, nothing was recorded"
    )]
    Fenced {
        /// The request whose answer came too late.
        request: RequestId,
    },
    /// The run has been ended by somebody else: this process lost the queue.
    #[error(
        "run {run} is no longer going on: another process has taken over this queue, nothing more was sent"
    )]
    TakenOver {
        /// The run.
        run: RunId,
    },
    /// The queue file, its log or its lock is not the one that the run took.
    #[error("{} was removed or replaced while this run had it: another run may be going on, so nothing more was \
             sent; what is there now is shown by deskbatch status; if no run is, run again", path_text(.0))]
    Replaced(PathBuf),
    /// The queue file has got a second name.
    #[error("{path} got a second name, by a hard link, while this run had it: a run by that name would send the same \
             jobs, so nothing more was sent; remove that name (find / -xdev -samefile {path}) and run again",
            path = path_text(.0))]
    Linked(PathBuf),
    /// The queue file is not the one that was opened.
    #[error("{} was removed or replaced since it was opened: what is shown is from before; start again to see what is \
             there now", path_text(.0))]
    Gone(PathBuf),
    /// A row says what cannot be.
    #[error(
        "{table} row {row} is impossible: {reason}: deskbatch doctor looks whether the file is damaged"
    )]
    Impossible {
        /// The table.
        table: &'static str,
        /// The row's number.
        row: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// An import was asked to end.
    #[error("stopped as asked: nothing was imported")]
    Stopped,
    /// The engine refused a statement.
    #[error("the queue could not {doing}: {source}")]
    Sql {
        /// Which operation.
        doing: &'static str,
        /// What the engine said.
        source: sqlx::Error,
    },
}

impl StoreError {
    /// What to do about what the engine said, where the text does not have it.
    pub fn advice(&self) -> Option<&'static str> {
        let Self::Sql { source, .. } = self else { return None };
        match open::engine_code(source)? {
            open::SQLITE_CORRUPT => Some(
                "the file is damaged: keep a copy of it, let deskbatch doctor look at it, and put back your last good copy",
            ),
            SQLITE_READONLY => Some(
                "the file cannot be written: give this user the right to write it and its folder",
            ),
            _ => None,
        }
    }
}

/// The path of a queue in a sentence, where it is known.
fn named(path: &Path) -> String {
    if path.as_os_str().is_empty() { String::new() } else { format!(" {}", path_text(path)) }
}

/// The engine's code for a file that may only be read.
const SQLITE_READONLY: i32 = 8;

/// The engine's code for a statement that was asked to end; only imports are.
const SQLITE_INTERRUPT: i32 = 9;

/// Attaches the operation to what the engine said.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| match open::engine_code(&source) {
            Some(SQLITE_INTERRUPT) => StoreError::Stopped,
            _ if full::is_full(&source) => StoreError::Full { path: PathBuf::new(), doing },
            _ => StoreError::Sql { doing, source },
        })
    }
}

/// An open queue file.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    /// Which file that was; `None`: it is in memory.
    found: lock::Identity,
    /// Whether it had a log with something in it before this process opened it.
    has_log: bool,
    sending: Arc<Mutex<Option<lost_log::Sending>>>,
    writer: connection::WriteConnection,
    readers: SqlitePool,
    /// Which jobs the run that claims may claim.
    scope: Arc<Mutex<Option<(RunId, claim_scope::ClaimScope)>>>,
}

impl Store {
    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A write transaction that has its lock from the first statement on.
    async fn write(&self, doing: &'static str) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin(doing).await
    }

    /// Closes every connection; the last one folds the write-ahead log into the file. Waits for
    /// those that are in use, which each is for the length of one call and no longer.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
