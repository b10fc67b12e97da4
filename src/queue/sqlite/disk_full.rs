//! Distinguishes a full disk and a limit that is reached from other errors of the engine.
//!
//! The engine has several codes for a full disk. For a file that it could not create beside the queue
//! it gives no reason, so a probe file is written to find one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::queue::QueueError;
use crate::queue::sqlite::open::engine_code;
use crate::queue::sqlite::run_lock::beside;

/// `SQLITE_FULL`: the database or the disk is full.
const SQLITE_FULL: i32 = 13;

/// `SQLITE_IOERR`, in the low byte: a disk error.
const SQLITE_IOERR: i32 = 10;

/// `SQLITE_CANTOPEN`: a file cannot be opened.
const SQLITE_CANTOPEN: i32 = 14;

/// `SQLITE_IOERR_SHMSIZE`, an extended code: the index of the write-ahead log cannot grow.
const SQLITE_IOERR_SHMSIZE: i32 = 4_874;

/// The largest write of the engine: a page of a database.
const PAGE_BYTES_MAX: u64 = 65_536;

/// The content of the probe file.
const PROBE: [u8; 4_096] = [0; 4_096];

/// Whether the engine reports a full disk.
pub(in crate::queue) fn is_full(error: &sqlx::Error) -> bool {
    let whole = error.as_database_error().and_then(|e| e.code()?.parse::<i32>().ok());
    engine_code(error) == Some(SQLITE_FULL) || whole == Some(SQLITE_IOERR_SHMSIZE)
}

/// Why no file can be created beside the queue file: the error of the system for a probe file.
pub(in crate::queue) fn why_refused(database: &Path) -> Option<io::Error> {
    let path = beside(database, ".probe");
    let mut probe = OpenOptions::new();
    let made = probe.write(true).create_new(true).mode(0o600).open(&path);
    let tried = made.and_then(|mut file| {
        let written = file.write_all(&PROBE);
        fs::remove_file(&path)?;
        written
    });
    // An existing probe file proves nothing.
    tried.err().filter(|error| error.kind() != io::ErrorKind::AlreadyExists)
}

/// What to do where the disk has room and a limit of this user or process is reached.
fn limit_remedy(database: &Path, refused: Option<io::ErrorKind>) -> Option<&'static str> {
    if refused == Some(io::ErrorKind::QuotaExceeded) {
        return Some("the disk quota of this user is used up. Free some space");
    }
    let limit = getrlimit(Resource::Fsize).current?;
    let is_near = |end: &str| {
        fs::metadata(beside(database, end)).is_ok_and(|file| file.len() + PAGE_BYTES_MAX > limit)
    };
    ["", "-wal", "-shm"]
        .into_iter()
        .any(is_near)
        .then_some("the file size limit is reached. Raise it (ulimit -f)")
}

impl QueueError {
    /// Adds the path of the queue file, and becomes [`QueueError::Full`] if the disk is full, or
    /// [`QueueError::Limited`] if a limit is reached.
    #[must_use]
    pub fn at(self, database: &Path) -> Self {
        let (doing, is_known) = match &self {
            Self::Full { doing, .. } => (*doing, true),
            Self::Sql { doing, source }
                if matches!(engine_code(source), Some(SQLITE_IOERR | SQLITE_CANTOPEN)) =>
            {
                (*doing, false)
            }
            _ => return self,
        };
        let path = database.to_owned();
        let refused = why_refused(database).map(|why| why.kind());
        if refused == Some(io::ErrorKind::StorageFull) {
            return Self::Full { path, doing };
        }
        match limit_remedy(database, refused) {
            Some(remedy) => Self::Limited { path, doing, remedy },
            None if is_known => Self::Full { path, doing },
            None => self,
        }
    }
}
