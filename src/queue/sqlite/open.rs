//! Opens a queue file: makes it private, recognises it, and brings its schema up to date.
//!
//! Never writes to a file that is not a queue of deskbatch. A command that only reads never creates a
//! file: it gets an empty queue in memory instead.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection};

use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqlite::closing::opened;
use crate::queue::sqlite::connection::{WriteConnection, pool_of_one};
use crate::queue::sqlite::disk_full::{self, why_refused};
use crate::queue::sqlite::file_kind::{Kind, make_private, recognise};
use crate::queue::sqlite::run_lock::{beside, identity};
use crate::queue::sqlite::schema::{create, migrate};
use crate::queue::{Context as _, QueueError};

/// `PRAGMA application_id` of a queue file: the four letters `desk`.
pub(in crate::queue) const APPLICATION_ID: i64 = 0x6465_736b;

/// `SQLITE_BUSY`: another connection has the lock.
const SQLITE_BUSY: i32 = 5;

/// `SQLITE_CORRUPT`: the file contradicts itself.
pub(in crate::queue) const SQLITE_CORRUPT: i32 = 11;

/// `SQLITE_READONLY` and `SQLITE_CANTOPEN`, in the low byte of a code.
const NOT_USABLE: [i32; 2] = [8, 14];

/// How often a new file is opened again while other processes lock it.
const OPEN_TRIES: u32 = 5;

/// How long a statement waits for a write of another process, such as a large import.
const BUSY_TIMEOUT: Duration = Duration::from_mins(2);

/// How long a write waits for the write lock before it logs a warning; then it waits on.
const TURN: Duration = Duration::from_secs(3);

/// The most read connections: status, report and a dashboard beside a run.
const READERS_MAX: u32 = 4;

/// The migrations, oldest first. The list is written by hand, since sqlx's macro would compile the
/// whole engine a second time. A test compares the list with the folder.
pub(in crate::queue) const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "queue", include_str!("../../../migrations/sqlite/0001_queue.sql"))];

impl SqliteQueue {
    pub(in crate::queue) fn schema_version() -> i64 {
        MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or(0)
    }

    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        let path = make_private(path)?;
        Self::connect(path).await
    }

    pub(in crate::queue) async fn open_existing(path: &Path) -> Result<Self, QueueError> {
        match fs::metadata(path) {
            Ok(_) => Self::open(path).await,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(QueueError::Missing(path.to_owned()))
            }
            Err(source) => Err(QueueError::Unusable { path: path.to_owned(), source }),
        }
    }

    pub(in crate::queue) async fn open_or_in_memory(path: &Path) -> Result<Self, QueueError> {
        match Self::open_existing(path).await {
            Err(QueueError::Missing(_)) => {}
            opened => return opened,
        }
        // `sqlite::memory:` has a name within sqlx, so that all connections of the pools reach the same
        // queue.
        let options = SqliteConnectOptions::from_str("sqlite::memory:")
            .context("open an empty queue in memory")?
            .disable_statement_logging()
            .foreign_keys(true);
        // The queue in memory ends with its last connection, so the connection of the reader never expires.
        let pool = pool_of(1).idle_timeout(None).max_lifetime(None);
        let readers =
            pool.connect_with(options.clone()).await.context("open an empty queue in memory")?;
        let pool = pool_of_one().connect_lazy_with(options.clone());
        let writer = WriteConnection::of(pool, options);
        migrate(path, &readers).await?;
        let (path, sending) = (path.to_owned(), Arc::default());
        Ok(Self {
            path,
            file_id: None,
            has_log: true,
            sending,
            writer,
            readers,
            scope: Arc::default(),
        })
    }

    async fn connect(path: PathBuf) -> Result<Self, QueueError> {
        let options = SqliteConnectOptions::new()
            .filename(&path)
            // The statement log would warn about every statement that takes a second.
            .disable_statement_logging()
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .synchronous(SqliteSynchronous::Full);
        // Looks before the engine opens the file, since the engine creates a log if there is none.
        let has_log = fs::metadata(beside(&path, "-wal")).is_ok_and(|log| log.len() > 0);
        if recognise(&path, &options).await? == Kind::Empty {
            create(&path, &options).await?;
        }
        let pool = connect_writer(&options).await.map_err(|e| not_opened(&path, e))?;
        if let Err(error) = ready_to_write(&path, &pool).await {
            pool.close().await;
            return Err(error);
        }
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let writer = WriteConnection::of(pool, options.clone().busy_timeout(TURN));
        let readers = pool_of(READERS_MAX).connect_lazy_with(options.pragma("query_only", "on"));
        let sending = Arc::default();
        let file_id = identity(&path);
        let queue =
            Self { path, file_id, has_log, sending, writer, readers, scope: Arc::default() };
        opened(&queue);
        Ok(queue)
    }

    #[must_use]
    pub(in crate::queue) fn separate_connections(&self) -> Self {
        let options = self.readers.connect_options().as_ref().clone();
        let readers = pool_of(READERS_MAX).connect_lazy_with(options);
        let (path, writer) = (self.path.clone(), self.writer.separate());
        let (file_id, has_log, sending) = (self.file_id, self.has_log, Arc::default());
        let queue =
            Self { path, file_id, has_log, sending, writer, readers, scope: Arc::default() };
        opened(&queue);
        queue
    }
}

