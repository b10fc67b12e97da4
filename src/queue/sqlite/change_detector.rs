//! Observes a queue from outside a run: whether it has changed, still exists and can be read.
//!
//! The dashboard polls these checks. They only read, and their cost does not grow with the number of
//! jobs.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::queue::sqlite::open::{APPLICATION_ID, not_opened};
use crate::queue::sqlite::run_lock::identity;
use crate::queue::{Context as _, Queue, QueueError};

/// Detects commits to the queue, by this process or another.
#[derive(Debug)]
pub struct ChangeDetector {
    /// The engine counts commits of others per connection. Not a pooled connection, since closing the
    /// pool waits for all connections in use.
    connection: SqliteConnection,
    seen: Option<i64>,
}

impl ChangeDetector {
    /// Whether anything was committed since the last call; `true` on the first call.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn any(&mut self) -> Result<bool, QueueError> {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&mut self.connection)
            .await
            .context("look for changes")?;
        Ok(self.seen.replace(version) != Some(version))
    }

    /// Closes the connection. Dropping this loses nothing, but the connection then closes at some later
    /// time.
    pub async fn close(self) {
        // The connection has written nothing, so an error has no effect.
        let _ = self.connection.close().await;
    }
}

impl Queue {
    /// Begins to detect changes.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn changes(&self) -> Result<ChangeDetector, QueueError> {
        let options = self.readers.connect_options();
        let connection = SqliteConnection::connect_with(&options).await;
        let connection = connection.map_err(|e| not_opened(&self.path, e))?;
        Ok(ChangeDetector { connection, seen: None })
    }

    /// Checks that the queue file is the one that was opened, and that it can be read. Uses a new
    /// connection, since others have cached pages that the disk may have lost.
    ///
    /// # Errors
    /// [`QueueError::Missing`] when the file does not exist, [`QueueError::FileReplaced`] when it was replaced,
    /// or the error of the engine.
    pub async fn probe(&self) -> Result<(), QueueError> {
        match identity(&self.path) {
            None => return Err(QueueError::Missing(self.path.clone())),
            now if now != self.found => return Err(QueueError::FileReplaced(self.path.clone())),
            Some(_) => {}
        }
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(true)
            .disable_statement_logging();
        let asked = async {
            let mut connection = SqliteConnection::connect_with(&options).await?;
            let id: i64 =
                sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut connection).await?;
            // Reads the last page of each table that grows.
            sqlx::query(
                "SELECT (SELECT max(id) FROM jobs), (SELECT max(id) FROM requests), (SELECT max(id) FROM runs)",
            )
            .fetch_one(&mut connection)
            .await?;
            connection.close().await?;
            Ok(id)
        };
        match asked.await {
            Ok(APPLICATION_ID) => Ok(()),
            Ok(id) => Err(QueueError::Foreign {
                path: self.path.clone(),
                reason: format!("it is a database of another program, id {id}"),
            }),
            Err(e) => Err(not_opened(&self.path, e)),
        }
    }
}
