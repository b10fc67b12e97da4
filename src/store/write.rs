//! A turn to write, and the write-ahead log afterwards.
//!
//! Relies on a connection's own busy timeout for each try. Never gives up: whoever writes
//! ends, and a process that is killed frees the file with its death.

use sqlx::SqliteConnection;

use super::{Doing as _, StoreError, open};

/// What came of a try to begin a write; `None` while another process writes, which is nobody's
/// fault, and ends: try again.
pub(super) fn begun<T>(
    doing: &'static str,
    tried: Result<T, sqlx::Error>,
) -> Option<Result<T, StoreError>> {
    match tried {
        Err(e) if open::is_busy(&e) => {
            tracing::warn!(doing, "another process is writing to the queue: still waiting");
            None
        }
        begun => Some(begun.doing(doing)),
    }
}

/// Begins a transaction that has its lock from the first statement on, however long another
/// process writes. Dropped with its connection, it leaves nothing behind.
pub(super) async fn turn(
    connection: &mut SqliteConnection,
    doing: &'static str,
) -> Result<(), StoreError> {
    loop {
        let tried = sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await;
        if let Some(begun) = begun(doing, tried.map(drop)) {
            return begun;
        }
    }
}

/// Folds the log into the file after something large, and takes its room back, as far as
/// nobody has to wait for that. What is left the next write does.
pub(super) async fn fold(connection: &mut SqliteConnection) {
    // The first one copies and holds up nobody; the second has little left to do.
    let quietly =
        "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(PASSIVE); PRAGMA wal_checkpoint(TRUNCATE)";
    if let Err(error) = sqlx::raw_sql(quietly).execute(connection).await {
        tracing::debug!(%error, "the log was not folded in");
    }
}
