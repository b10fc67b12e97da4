//! Recognises the file at the path of a queue: a queue, an empty file, or a foreign file.
//!
//! A foreign file is rejected before anything is written to it. An empty file becomes a new queue. A new
//! file has mode 0600, and its path is resolved to one name, so that all processes use the same lock.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::queue::QueueError;
use crate::queue::sqlite::hard_links::SecondName;
use crate::queue::sqlite::open::{APPLICATION_ID, not_opened};
use crate::queue::sqlite::run_lock::beside;
use crate::util::escape::path_text;

/// `SQLITE_NOTADB`: the file is not a database.
const SQLITE_NOTADB: &str = "26";

/// The smallest page of a SQLite database; a shorter file is not a database.
const PAGE_BYTES_MIN: u64 = 512;

/// The kind of an accepted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Kind {
    /// A queue.
    Queue,
    /// A file of length 0, which becomes a new queue.
    Empty,
}

/// Creates the file with mode 0600 if it does not exist, and resolves links, so that the lock beside it
/// is the same for every name. Checks the name first, so that no unusable file is created.
pub(in crate::queue) fn make_private(path: &Path) -> Result<PathBuf, QueueError> {
    let unusable = |source: io::Error| match source.kind() {
        io::ErrorKind::StorageFull => {
            QueueError::Full { path: path.to_owned(), doing: "create the queue file" }
        }
        _ => QueueError::Unusable { path: path.to_owned(), source },
    };
    if fs::metadata(path).is_err() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).map_err(unusable)?;
        is_text(&folder.join(path.file_name().unwrap_or_default())).map_err(unusable)?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(unusable)?;
    }
    let real = fs::canonicalize(path).map_err(unusable)?;
    is_text(&real).map_err(unusable)?;
    let found = fs::metadata(&real).map_err(unusable)?;
    if found.is_dir() {
        return Err(unusable(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    if !found.is_file() {
        // Opening a pipe waits for its other end, and a device has no end.
        let reason = "it is a pipe or a device, not a file".to_owned();
        return Err(QueueError::Foreign { path: path.to_owned(), reason });
    }
    match SecondName::of(&real, &found) {
        Some(how) => Err(QueueError::SecondName { reason: how.reason(&real), path: real }),
        None => Ok(real),
    }
}

/// The engine accepts only UTF-8 paths.
fn is_text(path: &Path) -> Result<(), io::Error> {
    match path.to_str() {
        Some(_) => Ok(()),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            format!(
                "the name {} is not UTF-8, but SQLite accepts only UTF-8 names",
                path_text(path)
            ),
        )),
    }
}

/// Rejects a foreign file before anything is written to it. A database without tables is no new queue:
/// a new one gets all its tables in one transaction, so this one has lost its tables or its log.
///
/// Only the engine opens the file: closing another handle of this process would release the POSIX locks
/// of all its connections to the file.
pub(in crate::queue) async fn recognise(
    path: &Path,
    options: &SqliteConnectOptions,
) -> Result<Kind, QueueError> {
    let foreign = |reason: String| QueueError::Foreign { path: path.to_owned(), reason };
    let unusable = |source| QueueError::Unusable { path: path.to_owned(), source };
    let length = || fs::metadata(path).map(|found| found.len()).map_err(unusable);
    match length()? {
        0 => return Ok(Kind::Empty),
        // The engine takes such a short file for an empty one and would overwrite it. With a journal beside
        // it, the file is an interrupted write, which the engine rolls back.
        1..PAGE_BYTES_MIN if !beside(path, "-journal").exists() => {
            return Err(foreign("it is not a SQLite database".to_owned()));
        }
        _ => {}
    }
    for is_last in [false, true] {
        match ask(options).await {
            Ok((APPLICATION_ID, tables)) if tables > 0 => return Ok(Kind::Queue),
            // The engine has rolled an interrupted write back to an empty file.
            Ok((0, 0)) if length()? == 0 => return Ok(Kind::Empty),
            // Another process may have created the tables between the two reads.
            Ok((0, 0)) if !is_last => {}
            Ok((0 | APPLICATION_ID, 0)) => {
                return Err(foreign(
                    "it is a database without tables (if it is a copy, its -wal file is missing; only an empty file becomes a \
                     new queue)"
                        .to_owned(),
                ));
            }
            Ok((id, _)) => {
                return Err(foreign(format!(
                    "it is a database of another program (its id is {id})"
                )));
            }
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some(SQLITE_NOTADB) => {
                return Err(foreign("it is not a SQLite database".to_owned()));
            }
            Err(source) => return Err(not_opened(path, source)),
        }
    }
    Ok(Kind::Queue)
}

/// The application id, and the number of tables and indexes.
async fn ask(options: &SqliteConnectOptions) -> Result<(i64, i64), sqlx::Error> {
    let mut connection = options.connect().await?;
    let asked = ask_on(&mut connection).await;
    // Closing also removes the files that the engine created beside the queue, even after an error.
    connection.close().await.and(asked)
}

async fn ask_on(connection: &mut SqliteConnection) -> Result<(i64, i64), sqlx::Error> {
    // One transaction for both reads, since another process may be creating the tables.
    let mut tx = connection.begin().await?;
    let id = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *tx).await?;
    let tables =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *tx).await?;
    tx.rollback().await?;
    Ok((id, tables))
}
