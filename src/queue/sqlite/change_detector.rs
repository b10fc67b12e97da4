//! Watching a queue from outside a run: has it changed, is it still there, can it be read?
//!
//! Reads alone. None of it costs more with more jobs.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::queue::sqlite::open::{APPLICATION_ID, not_opened};
use crate::queue::sqlite::run_lock::identity;
use crate::queue::{Context as _, Queue, QueueError};

/// Tells whether anybody has written to the queue, this process or another.
#[derive(Debug)]
pub struct Changes {
    /// The engine counts what others commit, as one connection sees it. None of the readers,
    /// whose closing waits for all that are in use.
    connection: SqliteConnection,
    seen: Option<i64>,
}

impl Changes {
    /// Whether anything was committed since this was last asked; the first time, yes.
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

    /// Ends watching. Nothing is lost if it is dropped instead, but its connection is then
    /// closed at some later time.
    pub async fn close(self) {
        // Nothing was written.
        let _ = self.connection.close().await;
    }
}

impl Queue {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn changes(&self) -> Result<Changes, QueueError> {
        let options = self.readers.connect_options();
        let connection = SqliteConnection::connect_with(&options).await;
        let connection = connection.map_err(|e| not_opened(&self.path, e))?;
        Ok(Changes { connection, seen: None })
    }

    /// Looks whether the queue file is still the one that was opened, and can be read: by a
    /// connection of its own, since others have pages in memory that the disk has lost.
    ///
    /// # Errors
    /// [`QueueError::Missing`] or [`QueueError::Gone`] when the file is not there or another
    /// one, or what the engine says of it.
    pub async fn probe(&self) -> Result<(), QueueError> {
        match identity(&self.path) {
            None => return Err(QueueError::Missing(self.path.clone())),
            now if now != self.found => return Err(QueueError::Gone(self.path.clone())),
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
            // The last page of each table that grows.
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
