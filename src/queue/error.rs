//! The errors of the queue.
//!
//! Each variant calls for a different action of the user, and its text names that action. An error of
//! the engine that has no variant of its own is [`QueueError::Sql`]; [`QueueError::advice`] adds what
//! to do.

use std::path::{Path, PathBuf};

use super::sqlite::run_lock::Holder;
use super::sqlite::{disk_full, open};
use super::{RequestId, RunId};
use crate::util::escape::path_text;

/// An error of the queue. Each variant calls for a different action.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue file does not exist, and the command does not create one.
    #[error("no queue file at {}: import a manifest first, or name the right file with --database", path_text(.0))]
    Missing(PathBuf),
    /// The file is not a queue file of deskbatch.
    #[error(
        "{} is not a queue file of deskbatch: {reason}. Nothing was changed. Name another file with --database.",
        path_text(path)
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The evidence.
        reason: String,
    },
    /// The file has the layout of a newer version of deskbatch.
    #[error("{} was written by a newer version of deskbatch. Nothing was changed. Use that version.", path_text(.0))]
    Newer(PathBuf),
    /// The file or its directory cannot be opened.
    #[error(
        "cannot open the queue file {}: {source}. This user must be able to write the file and its directory. \
             Otherwise name another file with --database.",
        path_text(path)
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The engine finds that the file contradicts itself.
    #[error(
        "the queue file {} is damaged: {}. Keep a copy of it and check it with `deskbatch doctor`. Then restore \
             your last valid copy, or name another file with --database.",
        path_text(path),
        engine_text(source)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The error of the engine.
        source: sqlx::Error,
    },
    /// The file has a second name, under which it would have a second lock.
    #[error(
        "the queue file {} {reason} Each name would have its own lock and log, so jobs could be sent twice. Nothing was \
             changed.",
        path_text(path)
    )]
    SecondName {
        /// The file.
        path: PathBuf,
        /// The kind of second name, and what to do.
        reason: String,
    },
    /// The file at the path of a lock cannot be used as a lock.
    #[error("cannot use the lock file {}: {reason}", path_text(path))]
    LockFile {
        /// The lock.
        path: PathBuf,
        /// The reason, and what to do.
        reason: String,
    },
    /// The disk is full.
    #[error(
        "cannot {doing}{}: the disk is full. Free some space and run again. Nothing recorded was lost.",
        named(path)
    )]
    Full {
        /// The queue file; empty if unknown.
        path: PathBuf,
        /// The operation that failed.
        doing: &'static str,
    },
    /// The quota of this user, or the limit on the size of a file, is reached.
    #[error("cannot {doing}{}: {remedy}, and run again. Nothing recorded was lost.", named(path))]
    Limited {
        /// The queue file.
        path: PathBuf,
        /// The operation that failed.
        doing: &'static str,
        /// The limit, and what to do.
        remedy: &'static str,
    },
    /// Another run holds the lock of this queue.
    #[error(
        "another run holds the lock of this queue ({0}). Nothing was imported or sent. Run again after it ends, or set a \
         longer --lock-timeout."
    )]
    Locked(Holder),
    /// A run on another queue holds the lock of the same app.
    #[error(
        "another run sends for the same app, from the queue {queue} ({holder}), and both share one rate limit. Nothing \
         was imported or sent. Run again after it ends, or set a longer --lock-timeout."
    )]
    AppLocked {
        /// The other queue.
        queue: String,
        /// The holder of the lock.
        holder: Holder,
    },
    /// Another process has settled the request: this process no longer owns the queue.
    #[error(
        "request {request} was already settled: another process has taken over this queue. Nothing was recorded."
    )]
    Fenced {
        /// The request whose response came too late.
        request: RequestId,
    },
    /// Another process has ended the run: this process no longer owns the queue.
    #[error(
        "run {run} was already ended: another process has taken over this queue. Nothing more was sent."
    )]
    TakenOver {
        /// The run.
        run: RunId,
    },
    /// The queue file, its write-ahead log or its lock file is not the one that the run opened.
    #[error("{} was removed or replaced during this run. Another run may use the queue now, so nothing more was sent. \
             Check with `deskbatch status`; if no run is in progress, run again.", path_text(.0))]
    ReplacedDuringRun(PathBuf),
    /// The queue file has a second name since the run began.
    #[error("{path} got a second name, a hard link, during this run. A run by that name would send the same jobs, so \
             nothing more was sent. Remove that name (`find / -xdev -samefile {path}` lists it) and run again.",
            path = path_text(.0))]
    Linked(PathBuf),
    /// The file at the path is not the one that was opened.
    #[error("{} was removed or replaced after it was opened. The output shows the old file. Start the command again to \
             read the new one.", path_text(.0))]
    FileReplaced(PathBuf),
    /// A row has a value that this program never writes.
    #[error(
        "{table} row {row} is invalid: {reason}. Check the queue file with `deskbatch doctor`."
    )]
    Impossible {
        /// The table.
        table: &'static str,
        /// The row's number.
        row: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller cancelled the import.
    #[error("stopped before anything was imported or sent")]
    Stopped,
    /// The engine failed to run a statement.
    #[error("cannot {doing}: {}", engine_text(source))]
    Sql {
        /// The operation that failed.
        doing: &'static str,
        /// The error of the engine.
        source: sqlx::Error,
    },
}

impl QueueError {
    /// What to do about an error of the engine, where its text does not say so.
    pub fn advice(&self) -> Option<&'static str> {
        let Self::Sql { source, .. } = self else { return None };
        if matches!(source, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) {
            return Some("Check the queue file with `deskbatch doctor`.");
        }
        match open::engine_code(source)? {
            open::SQLITE_CORRUPT => Some(
                "The queue file is damaged. Keep a copy of it and check it with `deskbatch doctor`. Then restore your last valid copy.",
            ),
            SQLITE_READONLY => Some(
                "The queue file cannot be written. Give this user the permission to write the file and its directory.",
            ),
            _ => None,
        }
    }
}

/// The engine's own words, with its name.
fn engine_text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("SQLite: {} (code {code})", error.message()),
            None => format!("SQLite: {}", error.message()),
        },
        other => other.to_string(),
    }
}

/// The path in parentheses, for an error text; empty if the path is unknown.
fn named(path: &Path) -> String {
    if path.as_os_str().is_empty() { String::new() } else { format!(" ({})", path_text(path)) }
}

/// `SQLITE_READONLY`: the file cannot be written.
const SQLITE_READONLY: i32 = 8;

/// `SQLITE_INTERRUPT`: a statement was cancelled. Only imports cancel statements.
const SQLITE_INTERRUPT: i32 = 9;

/// Adds the operation to an error of the engine.
pub(in crate::queue) trait Context<T> {
    fn context(self, context: &'static str) -> Result<T, QueueError>;
}

impl<T> Context<T> for Result<T, sqlx::Error> {
    fn context(self, context: &'static str) -> Result<T, QueueError> {
        self.map_err(|source| match open::engine_code(&source) {
            Some(SQLITE_INTERRUPT) => QueueError::Stopped,
            _ if disk_full::is_full(&source) => {
                QueueError::Full { path: PathBuf::new(), doing: context }
            }
            _ => QueueError::Sql { doing: context, source },
        })
    }
}
