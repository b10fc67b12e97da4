//! Opening a queue file: made private, recognised, brought up to date.
//!
//! Never writes to a file that is not ours, and never makes one where a command only reads.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _, SqliteConnection,
};

use super::lock::identity;
use super::write::Writer;
use super::{Doing as _, Store, StoreError};

/// `PRAGMA application_id` of a queue file: the four letters `desk`.
pub(super) const APPLICATION_ID: i64 = 0x6465_736b;

/// The engine's code for "file is not a database".
const SQLITE_NOTADB: &str = "26";

/// The engine's code for "database is locked".
const SQLITE_BUSY: i32 = 5;

/// The engine's code for a file that contradicts itself.
pub(super) const SQLITE_CORRUPT: i32 = 11;

/// The engine's codes, in their low byte, for what is there already, locked, changed in its
/// schema, or against a constraint.
const OVERTAKEN: [i32; 5] = [1, 5, 6, 17, 19];

/// The same for what may only be read, and for what cannot be opened.
const NOT_USABLE: [i32; 2] = [8, 14];

/// The smallest page of a SQLite database; a shorter file is none.
const PAGE_BYTES_MIN: u64 = 512;

/// How often a new file is looked at again after another process was faster.
const MIGRATION_TRIES: u32 = 5;

/// How long a statement waits for another process's write, such as a large import.
const BUSY_TIMEOUT: Duration = Duration::from_mins(2);

/// How long a write waits for its turn before it says so, and waits on.
const TURN: Duration = Duration::from_secs(3);

/// Readers at once: status, report and a dashboard beside a run.
const READERS_MAX: u32 = 4;

/// The migrations, oldest first. Listed by hand, since sqlx's macro would build the whole
/// engine a second time for the compiler; a test compares the list with the folder.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "queue", include_str!("../../migrations/0001_queue.sql")),
    (2, "approvals", include_str!("../../migrations/0002_approvals.sql")),
    (3, "paces", include_str!("../../migrations/0003_paces.sql")),
    (4, "size_limits", include_str!("../../migrations/0004_size_limits.sql")),
    (5, "pruned", include_str!("../../migrations/0005_pruned.sql")),
    (6, "waits", include_str!("../../migrations/0006_waits.sql")),
    (7, "figures", include_str!("../../migrations/0007_figures.sql")),
    (8, "tallies", include_str!("../../migrations/0008_tallies.sql")),
    (9, "checks", include_str!("../../migrations/0009_checks.sql")),
    (10, "consent", include_str!("../../migrations/0010_consent.sql")),
];

impl Store {
    /// The version of the layout that this program gives its queue files.
    pub fn layout() -> i64 {
        MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or(0)
    }

