//! The only connection by which this process writes to its queue file, and the checkpoint of the
//! write-ahead log.
//!
//! A write never gives up on a locked file: a process that writes will finish, and a process that is
//! killed releases its locks.

use std::time::Duration;

use serde::Serialize;
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{Row as _, SqliteConnection, Transaction};

use crate::queue::sqlite::open;
use crate::queue::{Context as _, QueueError};

/// Takes the write lock with the first statement. A deferred transaction that reads first can fail
/// later in a way that no busy timeout covers.
const BEGIN_IMMEDIATE: &str = "BEGIN IMMEDIATE";

/// How long a task waits for the connection while other tasks of this process write. Each of their
/// transactions is short.
const ACQUIRE_TIMEOUT: Duration = Duration::from_hours(1);

/// A pool of one connection, so that writers of this process wait here and not for the lock of the
/// file.
#[derive(Debug, Clone)]
pub(in crate::queue) struct WriteConnection {
    pool: SqlitePool,
    options: SqliteConnectOptions,
}

impl WriteConnection {
    /// Wraps the one connection of `pool`; `options` open more connections of the same kind.
    pub(in crate::queue) fn of(pool: SqlitePool, options: SqliteConnectOptions) -> Self {
        Self { pool, options }
    }

    /// Another connection to the same file, opened when first needed.
    pub(in crate::queue) fn separate(&self) -> Self {
        let pool = pool_of_one().connect_lazy_with(self.options.clone());
        Self { pool, options: self.options.clone() }
    }

    /// The options of the connection.
    pub(in crate::queue) fn options(&self) -> SqliteConnectOptions {
        self.options.clone()
    }

    /// Begins a transaction that has the write lock. It is rolled back if dropped before its commit.
    pub(in crate::queue) async fn begin(
        &self,
        doing: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, QueueError> {
        loop {
            match self.pool.begin_with(BEGIN_IMMEDIATE).await {
                Err(e) if open::is_busy(&e) => warn_of_wait(doing),
                begun => return begun.context(doing),
            }
        }
    }

    /// Copies the whole log into the file. Waits while another process reads an older state.
    pub(in crate::queue) async fn checkpoint_wal(
        &self,
        doing: &'static str,
    ) -> Result<(), QueueError> {
        let mut connection = self.pool.acquire().await.context(doing)?;
        loop {
            let checkpoint = sqlx::query("PRAGMA wal_checkpoint(FULL)").fetch_one(&mut *connection);
            let busy: i64 = checkpoint.await.and_then(|row| row.try_get(0)).context(doing)?;
            if busy == 0 {
                return Ok(());
            }
            tracing::warn!(doing, "another process uses the queue: still waiting");
        }
    }

    /// Closes the connection once no task uses it.
    pub(in crate::queue) async fn close(&self) {
        self.pool.close().await;
    }
}

/// The idle connection never expires: a queue in memory would end with it.
pub(in crate::queue) fn pool_of_one() -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
    pool.acquire_timeout(ACQUIRE_TIMEOUT).idle_timeout(None).max_lifetime(None)
}

fn warn_of_wait(doing: &'static str) {
    tracing::warn!(doing, "another process is writing to the queue: still waiting");
}

/// Begins a transaction that has the write lock, on the caller's own connection. Dropping that
/// connection rolls it back.
pub(in crate::queue) async fn begin_immediate(
    connection: &mut SqliteConnection,
    doing: &'static str,
) -> Result<(), QueueError> {
    loop {
        match sqlx::query(BEGIN_IMMEDIATE).execute(&mut *connection).await {
            Err(e) if open::is_busy(&e) => warn_of_wait(doing),
            begun => return begun.map(drop).context(doing),
        }
    }
}

/// Copies the log into the file after a large write and truncates it, as far as no other process has to
/// wait. The next write does the rest.
pub(in crate::queue) async fn truncate_wal(connection: &mut SqliteConnection) {
    // The first checkpoint copies without blocking other processes, so the second has little left to
    // copy.
    let checkpoints =
        "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(PASSIVE); PRAGMA wal_checkpoint(TRUNCATE)";
    if let Err(error) = sqlx::raw_sql(checkpoints).execute(connection).await {
        tracing::debug!(%error, "the log was not truncated");
    }
}

/// Values as a JSON array, to bind any number of them as one value.
pub(in crate::queue) fn json<T: Serialize>(values: &[T]) -> String {
    serde_json::to_string(values).unwrap_or_default()
}
