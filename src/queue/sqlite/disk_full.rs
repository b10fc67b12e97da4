//! A full disk, distinguished from a broken one. The engine has several codes for it, and for what it could
//! not make beside the queue it does not say why.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::queue::QueueError;
use crate::queue::sqlite::open::engine_code;
use crate::queue::sqlite::run_lock::beside;

/// The engine's code for "database or disk is full".
const SQLITE_FULL: i32 = 13;

/// The engine's code for an error of the disk, in its low byte.
const SQLITE_IOERR: i32 = 10;

/// The engine's code for what cannot be opened.
const SQLITE_CANTOPEN: i32 = 14;

/// The engine's code, all of it, for the index of its log that cannot grow.
const SQLITE_IOERR_SHMSIZE: i32 = 4_874;

/// What is written to see whether anything can be, in bytes.
const PROBE: [u8; 4_096] = [0; 4_096];

/// Whether the engine says that there was no room.
pub(in crate::queue) fn is_full(error: &sqlx::Error) -> bool {
    let whole = error.as_database_error().and_then(|e| e.code()?.parse::<i32>().ok());
    engine_code(error) == Some(SQLITE_FULL) || whole == Some(SQLITE_IOERR_SHMSIZE)
}

/// Why nothing can be made beside the queue file: what the system says when it is tried.
pub(in crate::queue) fn why_refused(database: &Path) -> Option<io::Error> {
    let path = beside(database, ".probe");
    let mut probe = OpenOptions::new();
    let made = probe.write(true).create_new(true).mode(0o600).open(&path);
    let tried = made.and_then(|mut file| {
        let written = file.write_all(&PROBE);
        fs::remove_file(&path)?;
        written
    });
    // One that is there already says nothing.
    tried.err().filter(|error| error.kind() != io::ErrorKind::AlreadyExists)
}

impl QueueError {
    /// The same with the path of the queue file, and as a full disk where the disk is found full.
    #[must_use]
    pub fn at(self, database: &Path) -> Self {
        match self {
            Self::Full { path, doing } if path.as_os_str().is_empty() => {
                Self::Full { path: database.to_owned(), doing }
            }
            Self::Sql { doing, source }
                if matches!(engine_code(&source), Some(SQLITE_IOERR | SQLITE_CANTOPEN))
                    && why_refused(database)
                        .is_some_and(|why| why.kind() == io::ErrorKind::StorageFull) =>
            {
                Self::Full { path: database.to_owned(), doing }
            }
            other => other,
        }
    }
}