    /// Opens the queue file at `path`, making it (readable by its owner alone) and
    /// bringing it up to date as needed.
    ///
    /// # Errors
    /// When the file or its folder cannot be used, is no queue file, or is of a newer
    /// version; nothing is changed then.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let path = make_private(path)?;
        Self::connect(path).await
    }

    /// Opens a queue file that has to be there.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when it is not, and all errors of [`Store::open`].
    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        match fs::metadata(path) {
            Ok(_) => Self::open(path).await,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Missing(path.to_owned()))
            }
            Err(source) => Err(StoreError::Unusable { path: path.to_owned(), source }),
        }
    }

    /// Opens the queue file at `path`, or stands in for it when it is not there: an empty
    /// queue in memory, so that a command which only looks makes no file.
    ///
    /// # Errors
    /// All errors of [`Store::open`].
    pub async fn open_or_imagine(path: &Path) -> Result<Self, StoreError> {
        match Self::open_existing(path).await {
            Err(StoreError::Missing(_)) => {}
            opened => return opened,
        }
        // By a name, so that every connection finds the same queue.
        let options = SqliteConnectOptions::from_str("sqlite::memory:")
            .doing("imagine an empty queue")?
            .disable_statement_logging()
            .foreign_keys(true);
        // It is gone with its last connection, so nothing ends that of the reader early.
        let pool = pool_of(1).idle_timeout(None).max_lifetime(None);
        let readers = pool.connect_with(options.clone()).await.doing("imagine an empty queue")?;
        let connected = SqliteConnection::connect_with(&options).await;
        let writer = Writer::new(connected.doing("imagine an empty queue")?, options);
        migrate(path, &readers).await?;
        Ok(Self { path: path.to_owned(), found: None, writer, readers, pool: Arc::default() })
    }

    async fn connect(path: PathBuf) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(&path)
            // It would warn users of whatever takes a second.
            .disable_statement_logging()
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .synchronous(SqliteSynchronous::Full);
        recognise(&path, &options).await?;
        // Only a file that is still empty can be made so; the others `prune` writes anew.
        let is_new = fs::metadata(&path).is_ok_and(|file| file.len() == 0);
        let first = if is_new {
            options.clone().auto_vacuum(SqliteAutoVacuum::Incremental)
        } else {
            options.clone()
        };
        let pool = connect_writer(&first).await.map_err(|e| not_opened(&path, e))?;
        migrate(&path, &pool).await?;
        let mut writer = pool.acquire().await.map_err(|e| not_opened(&path, e))?.detach();
        let turn = format!("PRAGMA busy_timeout = {}", TURN.as_millis());
        sqlx::query(AssertSqlSafe(turn))
            .execute(&mut writer)
            .await
            .map_err(|e| not_opened(&path, e))?;
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let writer = Writer::new(writer, options.clone().busy_timeout(TURN));
        let readers = pool_of(READERS_MAX).connect_lazy_with(options.pragma("query_only", "on"));
        Ok(Self { found: identity(&path), path, writer, readers, pool: Arc::default() })
    }

    /// The same queue file by other connections, made when they are needed: who has this one
    /// neither waits for those that have the other nor keeps it from closing.
    #[must_use]
    pub fn apart(&self) -> Self {
        let options = self.readers.connect_options().as_ref().clone();
        let readers = pool_of(READERS_MAX).connect_lazy_with(options);
        let (path, writer) = (self.path.clone(), self.writer.apart());
        Self { path, found: self.found, writer, readers, pool: Arc::default() }
    }
}

/// Nobody on the way could lose such a connection, so it is not asked before each use whether
/// it still answers.
fn pool_of(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections_max).test_before_acquire(false)
}

/// Makes the file with mode 0600 if it is not there, and resolves links, so that the lock
/// beside it is the same one whatever name it was opened by.
fn make_private(path: &Path) -> Result<PathBuf, StoreError> {
    let unusable = |source| StoreError::Unusable { path: path.to_owned(), source };
    if fs::metadata(path).is_err() {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(unusable)?;
    }
    let real = fs::canonicalize(path).map_err(unusable)?;
    let found = fs::metadata(&real).map_err(unusable)?;
    if found.is_dir() {
        return Err(unusable(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    if !found.is_file() {
        // A pipe would be waited for, and a device has no end.
        let reason = "it is a pipe or a device, not a file".to_owned();
        return Err(StoreError::Foreign { path: path.to_owned(), reason });
    }
    Ok(real)
}

/// Refuses a file that is not ours before anything is written to it.
///
/// The file is looked at through the engine alone: closing a handle of our own would let
/// go of the locks that other connections of this process have on it.
async fn recognise(path: &Path, options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let foreign = |reason: String| StoreError::Foreign { path: path.to_owned(), reason };
    let unusable = |source| StoreError::Unusable { path: path.to_owned(), source };
    match fs::metadata(path).map_err(unusable)?.len() {
        0 => return Ok(()),
        // The engine would take so short a file for an empty one, and write over it.
        1..PAGE_BYTES_MIN => return Err(foreign("it is not a SQLite database".to_owned())),
        _ => {}
    }
    let ask = async {
        let mut connection = SqliteConnection::connect_with(options).await?;
        // Both from one moment: another process may be making the file just now.
        let mut tx = connection.begin().await?;
        let id: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *tx).await?;
        // sqlx's own table comes first, so a file whose making was cut short has it alone.
        let tables: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sqlite_schema WHERE tbl_name <> '_sqlx_migrations'",
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.rollback().await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>((id, tables))
    };
    match ask.await {
        Ok((APPLICATION_ID, _) | (0, 0)) => Ok(()),
        Ok((id, _)) => Err(foreign(format!("it is a database of another program, id {id}"))),
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some(SQLITE_NOTADB) => {
            Err(foreign("it is not a SQLite database".to_owned()))
        }
        Err(source) => Err(not_opened(path, source)),
    }
}

/// Tells a file that may not be used from one that is broken.
pub(super) fn not_opened(path: &Path, source: sqlx::Error) -> StoreError {
    if engine_code(&source).is_some_and(|code| NOT_USABLE.contains(&code)) {
        return StoreError::Unusable { path: path.to_owned(), source: io::Error::other(source) };
    }
    if engine_code(&source) == Some(SQLITE_CORRUPT) {
        return StoreError::Damaged { path: path.to_owned(), source };
    }
    StoreError::Sql { doing: "open its file", source }
}

/// Whether another process was writing all the time.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    engine_code(error) == Some(SQLITE_BUSY)
}

/// What the engine says of an error, without what it adds in the higher bytes.
pub(super) fn engine_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error().and_then(|e| e.code()?.parse::<i32>().ok());
    code.map(|code| code & 0xff)
}

