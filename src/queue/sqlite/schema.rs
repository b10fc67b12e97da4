//! Creates and migrates the tables of a queue.
//!
//! A new file gets all its tables in one transaction. An older file gets the missing migrations, and a
//! file of a newer version is rejected. Two processes may open the same file at once, so each
//! transaction checks again what is missing.

use std::path::Path;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _, SqliteConnection,
};

use crate::queue::QueueError;
use crate::queue::sqlite::open::{MIGRATIONS, not_opened};

/// The operation, for errors.
const CONTEXT: &str = "update its schema";

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
        let sql = AssertSqlSafe(sql).into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Creates all tables of an empty file in one transaction, with the rollback journal and not with a
/// write-ahead log. If it is interrupted, the file is empty again; if it completes, everything is in
/// the file itself.
pub(in crate::queue) async fn create(
    path: &Path,
    options: &SqliteConnectOptions,
) -> Result<(), QueueError> {
    let mut connection = options.connect().await.map_err(|e| not_opened(path, e))?;
    let created = create_on(path, &mut connection).await;
    let closed = connection.close().await;
    created.and_then(|()| closed.map_err(|e| not_opened(path, e)))
}

async fn create_on(path: &Path, connection: &mut SqliteConnection) -> Result<(), QueueError> {
    let mut tx = connection.begin().await.map_err(|e| not_opened(path, e))?;
    // Only an empty file can get this setting; `prune` rewrites other files. It is the first write, and
    // by itself it would leave a database without tables.
    let vacuum = sqlx::query("PRAGMA auto_vacuum = INCREMENTAL").execute(&mut *tx).await;
    vacuum.map_err(|e| not_opened(path, e))?;
    let tables = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *tx).await;
    let tables: i64 = tables.map_err(|e| not_opened(path, e))?;
    // Another process may have created the tables first.
    if tables == 0 {
        // `run` requires a connection of any lifetime, which a transaction is not.
        let run = migrator().run_direct(None, &mut *tx, false).await;
        run.map_err(|e| not_migrated(path, e))?;
    }
    tx.commit().await.map_err(|e| not_opened(path, e))
}

/// Applies missing migrations in one transaction that has the write lock from its first statement on.
/// Of two processes that find the same old file, the slower one waits and then finds it migrated.
pub(in crate::queue) async fn migrate(path: &Path, writer: &SqlitePool) -> Result<(), QueueError> {
    let mut connection = writer.acquire().await.map_err(|e| not_opened(path, e))?;
    if migrations_done(&mut connection).await >= MIGRATIONS.len() {
        // Writes nothing; rejects a file of a newer version.
        let run = migrator().run_direct(None, &mut *connection, false).await;
        return run.map_err(|e| not_migrated(path, e));
    }
    let begun = connection.begin_with("BEGIN IMMEDIATE").await;
    let mut tx = begun.map_err(|e| not_opened(path, e))?;
    let run = migrator().run_direct(None, &mut *tx, false).await;
    run.map_err(|e| not_migrated(path, e))?;
    tx.commit().await.map_err(|e| not_opened(path, e))
}

fn not_migrated(path: &Path, error: MigrateError) -> QueueError {
    match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
            QueueError::Newer(path.to_owned())
        }
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            match not_opened(path, source) {
                QueueError::Sql { source, .. } => QueueError::Sql { doing: CONTEXT, source },
                other => other,
            }
        }
        e => QueueError::Foreign { path: path.to_owned(), reason: e.to_string() },
    }
}

/// How many migrations the file has; 0 if they cannot be read.
async fn migrations_done(connection: &mut SqliteConnection) -> usize {
    let done = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations");
    let done: i64 = done.fetch_one(connection).await.unwrap_or_default();
    usize::try_from(done).unwrap_or_default()
}
