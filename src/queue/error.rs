//! The errors of the queue: each variant is something else to do.

use std::path::{Path, PathBuf};

use super::sqlite::run_lock::Holder;
use super::sqlite::{disk_full, open};
use super::{RequestId, RunId};
use crate::util::escape::path_text;

/// What can go wrong with the queue file. Each variant is something else to do.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
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

impl QueueError {
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
