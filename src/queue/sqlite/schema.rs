//! The tables of a queue: all at once in a new one, and what is missing in an older one.

use std::path::Path;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _, SqliteConnection,
};

use crate::queue::QueueError;
use crate::queue::sqlite::open::{MIGRATIONS, not_opened};

/// What is being done, for errors.
const CONTEXT: &str = "bring its file up to date";

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
        let sql = AssertSqlSafe(sql).into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Gives a file of no length all of its tables in one transaction, by the engine's journal and not
/// by its log: cut short anywhere, the file has no length again; whole, all is in the file itself.
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
    // Only a file that is still empty can be made so; the others `prune` writes again. It is the first
    // write, and by itself it would leave a database without a table.
    let vacuum = sqlx::query("PRAGMA auto_vacuum = INCREMENTAL").execute(&mut *tx).await;
    vacuum.map_err(|e| not_opened(path, e))?;
    let tables = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *tx).await;
    let tables: i64 = tables.map_err(|e| not_opened(path, e))?;
    // Another process may have been faster.
    if tables == 0 {
        // `run` asks for a connection of any lifetime, which no transaction has.
        let run = migrator().run_direct(None, &mut *tx, false).await;
        run.map_err(|e| not_migrated(path, e))?;
    }
    tx.commit().await.map_err(|e| not_opened(path, e))
}

/// Brings the file up to date, in one transaction that has its lock from the first statement on: of
/// two processes that find the same old file, the slower one waits and finds it done.
pub(in crate::queue) async fn migrate(path: &Path, writer: &SqlitePool) -> Result<(), QueueError> {
    let mut connection = writer.acquire().await.map_err(|e| not_opened(path, e))?;
    if migrations_done(&mut connection).await >= MIGRATIONS.len() {
        // Nothing is written; a file of a newer version is refused.
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

/// How many migrations the file has had; 0 where it cannot be asked.
async fn migrations_done(connection: &mut SqliteConnection) -> usize {
    let done = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations");
    let done: i64 = done.fetch_one(connection).await.unwrap_or_default();
    usize::try_from(done).unwrap_or_default()
}