/// Opens the writing connection. The busy timeout does not cover the change of a new file
/// to a write-ahead log: of two processes that try it at once, the slower one is refused.
/// It waits for its turn to write, which the timeout does cover, and finds the file changed.
async fn connect_writer(options: &SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let logged = options.clone().journal_mode(SqliteJournalMode::Wal);
    let connect = || pool_of(1).connect_with(logged.clone());
    let mut ended = connect().await;
    for _ in 1..MIGRATION_TRIES {
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

/// Brings the file up to date. Two processes may find the same new file at once: the
/// slower one fails on what the faster one has just made, and finds it done when it looks
/// again.
async fn migrate(path: &Path, writer: &SqlitePool) -> Result<(), StoreError> {
    let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
        let sql = AssertSqlSafe(sql).into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    let mut ended = migrator.run(writer).await;
    let (mut tries, mut done) = (1, 0);
    while let Err(MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _)) = &ended {
        let before = std::mem::replace(&mut done, migrations_done(writer).await);
        // Somebody else may be faster at each of them.
        tries = if done > before { 1 } else { tries + 1 };
        if !may_be_done_by_another(e) || tries > MIGRATION_TRIES {
            break;
        }
        // What was cut short may have left the schema open to changes by hand.
        sqlx::query("PRAGMA writable_schema = RESET")
            .execute(writer)
            .await
            .doing("bring its file up to date")?;
        ended = migrator.run(writer).await;
    }
    match ended {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..)) => {
            Err(StoreError::Newer(path.to_owned()))
        }
        Err(MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)) => {
            match not_opened(path, source) {
                StoreError::Sql { source, .. } => {
                    Err(StoreError::Sql { doing: "bring its file up to date", source })
                }
                other => Err(other),
            }
        }
        Err(e) => Err(StoreError::Foreign { path: path.to_owned(), reason: e.to_string() }),
    }
}

/// How many migrations the file has had; 0 where it cannot be asked.
async fn migrations_done(writer: &SqlitePool) -> i64 {
    let done = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations");
    done.fetch_one(writer).await.unwrap_or_default()
}

/// Whether the engine refused what another process has made meanwhile. A full or broken disk
/// ends a transaction by itself, of which the connection knows nothing: what came after it
/// there would look done and never be written.
fn may_be_done_by_another(error: &sqlx::Error) -> bool {
    engine_code(error).is_some_and(|code| OVERTAKEN.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_migrations_folder_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
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