/// Brings the schema up to date, and shortens the busy timeout so that a long wait is logged.
async fn ready_to_write(path: &Path, pool: &SqlitePool) -> Result<(), QueueError> {
    migrate(path, pool).await?;
    let timeout = format!("PRAGMA busy_timeout = {}", TURN.as_millis());
    let set = sqlx::query(AssertSqlSafe(timeout)).execute(pool).await;
    set.map(drop).map_err(|e| not_opened(path, e))
}

/// A connection to a local file cannot break, so sqlx does not test it before each use.
fn pool_of(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections_max).test_before_acquire(false)
}

/// Distinguishes a full disk and a file that cannot be opened from a damaged file.
pub(in crate::queue) fn not_opened(path: &Path, source: sqlx::Error) -> QueueError {
    const CONTEXT: &str = "open the queue file";
    if disk_full::is_full(&source) {
        return QueueError::Full { path: path.to_owned(), doing: CONTEXT };
    }
    if engine_code(&source).is_some_and(|code| NOT_USABLE.contains(&code)) {
        return match why_refused(path) {
            Some(why) if why.kind() == io::ErrorKind::StorageFull => {
                QueueError::Full { path: path.to_owned(), doing: CONTEXT }
            }
            why => {
                let source = why.unwrap_or_else(|| io::Error::other(source));
                QueueError::Unusable { path: path.to_owned(), source }
            }
        };
    }
    if engine_code(&source) == Some(SQLITE_CORRUPT) {
        return QueueError::Damaged { path: path.to_owned(), source };
    }
    QueueError::Sql { doing: CONTEXT, source }
}

/// Whether another process had the lock for the whole busy timeout.
pub(in crate::queue) fn is_busy(error: &sqlx::Error) -> bool {
    engine_code(error) == Some(SQLITE_BUSY)
}

/// The primary result code of an error of the engine, without the extended bits.
pub(in crate::queue) fn engine_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error().and_then(|e| e.code()?.parse::<i32>().ok());
    code.map(|code| code & 0xff)
}

/// Opens the write connection. The busy timeout does not cover the change of a new file to write-ahead
/// logging: if two processes try it at once, the slower one gets an error. It then waits for the write
/// lock, which the timeout covers, and finds the mode changed.
async fn connect_writer(options: &SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let logged = options.clone().journal_mode(SqliteJournalMode::Wal);
    let connect = || pool_of_one().connect_with(logged.clone());
    let mut ended = connect().await;
    for _ in 1..OPEN_TRIES {
        match &ended {
            Err(e) if is_busy(e) => {}
            _ => break,
        }
        let mut connection = SqliteConnection::connect_with(options).await?;
        connection.begin_with("BEGIN IMMEDIATE").await?.rollback().await?;
        connection.close().await?;
        ended = connect().await;
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_migrations_folder_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<String> = MIGRATIONS
            .iter()
            .map(|(version, name, _)| format!("{version:04}_{name}.sql"))
            .collect();
        assert_eq!(files, listed);
    }
}
