//! The write transaction of a run. A response and the following claim can share one, since the commit
//! is most of the cost of a small transaction.
//!
//! Emit events and send requests only after [`WriteTransaction::commit`]. From its first statement on,
//! the transaction owns the only write connection, so its owner must not wait for another write before
//! it ends. A failed statement rolls the whole transaction back, with every response that was recorded
//! in it.

use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::queue::sqlite::SqliteQueue;
use crate::queue::{Context as _, QueueError, RequestId};

/// A write transaction of a run; rolled back if dropped before its commit. See the module's
/// documentation.
#[derive(Debug)]
pub struct SqliteTransaction {
    pub(in crate::queue) queue: SqliteQueue,
    /// `None` before the first statement.
    transaction: Option<Transaction<'static, Sqlite>>,
    /// The request whose jobs this transaction claimed.
    pub(in crate::queue) claimed: Option<RequestId>,
}

impl SqliteQueue {
    pub(in crate::queue) fn begin_transaction(&self) -> SqliteTransaction {
        SqliteTransaction { queue: self.clone(), transaction: None, claimed: None }
    }
}

impl SqliteTransaction {
    pub(in crate::queue) fn is_open(&self) -> bool {
        self.transaction.is_some()
    }

    pub(in crate::queue) async fn commit(&mut self) -> Result<(), QueueError> {
        let claimed = self.claimed.take();
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        transaction.commit().await.context("commit a transaction")?;
        if let Some(request) = claimed {
            self.queue.note_sent(request);
        }
        Ok(())
    }

    /// The connection; begins the transaction if needed.
    pub(in crate::queue) async fn connection(
        &mut self,
    ) -> Result<&mut SqliteConnection, QueueError> {
        if self.transaction.is_none() {
            self.transaction = Some(self.queue.write("begin a transaction").await?);
        }
        let none = || sqlx::Error::Protocol("no transaction has begun".to_owned());
        self.transaction.as_deref_mut().ok_or_else(none).context("begin a transaction")
    }

    /// Rolls the transaction back if `done` is an error.
    pub(in crate::queue) fn rollback_on_error<T>(
        &mut self,
        done: Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        if done.is_err() {
            (self.transaction, self.claimed) = (None, None);
        }
        done
    }
}
