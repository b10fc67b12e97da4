//! Observes a queue from outside a run: whether it has changed, still exists and can be read.
//!
//! The dashboard polls these checks. They only read, and their cost does not grow with the number of
//! jobs.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqlite::open::{APPLICATION_ID, not_opened};
use crate::queue::sqlite::run_lock::identity;
use crate::queue::{Context as _, QueueError};

/// Detects commits to the queue, by this process or another.
#[derive(Debug)]
pub struct SqliteChangeDetector {
    /// The engine counts commits of others per connection. Not a pooled connection, since closing the
    /// pool waits for all connections in use.
    connection: SqliteConnection,
    seen: Option<i64>,
}

impl SqliteChangeDetector {
    pub(in crate::queue) async fn any(&mut self) -> Result<bool, QueueError> {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&mut self.connection)
            .await
            .context("detect changes")?;
        Ok(self.seen.replace(version) != Some(version))
    }

    pub(in crate::queue) async fn close(self) {
        // The connection has written nothing, so an error has no effect.
        let _ = self.connection.close().await;
    }
}

impl SqliteQueue {
    pub(in crate::queue) async fn changes(&self) -> Result<SqliteChangeDetector, QueueError> {
        let options = self.readers.connect_options();
        let connection = SqliteConnection::connect_with(&options).await;
        let connection = connection.map_err(|e| not_opened(&self.path, e))?;
        Ok(SqliteChangeDetector { connection, seen: None })
    }

    pub(in crate::queue) async fn probe(&self) -> Result<(), QueueError> {
        match identity(&self.path) {
            None => return Err(QueueError::Missing(self.path.clone())),
            now if now != self.file_id => return Err(QueueError::FileReplaced(self.path.clone())),
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
                reason: format!("it is a database of another program (its id is {id})"),
            }),
            Err(e) => Err(not_opened(&self.path, e)),
        }
    }
}
